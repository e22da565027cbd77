"""Train on a machine that is rented by the minute and takes and gives only small files.

    python recipes/rented.py pack LIBRARY DRAWINGS.txt pack.tar.gz --autoencoder FOLDER
    python recipes/rented.py first pack.tar.gz --work work --out OUT
    python recipes/rented.py rest pack.tar.gz --work work --out OUT --minutes 8 --kernels FILE
    python recipes/rented.py join FOLDER OUT/denoiser-falling.*.safetensors

`pack`, at home: the drawings of the list, backgrounds, some drawings of other concepts for
validation, all shrunk, the text encoder, the autoencoder and with `--start` the denoiser and the
matting network in half precision, in one file below `--limit`. Token vectors beyond the commonest
that no caption of the library has are zeroed, which packs to nothing. The autoencoder is trained at
home: LPIPS's network is too large to travel.
`first`, there: the first minute. The denoiser's stage compiles and makes 200 updates on few
samples; OUT/first.json says how fast they were, OUT/kernels.bin holds what was compiled.
`rest`, there: the stages of `base_model.py --machine gpu` until the clock ends, with those kernels.
After each stage OUT has its averaged weights in files of at most 16 MiB, each complete when it
appears; those of the stage before of the same kind go.
`join`, at home: one folder that `from_pretrained` reads, from a stage's files.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from base_model import STAGES, Stage, train_stages
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from text2layer.data.library import Library
from text2layer.data.world import read_drawings
from text2layer.errors import InputError
from text2layer.models.text_encoder import load_text_encoder
from text2layer.pipelines.loading import matting_folder

MIB = 2**20
COMMON_TOKENS = 10_000  # a BERT vocabulary begins with its commonest: words of every template
TRIAL = "denoiser-256"
TOY_SIDE = 64  # pixels
WEIGHTS = "diffusion_pytorch_model.safetensors"


def main(arguments: list[str] | None = None) -> None:
    """Do what the command says."""
    options = parse(arguments)
    {"pack": pack, "first": first, "rest": rest, "join": join}[options.command](options)


def pack(options: argparse.Namespace) -> None:
    """Write what travels into one file, or say what of it is too much."""
    library = Library(options.library)
    listed = read_drawings(str(options.drawings))
    others = [r for r in library.foregrounds_of("val") if r.id not in listed]
    step = max(1, len(others) // max(1, options.others))
    chosen = [r for r in library.foregrounds_of("train") if r.id in listed] + others[::step]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for record in chosen:
            shrink(library.path(record), root / "library" / record.file, options.side)
        backgrounds = library.backgrounds_of(None)
        for record in backgrounds:
            shrink(library.path(record), root / "library" / record.file, options.side * 3 // 2)
        for name, records in (("foregrounds", chosen), ("backgrounds", backgrounds)):
            lines = (json.dumps(asdict(record)) + "\n" for record in records)
            (root / "library" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        (root / "drawings.txt").write_bytes(Path(options.drawings).read_bytes())
        pack_text_encoder(options.text_encoder, root / "text-encoder", chosen, backgrounds)
        half(options.autoencoder, root / "autoencoder")
        if options.start:
            half(options.start / "denoiser", root / "start" / "denoiser")
            matting = matting_folder(options.start)
            if matting:
                half(matting, root / "start" / "matting")
        temporary = options.file.with_name(f".{options.file.name}.tmp")
        with tarfile.open(temporary, "w:gz", compresslevel=6) as tar:
            for part in sorted(root.iterdir()):
                tar.add(part, part.name)
        weight = temporary.stat().st_size / MIB
        if weight > options.limit:
            parts = ", ".join(f"{p.name} {size(p) / MIB:.1f}" for p in sorted(root.iterdir()))
            temporary.unlink()
            raise InputError(
                f"What travels weighs {weight:.1f} MiB and may weigh {options.limit:g} (unpacked, "
                f"MiB: {parts}); list fewer drawings, give a smaller --side or no --start."
            )
        os.replace(temporary, options.file)
    print(f"{options.file}: {weight:.1f} MiB, {len(chosen)} drawings, {len(backgrounds)} grounds")


def shrink(file: Path, out: Path, side: int) -> None:
    """Write a picture with its shorter (opaque) or longest (cut-out) side at most `side` pixels."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as picture:
        alpha = "A" in picture.getbands() or "transparency" in picture.info
        picture = picture.convert("RGBA" if alpha else "RGB")
        ratio = side / (max(picture.size) if alpha else min(picture.size))
        if ratio < 1:
            small = (max(1, round(edge * ratio)) for edge in picture.size)
            picture = picture.resize(tuple(small), Image.Resampling.LANCZOS)
        stored = io.BytesIO()
        kind = Image.registered_extensions()[out.suffix.lower()]
        picture.save(stored, kind, quality=85)
    out.write_bytes(stored.getvalue())


def pack_text_encoder(name: str, out: Path, *records: list[Any]) -> None:
    """Save a text encoder in half precision without the vectors of tokens that nothing says."""
    tokenizer, encoder = load_text_encoder(name)
    said = {str(value) for part in records for record in part for value in vars(record).values()}
    known = {token for text in said for token in tokenizer(text)["input_ids"]}
    vectors = encoder.get_input_embeddings().weight
    silent = [row for row in range(COMMON_TOKENS, len(vectors)) if row not in known]
    with torch.no_grad():
        vectors[silent] = 0.0
    encoder.half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def half(folder: Path, out: Path) -> None:
    """Copy a saved network in half precision."""
    out.mkdir(parents=True)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = {name: tensor.half() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})


def size(path: Path) -> int:
    """Bytes of a file or of all files of a folder."""
    return sum(p.stat().st_size for p in (path, *path.rglob("*")) if p.is_file())


def unpack(options: argparse.Namespace) -> argparse.Namespace:
    """Unpack what travelled and return the arguments of `base_model.py`."""
    work: Path = options.work
    if not (work / "library").is_dir():
        with tarfile.open(options.file) as tar:
            tar.extractall(work, filter="data")
    start = work / "start" if (work / "start").is_dir() else None
    return argparse.Namespace(
        library=work / "library", drawings=work / "drawings.txt", start=start,
        autoencoder=work / "autoencoder", text_encoder=str(work / "text-encoder"),
        machine="gpu", out=work / "run", toy=options.toy, samples=0,
    )  # fmt: skip


def first(options: argparse.Namespace) -> None:
    """The first minute: compile, 200 updates, how fast they were, and the kernels."""
    arguments = unpack(options)
    arguments.out = options.work / "first"
    begun = time.monotonic()
    updates = 6 if options.toy else 200
    few = {"steps": updates, "timed": False, "cache_samples": 32 if options.toy else 4096}
    trial = tuple(stage for stage in stages(options) if stage.name == TRIAL)
    train_stages(arguments, begun + 600, trial, **few)
    spent = time.monotonic() - begun
    lines = (arguments.out / TRIAL / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [line["samples_per_second"] for line in map(json.loads, lines) if "loss" in line]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    said = {"updates": updates, "seconds": round(spent, 1), "samples_per_second": rates[-1],
            "gpu": gpu, "torch": torch.__version__}  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    made = torch.compiler.save_cache_artifacts()
    if made is not None:
        write(options.out / "kernels.bin", made[0])
        said["kernels_mib"] = round(len(made[0]) / MIB, 2)
    write(options.out / "first.json", (json.dumps(said) + "\n").encode())
    print(json.dumps(said), flush=True)


def rest(options: argparse.Namespace) -> None:
    """Every stage until the clock ends; averaged weights in files after each."""
    begun = time.monotonic()
    arguments = unpack(options)
    if options.kernels and options.kernels.is_file():
        torch.compiler.load_cache_artifacts(options.kernels.read_bytes())
    options.out.mkdir(parents=True, exist_ok=True)

    def deliver(stage: Stage, result: Path) -> None:
        kind = stage.beside or stage.name.split("-")[0]
        limit = int(options.shard * MIB)
        files = write_shards(result, options.out, stage.name, kind, limit)
        print(f"{stage.name}: {len(files)} files", flush=True)

    train_stages(arguments, begun + 60 * options.minutes, stages(options), deliver)


def stages(options: argparse.Namespace) -> tuple[Stage, ...]:
    """Those of the model; as a toy on small pictures."""
    return tuple(replace(stage, size=TOY_SIDE) for stage in STAGES) if options.toy else STAGES


def write_shards(folder: Path, out: Path, stage: str, kind: str, limit: int) -> list[Path]:
    """Write a network's weights, in half precision, in files of at most `limit` bytes.

    Files of an earlier stage of the same kind go when these are complete.
    """
    [file] = folder.glob("*.safetensors")
    weights = {name: tensor.half() for name, tensor in load_file(file).items()}
    shards: list[dict[str, torch.Tensor]] = [{}]
    filled, room = 0, limit - 64 * 1024  # names, shapes and the config
    for name, tensor in weights.items():
        if tensor.nbytes > room:
            raise InputError(f"{name} of {folder} weighs more than a file of {limit} bytes holds.")
        if filled + tensor.nbytes > room:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    note = {"kind": kind, "stage": stage, "of": str(len(shards)), "file": file.name}
    for config in folder.glob("*.json"):
        note[f"json {config.name}"] = config.read_text(encoding="utf-8")
    old = [path for path in out.glob("*.safetensors") if notes(path)["kind"] == kind]
    written = []
    for number, shard in enumerate(shards, start=1):
        target = out / f"{stage}.{number}-of-{len(shards)}.safetensors"
        temporary = target.with_name(f".{target.name}.tmp")
        save_file(shard, temporary, metadata={**note, "number": str(number)})
        os.replace(temporary, target)
        written.append(target)
    for path in set(old) - set(written):
        path.unlink()
    return written


def join(options: argparse.Namespace) -> None:
    """Put a stage's files together into a folder."""
    found = {path: notes(path) for path in options.files}
    wanted = {(note.get("stage"), note.get("of")) for note in found.values()}
    numbers = sorted(int(note.get("number", 0)) for note in found.values())
    if len(wanted) != 1 or numbers != list(range(1, int(next(iter(wanted))[1] or 0) + 1)):
        raise InputError(
            f"{', '.join(path.name for path in options.files)} are not all files of one stage; "
            "give every file of it and no other."
        )
    weights: dict[str, torch.Tensor] = {}
    for path in options.files:
        weights |= load_file(path)
    options.folder.mkdir(parents=True, exist_ok=True)
    note = next(iter(found.values()))
    for name, text in note.items():
        if name.startswith("json "):
            (options.folder / name.removeprefix("json ")).write_text(text, encoding="utf-8")
    save_file(weights, options.folder / note["file"], metadata={"format": "pt"})


def notes(path: Path) -> dict[str, str]:
    """What a file of weights says of itself."""
    with safe_open(path, "pt") as file:
        return {"kind": "", **(file.metadata() or {})}


def write(path: Path, data: bytes) -> None:
    """Write a file that is complete when it appears."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write what travels into one file")
    packing.add_argument("library", type=Path)
    packing.add_argument("drawings", type=Path, help="list of recipes/drawings.py")
    packing.add_argument("file", type=Path)
    packing.add_argument("--autoencoder", type=Path, required=True, help="folder of one")
    packing.add_argument("--start", type=Path, help="model folder to start from")
    packing.add_argument("--text-encoder", default="minilm", help="weights name or folder")
    packing.add_argument("--side", type=int, default=200, help="longest side of a drawing, pixels")
    packing.add_argument("--others", type=int, default=200, help="drawings for validation")
    packing.add_argument("--limit", type=float, default=60.0, help="MiB that may travel")
    for name, text in (("first", "the first minute"), ("rest", "train to the clock")):
        there = commands.add_parser(name, help=text)
        there.add_argument("file", type=Path, help="what travelled")
        there.add_argument("--work", type=Path, required=True, help="folder for everything else")
        there.add_argument("--out", type=Path, required=True, help="folder of what goes home")
        there.add_argument("--toy", action="store_true", help="a few updates of tiny networks")
    there.add_argument("--minutes", type=float, default=8.0)
    there.add_argument("--kernels", type=Path, help="kernels.bin of the first minute")
    there.add_argument("--shard", type=float, default=16.0, help="most MiB of a file of weights")
    joining = commands.add_parser("join", help="a stage's files to a folder")
    joining.add_argument("folder", type=Path)
    joining.add_argument("files", type=Path, nargs="+")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
