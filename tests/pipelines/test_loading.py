"""Model folders: saved and loaded whole, refused in one sentence when damaged or foreign."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMPipeline, UNet2DModel
from safetensors.torch import load_file, save_file

from tests.toy_model import build_pipeline
from text2layer.errors import WeightsError
from text2layer.models.transformer import LayerTransformer2DModel
from text2layer.pipelines import Text2LayerPipeline, released_model
from text2layer.pipelines.loading import model_hash, size_multiple
from text2layer.training.outputs import export_pipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


def draw(pipeline: Text2LayerPipeline):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    return pipeline("a red ball on a green meadow", generator=generator).layers[0]


def test_an_exported_pipeline_with_our_own_denoiser_draws_the_same(toy_text_encoder, tmp_path):
    pipeline = build_pipeline(toy_text_encoder, preset="tiny-pooled")
    folder = export_pipeline(pipeline, tmp_path / "model", torch.float32)
    loaded = Text2LayerPipeline.from_pretrained(folder)
    assert type(loaded.denoiser) is type(pipeline.denoiser) is LayerTransformer2DModel
    assert draw(loaded).background.tolist() == draw(pipeline).background.tolist()


@pytest.fixture
def copy(toy_model_folder, tmp_path) -> Path:
    """A model folder that may be spoilt."""
    return shutil.copytree(toy_model_folder, tmp_path / "copy")


def test_a_saved_pipeline_draws_the_same_picture(pipeline, toy_model_folder):
    assert (toy_model_folder / "text_encoder").is_dir()
    loaded = Text2LayerPipeline.from_pretrained(toy_model_folder)
    ours, theirs = draw(pipeline), draw(loaded)
    assert ours.background.tolist() == theirs.background.tolist()
    assert ours.foregrounds == theirs.foregrounds
    assert theirs.metadata["model"] == "model"
    assert theirs.metadata["model_hash"] == model_hash(toy_model_folder)
    assert loaded.config.default_steps == 3


def test_a_folder_without_text_encoder_finds_it_by_its_name(toy_text_encoder, tmp_path):
    pipeline = build_pipeline(toy_text_encoder)
    for model in (pipeline.autoencoder, pipeline.denoiser):  # what half precision keeps
        for value in model.state_dict().values():
            value.copy_(value.half() if value.is_floating_point() else value)
    folder = export_pipeline(pipeline, tmp_path / "model")
    assert not (folder / "text_encoder").exists()
    loaded = Text2LayerPipeline.from_pretrained(folder)
    assert draw(pipeline).foregrounds == draw(loaded).foregrounds

    index = json.loads((folder / "model_index.json").read_text())
    index["text_encoder_name"] = "no-such-encoder"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="no-such-encoder") as error:
        Text2LayerPipeline.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_components_can_be_replaced_while_loading(toy_model_folder, pipeline):
    scheduler = DDIMScheduler()
    loaded = Text2LayerPipeline.from_pretrained(
        toy_model_folder, scheduler=scheduler, denoiser=pipeline.denoiser
    )
    assert loaded.scheduler is scheduler
    assert loaded.denoiser is pipeline.denoiser


def test_the_hash_follows_the_weights_alone(copy):
    before = model_hash(copy)
    assert len(before) == 16
    (copy / "model_index.json").write_text("{}")
    assert model_hash(copy) == before
    file = copy / "denoiser" / WEIGHTS
    weights = load_file(file)
    weights["pos_embed.proj.bias"][0] += 1
    save_file(weights, file)
    assert model_hash(copy) != before


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def index_cut_short(folder: Path) -> None:
    file = folder / "model_index.json"
    file.write_text(file.read_text()[:50])


def index_of_another_class(folder: Path) -> None:
    file = folder / "model_index.json"
    file.write_text(file.read_text().replace("Text2LayerPipeline", "StableDiffusionPipeline"))


def index_that_names_no_class(folder: Path) -> None:
    file = folder / "model_index.json"
    file.write_text(file.read_text().replace("CaT2IAutoencoder", "NoSuchAutoencoder"))


def index_that_names_no_module(folder: Path) -> None:
    file = folder / "model_index.json"
    file.write_text(file.read_text().replace("text2layer.models.autoencoder", "no.such.module"))


def index_is_a_list(folder: Path) -> None:
    (folder / "model_index.json").write_text("[]")


def no_denoiser(folder: Path) -> None:
    shutil.rmtree(folder / "denoiser")


def no_weights(folder: Path) -> None:
    (folder / "autoencoder" / WEIGHTS).unlink()


def weights_cut_short(folder: Path) -> None:
    file = folder / "denoiser" / WEIGHTS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def weights_are_text(folder: Path) -> None:
    (folder / "autoencoder" / WEIGHTS).write_text("version https://git-lfs")


def weights_lack_one(folder: Path) -> None:
    file = folder / "denoiser" / WEIGHTS
    weights = load_file(file)
    del weights["proj_out.weight"]
    save_file(weights, file)


def weights_of_another_network(folder: Path) -> None:
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",)
    ).save_pretrained(folder / "other")
    shutil.copy(folder / "other" / WEIGHTS, folder / "autoencoder" / WEIGHTS)


def weights_of_another_size(folder: Path) -> None:
    file = folder / "autoencoder" / "config.json"
    file.write_text(file.read_text().replace('"latent_channels": 4', '"latent_channels": 8'))


def pickled_weights(folder: Path) -> None:
    file = folder / "denoiser" / WEIGHTS
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def config_cut_short(folder: Path) -> None:
    file = folder / "denoiser" / "config.json"
    file.write_text(file.read_text()[:20])


def no_scheduler_config(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").unlink()


def text_encoder_cut_short(folder: Path) -> None:
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])


def no_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


SPOILS = [
    (no_folder, "There is no model folder"),
    (no_index, "no readable model_index.json"),
    (index_cut_short, "no readable model_index.json"),
    (index_of_another_class, "is a StableDiffusionPipeline, not a Text2LayerPipeline"),
    (index_is_a_list, "is a folder of unknown kind, not a Text2LayerPipeline"),
    (index_that_names_no_class, "cannot be loaded"),
    (index_that_names_no_module, "cannot be loaded"),
    (no_denoiser, "has no denoiser folder; the copy is incomplete"),
    (no_weights, "cannot be loaded"),
    (weights_cut_short, "cannot be loaded"),
    (weights_are_text, "cannot be loaded"),
    (weights_lack_one, "another architecture"),
    (weights_of_another_network, "cannot be loaded|another architecture"),
    (weights_of_another_size, "cannot be loaded"),
    (pickled_weights, "cannot be loaded"),
    (config_cut_short, "cannot be loaded"),
    (no_scheduler_config, "cannot be loaded"),
    (text_encoder_cut_short, "cannot be loaded"),
    (no_tokenizer, "the tokenizer's files are missing"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILS, ids=[spoil.__name__ for spoil, _ in SPOILS])
def test_a_damaged_or_foreign_folder_is_one_sentence(spoil: Callable, words: str, copy: Path):
    spoil(copy)
    with pytest.raises(WeightsError, match=words) as error:
        Text2LayerPipeline.from_pretrained(copy)
    assert "\n" not in str(error.value)
    assert str(copy) in str(error.value)


def test_a_real_pipeline_of_another_class_is_named(tmp_path):
    network = UNet2DModel(
        sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",), layers_per_block=1,
    )  # fmt: skip
    DDPMPipeline(network, DDIMScheduler()).save_pretrained(tmp_path / "ddpm")
    with pytest.raises(WeightsError, match="is a DDPMPipeline, not a Text2LayerPipeline"):
        Text2LayerPipeline.from_pretrained(tmp_path / "ddpm")


def test_the_released_model_lies_inside_the_package():
    import text2layer

    assert released_model().is_relative_to(Path(text2layer.__file__).parent)


@pytest.mark.parametrize("part", ["denoiser", "matting"])
def test_a_flipped_bit_in_released_weights_is_found_before_they_draw(
    part, toy_text_encoder, tmp_path
):
    from text2layer.models.matting import MattingNetwork
    from text2layer.training.outputs import export_network

    folder = export_pipeline(build_pipeline(toy_text_encoder), tmp_path / "mine", torch.float32)
    network = MattingNetwork((8, 8), middle_blocks=1)
    export_network(network, tmp_path / "mine-matting", torch.float32)
    Text2LayerPipeline.from_pretrained(folder)
    place = folder / "denoiser" if part == "denoiser" else tmp_path / "mine-matting"
    file = place / WEIGHTS
    stored = bytearray(file.read_bytes())
    stored[-1] ^= 1
    file.write_bytes(stored)
    with pytest.raises(WeightsError, match="is not the file that was released"):
        Text2LayerPipeline.from_pretrained(folder)


def test_checksums_of_another_model_do_not_stay_where_one_is_saved(toy_text_encoder, tmp_path):
    folder = export_pipeline(build_pipeline(toy_text_encoder), tmp_path / "mine", torch.float32)
    changed = Text2LayerPipeline.from_pretrained(folder)
    with torch.no_grad():
        changed.denoiser.proj_out.bias += 1
    changed.save_pretrained(folder)
    loaded = Text2LayerPipeline.from_pretrained(folder)
    assert torch.equal(loaded.denoiser.proj_out.bias, changed.denoiser.proj_out.bias)


def test_what_sides_must_be_a_multiple_of_is_known_before_loading(toy_text_encoder, tmp_path):
    for doublings in (0, 1):
        pipeline = build_pipeline(toy_text_encoder, doublings=doublings)
        folder = export_pipeline(pipeline, tmp_path / f"model-{doublings}", torch.float32)
        assert size_multiple(folder) == pipeline.size_multiple == 8 * 2**doublings
