"""What a layer of a foreign PSD has that a normal pixel layer cannot keep.

The tagged blocks themselves are asked: psd-tools' summaries pass over effects without the flag
``present`` and legacy adjustment layers. Layout: Adobe Photoshop File Formats Specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psd_tools.api.layers import Layer as PsdLayer

USER_MASK = -2
BLEND_MODES = {  # psd-tools' name of each blend mode that a Layer has
    "NORMAL": "normal",
    "MULTIPLY": "multiply",
    "SCREEN": "screen",
    "OVERLAY": "overlay",
    "DARKEN": "darken",
    "LIGHTEN": "lighten",
    "LINEAR_DODGE": "add",
}
_LIGHT_MODES = (1, 3)  # greyscale and RGB
_PLAIN_KINDS = ("pixel", "type", "shape", "smartobject")  # these carry rendered pixels
_EFFECT_LISTS = (b"lfx2", b"lmfx", b"lfxs")
_OLD_EFFECTS = b"lrFX"
_ADJUSTMENTS = {
    b"brit": "brightness and contrast",
    b"levl": "levels",
    b"curv": "curves",
    b"expA": "exposure",
    b"vibA": "vibrance",
    b"hue ": "hue and saturation",
    b"hue2": "hue and saturation",
    b"blnc": "colour balance",
    b"blwh": "black and white",
    b"phfl": "photo filter",
    b"mixr": "channel mixer",
    b"clrL": "colour lookup",
    b"nvrt": "invert",
    b"post": "posterize",
    b"thrs": "threshold",
    b"grdm": "gradient map",
    b"selc": "selective colour",
}
_EFFECTS = {
    b"DrSh": "drop shadow",
    b"IrSh": "inner shadow",
    b"OrGl": "outer glow",
    b"IrGl": "inner glow",
    b"ebbl": "bevel",
    b"ChFX": "satin",
    b"SoFi": "colour overlay",
    b"GrFl": "gradient overlay",
    b"patternFill": "pattern overlay",
    b"FrFX": "stroke",
}
_DRAWN_EFFECTS = (b"SoFi", b"GrFl", b"patternFill", b"FrFX")  # by psd-tools' compositor
_NEUTRAL_RANGES = ((0, 65535), (0, 0))  # 0..255 on both ends; some writers leave zeros


def obstacle(layer: PsdLayer) -> str | None:
    """Why a layer (no group) cannot be a normal pixel layer, as "is ..." or "has ...", or None."""
    if kind := adjustment(layer):
        return f"is an adjustment layer ({kind})"
    if layer.kind not in _PLAIN_KINDS:
        return f"is a layer of the kind {layer.kind}"
    if layer.kind == "shape" and not has_colour(layer):
        return "is a shape without stored pixels"
    if reason := common_obstacle(layer):
        return reason
    if layer.blend_mode.name == "LINEAR_DODGE" and layer.fill_opacity < 255:
        return "has a fill opacity under linear dodge"  # Photoshop adds less light, not less layer
    path = layer.vector_mask if layer.has_vector_mask() else None
    if path is not None and not path.disabled and layer.kind != "shape":
        return "has a vector mask"  # only a shape's pixels are stored cut out by it
    parameters = layer.mask.parameters if has_mask(layer) and layer.mask else None
    if parameters is not None and (
        parameters.user_mask_density not in (None, 255) or parameters.user_mask_feather
    ):
        return "has a mask with density or feather"
    return None


def group_obstacle(group: Any) -> str | None:
    """Why a group cannot be taken apart, or None."""
    from psd_tools.api.layers import Artboard

    if isinstance(group, Artboard) or has_mask(group) or group.has_vector_mask():
        return "is an artboard or has a mask"
    mode = group.blend_mode.name
    if mode != "PASS_THROUGH" and (reason := common_obstacle(group)):
        return reason
    if mode == "PASS_THROUGH" and (reason := _blending_option(group)):
        return reason
    if mode not in ("PASS_THROUGH", "NORMAL"):
        return f"is a group with the blend mode {BLEND_MODES[mode]}"
    if mode == "NORMAL" and any(blends_with_below(layer) for layer in group):
        return "keeps the blend modes of its layers to itself"
    if group.opacity < 255 and len(list(group.descendants())) > 1:
        return "is half transparent"
    return None


def common_obstacle(layer: PsdLayer) -> str | None:
    """What layers and groups share: blend mode, clipping, effects and blending options."""
    mode = layer.blend_mode.name
    if mode not in BLEND_MODES:
        return f"is blended with {mode.lower()}"
    if mode != "NORMAL" and int(layer._psd.color_mode) not in _LIGHT_MODES:
        return f"is blended with {mode.lower()} in inks"  # which are other numbers than RGB
    return _blending_option(layer)


def blends_with_below(layer: Any) -> bool:
    """Whether a visible layer, or one that its group lets through, has a mode but normal."""
    if not layer.visible:
        return False
    if layer.is_group() and layer.blend_mode.name == "PASS_THROUGH":
        return any(blends_with_below(inside) for inside in layer)
    return bool(layer.blend_mode.name != "NORMAL")


def depends_on_what_is_below(reason: str) -> bool:
    """Whether the look of a layer with this obstacle comes from the layers below it."""
    return reason.startswith(("is an adjustment", "is blended", "has blend-if", "has a knockout",
                              "has switched-off"))  # fmt: skip


def adjustment(layer: PsdLayer) -> str | None:
    """What an adjustment layer adjusts, or None if it is none."""
    blocks = _blocks(layer)
    return next((name for key, name in _ADJUSTMENTS.items() if key in blocks), None)


def has_mask(layer: PsdLayer) -> bool:
    """Whether there is a mask with pixels; some writers give every layer a mask's header alone."""
    return layer.has_mask() and any(
        int(item.id) == USER_MASK for item in layer._record.channel_info
    )


def has_colour(layer: PsdLayer) -> bool:
    """Whether pixels of the first colour are stored."""
    return any(int(item.id) == 0 and item.length > 2 for item in layer._record.channel_info)


def has_effects(layer: PsdLayer) -> bool:
    """Whether an effect is switched on, by the effect list, or else by the one of Photoshop 5."""
    return any(True for _ in _effects(layer))


def undrawn(layer: PsdLayer) -> list[str]:
    """What of a layer or group psd-tools' compositor (1.26) passes over, as "drop shadow"."""
    from psd_tools.composite.adjustments import ADJUSTMENT_FUNC

    found = dict.fromkeys(name for name, drawn in _effects(layer) if not drawn)
    if (kind := adjustment(layer)) and layer.kind not in ADJUSTMENT_FUNC:
        found[f"adjustment ({kind})"] = None
    if _blocks(layer).get(b"brst"):
        found["switched-off channels"] = None
    if _has_blend_if(layer):
        found["blend-if ranges"] = None
    return list(found)


def _blending_option(layer: PsdLayer) -> str | None:
    if layer.clipping:
        return "is clipped to the layer below it"
    if has_effects(layer):
        return "has layer effects"
    blocks = _blocks(layer)
    if _value(blocks.get(b"knko")):
        return "has a knockout"
    if blocks.get(b"brst"):
        return "has switched-off channels"
    if _has_blend_if(layer):
        return "has blend-if ranges"
    return None


def _has_blend_if(layer: PsdLayer) -> bool:
    return any(pair not in _NEUTRAL_RANGES for pair in _ranges(layer))


def _ranges(layer: PsdLayer) -> Iterator[tuple[int, ...]]:
    """Source and destination ranges of grey and of the colours that the picture has."""
    ranges = layer._record.blending_ranges
    if ranges is None:
        return
    yield from (tuple(pair) for pair in ranges.composite_ranges or ())
    for channel in (ranges.channel_ranges or ())[:3]:
        yield from (tuple(pair) for pair in channel)


def _effects(layer: PsdLayer) -> Iterator[tuple[str, bool]]:
    """Effects that are switched on: name, and whether psd-tools draws it."""
    blocks = _blocks(layer)
    listed = [blocks[key] for key in _EFFECT_LISTS if key in blocks]
    for data in listed:
        yield from _listed_effects(data)
    old = blocks.get(_OLD_EFFECTS)
    if listed or old is None:
        return
    if not hasattr(old, "items"):
        yield "layer effects", False  # a block that cannot be read is not known to be empty
    elif any(bool(getattr(item, "enabled", 0)) for _, item in old.items()):
        yield "layer effects", False


def _listed_effects(data: Any) -> Iterator[tuple[str, bool]]:
    """Effects of a descriptor that are switched on; what is unreadable counts as one."""
    if not hasattr(data, "items"):
        yield "layer effects", False
        return
    master = data.get(b"masterFXSwitch")
    if master is not None and not _value(master):
        return
    for key, value in data.items():
        for item in value if type(value).__name__ == "List" else (value,):
            if not (hasattr(item, "items") and b"enab" in item):
                continue
            present = item.get(b"present")
            if _value(item.get(b"enab")) and (present is None or _value(present)):
                kind = _letters(item.classID)
                name = _EFFECTS.get(kind) or _EFFECTS.get(_letters(key), "layer effects")
                yield name, kind in _DRAWN_EFFECTS and present is not None and master is not None


def _blocks(layer: PsdLayer) -> dict[bytes, Any]:
    """Data of the layer's tagged blocks by their four letters."""
    found = layer._record.tagged_blocks
    return {_letters(key): found.get_data(key) for key in found}


def _letters(key: Any) -> bytes:
    return bytes(getattr(key, "value", key))


def _value(data: Any) -> Any:
    return getattr(data, "value", data)
