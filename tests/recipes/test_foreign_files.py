"""The counts of foreign PSD files: what opens, for what reason not, and what looks alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode

from tests.recipe import recipe


def write_psd(path: Path, mode: BlendMode, preview: int) -> None:
    """A red layer over a grey one, and a grey preview of one value."""
    psd = PSDImage.new("RGB", (9, 7), color=(1.0, 1.0, 1.0))
    psd.create_pixel_layer(Image.new("RGB", (9, 7), (99, 99, 99)), name="Ground")
    psd.create_pixel_layer(Image.new("RGB", (3, 3), (200, 9, 9)), name="Top").blend_mode = mode
    record = psd._record
    record._get_layer_info()
    plane = np.full((7, 9), preview, np.uint8).tobytes()
    record.image_data.set_data([plane] * 3, record.header)
    with path.open("wb") as file:
        record.write(file)


def test_files_are_counted_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_psd(tmp_path / "a.psd", BlendMode.NORMAL, 99)
    write_psd(tmp_path / "b.psd", BlendMode.DIFFERENCE, 99)
    (tmp_path / "c.psb").write_bytes(b"8BPS")
    (tmp_path / "d.txt").write_text("no picture")
    recipe("foreign_files").main(str(tmp_path), "--each")
    told = capsys.readouterr().out
    each, as_it_is, merged, looks = told.split("\n\n")
    assert each.endswith("3 files")
    assert 'b.psd: Layer "..." of FILE is blended with difference; merged: opens; alike' in each
    assert "    1  opens" in as_it_is
    assert "    2  opens" in merged
    assert "    2  alike" in looks
    assert "    1  not opened" in looks


def test_a_composite_that_neither_reference_has_is_told(tmp_path: Path) -> None:
    write_psd(tmp_path / "a.psd", BlendMode.NORMAL, 50)
    module = recipe("foreign_files")
    wrong = np.full((7, 9, 3), 70, np.uint8)
    assert module.judged(wrong, tmp_path / "a.psd").startswith("differs (100.0% of the pixels")
    assert module.judged(np.full((7, 9, 3), 52, np.uint8), tmp_path / "a.psd") == "alike"
