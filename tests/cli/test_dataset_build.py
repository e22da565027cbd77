"""`dataset build`, `report`, `stats`, `merge` and `split` from the command line."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from tests.cli.outcome import assert_one_sentence
from tests.photos.toy_photos import write_photos
from tests.photos.toy_stages import NAME
from text2layer.photos.settings import BuildSettings

TOY = ("--stages", NAME, "--min-size", 1, "--duplicate-distance", 0, "--photos-per-shard", 4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 10)


@pytest.fixture
def built(run, photos: Path, tmp_path: Path) -> Path:
    out = tmp_path / "built"
    result = run("dataset", "build", photos, out, *TOY, "--workers", 1, "--no-report")
    assert (result.exit_code, result.stdout) == (0, f"{out}\n"), result.stderr
    assert "kept 8" in result.stderr
    assert "2 bright: nothing found" in result.stderr
    return out


@pytest.mark.parametrize(("kept_from", "noted"), [("photo0003", False), ("photo0008", True)])
def test_a_judge_that_leaves_little_is_named_with_its_option(
    run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_from: str, noted: bool
) -> None:
    monkeypatch.setenv("TOY_STAGES_KEPT_FROM", kept_from)
    stages = ("--stages", f"{NAME.partition(':')[0]}:make_judged_stages", *TOY[2:])
    result = run(
        "dataset", "build", photos, tmp_path / "out", *stages, "--workers", 1, "--no-report"
    )
    assert result.exit_code == 0, result.stderr
    assert "pair quality: poor pair" in result.stderr
    assert ("--pair-quality 0" in result.stderr) == noted


def test_every_setting_is_an_option(run) -> None:
    text = run("dataset", "build", "--help").stdout
    for item in fields(BuildSettings):
        assert f"--{item.name.replace('_', '-')}" in text
    assert "[default: 512]" in " ".join(text.split())


def test_json_and_report(run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("dataset", "build", photos, out, *TOY, "--workers", 1, "--json")
    summary = json.loads(result.stdout)
    assert (summary["photos"], summary["kept"]) == (10, 8)
    assert summary["reasons"] == {"bright": {"nothing found": 2}}
    (out / "report.html").unlink()
    result = run("dataset", "report", out)
    assert result.stdout == f"{out / 'report.html'}\n"
    assert (out / "report.html").exists()
    assert json.loads(run("dataset", "report", out, "--json").stdout)["kept"] == 8


def test_a_photo_that_kills_its_worker_is_counted(run, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 10), tmp_path / "out"
    (photos / "photo0002.txt").write_text("act: segfault")
    limits = ("--photo-timeout", 60, "--worker-memory", 8, "--device", "cpu")
    stages = ("--stages", "tests.photos.deadly_stages:make_stages", *TOY[2:])
    result = run("dataset", "build", photos, out, *stages, *limits, "--workers", 1, "--no-report")
    assert result.exit_code == 0, result.stderr
    assert "1 worker: killed its worker: signal 11" in result.stderr
    assert "kept 7" in result.stderr
    assert "looked at 0" in run(
        "dataset", "build", photos, out, *stages, "--workers", 1, "--no-report"
    ).stderr  # fmt: skip


def test_stats_merge_split(run, built: Path, tmp_path: Path) -> None:
    assert json.loads(run("dataset", "stats", built, "--json").stdout)["samples"] == 8
    assert "mask area above 0.5" in run("dataset", "stats", built).stdout
    result = run("dataset", "merge", built, built, tmp_path / "merged")
    assert result.stdout == f"{tmp_path / 'merged' / 'shard-000000.tar'}\n"
    assert "8 the same sample again" in result.stderr
    result = run("dataset", "split", built, tmp_path / "split", "--val", 0.5, "--test", 0, "--json")
    summary = json.loads(result.stdout)
    assert sum(summary["samples"].values()) == 8
    assert set(summary["samples"]) == {"train", "val"}


@pytest.mark.parametrize(
    ("option", "word", "advice"),
    [((), "caption", "--no-require-caption"),
     (("--no-require-caption", "--require-license"), "licence", "--require-license")],
)  # fmt: skip
def test_photos_that_all_lack_a_text_are_one_sentence_and_nothing_is_begun(
    run, tmp_path: Path, option: tuple[str, ...], word: str, advice: str
) -> None:
    photos = write_photos(tmp_path / "photos", 5)
    for caption in photos.glob("*.txt"):
        caption.unlink()
    out = tmp_path / "out"
    result = run("dataset", "build", photos, out, *TOY, "--workers", 1, *option)
    said = assert_one_sentence(result)
    assert f"has a {word}" in said
    assert advice in said
    assert not out.exists()
    more = ("--no-require-caption", "--no-report")
    assert run("dataset", "build", photos, out, *TOY, "--workers", 1, *more).exit_code == 0
    assert (out / "build.json").exists()


def test_a_build_that_keeps_nothing_fails(run, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 10)
    for path in photos.glob("*.png"):
        if int(path.stem[-4:]) % 5 != 4:  # those have a disc
            path.unlink()
    asked = ("dataset", "build", photos, tmp_path / "out", *TOY, "--workers", 1, "--no-report")
    result = run(*asked)
    assert result.exit_code == 1
    assert "2 bright: nothing found" in result.stderr
    assert result.stderr.endswith("Error: No photo was kept; the counts above say why.\n")


@pytest.mark.slow
def test_what_is_built_trains(run, built: Path, tmp_path: Path) -> None:
    split = run("dataset", "split", built, tmp_path / "split", "--val", 0.5, "--test", 0)
    assert split.exit_code == 0, split.stderr
    result = run(
        "train", "autoencoder", "--preset", "tiny", "--steps", 1, "--batch-size", 2, "--data",
        tmp_path / "split", "--device", "cpu", "--mixed-precision", "no", "--preview-every", 0,
        "--validate-every", 0, "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "nowhere", "out"], "nowhere"),
        (["build", "PHOTOS", "full", *TOY], "full"),
        (["build", "PHOTOS", "out", "--stages", "nomodule:make"], "nomodule:make"),
        (["build", "PHOTOS", "out", "--size", "0"], "size"),
        (["build", "PHOTOS", "out", "--split", "half"], "half"),
        (["report", "full"], "full"),
        (["stats", "nowhere"], "nowhere"),
        (["stats", "full"], "full"),
        (["merge", "nowhere", "out"], "nowhere"),
        (["split", "full", "out", "--by", "colour"], "colour"),
    ],
)
def test_bad_input_gets_one_sentence(
    run, photos: Path, tmp_path: Path, monkeypatch, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep me")
    given = [photos if argument == "PHOTOS" else argument for argument in arguments]
    assert says in assert_one_sentence(run("dataset", *given))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_photos_and_results_may_lie_at_an_address(run, photos: Path, tmp_path: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for path in photos.iterdir():
        system.pipe_file(f"/toy/{path.name}", path.read_bytes())
    try:
        result = run("dataset", "build", "memory://toy", "memory://out", *TOY, "--workers", 1)
        assert "'memory://out' ends with this process" in assert_one_sentence(result)
        result = run("dataset", "build", "memory://none", tmp_path / "out", *TOY, "--workers", 1)
        assert "There is nothing at 'memory://none'" in assert_one_sentence(result)
        out = f"local://{tmp_path}/out"
        result = run("dataset", "build", f"local://{photos}", out, *TOY, "--no-report")
        assert result.exit_code == 0, result.stderr
        assert "kept 8" in result.stderr
        assert result.stdout.strip() == out
        assert run("dataset", "report", out).stdout.strip() == f"{out}/report.html"
        assert (tmp_path / "out" / "report.html").exists()
    finally:
        system.rm("/toy", recursive=True)
