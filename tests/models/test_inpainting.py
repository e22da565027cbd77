"""Inpainters: kept pixels stay, holes are filled, what cannot be filled is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests import toy_onnx
from text2layer.errors import InputError, WeightsError
from text2layer.models.inpainting import (
    Inpainter,
    MiganInpainter,
    OpencvInpainter,
    load_inpainter,
)
from text2layer.pretrained import WEIGHTS, resolve


def a_wall(width: int = 96, height: int = 64) -> np.ndarray:
    """A smooth gradient: what any inpainter should be able to continue."""
    down, across = np.mgrid[0:height, 0:width]
    return np.dstack([40 + across, 60 + down, 200 - across]).astype(np.uint8)


def a_hole(image: np.ndarray) -> np.ndarray:
    hole = np.zeros(image.shape[:2], bool)
    hole[20:36, 40:60] = True
    return hole


@pytest.fixture(params=["migan", "opencv"])
def inpainter(request: pytest.FixtureRequest, tmp_path: Path) -> Inpainter:
    if request.param == "opencv":
        return OpencvInpainter()
    return MiganInpainter(toy_onnx.inverting_inpainter(tmp_path / "toy.onnx"), threads=1)


def test_kept_pixels_stay_exactly_and_the_input_is_not_written_to(inpainter: Inpainter) -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    hole = a_hole(image)
    before = image.copy()
    filled = inpainter.fill(image, hole)
    assert filled.shape == image.shape
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[~hole], image[~hole])
    assert (filled[hole] != image[hole]).mean() > 0.9
    assert np.array_equal(image, before)


def test_no_hole_gives_a_copy_and_a_hole_of_everything_is_refused(inpainter: Inpainter) -> None:
    image = a_wall()
    nothing = np.zeros(image.shape[:2], bool)
    same = inpainter.fill(image, nothing)
    assert np.array_equal(same, image)
    assert not np.shares_memory(same, image)
    with pytest.raises(InputError, match="nothing is left to fill it from"):
        inpainter.fill(image, ~nothing)
    with pytest.raises(InputError, match=r"they are \(64, 96, 3\) uint8 and \(5, 5\) bool"):
        inpainter.fill(image, np.ones((5, 5), bool))


@pytest.mark.parametrize("shape", [(2, 40), (40, 2), (1, 5), (2, 2), (3, 3)])
def test_photos_of_a_few_pixels_are_filled(inpainter: Inpainter, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    hole = np.zeros(shape, bool)
    hole[-1, -1] = True
    filled = inpainter.fill(image, hole)
    assert filled.shape == image.shape
    assert np.array_equal(filled[~hole], image[~hole])


def test_migan_is_told_where_the_hole_is(tmp_path: Path) -> None:
    """The toy graph paints white where its mask is 0: MI-GAN's sign for the hole."""
    image = a_wall()
    hole = a_hole(image)
    toy = MiganInpainter(toy_onnx.inverting_inpainter(tmp_path / "toy.onnx"), threads=1)
    assert (toy.fill(image, hole)[hole] == 255).all()


def test_migan_is_not_shown_what_was_in_the_hole(tmp_path: Path) -> None:
    """The toy graph gives back what it was given: the hole, filled from its edge."""
    image = a_wall()
    hole = a_hole(image)
    echo = MiganInpainter(toy_onnx.echoing_inpainter(tmp_path / "echo.onnx"), threads=1)
    magenta, black = (
        echo.fill(np.where(hole[..., None], np.uint8(old), image), hole)
        for old in ([255, 0, 255], [0, 0, 0])
    )
    assert np.array_equal(magenta, black)
    assert np.abs(magenta[hole].astype(int) - image[hole]).mean() < 10


def test_opencv_continues_a_gradient() -> None:
    image = a_wall()
    hole = a_hole(image)
    damaged = np.where(hole[..., None], np.uint8(0), image)
    filled = OpencvInpainter().fill(damaged, hole)
    assert np.abs(filled[hole].astype(int) - image[hole]).mean() < 6
    assert np.abs(damaged[hole].astype(int) - image[hole]).mean() > 50


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 40), (40, 1)])
def test_migan_takes_photos_of_one_or_two_pixels_a_side(shape: tuple[int, int]) -> None:
    try:
        resolve("migan", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    photo = np.full((*shape, 3), 90, np.uint8)
    hole = np.zeros(shape, bool)
    hole[-1, -1] = True
    filled = load_inpainter("migan", threads=1).fill(photo, hole)
    assert np.array_equal(filled[~hole], photo[~hole])


@pytest.mark.slow
def test_migan_fills_a_gradient_without_what_was_there() -> None:
    try:
        resolve("migan", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    migan = load_inpainter("migan", threads=1)
    assert migan.sha256 == WEIGHTS["migan"].sha256
    image = a_wall(160, 120)
    hole = a_hole(image)
    damaged = np.where(hole[..., None], np.uint8([255, 0, 255]), image)
    filled = migan.fill(damaged, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert np.abs(filled[hole].astype(int) - image[hole]).mean() < 15


def test_an_unknown_inpainter_is_refused() -> None:
    with pytest.raises(InputError, match="no inpainter 'lama'; give migan, opencv"):
        load_inpainter("lama")
