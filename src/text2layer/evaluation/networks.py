"""The frozen networks that scores need, each loaded when it is first asked for.

Weights that are not to be had make a figure absent, with the reason, and never another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from text2layer.errors import InputError, WeightsError

JUDGE = "isnet"  # of masks: neither the composer nor the flat baseline's U^2-Net
NAMES = {"lpips": "lpips-alex", "objects": "efficientnet-lite0"}  # as `text2layer weights` has them


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
        self._makers: dict[str, Callable[[], Any]] = {
            "inception": lambda: _inception(device),
            "judge": lambda: _judge(judge),
            "lpips": lambda: _lpips(device),
            "objects": lambda: _objects(device),
            "probe": lambda: _probe(probe),
            "clip": lambda: _clip(clip),
        }
        self._judge_name = judge
        self._loaded: dict[str, Any] = {}
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

    def get(self, name: str) -> Any:
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


def _inception(device: str) -> Any:
    from text2layer.models.inception import InceptionFeatures

    return InceptionFeatures(device=device)


def _judge(name: str) -> Any:
    from text2layer.models.saliency import load_saliency

    return load_saliency(name)


def _lpips(device: str) -> Any:
    from text2layer.models.lpips import LPIPS

    return LPIPS("alex").to(device)


def _objects(device: str) -> Any:
    from text2layer.models.efficientnet import EfficientNetLite0

    return EfficientNetLite0().to(device)


def _probe(folder: str) -> Any:
    from text2layer.models.relevance import load_relevance

    return load_relevance(folder or None)


def _clip(name: str) -> Any:
    if not name:
        raise WeightsError("no CLIP was named (--clip FOLDER or hub id)")
    from text2layer.models.clip import load_clip

    return load_clip(name)


def check_judge(name: str) -> None:
    """Raise InputError for an empty name: masks need a judge that did not make them."""
    if not name:
        raise InputError("Name a saliency network as judge: --judge isnet, u2net or u2netp.")
