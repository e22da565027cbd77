"""Small ICC profiles (version 2.4) of a known gamma, written by hand: Pillow makes sRGB only."""

import struct

D50 = (0.9642, 1.0, 0.8249)
# sRGB's primaries adapted to D50, as in the profile of IEC 61966-2-1
RED, GREEN, BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def rgb_profile(gamma: float, name: str = "test", padding: int = 0) -> bytes:
    """sRGB's primaries with a plain gamma; `padding` bytes of an unknown tag make it long."""
    curve = _curve(gamma)
    tags = {
        b"desc": _name(name),
        b"wtpt": _xyz(D50),
        b"rXYZ": _xyz(RED),
        b"gXYZ": _xyz(GREEN),
        b"bXYZ": _xyz(BLUE),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    if padding:
        tags[b"padd"] = b"data" + bytes(4) + bytes(n * 7 % 256 for n in range(padding))
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """Grey with a plain gamma."""
    return _profile(b"GRAY", {b"desc": _name("grey"), b"wtpt": _xyz(D50), b"kTRC": _curve(gamma)})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4sIQI3I",
        place + len(body), b"test", 0x02400000, b"mntr", space, b"XYZ ", bytes(12), b"acsp",
        bytes(4), 0, bytes(4), 0, 0, 0, *(round(value * 65536) for value in D50),
    )  # fmt: skip
    return header.ljust(128, b"\0") + table + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _name(text: str) -> bytes:
    ascii_text = text.encode() + b"\0"
    length = struct.pack(">I", len(ascii_text))
    return b"desc" + bytes(4) + length + ascii_text + bytes(8 + 3 + 67)
