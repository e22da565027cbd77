"""Protocol `objects`: an oracle is right, its opposite wrong, an untrained model nearly so."""

import numpy as np
import pytest
import torch

from tests.evaluation.test_object_accuracy import Thumbnail
from tests.toy_model import build_pipeline
from text2layer.data.named_things import AskedThings, open_things
from text2layer.errors import InputError, WeightsError
from text2layer.evaluation.compare import compare
from text2layer.evaluation.drawing import Drawer, as_batch
from text2layer.evaluation.networks import Networks
from text2layer.evaluation.objects import objects
from text2layer.evaluation.references import References
from text2layer.evaluation.results import read_results, write_results
from text2layer.evaluation.run import Run
from text2layer.layers import Layer, LayeredImage

# two colours of each, so that even thumbnails tell them apart
DRAWINGS = dict.fromkeys(("circle-000", "square-001", "ring-002", "square-006"), 1.0)


@pytest.fixture(scope="module")
def asked(library) -> AskedThings:
    return AskedThings(open_things(library, DRAWINGS, 64), seeds=3)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks.of(objects=Thumbnail())


class Tracer(Drawer):
    """Draws the real drawing of a chosen thing, as a model that learnt all would."""

    def __init__(self, pipeline, asked: AskedThings, shift: int = 0, empty: bool = False) -> None:
        super().__init__(pipeline, 64)
        self.asked, self.shift, self.empty = asked, shift, empty
        self.number = {asked.picture_seed(n): n for n in range(len(asked))}

    def __call__(self, prompts, numbers, **given):
        made = []
        for prompt, seed in zip(prompts, numbers, strict=True):
            assert prompt == self.asked.prompt(self.number[seed])
            number = (self.number[seed] + self.shift * self.asked.seeds) % len(self.asked)
            batch = self.asked.batch([number])
            colour, ground = (getattr(batch, part)[0].permute(1, 2, 0).contiguous().numpy()
                              for part in ("foreground", "background"))  # fmt: skip
            mask = batch.mask[0, 0].numpy() * (0 if self.empty else 1)
            made.append(LayeredImage(ground, (Layer(colour, mask),)))
        return as_batch(made)


def values(result) -> dict[str, float]:
    return {name: figure.value for name, figure in result.metrics.items()}


def test_who_traces_the_drawings_is_always_right(asked, networks, pipeline):
    result = objects(Tracer(pipeline, asked), asked, networks, Run(batch_size=4))
    found = values(result)
    assert found["object_top1"] == found["object_top5"] == 1
    assert found["object_top1_chance"] == 0
    assert found["empty_masks"] == 0
    assert result.samples == len(asked.things) == result.metrics["object_top1"].samples
    assert [item["top1"] for item in result.about["things"]] == [3] * len(asked.things)
    assert result.about["things"][0]["taken_for"] == []
    assert result.about["split"] == "train"
    assert result.about["known_things"] == 3
    assert result.about["known_drawings"] == 4
    assert "efficientnet-lite0" in result.about["networks"]


def test_who_draws_another_thing_is_always_wrong(asked, networks, pipeline):
    result = objects(Tracer(pipeline, asked, shift=1), asked, networks, Run())
    assert result.metrics["object_top1"].value < 0.5  # two styles of squares are one name
    wrong = [item for item in result.about["things"] if item["top1"] == 0]
    assert wrong
    assert all(len(item["taken_for"]) == 1 for item in wrong)
    assert result.metrics["object_top1_ceiling"].value == pytest.approx(
        values(objects(Tracer(pipeline, asked), asked, networks, Run()))["object_top1_ceiling"]
    )


def test_empty_masks_are_wrong_and_counted(asked, networks, pipeline):
    result = objects(Tracer(pipeline, asked, empty=True), asked, networks, Run())
    assert values(result)["object_top1"] == values(result)["object_top5"] == 0
    assert values(result)["empty_masks"] == 1


def test_batches_do_not_change_a_count_and_the_same_command_asks_the_same(
    asked, networks, toy_text_encoder, tmp_path
):
    drawer = Drawer(build_pipeline(toy_text_encoder), 64, 2)
    kept = References(tmp_path / "kept")
    one, other = (objects(drawer, asked, networks, Run(size, references=kept)) for size in (1, 5))
    assert values(one) == values(other)
    assert one.about["things"] == other.about["things"]
    assert one.about["prompts_sha256"] == other.about["prompts_sha256"]
    assert len(list((tmp_path / "kept").glob("*-objects.npy"))) == 1  # the gallery was seen once
    differences = compare([one], [other])["objects"]
    assert differences["object_top1"].paired
    assert differences["object_top1"].difference.value == 0


def test_another_gallery_is_not_compared(asked, networks, pipeline, library, tmp_path):
    few = dict.fromkeys(list(DRAWINGS)[:3], 1.0)
    other = AskedThings(open_things(library, few, 64), seeds=3, limit=2)
    mine = AskedThings(open_things(library, DRAWINGS, 64), seeds=3, limit=2)
    results = [objects(Tracer(pipeline, one), one, networks, Run()) for one in (mine, other)]
    assert mine.things[0].name == other.things[0].name
    results[1].about["prompts_sha256"] = results[0].about["prompts_sha256"]
    with pytest.raises(InputError, match="drawings sha256 differ"):
        compare([results[0]], [results[1]])
    write_results(results[:1], tmp_path)
    (read,) = read_results(tmp_path)
    assert read.about["things"] == results[0].about["things"]
    np.testing.assert_array_equal(read.per_sample["object_top1"], np.ones(2))


def test_without_the_network_it_says_so_before_anything_is_drawn(asked, pipeline):
    drawer = Tracer(pipeline, asked)
    with pytest.raises(WeightsError, match="it was not asked for"):
        objects(drawer, asked, Networks.of(), Run())
    assert drawer.seconds == 0
    assert torch.equal(asked.owners.unique(), torch.arange(3))
