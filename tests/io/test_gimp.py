"""GIMP's reading of our PSD files: layers, places, masks and what it shows."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.io.stacks import rich
from tests.io.test_blend_modes import every_mode
from text2layer import io

GIMP = shutil.which("gimp")
pytestmark = pytest.mark.skipif(GIMP is None, reason="GIMP is not installed (Debian package gimp)")

# writes "name x y has-mask visible" of every layer, top first, then the flattened picture
SCRIPT = """
(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "{file}" "{file}")))
       (layers (vector->list (cadr (gimp-image-get-layers image))))
       (out (open-output-file "{told}")))
  (for-each (lambda (layer)
    (let ((place (gimp-drawable-offsets layer)))
      (write (list (car (gimp-item-get-name layer)) (car place) (cadr place)
                   (car (gimp-layer-get-mask layer)) (car (gimp-item-get-visible layer))) out)
      (newline out))) layers)
  (close-output-port out)
  (let ((flat (car (gimp-image-flatten image))))
    (file-png-save RUN-NONINTERACTIVE image flat "{shown}" "{shown}" 0 9 0 0 0 0 0)))
"""


def without_add():
    """Every blend mode but "add", whose sum GIMP does not limit before it applies alpha."""
    layered = every_mode()
    kept = (layer for layer in layered.foregrounds if layer.blend_mode != "add")
    return layered.replace(foregrounds=tuple(kept))


@pytest.mark.parametrize("alpha", io.ALPHAS)
@pytest.mark.parametrize(("picture", "levels"), [(rich, 2), (without_add, 3)])
def test_gimp_shows_the_composite_and_every_layer(tmp_path, picture, levels, alpha):
    layered = picture()
    file, told, shown = (tmp_path / name for name in ("a.psd", "told.txt", "shown.png"))
    io.save(layered, file, alpha=alpha)
    script = SCRIPT.format(file=file, told=told, shown=shown)
    version = subprocess.run([GIMP, "--version"], capture_output=True, text=True, check=True)
    if "version 2." not in version.stdout:
        pytest.skip(f"the script is for GIMP 2, this is {version.stdout.strip()}")
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [GIMP, "--no-interface", "--no-data", "-b", script, "-b", "(gimp-quit 0)"],
        check=True, capture_output=True, timeout=120, env=environment,
    )  # fmt: skip
    lines = told.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(layered.foregrounds) + 1
    for line, layer in zip(lines, reversed(layered.foregrounds), strict=False):
        x, y, mask, visible = line.strip("()").rsplit(" ", 4)[1:]
        assert (int(x), int(y)) == layer.offset
        assert bool(int(visible)) == layer.visible
        assert (int(mask) > 0) == (alpha == "mask")
    flattened = np.asarray(Image.open(shown).convert("RGB")).astype(int)
    assert np.abs(flattened - layered.composite.astype(int)).max() <= levels  # GIMP rounds once
