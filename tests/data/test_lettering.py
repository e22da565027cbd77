"""Captions in any script: letters where a font has them, never a box."""

import numpy as np
import pytest
from PIL import ImageFont

from text2layer.data import lettering
from text2layer.data.contact_sheet import grid
from text2layer.data.lettering import has_letter, lettered, wide_fonts

TEXTS = ("Straße", "grüner café", "красная лиса", "αλεπού", "中文狐狸", "שועל", "fox 😀", "a\u0301")


def sheet(caption: str) -> np.ndarray:
    return np.asarray(grid([[np.zeros((10, 96, 3), np.uint8)]], [caption]))


def test_a_plain_text_keeps_the_font_that_it_had() -> None:
    text, font = lettered("a red fox, 3/4", 13)
    assert text == "a red fox, 3/4"
    assert font.getname() == ImageFont.load_default(13).getname()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("alone", [True, False])
def test_every_character_has_a_letter_in_the_font(monkeypatch, text: str, alone: bool) -> None:
    if alone:  # a machine without fonts
        monkeypatch.setattr(lettering, "wide_fonts", tuple)
    shown, font = lettered(text, 13)
    assert shown.strip()
    assert all(has_letter(font, letter) for letter in shown if not letter.isspace())


@pytest.mark.skipif(not wide_fonts(), reason="this machine has no font of many scripts")
@pytest.mark.parametrize("text", ["Straße", "grüner", "красная лиса", "αλεπού"])
def test_a_font_of_the_machine_is_used_where_it_has_the_letters(text: str) -> None:
    assert lettered(text, 13)[0] == text
    shown = sheet(text)
    for other in (text[:-1], text[::-1]):
        assert not np.array_equal(shown, sheet(other))


@pytest.mark.parametrize(
    ("text", "shown"), [("grüner", "gruner"), ("café", "cafe"), ("лес", r"\u043b\u0435\u0441")]
)
def test_without_one_accents_go_and_others_are_numbers(monkeypatch, text: str, shown: str) -> None:
    monkeypatch.setattr(lettering, "wide_fonts", tuple)
    assert np.array_equal(sheet(text), sheet(shown))


def test_a_damaged_font_is_passed_over(monkeypatch, tmp_path) -> None:
    (tmp_path / "arial.ttf").write_bytes(b"no font")
    monkeypatch.setattr(lettering, "wide_fonts", lambda: (tmp_path / "arial.ttf",))
    assert lettered("é", 13)[0] == "e"


def test_a_long_text_in_wide_letters_stays_on_its_sheet(monkeypatch) -> None:
    monkeypatch.setattr(lettering, "wide_fonts", tuple)
    rows = sheet("中" * 40)
    assert (rows[:, -4:] == rows[0, 0]).all()
