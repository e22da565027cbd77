"""Words of the picture library: rules, tables, and what packages say."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from text2layer.errors import DataError, InputError
from text2layer.picture_library import tables
from text2layer.picture_library.emoji import EmojiNames, emoji_caption
from text2layer.picture_library.package_facts import (
    drawing_facts,
    furniture_facts,
    furniture_models,
)
from text2layer.picture_library.phrases import concept_of, counted
from text2layer.picture_library.words import (
    STYLES,
    Words,
    describe,
    hashed_split,
    split_of,
)


@pytest.mark.parametrize(
    ("label", "subgroup", "caption"),
    [
        ("red apple", "food-fruit", "a red apple"),
        ("onion", "food-vegetable", "an onion"),
        ("unicorn", "animal-mammal", "a unicorn"),
        ("ewe", "animal-mammal", "a ewe"),
        ("peanuts", "food-vegetable", "some peanuts"),
        ("gloves", "clothing", "a pair of gloves"),
        ("cactus", "plant-other", "a cactus"),
        ("bowl with spoon", "food-prepared", "a bowl with a spoon"),
        ("cloud with rain", "sky-weather", "a cloud with rain"),
        ("oncoming bus", "transport-ground", "a bus seen from the front"),
        ("smiling face with halo", "face-smiling", "a smiling emoji face with halo"),
        ("monkey face", "animal-mammal", "a monkey face"),
        ("woman judge", "person-role", "a female judge"),
        ("woman feeding baby", "person-role", "a woman feeding a baby"),
        ("man: red hair", "person", "a man with red hair"),
        ("woman: bald", "person", "a bald woman"),
        ("person with white cane: facing right", "person-activity",
         "a person with a white cane facing right"),
        ("men wrestling", "person-sport", "two men wrestling"),
        ("woman’s hat", "clothing", "a woman's hat"),  # noqa: RUF001
        ("lady beetle", "animal-bug", "a ladybug"),  # by emoji.tsv
    ],
)  # fmt: skip
def test_caption_of_an_emoji(label: str, subgroup: str, caption: str) -> None:
    assert emoji_caption(label, subgroup) == caption


@pytest.mark.parametrize(
    ("caption", "concept"),
    [
        ("a red apple with a leaf", "apple"),
        ("two cherries", "cherry"),
        ("a bowl of noodles", "noodle"),
        ("a stack of pancakes with berries", "pancake"),
        ("a crate of carrots", "crate"),
        ("a vase of flowers", "vase"),
        ("a pair of scissors", "scissors"),
        ("a red and white lighthouse", "lighthouse"),
        ("a fork and a knife", "fork"),
        ("a leather armchair", "chair"),
        ("a hot dog", "hotdog"),
        ("a sitting dog", "dog"),
        ("a bald man juggling", "man"),
        ("a garden with a swing", "garden"),
        ("a rhinoceros", "rhinoceros"),
    ],
)
def test_concept_of_a_caption(caption: str, concept: str) -> None:
    assert concept_of(caption) == concept


def test_what_is_counted() -> None:
    assert [counted(word) for word in ("hourglass", "camera lens", "french fries")] == [
        "an hourglass", "a camera lens", "some french fries",
    ]  # fmt: skip


def emoji_words(source: str, label: str, subgroup: str, icon: str = "icon") -> Words:
    tags = [f"tag{number}" for number in range(10)]
    return describe(source, icon, code="1f34e", label=label, subgroup=subgroup, tags=tags)


def test_words_of_an_emoji() -> None:
    words = emoji_words("fluent-emoji-3d", "red apple", "food-fruit")
    assert (words.caption, words.concept, words.nameable) == ("a red apple", "apple", True)
    assert (words.group, words.style, words.left_out) == ("emoji:1f34e", "3d icon", "")
    assert words.tags == tuple(f"tag{number}" for number in range(8))


def test_people_are_not_nameable_and_only_two_sets_give_them() -> None:
    for source, kept in (("noto", True), ("fluent-emoji-3d", True), ("twemoji", False)):
        words = emoji_words(source, "woman judge", "person-role")
        assert not words.nameable
        assert (words.left_out == "") == kept


def test_a_row_of_the_table_says_what_is_nameable_or_left_out() -> None:
    assert emoji_words("noto", "ghost", "face-costume").nameable  # faces are not, a ghost is
    assert not emoji_words("noto", "butter", "food-prepared").nameable  # food is, butter is not
    assert emoji_words("noto", "foggy", "place-other").left_out
    assert emoji_words("noto", "multiply", "math").left_out
    assert not emoji_words("noto", "hut", "place-building").left_out


def test_a_drawing_that_people_rejected_is_left_out_of_its_set_alone() -> None:
    told = {"label": "necktie", "subgroup": "clothing", "icon": "necktie"}
    assert emoji_words("twemoji", **told).left_out
    assert not emoji_words("noto", **told).left_out


def test_one_set_is_the_test_of_known_concepts() -> None:
    known = emoji_words("emojione", "red apple", "food-fruit")
    assert (known.split, known.held_out_drawing) == ("train", True)
    assert not emoji_words("twemoji", "red apple", "food-fruit").held_out_drawing
    unseen = next(row["concept"] for row in tables.rows("held_out"))
    words = emoji_words("emojione", unseen, "food-fruit")
    assert words.split in ("val", "test")
    assert not words.held_out_drawing


def test_words_of_furniture() -> None:
    words = describe(
        "sweethome3d-furniture", "Maker/maker/oak/oak.obj",
        label="Office chair", category="Office", tags=["Blend Swap", " Seat", "Adjustable", "Seat"],
    )  # fmt: skip
    assert (words.caption, words.concept) == ("an office chair", "chair")
    assert (words.tags, words.style) == (("seat", "office"), "3d render")
    assert (words.group, words.nameable) == ("furn:Maker/maker/oak/oak.obj", True)


def test_a_row_of_a_model_wins_over_a_row_of_its_name() -> None:
    def caption(model: str) -> str:
        return describe("sweethome3d-furniture", model, label="Box").caption

    assert caption("Maker/maker/box/box.obj") == "a wooden box"
    assert caption("BlendSwap-CC-0/blendswap-cc-0/box/box.obj") == "a blue crate"


def test_furniture_that_no_person_names_or_that_is_left_out() -> None:
    def words(label: str, *tags: str) -> Words:
        return describe("sweethome3d-furniture", "Maker/m/m.obj", label=label, tags=tags)

    assert not words("Bidet").nameable
    assert words("Bidet").left_out == ""
    assert words("Socket on a wall", "Electricity").left_out
    assert words("Rails").left_out
    assert words("Rails").caption == "some rails"


def test_words_of_clip_art() -> None:
    row = next(row for row in tables.rows("clip_art") if row["file"].startswith("food/"))
    keywords = ["some long made-up phrase", "unsorted", *(f"word {number}" for number in range(9))]
    words = describe("openclipart-svg", row["file"], tags=keywords)
    assert words.caption == row["caption"]
    assert words.tags == tuple(f"word {number}" for number in range(6))
    assert words.left_out == ""
    assert words.group.startswith("oca:food-")


def test_clip_art_that_nobody_captioned_is_left_out() -> None:
    words = describe("openclipart-svg", "tools/Big_hammer_02.svg")
    assert words.left_out
    assert words.group == "oca:tools-big-hammer-02"


@pytest.mark.parametrize(
    ("path", "caption", "concept"),
    [
        ("kit/Models/oakChair_02.glb", "an oak chair", "chair"),
        ("kit/bench_B.gltf.glb", "a bench", "bench"),
        ("kit/lamp_standing.gltf", "a floor lamp", "lamp"),  # by models.tsv
    ],
)
def test_words_of_a_model_of_a_pack(path: str, caption: str, concept: str) -> None:
    words = describe("model-packs", path)
    assert (words.caption, words.concept, words.group) == (caption, concept, f"model:{path}")
    assert words.nameable


@pytest.mark.parametrize("source", ["noto", "sweethome3d-furniture"])
def test_a_picture_without_a_label_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=f"'some-name' of {source} has no label"):
        describe(source, "some-name", subgroup="food-fruit")


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(InputError, match="'openmoji' is no source with words"):
        describe("openmoji", "red-apple")


def test_own_concepts_are_split_by_a_hash() -> None:
    splits = [hashed_split(f"thing {number}") for number in range(2000)]
    assert splits == [hashed_split(f"thing {number}") for number in range(2000)]
    for split in ("val", "test"):
        assert 60 < splits.count(split) < 140


# ---- which emoji an icon draws ----


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """Packages of three emoji, drawn by three sets that name them differently."""

    def write(file: Path, content: Any) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")

    def icon_set(name: str, icons: list[str], chars: Mapping[str, str], **more: Any) -> None:
        hidden = more.get("hidden", ())
        bodies = {key: {"body": ""} | ({"hidden": True} if key in hidden else {}) for key in icons}
        aliases = more.get("aliases", {})
        write(tmp_path / name / "icons.json", {"icons": bodies, "aliases": aliases})
        write(tmp_path / name / "chars.json", chars)

    english = tmp_path / "emojibase" / "en"
    told = [
        ("1F41D", "honeybee", 3),
        ("1F430", "rabbit face", 3),
        ("1F407", "rabbit", 3),
        ("1F50D", "magnifying glass tilted left", 7),
    ]
    data = [
        {"hexcode": code, "label": label, "tags": ["word"], "subgroup": group}
        for code, label, group in told
    ]
    write(english / "data.json", data)
    groups = [{"order": 3, "key": "animal-bug"}, {"order": 7, "key": "light-video"}]
    write(english / "messages.json", {"subgroups": groups})
    icon_set(
        "noto", ["honeybee", "rabbit-face", "old-bee", "honeybee-dark"],
        {"1f41d": "honeybee", "1f430-fe0f": "rabbit-face", "1f41d-1f3ff": "honeybee-dark"},
        hidden=("old-bee",), aliases={"bee": {"parent": "honeybee"},
            "seeb": {"parent": "honeybee", "hFlip": True}, "old-bee": {"parent": "honeybee"}},
    )  # fmt: skip
    icon_set("fxemoji", ["honeybee", "bunny", "bee", "seeb"], {})
    icon_set("streamline-emojis", ["honey-bee-1", "honey-bee-2"], {})
    sets = {name: tmp_path / name for name in ("noto", "fxemoji", "streamline-emojis")}
    return tmp_path / "emojibase", sets


@pytest.mark.parametrize(
    ("source", "icon", "code"),
    [
        ("noto", "honeybee", "1f41d"),
        ("noto", "rabbit-face", "1f430"),
        ("noto", "honeybee-dark", None),  # of a skin tone
        ("noto", "old-bee", None),  # hidden
        ("fxemoji", "bee", "1f41d"),  # an alias of another set
        ("fxemoji", "seeb", None),  # the mirrored alias is another picture
        ("fxemoji", "bunny", "1f430"),  # by icons.tsv
        ("streamline-emojis", "honey-bee-2", "1f41d"),
        ("streamline-emojis", "rocket", None),
        ("fluent-emoji-3d", "1f50d", "1f50d"),
        ("fluent-emoji-3d", "1f407-fe0f", "1f407"),
    ],
)
def test_the_emoji_that_an_icon_draws(
    packages: tuple[Path, dict[str, Path]], source: str, icon: str, code: str | None
) -> None:
    found = EmojiNames.read(*packages).find(source, icon)
    assert (found.code if found else None) == code


def test_facts_of_an_emoji_are_those_that_describe_asks_for(
    packages: tuple[Path, dict[str, Path]],
) -> None:
    names = EmojiNames.read(*packages)
    facts = names.facts("fxemoji", "bee")
    assert facts is not None
    words = describe("fxemoji", "bee", **facts)
    assert (words.caption, words.concept, words.group) == ("a honeybee", "bee", "emoji:1f41d")
    assert words.tags == ("word",)
    assert names.facts("noto", "honeybee-dark") is None


def test_a_damaged_package_is_named(packages: tuple[Path, dict[str, Path]]) -> None:
    emojibase, sets = packages
    (emojibase / "en" / "data.json").write_text('[{"label": "bee"}]', encoding="utf-8")
    with pytest.raises(DataError, match="not the English part of emojibase-data"):
        EmojiNames.read(emojibase, sets)
    (emojibase / "en" / "data.json").unlink()
    with pytest.raises(DataError, match=r"data\.json' cannot be read"):
        EmojiNames.read(emojibase, sets)


# ---- what packages say ----


def test_models_of_a_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "Maker.sh3f"
    said = (
        "# a comment\nname=My catalogue\n"
        "id#10=M#two\nname#10=Frame H\\u00f4i\nmodel#10=/m/two.obj\n"
        "id#9=M#one\nname#9=Desk\nmodel#9=/m/one.obj\ncategory#9=Office\ntags#9=Table, Work\n"
        "id#11=M#three\nname#11=No model\n"
    )
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", said)
    models = list(furniture_models(file))
    assert [model for model, _ in models] == ["Maker/m/one.obj", "Maker/m/two.obj"]
    assert models[1][1]["name"] == "Frame Hôi"
    name, properties = models[0]
    words = describe("sweethome3d-furniture", name, **furniture_facts(properties))
    assert (words.caption, words.tags) == ("a desk", ("table", "work", "office"))


def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path) -> None:
    file = tmp_path / "Maker.sh3f"
    file.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"Maker\.sh3f' is no furniture catalogue"):
        list(furniture_models(file))


METADATA = """<metadata><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag><rdf:li>fruit</rdf:li>
<rdf:li> red pear </rdf:li><rdf:li/></rdf:Bag></dc:subject></rdf:RDF></metadata>"""


@pytest.mark.parametrize(
    "head",
    [
        "<svg>",
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.0//EN" "svg10.dtd">\n<svg>',
        '<!DOCTYPE svg PUBLIC "-//W3C" "svg.dtd" [\n<!ENTITY ns "http://x.org/">\n]>'
        '<svg xmlns:x="&ns;">',
    ],
)
def test_keywords_of_a_drawing(head: str) -> None:
    svg = f'<?xml version="1.0"?>{head}{METADATA}</svg>'
    assert drawing_facts(svg.encode()) == {"tags": ("fruit", "red pear")}


def test_entities_that_name_entities_are_not_read() -> None:
    grow = "".join(f'<!ENTITY e{n} "{f"&e{n + 1};" * 10}">' for n in range(12))
    svg = f"<!DOCTYPE svg [{grow}<!ENTITY e12 'x'>]><svg>&e0;{METADATA}</svg>"
    assert drawing_facts(svg.encode()) == {"tags": ()}


def test_a_drawing_that_is_no_xml_has_no_keywords() -> None:
    assert drawing_facts(b"<svg><metadata>") == {"tags": ()}


# ---- the tables ----

TABLES = sorted(path.stem for path in tables.FOLDER.glob("*.tsv"))
DETERMINED = ("a ", "an ", "the ", "some ", "two ", "three ", "four ", "half a")
NAMES_OF_ONE = ("santa claus", "mrs. claus", "mount fuji")  # take no article


@pytest.mark.parametrize("name", TABLES)
def test_table_is_sorted_and_says_nothing_twice(name: str) -> None:
    keys = list(tables.rows(name)[0])
    keys = keys[:2] if "source" in keys else keys[:1]
    found = [tuple(row[key] for key in keys) for row in tables.rows(name)]
    assert len(set(found)) == len(found) > 20
    lines = (tables.FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert lines == sorted(lines)


@pytest.mark.parametrize("name", ["emoji", "furniture", "clip_art", "models"])
def test_captions_are_noun_phrases_in_lower_case(name: str) -> None:
    for row in tables.rows(name):
        caption = row["caption"]
        if caption in ("", "-", *NAMES_OF_ONE):
            continue
        assert caption == caption.lower().strip()
        assert caption.startswith(DETERMINED), caption


def test_tables_hold_what_rules_do_not_give() -> None:
    for row in tables.rows("furniture"):
        if "/" not in row["name"]:
            assert row["caption"] != counted(row["name"].lower())
    for row in tables.rows("emoji"):
        assert row["caption"] or row["use"], row
        assert row["use"] in ("", "nameable", "not nameable", "left out")
    for row in tables.rows("nouns"):
        assert row["concept"] != row["word"]


def test_held_out_concepts_are_in_one_split_and_known_under_their_name() -> None:
    known = tables.column("nouns", "word", "concept")
    for row in tables.rows("held_out"):
        assert row["split"] in ("val", "test")
        assert split_of(row["concept"]) == row["split"]
        assert row["concept"] not in known  # such a word never is a concept


def test_tables_name_sources_that_are() -> None:
    for name in ("icons", "dropped_icons", "not_nameable"):
        assert {row["source"] for row in tables.rows(name)} <= set(STYLES)


def test_a_row_with_another_number_of_columns_is_named() -> None:
    with pytest.raises(DataError, match=r"'nouns\.tsv' line 3 has 1 columns, the header 2"):
        list(tables.parse("word\tconcept\nmug\tcup\nmug cup\n", "nouns.tsv"))
