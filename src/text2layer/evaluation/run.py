"""One run of the benchmark: batches, processes, progress, sheets, and where figures come from.

Also the frozen networks that scores need, each loaded when it is first asked for. Weights that are
not to be had make a figure absent, with the reason, and never another one.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from PIL import Image
from tqdm import tqdm

from text2layer.data.contact_sheet import contact_sheet
from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.collector import Collector, gathered, processes
from text2layer.evaluation.features import References
from text2layer.evaluation.results import ProtocolResult
from text2layer.parts import Parts

if TYPE_CHECKING:
    from text2layer.judges.relevance import FeatureExtractor, RelevanceProbe
    from text2layer.models.clip import Clip
    from text2layer.models.efficientnet import EfficientNetLite0
    from text2layer.models.inception import InceptionFeatures
    from text2layer.models.lpips import LPIPS
    from text2layer.models.saliency import SaliencyModel

JUDGE = "isnet"  # of masks: neither the composer nor the flat baseline's U^2-Net
NAMES = {"lpips": "lpips-alex", "objects": "efficientnet-lite0"}  # as `text2layer weights` has them
SHEET = 24  # samples shown of each protocol
COLUMNS = 3


@dataclass
class Run:
    """How samples are led through protocols.

    Attributes:
        batch_size: samples at a time.
        progress: show a bar on stderr.
        judge_samples: how many of the first samples the judge of masks looks at; 0 for all. The
            usual one takes seconds a picture on a CPU.
        references: features of known samples, kept for the next protocol or run.
        about: goes into every result: split, size, seed and the like.
        sheets: the first samples of each protocol, uncurated.
    """

    batch_size: int = 16
    progress: bool = False
    judge_samples: int = 0
    references: References = field(default_factory=References)
    about: dict[str, Any] = field(default_factory=dict)
    sheets: dict[str, Image.Image] = field(default_factory=dict)
    _shown: dict[str, list[Any]] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)
    _prompts: dict[str, dict[int, str]] = field(default_factory=dict)

    def batches(self, known: KnownSamples, protocol: str) -> Iterator[KnownBatch]:
        """This process's share of the samples."""
        state = processes()
        self._begun[protocol] = time.perf_counter()
        prompts: dict[int, str] = {}
        bar = tqdm(
            total=len(known), desc=protocol, unit="sample", mininterval=1.0,
            disable=not (self.progress and state.is_main_process),
        )  # fmt: skip
        with bar:
            for batch in known.batches(self.batch_size, state.process_index, state.num_processes):
                prompts.update(zip(batch.numbers.tolist(), batch.captions["whole"], strict=True))
                yield batch
                bar.update(len(batch))
        self._prompts[protocol] = prompts

    def collector(self, inception: Any, known: KnownSamples) -> Collector:
        """Collects features beside those that are known already."""
        decided_by = (
            known.fingerprint, known.count, known.seed, getattr(inception, "sha256", ""),
            *(f"{name}={value}" for name, value in sorted(self.about.items())),
        )  # fmt: skip
        return Collector(inception, self.references, decided_by)

    def show(self, result: ProtocolResult, batch: KnownBatch, drawn: Parts) -> None:
        """Keep the first samples for a sheet."""
        kept = self._shown.setdefault(result.protocol, [])
        for place in range(min(len(batch), SHEET - len(kept))):
            picture = replace(drawn.rows(slice(place, place + 1)), image=None)
            number, text = int(batch.numbers[place]), batch.captions["whole"][place]
            kept.append((picture, f"{number}: {text}"))

    def finish(
        self, result: ProtocolResult, drawer: Any, known: KnownSamples, networks: Networks
    ) -> ProtocolResult:
        """Add where the figures come from, and draw the sheet."""
        seconds = time.perf_counter() - self._begun[result.protocol]
        result.about |= {
            **self.about,
            **_about(drawer),
            "data": known.fingerprint,
            "data_seed": known.seed,
            "picture_seeds": f"0 to {len(known) - 1}",
            "prompts_sha256": prompts_sha256(self._prompts[result.protocol]),
            "networks": networks.hashes(),
            "seconds": round(seconds, 1),
            "machine": machine(),
        }
        for name, reason in networks.missing.items():
            result.absent.setdefault(f"network {name}", reason)
        shown = self._shown.get(result.protocol)
        if shown:
            pictures, captions = zip(*shown, strict=True)
            self.sheets[result.protocol] = contact_sheet(list(pictures), COLUMNS, list(captions))
        return result


def prompts_sha256(prompts: dict[int, str]) -> str:
    """SHA-256 (hex) of the prompts of all processes in the order of their samples."""
    whole = {number: text for share in gathered([prompts]) for number, text in share.items()}
    return hashlib.sha256("\n".join(whole[number] for number in sorted(whole)).encode()).hexdigest()


def _about(drawer: Any) -> dict[str, Any]:
    """Model, steps and guidance of a `Drawer`; the networks of `PhotoLayers`."""
    pipeline = getattr(drawer, "pipeline", None)
    about: dict[str, Any] = {}
    if pipeline is not None:
        about = {
            "model": pipeline.model_name,
            "model_hash": pipeline.model_hash,
            "steps": drawer.steps,
            **({"attempts": drawer.attempts} if drawer.attempts > 1 else {}),
            **({"matting_hash": drawer.matting_hash} if drawer.matting_hash else {}),
            "guidance": drawer.guidance,
            "drawing_seconds": round(drawer.seconds, 1),
        }
    apart = drawer if pipeline is None else (drawer.take_apart if drawer.is_flat else None)
    if apart is not None:
        about["taken_apart_by"] = {
            apart.saliency.name: apart.saliency.sha256,
            apart.inpainter.name: apart.inpainter.sha256,
        }
    return about


def machine() -> dict[str, str]:
    """What it ran on, and with which versions."""
    import diffusers
    import torch

    from text2layer import __version__

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "device": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "numpy": np.__version__,
        "text2layer": __version__,
    }


class Networks:
    """Feature networks by name.

    Args:
        judge: saliency network that masks are compared with; one that did not make the data.
        clip: folder or hub id of a CLIP; "" for none, which is never replaced by another.
        probe: folder of a relevance probe; "" for the shipped one.
        device: where Inception, LPIPS and EfficientNet run.

    Attributes:
        missing: why a network is not there, by name, once it was asked for.
    """

    def __init__(
        self, judge: str = JUDGE, clip: str = "", probe: str = "", device: str = "cpu"
    ) -> None:
        self._makers: dict[str, Callable[[], object]] = {
            "inception": lambda: _inception(device),
            "judge": lambda: _judge(judge),
            "lpips": lambda: _lpips(device),
            "objects": lambda: _objects(device),
            "probe": lambda: _probe(probe),
            "clip": lambda: _clip(clip),
        }
        self._judge_name = judge
        self._loaded: dict[str, object] = {}
        self.missing: dict[str, str] = {}

    @classmethod
    def of(cls, **loaded: Any) -> Networks:
        """These networks and no others: a caller's own, by the names that `get` knows."""
        networks = cls()
        networks._loaded = loaded
        networks.missing = {
            name: "it was not asked for" for name in networks._makers if name not in loaded
        }
        return networks

    @overload
    def get(self, name: Literal["inception"]) -> FeatureExtractor | None: ...
    @overload
    def get(self, name: Literal["judge"]) -> SaliencyModel | None: ...
    @overload
    def get(self, name: Literal["lpips"]) -> LPIPS | None: ...
    @overload
    def get(self, name: Literal["objects"]) -> EfficientNetLite0 | None: ...
    @overload
    def get(self, name: Literal["probe"]) -> RelevanceProbe | None: ...
    @overload
    def get(self, name: Literal["clip"]) -> Clip | None: ...
    def get(self, name: str) -> object:
        """The network, or None with a reason in `missing`.

        Raises:
            InputError: the judge or CLIP that was asked for is no such network.
        """
        if name not in self._loaded and name not in self.missing:
            try:
                self._loaded[name] = self._makers[name]()
            except WeightsError as error:
                self.missing[name] = str(error)
        return self._loaded.get(name)

    def hashes(self) -> dict[str, str]:
        """Name and SHA-256 of every network that was used."""
        known = {**NAMES, "judge": self._judge_name}
        return {
            known.get(name, name): str(getattr(network, "sha256", "") or _hash_of(name))
            for name, network in self._loaded.items()
        }


def _hash_of(name: str) -> str:
    from text2layer.pretrained import WEIGHTS

    return WEIGHTS[NAMES[name]].sha256 if name in NAMES else ""


def _inception(device: str) -> InceptionFeatures:
    from text2layer.models.inception import InceptionFeatures

    return InceptionFeatures(device=device)


def _judge(name: str) -> SaliencyModel:
    from text2layer.models.saliency import load_saliency

    return load_saliency(name)


def _lpips(device: str) -> LPIPS:
    from text2layer.models.lpips import LPIPS

    return LPIPS("alex").to(device)


def _objects(device: str) -> EfficientNetLite0:
    from text2layer.models.efficientnet import EfficientNetLite0

    return EfficientNetLite0().to(device)


def _probe(folder: str) -> RelevanceProbe:
    from text2layer.judges.relevance import load_relevance

    return load_relevance(folder or None)


def _clip(name: str) -> Clip:
    if not name:
        raise WeightsError("no CLIP was named (--clip FOLDER or hub id)")
    from text2layer.models.clip import load_clip

    return load_clip(name)


def check_judge(name: str) -> None:
    """Raise InputError for an empty name: masks need a judge that did not make them."""
    if not name:
        raise InputError("Name a saliency network as judge: --judge isnet, u2net or u2netp.")
