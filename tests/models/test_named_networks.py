"""Networks of the user's choice, tiny ones of the same interfaces: input, licence, refusals."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image

from tests import toy_onnx
from tests.models.test_inpainting import a_hole, a_wall
from tests.models.test_saliency import a_photo
from tests.toy_clip import save_clip
from text2layer.errors import WeightsError
from text2layer.models.inpainting import load_inpainter
from text2layer.models.repository import Repository
from text2layer.models.saliency import load_saliency
from text2layer.models.torch_saliency import TRUST

CARD = "---\nlicense: other\nlicense_name: bria-rmbg-1.4\n---\n# A network\n"
RMBG = {"image_mean": [0.5, 0.4, 0.3], "image_std": [1, 1, 2], "size": {"width": 24, "height": 16}}
OPEN = (1, 3, "height", "width")


def onnx_repository(folder: Path, said: dict | None = None, card: str = CARD) -> Path:
    """A folder as hub repositories with ONNX exports are."""
    (folder / "onnx").mkdir(parents=True)
    toy_onnx.brightness_network(folder / "onnx" / "model.onnx", OPEN)
    (folder / "README.md").write_text(card)
    if said is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


def expected_maximum(photo: np.ndarray, mean, std, size: tuple[int, int]) -> float:
    small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)) / 255
    raw = 1 / (1 + np.exp(-((small - np.array(mean)) / np.array(std)).mean(-1)))
    return float(raw.max())


def test_an_onnx_repository_is_run_as_its_preprocessing_says(tmp_path: Path) -> None:
    network = load_saliency(str(onnx_repository(tmp_path / "rmbg", RMBG)), 1)
    photo = a_photo()
    wanted = expected_maximum(photo, [0.5, 0.4, 0.3], [1, 1, 2], (24, 16))
    found = network.predict([photo])[0]
    assert found.maximum == pytest.approx(wanted, abs=1e-5)
    assert found.mask.shape == photo.shape[:2]
    assert network.licence == "bria-rmbg-1.4"


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"do_normalize": False, "size": 20}, 0, 1),
        ({"do_rescale": False, "image_mean": [9, 9, 9], "image_std": [255] * 3, "size": [20, 20]},
         9 / 255, 1),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1] * 3, "image_std": [1] * 3,
          "size": {"shortest_edge": 20}}, 0.5, 0.5),
    ],
)  # fmt: skip
def test_ways_to_say_the_statistics(tmp_path: Path, said: dict, mean: float, std: float) -> None:
    network = load_saliency(str(onnx_repository(tmp_path / "x", said)), 1)
    wanted = expected_maximum(a_photo(), [mean] * 3, [std] * 3, (20, 20))
    assert network.predict([a_photo()])[0].maximum == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ('{"size": {"width": 0, "height": -3}}', "asks for the size"),
        ('{"image_mean": [0.5]}', "no mean and deviation"),
        ('{"image_std": [0, 1, 1]}', "deviation of 0"),
    ],
)
def test_preprocessing_that_cannot_be_is_one_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    folder = onnx_repository(tmp_path / "x")
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(WeightsError, match=words):
        load_saliency(str(folder), 1)


def test_a_hub_id_is_fetched_file_by_file(tmp_path: Path, monkeypatch) -> None:
    folder = onnx_repository(tmp_path / "served", RMBG)

    def served(repository: str, name: str) -> str:
        assert repository == "someone/rmbg"
        if not (folder / name).is_file():
            raise EntryNotFoundError("404")
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", served)
    network = load_saliency("someone/rmbg", 1)
    assert network.licence == "bria-rmbg-1.4"
    own = load_saliency(str(folder), 1)
    assert network.sha256 == own.sha256
    assert np.array_equal(network.predict([a_photo()])[0].mask, own.predict([a_photo()])[0].mask)


def test_weights_in_a_file_of_their_own_are_part_of_the_hash(tmp_path: Path) -> None:
    folder = onnx_repository(tmp_path / "x")
    alone = load_saliency(str(folder), 1).sha256
    (folder / "onnx" / "model.onnx_data").write_bytes(b"weights")
    both = load_saliency(str(folder), 1).sha256
    (folder / "onnx" / "model.onnx_data").write_bytes(b"others")
    assert len({alone, both, load_saliency(str(folder), 1).sha256}) == 3


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: [mit, cc0-1.0]\n---\n", "mit, cc0-1.0"),
        ("---\ntags: [a]\n---\n", ""),
        ("---\nlicense: [mit\n---\n", ""),
        ("no front matter", ""),
    ],
)
def test_the_licence_is_that_of_the_model_card_or_of_the_user(tmp_path, card, licence) -> None:
    folder = onnx_repository(tmp_path / "x", card=card)
    assert Repository(str(folder)).licence() == licence
    assert load_saliency(str(folder), 1, "MY-OWN").licence == "MY-OWN"


def test_networks_of_the_table_have_their_own_licence() -> None:
    from text2layer.pretrained import resolve

    try:
        resolve("u2netp", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    assert load_saliency("u2netp", 1, "SOMETHING").licence == "Apache-2.0"


def save_segformer(folder: Path, classes: int) -> Path:
    """A network for semantic segmentation that transformers has, of a few thousand weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=classes, depths=[1] * 4, hidden_sizes=[8] * 4, decoder_hidden_size=8,
        num_attention_heads=[1] * 4, sr_ratios=[1] * 4,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 64}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.mark.parametrize("classes", [1, 2])
def test_a_network_of_transformers_needs_no_code_of_its_own(tmp_path: Path, classes: int) -> None:
    from transformers import SegformerForSemanticSegmentation

    folder = save_segformer(tmp_path / "segformer", classes)
    network = load_saliency(str(folder))
    photo = a_photo()
    small = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.LANCZOS)) / 255
    values = (small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    values = torch.from_numpy(values.transpose(2, 0, 1)[None]).float()
    with torch.inference_mode():
        logits = SegformerForSemanticSegmentation.from_pretrained(folder).eval()(values).logits
    wanted = logits.sigmoid() if classes == 1 else logits.softmax(1)[:, 1]
    assert network.predict([photo])[0].maximum == pytest.approx(float(wanted.max()), abs=1e-4)
    assert network.licence == "apache-2.0"


def test_a_network_of_many_classes_is_refused(tmp_path: Path) -> None:
    folder = save_segformer(tmp_path / "segformer", 19)
    with pytest.raises(WeightsError, match="tells 19 classes apart"):
        load_saliency(str(folder))


OWN_CODE = '''
import torch
from transformers import PretrainedConfig, PreTrainedModel


class ToyConfig(PretrainedConfig):
    model_type = "toy-birefnet"


class ToyBiRefNet(PreTrainedModel):
    """Several maps, the last the best, as BiRefNet gives them."""

    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.tensor(3.0))
        self.post_init()

    def forward(self, x):
        return [x[:, :1] * 0, x[:, :1] * self.weight]
'''


def test_code_of_a_repository_runs_only_if_it_is_trusted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "birefnet"
    folder.mkdir()
    (folder / "birefnet.py").write_text(OWN_CODE)
    classes = {
        "AutoConfig": "birefnet.ToyConfig",
        "AutoModelForImageSegmentation": "birefnet.ToyBiRefNet",
    }
    config = {"model_type": "toy-birefnet", "auto_map": classes}
    (folder / "config.json").write_text(json.dumps(config))
    from safetensors.torch import save_file

    save_file({"weight": torch.tensor(3.0)}, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.delenv(TRUST, raising=False)
    with pytest.raises(WeightsError, match=f"its own code. Set {TRUST}=1 .* or take an ONNX"):
        load_saliency(str(folder))
    monkeypatch.setenv(TRUST, "1")
    found = load_saliency(str(folder)).predict([a_photo()])[0]
    assert found.mask[35, 45] > 200
    assert found.mask[2, 2] < 50


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), OPEN])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_lama_fills_what_its_mask_covers(tmp_path: Path, shape, scale: float) -> None:
    folder = tmp_path / "lama"
    folder.mkdir()
    toy_onnx.inverting_lama(folder / "lama_fp32.onnx", scale, shape)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    lama = load_inpainter(str(folder), 1)
    assert lama.licence == "apache-2.0"
    image = a_wall(200, 120)
    hole = a_hole(image)
    filled = lama.fill(image, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    inside = hole & np.roll(hole, 4, 0) & np.roll(hole, -4, 0)
    inside &= np.roll(hole, 4, 1) & np.roll(hole, -4, 1)
    assert np.abs(filled[inside].astype(int) - (255 - image[inside])).max() <= 6
    hole[:] = False
    hole[118:, 190:] = True  # at a corner, and a photo smaller than the network
    assert np.array_equal(lama.fill(image, hole)[~hole], image[~hole])
    assert lama.fill(image[:9, :30], hole[-9:, -30:]).shape == (9, 30, 3)
    assert np.array_equal(lama.fill(image, hole & False), image)


def test_an_onnx_file_that_is_no_inpainter_is_refused(tmp_path: Path) -> None:
    other = toy_onnx.brightness_network(tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="is no inpainter"):
        load_inpainter(str(other), 1)
    with pytest.raises(WeightsError, match="is not there"):
        load_inpainter(str(tmp_path / "none.onnx"), 1)
    shutil.copy(other, tmp_path / "second.onnx")
    with pytest.raises(WeightsError, match=r"holds 2 \.onnx files"):
        load_inpainter(str(tmp_path), 1)


@pytest.mark.slow  # fifty steps, twice
def test_a_diffusers_pipeline_fills_a_hole_and_keeps_the_rest(tmp_path: Path) -> None:
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionInpaintPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    clip = save_clip(tmp_path / "clip")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=9, out_channels=4, block_out_channels=(8, 8),
        layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), norm_num_groups=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipeline = StableDiffusionInpaintPipeline(
        vae, CLIPTextModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip), unet,
        DDIMScheduler(steps_offset=1), None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "sd")
    (tmp_path / "sd" / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n")
    inpainter = load_inpainter(str(tmp_path / "sd"), 1)
    assert inpainter.licence == "creativeml-openrail-m"
    image = a_wall(40, 36)
    hole = np.zeros((36, 40), bool)
    hole[10:20, 10:20] = True
    filled = inpainter.fill(image, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert not np.array_equal(filled, image)
    assert np.array_equal(filled, inpainter.fill(image, hole))
    others = [image, a_wall(48, 36), image[::-1], image[:, ::-1]]
    covered = [hole, np.zeros((36, 48), bool), hole[::-1], hole[:, ::-1]]
    covered[1][5:9, 30:44] = True
    several = load_inpainter(str(tmp_path / "sd"), 1, batch=4)  # of which three have one size
    calls = []
    run = several._run
    several._run = lambda pairs: calls.append(len(pairs)) or run(pairs)
    together = several.fill_all(others, covered)
    assert calls == [3, 1]
    for one, mask, other in zip(others, covered, together, strict=True):
        assert np.abs(inpainter.fill(one, mask).astype(int) - other).max() <= 1
