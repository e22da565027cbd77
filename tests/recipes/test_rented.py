"""The commands for a machine that is rented by the minute, from packing to the joined model."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.recipe import RECIPES, recipe
from tests.toy_library import build_toy_library
from tests.toy_model import build_autoencoder
from text2layer.errors import InputError
from text2layer.models.denoiser import build_denoiser
from text2layer.training import denoiser, matting


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps the precision of whoever trained first in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def rented(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))  # a script finds those beside it
    monkeypatch.setattr(denoiser, "VALIDATION_SAMPLES", 8)
    monkeypatch.setattr(denoiser, "VALIDATION_BATCH", 8)
    monkeypatch.setattr(matting, "VALIDATION_SAMPLES", 8)
    return recipe("rented")


@pytest.fixture
def home(tmp_path, toy_text_encoder) -> dict[str, Path]:
    library = build_toy_library(tmp_path / "library")
    lines = map(json.loads, (library / "foregrounds.jsonl").read_text().splitlines())
    ids = [line["id"] for line in lines if line["split"] == "train"][:5]
    (tmp_path / "drawings.txt").write_text("\n".join(ids))
    build_autoencoder().save_pretrained(tmp_path / "autoencoder")
    return {"library": library, "drawings": tmp_path / "drawings.txt", "at": tmp_path,
            "text": toy_text_encoder}  # fmt: skip


def pack(rented, home, *more: str) -> Path:
    file = home["at"] / "pack.tar.gz"
    rented.main([
        "pack", str(home["library"]), str(home["drawings"]), str(file), "--side", "48",
        "--autoencoder", str(home["at"] / "autoencoder"), "--text-encoder", str(home["text"]),
        *more,
    ])  # fmt: skip
    return file


def test_the_minutes_bring_home_what_they_taught(rented, home):
    """The commands of docs/scale-training.md, as a toy."""
    file = pack(rented, home)
    work, out = home["at"] / "work", home["at"] / "out"
    there = [str(file), "--work", str(work), "--out", str(out), "--toy"]
    rented.main(["first", *there])
    said = json.loads((out / "first.json").read_text())
    assert said["updates"] == 6
    assert said["samples_per_second"] > 0
    rented.main(["rest", *there, "--minutes", "5", "--kernels", str(out / "kernels.bin"),
                 "--shard", "0.125"])  # fmt: skip
    names = sorted(path.name for path in out.iterdir())
    files = [path for path in out.iterdir() if path.suffix == ".safetensors"]
    assert all(path.stat().st_size <= 2**17 for path in files)
    assert {name.split(".")[0] for name in names} == {
        "first", "denoiser-falling", "denoiser-fast", "matting-256",
    }  # fmt: skip
    chosen = [str(path) for path in files if path.name.startswith("denoiser-falling")]
    assert len(chosen) > 1
    rented.main(["join", str(home["at"] / "joined"), *chosen])
    trained = work / "run" / "denoiser-falling" / "pipeline" / "denoiser"
    weights = load_file(trained / rented.WEIGHTS)
    joined = type(build_denoiser("tiny", 4, 16)).from_pretrained(home["at"] / "joined")
    for name, value in joined.state_dict().items():
        assert torch.equal(value.half(), weights[name].half())
    with pytest.raises(InputError, match="are not all files of one stage"):
        rented.main(["join", str(home["at"] / "half"), *chosen[1:]])


def test_only_what_is_listed_travels_and_small(rented, home):
    packed = pack(rented, home, "--others", "1")
    work = home["at"] / "there"
    options = rented.parse(["rest", str(packed), "--work", str(work), "--out", str(work)])
    rented.unpack(options)
    records = [json.loads(line) for line in
               (work / "library" / "foregrounds.jsonl").read_text().splitlines()]  # fmt: skip
    listed = set(home["drawings"].read_text().split())
    trained = {record["id"] for record in records if record["split"] == "train"}
    assert trained == listed
    assert sum(record["split"] == "val" for record in records) >= 1
    assert len(list((work / "library" / "foregrounds").iterdir())) == len(records)
    from PIL import Image

    for record in records:
        with Image.open(work / "library" / record["file"]) as picture:
            assert max(picture.size) <= 48
            assert picture.mode == "RGBA"


def test_a_model_to_start_from_travels_in_half_precision(rented, home):
    build_denoiser("tiny", 4, 16).save_pretrained(home["at"] / "model" / "denoiser")
    packed = pack(rented, home, "--start", str(home["at"] / "model"))
    options = rented.parse(["rest", str(packed), "--work", str(home["at"] / "w"), "--out", "x"])
    arguments = rented.unpack(options)
    weights = load_file(arguments.start / "denoiser" / rented.WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}


def test_a_pack_that_is_too_heavy_says_what_weighs(rented, home):
    with pytest.raises(InputError, match=r"MiB: .*library .*list fewer drawings") as error:
        pack(rented, home, "--limit", "0.001")
    assert "\n" not in str(error.value)
    assert not list(home["at"].glob("*pack.tar.gz*"))


def test_a_tensor_that_no_file_holds_is_told(rented, tmp_path):
    from safetensors.torch import save_file

    save_file({"wide": torch.zeros(200_000)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"wide of .* weighs more than a file of 131072 bytes"):
        rented.write_shards(tmp_path, tmp_path, "denoiser-256", "denoiser-", 2**17)
