"""`recipes/photo_packages.py` on packages made here: nothing is fetched."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.recipe import recipe


def test_photos_come_with_caption_and_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = recipe("photo_packages")
    packages = tmp_path / "packages"
    packages.mkdir()
    with tarfile.open(packages / "kit-1.0.tgz", "w:gz") as file:
        said = {"license": "MIT", "author": {"name": "A Studio"}}
        for name, data in (("package.json", json.dumps(said).encode()), ("img/a-dog.jpg", b"dog")):
            member = tarfile.TarInfo("package/" + name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(packages / "some_demo-2.0-py3-none-any.whl", "w") as file:
        file.writestr("demo/cat.jpg", b"cat")
        file.writestr(
            "some_demo-2.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: some-demo\nClassifier: License :: OSI Approved :: BSD\n",
        )
    (packages / "games/usr/share").mkdir(parents=True)
    (packages / "games/usr/share/bee.jpg").write_bytes(b"bee")
    table = tmp_path / "table.txt"
    table.write_text(
        "# package, path, caption\n"
        "npm:kit@1.0\timg/a-dog.jpg\ta dog\n"
        "pypi:some-demo==2.0\tdemo/cat.jpg\ta cat\n"
        "deb:games\tusr/share/bee.jpg\ta bee\n"
    )
    monkeypatch.setattr(module, "TABLE", table)
    written = {}

    def write(out: Path, name: str, suffix: str, data: bytes, caption: str, about: dict) -> None:
        written[name] = (suffix, data, caption, about)

    assert module.collect(packages, tmp_path, write) == 3
    suffix, data, caption, about = written["kit_img_a_dog"]
    assert (suffix, data, caption) == (".jpg", b"dog", "a dog")
    assert about["source"] == "kit@1.0 img/a-dog.jpg"
    assert about["license"].startswith("MIT (of the package")
    assert about["author"] == "A Studio"
    assert written["some_demo_demo_cat"][3]["license"].startswith("BSD (")
    assert "/usr/share/doc/games/copyright" in written["games_share_bee"][3]["license"]


def test_the_table_names_each_photo_once() -> None:
    module = recipe("photo_packages")
    lines = [one for one in module.TABLE.read_text().splitlines() if not one.startswith("#")]
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == 3 and all(row) for row in rows)
    assert len({(package, path) for package, path, _ in rows}) == len(rows)
    assert {row[0].partition(":")[0] for row in rows} <= set(module._READERS)
