"""The licence of every network that takes part is asked for, and stored with every sample."""

from pathlib import Path

import pytest

from tests import toy_onnx
from tests.photos.toy_photos import write_photos
from text2layer.data.shards import ShardReader
from text2layer.errors import InputError
from text2layer.photos.run import build
from text2layer.photos.settings import BuildSettings

PLAIN = {"second_saliency": "", "mask_quality": 0.0, "fill_quality": 0.0, "pair_quality": 0.0,
         "quality_filter": False,
         "min_size": 1, "duplicate_distance": 0, "max_hole": 1.0}  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 3)


def made(photos: Path, out: Path, **settings: object):
    return build(photos, out, BuildSettings(**(PLAIN | settings)), workers=1, report=False,
                 progress=False)  # fmt: skip


def test_a_network_without_a_licence_is_asked_for_one(photos: Path, tmp_path: Path) -> None:
    network = toy_onnx.brightness_network(tmp_path / "mine.onnx", (1, 3, 32, 32))
    lama = toy_onnx.inverting_lama(tmp_path / "lama.onnx")
    with pytest.raises(InputError, match=r"mine\.onnx' comes without a licence.*--licence"):
        made(photos, tmp_path / "refused", saliency=str(network), inpainter=str(lama))
    made(photos, tmp_path / "out", saliency=str(network), inpainter=str(lama), licence="MIT")
    samples = list(ShardReader(tmp_path / "out"))
    assert samples
    for sample in samples:
        said = sample.metadata.extra["build"]["licences"]
        assert said == {"saliency": "MIT", "inpainter": "MIT"}
        assert sample.metadata.model_hashes.keys() == said.keys()


def test_the_licence_of_a_model_card_is_stored(photos: Path, tmp_path: Path) -> None:
    for name, licence in (("salient", "mit"), ("other", "bsd-3-clause")):
        folder = tmp_path / name
        folder.mkdir()
        toy_onnx.brightness_network(folder / "model.onnx", (1, 3, 32, 32))
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    made(
        photos, tmp_path / "out", saliency=str(tmp_path / "salient"), inpainter="opencv",
        second_saliency=str(tmp_path / "other"),
    )  # fmt: skip
    sample = next(iter(ShardReader(tmp_path / "out")))
    assert sample.metadata.extra["build"]["licences"] == {
        "saliency": "mit", "second_saliency": "bsd-3-clause",
    }  # fmt: skip
