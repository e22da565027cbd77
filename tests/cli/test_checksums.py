"""SHA256SUMS of model folders, and `text2layer weights verify`."""

import hashlib
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from text2layer.errors import WeightsError
from text2layer.files import CHECKSUMS, verify_checksums, write_checksums
from text2layer.pipelines import released_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "denoiser").mkdir()
    (tmp_path / "denoiser" / "weights.safetensors").write_bytes(b"weights")
    (tmp_path / "model_index.json").write_text("{}")
    write_checksums(tmp_path)
    return tmp_path


def test_the_file_is_what_sha256sum_reads(folder: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    lines = (folder / CHECKSUMS).read_text().splitlines()
    assert f"{digest}  denoiser/weights.safetensors" in lines
    assert verify_checksums(folder) == len(lines) == 2


def test_writing_again_changes_nothing(folder: Path) -> None:
    before = (folder / CHECKSUMS).read_bytes()
    write_checksums(folder)
    assert (folder / CHECKSUMS).read_bytes() == before


def test_every_difference_is_named(folder: Path) -> None:
    weights = folder / "denoiser" / "weights.safetensors"
    weights.write_bytes(b"weightz")
    with pytest.raises(WeightsError, match=r"weights.safetensors' is not the file"):
        verify_checksums(folder)
    weights.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        verify_checksums(folder)
    weights.write_bytes(b"weights")
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"other.safetensors' is no part"):
        verify_checksums(folder)


@pytest.mark.parametrize("text", [None, "no hash here"])
def test_a_folder_without_checksums_is_said(folder: Path, text: str | None) -> None:
    (folder / CHECKSUMS).unlink()
    if text is not None:
        (folder / CHECKSUMS).write_text(text)
    with pytest.raises(WeightsError, match="no readable SHA256SUMS"):
        verify_checksums(folder)


def test_the_released_model_is_whole() -> None:
    assert verify_checksums(released_model()) >= 6


def test_the_command_takes_names_and_folders(run: Run, folder: Path) -> None:
    done = run("weights", "verify", "base", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("ok") == 2
    (folder / "model_index.json").write_text("[]")
    failed = run("weights", "verify", folder, "base")
    assert failed.exit_code == 1
    assert "is not the file that was released" in failed.stderr
    assert failed.stdout.startswith("base")
