"""Pictures given to a frozen network together, and ONNX graphs that were exported for one picture.

onnxruntime refuses a batch that is not as large as the graph says. Such a graph is opened a second
time with an open batch: its file, and so its hash, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from text2layer.models.frozen import open_session
from text2layer.options import require

Item = TypeVar("Item")
Result = TypeVar("Result")

SYMBOL = "batch"
PROVEN = 0.01  # of the range of values: how far pictures of a batch may be from single ones
NO_MEMORY = ("out of memory", "failed to allocate memory", "bad_alloc")  # torch, onnxruntime, C++


class Batched(Protocol):
    """What takes pictures in batches.

    Attributes:
        batch: pictures that it is given together.
    """

    batch: int


def in_batches(
    owner: Batched, items: Sequence[Item], run: Callable[[Sequence[Item]], list[Result]]
) -> list[Result]:
    """A result for each item, `owner.batch` of them at a time.

    Where memory does not hold so many, the batch is halved, and `owner.batch` stays so.

    Args:
        owner: whose batch it is.
        items: what the network is given.
        run: gives the results of some of them, in order.
    """
    found: list[Result] = []
    while len(found) < len(items):
        part = items[len(found) : len(found) + max(owner.batch, 1)]
        try:
            found += run(part)
        except Exception as error:  # of torch or onnxruntime, which have no class in common
            said = str(error).lower()
            if len(part) == 1 or not any(words in said for words in NO_MEMORY):
                raise
            owner.batch = (len(part) + 1) // 2
    return found


def open_for_batches(path: Path, threads: int, sides: tuple[int, int]) -> Any | None:
    """Open a graph that was exported for one picture so that it takes several.

    It is tried with two pictures: each must give what it gives alone.

    Args:
        path: of the .onnx file.
        threads: of one operator; 0 leaves it to onnxruntime.
        sides: (height, width) of its pictures where the graph leaves them open.

    Returns:
        An onnxruntime session; None if the graph holds the number of pictures inside too, or mixes
        pictures, or has more than 2 GB.
    """
    onnx = require("onnx", "onnx", "Running ONNX networks in batches", extra="decompose")
    try:
        model = onnx.load(path)
        weights = {one.name for one in model.graph.initializer}
        for one in model.graph.input:
            if one.name not in weights:
                one.type.tensor_type.shape.dim[0].dim_param = SYMBOL
        for one in model.graph.output:
            one.type.tensor_type.ClearField("shape")  # it follows
        del model.graph.value_info[:]
        session = open_session(path, threads, graph=model.SerializeToString())
        return session if _keeps_pictures_apart(session, sides) else None
    except Exception:  # onnx, protobuf and onnxruntime have many; the graph as it is still works
        return None


def part_of_graph(path: Path, inputs: Sequence[str], output: str) -> bytes:
    """A network of the nodes of an ONNX file that lead from some tensors to another.

    Args:
        path: of the .onnx file.
        inputs: names of tensors: inputs of the whole, or tensors of 32-bit floats inside it.
        output: name of a tensor.

    Returns:
        The bytes of an .onnx file.
    """
    onnx = require("onnx", "onnx", "Running ONNX networks in batches", extra="decompose")
    model = onnx.load(path)
    whole = model.graph
    makers = {name: node for node in whole.node for name in node.output}
    wanted, needed = [output], set[str]()
    while wanted:
        name = wanted.pop()
        if name not in needed and name not in inputs:
            needed.add(name)
            wanted += makers[name].input if name in makers else []
    known = {one.name: one for one in (*whole.input, *whole.output)}
    floats = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    part = onnx.helper.make_graph(
        [node for node in whole.node if needed.intersection(node.output)],
        "part",
        [known.get(name) or onnx.helper.make_value_info(name, floats) for name in inputs],
        [known.get(output) or onnx.helper.make_value_info(output, floats)],
        [one for one in whole.initializer if one.name in needed],
    )
    made = onnx.helper.make_model(
        part, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return bytes(made.SerializeToString())


def _keeps_pictures_apart(session: Any, sides: tuple[int, int]) -> bool:
    """Whether two pictures together give what each gives alone, with noise and a bright corner."""
    rng = np.random.default_rng(0)
    pictures = {}
    for one in session.get_inputs():
        height, width = (
            side if isinstance(side, int) else other
            for side, other in zip(one.shape[2:], sides, strict=True)
        )
        values = rng.random((2, one.shape[1], height, width), np.float32) / 2
        values[0, :, : height // 2, : width // 2] += 0.5
        values[1, :, height // 2 :, width // 2 :] += 0.5
        pictures[one.name] = values
    first = [session.get_outputs()[0].name]
    single = [
        session.run(first, {name: values[n : n + 1] for name, values in pictures.items()})[0]
        for n in range(2)
    ]
    together = session.run(first, pictures)[0]
    if together.shape != (2, *single[0].shape[1:]):
        return False
    alone = np.concatenate(single)
    allowed = PROVEN * float(np.ptp(alone)) + 1e-6
    return bool(np.abs(together - alone).max() <= allowed)
