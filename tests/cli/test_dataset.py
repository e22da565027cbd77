"""`dataset compose` and `dataset view` on a tiny library."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.outcome import assert_one_sentence
from text2layer.blend import composite_over


@pytest.fixture
def shards(run, library: Path, tmp_path: Path) -> Path:
    """Three samples for training and two for validation, 32 x 32, in three shards."""
    out = tmp_path / "shards"
    result = run(
        "dataset", "compose", library, out, "--count", 3, "--val-count", 2, "--size", 32,
        "--samples-per-shard", 2, "--seed", 3, "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert [Path(line) for line in result.stdout.split()] == sorted(out.glob("*.tar"))
    return out


def test_webdataset_reads_the_shards(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the dev extra")
    paths = [str(path) for path in sorted(shards.glob("*.tar"))]
    assert len(paths) == 3
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pilrgba"))
    assert len(samples) == 5
    for sample in samples:
        layer = np.asarray(sample["foreground.webp"])
        background = np.asarray(sample["background.webp"])[..., :3]
        image = np.asarray(sample["image.webp"])[..., :3]
        assert layer.shape == (32, 32, 4)
        assert np.array_equal(composite_over(background, layer[..., :3], layer[..., 3]), image)
        assert sample["txt"]
        assert sample["json"]["license"] == "CC0-1.0"


def test_same_seed_gives_the_same_shards(run, library: Path, shards: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    result = run(
        "dataset", "compose", library, again, "--count", 3, "--val-count", 2, "--size", 32,
        "--samples-per-shard", 2, "--seed", 3, "--device", "cpu", "--json",
    )  # fmt: skip
    assert json.loads(result.stdout)["samples"] == {"train": 3, "val": 2}
    for path in shards.glob("*.tar"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_view_draws_a_library_and_shards(run, library: Path, shards: Path, tmp_path: Path) -> None:
    for data, name in ((library, "library.png"), (shards, "shards.png")):
        sheet = tmp_path / name
        result = run("dataset", "view", data, "-o", sheet, "--count", 3, "--size", 32)
        assert (result.exit_code, result.stdout) == (0, f"{sheet}\n"), result.stderr
        with Image.open(sheet) as picture:
            assert picture.width > 2 * 4 * 32
            assert len(np.unique(np.asarray(picture))) > 10


def test_shards_train_like_a_library(run, shards: Path, tmp_path: Path) -> None:
    result = run(
        "train", "autoencoder", "--preset", "tiny", "--steps", 1, "--batch-size", 2, "--data",
        shards, "--device", "cpu", "--mixed-precision", "no", "--preview-every", 0,
        "--validate-every", 0, "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr


def test_an_index_is_written_and_trained_from(run, shards: Path, tmp_path: Path) -> None:
    result = run("dataset", "index", shards)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(shards / "shards.index")
    assert "5 samples, 3 shards, 3 of them read" in result.stderr
    out = tmp_path / "more.index"
    result = run("dataset", "index", shards, "--out", out, "--json")
    assert json.loads(result.stdout) | {"path": ""} == {
        "path": "", "samples": 5, "shards": 3, "read": 0, "skipped": {},
    }  # fmt: skip
    result = run("dataset", "index", shards, tmp_path)
    assert "--out FILE.index" in assert_one_sentence(result)
    train = (
        "train", "autoencoder", "--preset", "tiny", "--steps", 1, "--batch-size", 2, "--data", out,
        "--device", "cpu", "--mixed-precision", "no", "--preview-every", 0, "--validate-every", 0,
    )  # fmt: skip
    result = run(*train, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    next(shards.glob("*.tar")).unlink()
    result = run(*train, "--out", tmp_path / "run2")
    assert "does not fit the shards" in assert_one_sentence(result)


def test_view_says_which_sample_it_left_out(run, shards: Path, tmp_path: Path) -> None:
    last = max(shards.glob("*.tar"))
    last.write_bytes(last.read_bytes()[:2000])
    result = run("dataset", "view", shards, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.stderr
    assert "left out" in result.stderr
    assert last.name in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compose", "nowhere", "out"], "nowhere"),
        (["compose", "LIBRARY", "full"], "full"),
        (["compose", "LIBRARY", "out", "--count", "0"], "--count"),
        (["compose", "LIBRARY", "out", "--style", "fresco"], "fresco"),
        (["view", "nowhere", "-o", "sheet.png"], "nowhere"),
        (["view", "LIBRARY", "-o", "sheet.jpg"], ".png"),
        (["view", "LIBRARY", "-o", "missing/sheet.png"], "does not exist"),
    ],
)
def test_bad_input_gets_one_sentence(
    run, library: Path, tmp_path: Path, monkeypatch, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep me")
    given = [library if argument == "LIBRARY" else argument for argument in arguments]
    result = run("dataset", *given)
    assert result.exit_code == 1
    assert says in assert_one_sentence(result)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "full", tmp_path / "full" / "notes.txt"]
