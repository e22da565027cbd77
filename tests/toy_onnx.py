"""Tiny ONNX networks, written as protobuf bytes by hand: the package onnx is not needed."""

import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, UINT8 = 1, 2  # TensorProto.DataType
Shape = Sequence[int | str]


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def value(name: str, kind: int, shape: Shape) -> bytes:
    """ValueInfoProto."""
    sides = b"".join(
        message(1, number(1, side) if isinstance(side, int) else message(2, side)) for side in shape
    )
    return message(1, name) + message(2, message(1, number(1, kind) + message(2, sides)))


def node(operator: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    """NodeProto."""
    names = b"".join(message(1, name) for name in inputs)
    return names + message(2, output) + message(4, operator) + attributes


def write(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Sequence[tuple[str, int, Shape]],
    output: tuple[str, int, Shape],
    opset: int,
) -> Path:
    """ModelProto."""
    graph = b"".join(message(1, one) for one in nodes) + message(2, "toy")
    graph += b"".join(message(11, value(*one)) for one in inputs) + message(12, value(*output))
    operators = message(1, "") + number(2, opset)
    path.write_bytes(number(1, 8) + message(7, graph) + message(8, operators))
    return path


def brightness_network(path: Path, shape: Shape = (1, 3, 12, 20), last: str = "Sigmoid") -> Path:
    """Mean over the three colours it is given, then the operator `last`."""
    axes = message(5, message(1, "axes") + number(8, 1) + number(20, 7))
    nodes = [node("ReduceMean", ["input"], "mean", axes), node(last, ["mean"], "output")]
    return write(
        path, nodes, [("input", FLOAT, shape)], ("output", FLOAT, (shape[0], 1, *shape[2:])), 17
    )


def echoing_inpainter(path: Path) -> Path:
    """The photo as it was given to the network, hole included; inputs as MI-GAN's."""
    nodes = [node("BitwiseAnd", ["image", "image"], "result")]
    image, mask = (1, 3, "height", "width"), (1, 1, "height", "width")
    inputs = [("image", UINT8, image), ("mask", UINT8, mask)]
    return write(path, nodes, inputs, ("result", UINT8, image), 18)


def inverting_inpainter(path: Path) -> Path:
    """White where the mask is 0, the inverted photo where it is 255; inputs as MI-GAN's.

    As MI-GAN's blur does, it mirrors two pixels beyond each edge, so it needs three a side.
    """
    nodes = [
        node("BitwiseAnd", ["image", "mask"], "kept"),
        node("BitwiseNot", ["kept"], "inverted"),
        integers("margin", [0, 0, 2, 2, 0, 0, 2, 2]),
        integers("no_margin", [0, 0, -2, -2, 0, 0, -2, -2]),
        node("Pad", ["inverted", "margin"], "padded",
             message(5, message(1, "mode") + message(4, "reflect") + number(20, 3))),
        node("Pad", ["padded", "no_margin"], "result"),
    ]  # fmt: skip
    image = (1, 3, "height", "width")
    inputs = [("image", UINT8, image), ("mask", UINT8, (1, 1, "height", "width"))]
    return write(path, nodes, inputs, ("result", UINT8, image), 18)


def inverting_lama(path: Path, scale: float = 255, shape: Shape = (1, 3, 64, 64)) -> Path:
    """The photo, inverted where the mask is 1, times `scale`; inputs as LaMa's."""
    factor = message(1, "value_float") + varint(2 << 3 | 5) + struct.pack("<f", scale)
    nodes = [
        node("Sub", ["mask", "image"], "once"),
        node("Sub", ["once", "image"], "twice"),
        node("Mul", ["mask", "twice"], "change"),
        node("Add", ["image", "change"], "changed"),
        node("Constant", [], "scale", message(5, factor + number(20, 1))),
        node("Mul", ["changed", "scale"], "output"),
    ]  # fmt: skip
    inputs = [("image", FLOAT, shape), ("mask", FLOAT, (1, 1, *shape[2:]))]
    return write(path, nodes, inputs, ("output", FLOAT, shape), 17)


def integers(name: str, values: Sequence[int]) -> bytes:
    """A node that gives a constant list of int64."""
    listed = b"".join(number(8, value) for value in values)
    return node("Constant", [], name, message(5, message(1, "value_ints") + listed + number(20, 7)))


def middle_network(path: Path, side: int = 96) -> Path:
    """Finds the middle half of any picture, whatever it shows."""
    low, high = side // 4, side * 3 // 4
    box = [float(low <= y < high and low <= x < high) for y in range(side) for x in range(side)]
    listed = b"".join(varint(7 << 3 | 5) + struct.pack("<f", one) for one in box)
    floats = message(5, message(1, "value_floats") + listed + number(20, 6))
    nodes = [
        node("Constant", [], "box", floats),
        integers("shape", [1, 1, side, side]),
        node("Reshape", ["box", "shape"], "output"),
    ]
    picture = ("input", FLOAT, (1, 3, side, side))
    return write(path, nodes, [picture], ("output", FLOAT, (1, 1, side, side)), 17)


def axes(*numbers: int) -> bytes:
    """The attribute `axes` of an operator."""
    listed = b"".join(number(8, one) for one in numbers)
    return message(5, message(1, "axes") + listed + number(20, 7))


def one_picture_network(path: Path) -> Path:
    """The brightness network with its batch of one written into a node, as some exporters do."""
    nodes = [
        integers("shape", [1, 3, 12, 20]),
        node("Reshape", ["input", "shape"], "same"),
        node("ReduceMean", ["same"], "mean", axes(1)),
        node("Sigmoid", ["mean"], "output"),
    ]
    shape = (1, 3, 12, 20)
    return write(path, nodes, [("input", FLOAT, shape)], ("output", FLOAT, (1, 1, 12, 20)), 17)


def mixing_network(path: Path) -> Path:
    """How much brighter a picture is than the mean of its batch."""
    nodes = [
        node("ReduceMean", ["input"], "of_batch", axes(0)),
        node("Sub", ["input", "of_batch"], "above"),
        node("Add", ["above", "input"], "sum"),
        node("ReduceMean", ["sum"], "mean", axes(1)),
        node("Sigmoid", ["mean"], "output"),
    ]
    shape = (1, 3, 12, 20)
    return write(path, nodes, [("input", FLOAT, shape)], ("output", FLOAT, (1, 1, 12, 20)), 17)


def migan_like(path: Path, takes: str, gives: str, side: int = 8) -> Path:
    """The inverted photo, shrunk to `side` and enlarged again; its parts lie as MI-GAN's do.

    Args:
        path: of the file.
        takes: name of the tensor (N, 4, side, side) that the network in the middle takes.
        gives: name of the tensor (N, 3, side, side) that it gives.
        side: in pixels.
    """

    def cast(to: int) -> bytes:
        return message(5, message(1, "to") + number(3, to) + number(20, 2))

    joined = message(5, message(1, "axis") + number(3, 1) + number(20, 2))
    nodes = [
        node("Cast", ["image"], "colours", cast(FLOAT)),
        node("Cast", ["mask"], "covered", cast(FLOAT)),
        node("Concat", ["colours", "covered"], "both", joined),
        integers("small", [1, 4, side, side]),
        node("Resize", ["both", "", "", "small"], takes),
        integers("no_channel", [0]),
        integers("three_channels", [3]),
        integers("channel_axis", [1]),
        node("Slice", [takes, "no_channel", "three_channels", "channel_axis"], "found"),
        node("Neg", ["found"], gives),
        node("Shape", ["image"], "shape"),
        node("Resize", [gives, "", "", "shape"], "large"),
        integers("white", [255]),
        node("Cast", ["white"], "white_level", cast(FLOAT)),
        node("Add", ["large", "white_level"], "inverted"),
        node("Cast", ["inverted"], "result", cast(UINT8)),
    ]
    image = (1, 3, "height", "width")
    inputs = [("image", UINT8, image), ("mask", UINT8, (1, 1, "height", "width"))]
    return write(path, nodes, inputs, ("result", UINT8, image), 18)
