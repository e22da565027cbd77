"""Reading pickled NumPy arrays without running what a pickle may ask to run."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from text2layer.errors import WeightsError


def load_pickled_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a pickle of nested dictionaries of NumPy arrays into one flat dictionary.

    Only the three names that a plain array's pickle needs can be called; anything else is refused
    before it runs.

    Args:
        path: The pickle.

    Returns:
        Arrays under the keys of their dictionaries joined by ".".

    Raises:
        WeightsError: the file is no pickle, asks for anything else, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            tree = _ArrayUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is not a pickle of arrays ({error}).") from error
    except (AttributeError, IndexError, ImportError) as error:
        raise WeightsError(f"{path} is a damaged pickle ({error}).") from error
    arrays: dict[str, np.ndarray] = {}
    _flatten(tree, "", arrays, path)
    return arrays


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _plain_dtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """NumPy's `_reconstruct` for plain arrays; the data follow through `__setstate__`."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it asks for an array of kind {kind!r}")
    return np.ndarray.__new__(np.ndarray, shape, "b")


def _plain_dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    dtype = np.dtype(code, align, copy)
    if dtype.kind not in "fiub":
        raise pickle.UnpicklingError(f"it holds values of type {code!r}")
    return dtype


def _flatten(tree: object, prefix: str, arrays: dict[str, np.ndarray], path: Path) -> None:
    if isinstance(tree, np.ndarray):
        arrays[prefix] = tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            _flatten(value, f"{prefix}.{key}" if prefix else str(key), arrays, path)
    else:
        raise WeightsError(f"{path} holds a {type(tree).__name__} at {prefix!r}, not an array.")
