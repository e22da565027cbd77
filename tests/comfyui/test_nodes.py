"""The node pack of comfyui/, loaded as ComfyUI loads it and run at tiny size."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests import toy_onnx
from text2layer import Layer, LayeredImage, load
from text2layer.errors import InputError

FOLDER = Path(__file__).parent.parent.parent / "comfyui"
NAME = "custom_nodes_text2layer"


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def node(pack: ModuleType):
    """Run a node by its name as ComfyUI does: defaults for what is not given, no gradients."""

    def call(name: str, /, **given: Any) -> tuple:
        kind = pack.NODE_CLASS_MAPPINGS[name]
        inputs = kind.INPUT_TYPES()
        values = {}
        for key, (_, *options) in {**inputs["required"], **inputs.get("optional", {})}.items():
            if key in given:
                values[key] = given.pop(key)
            elif options and "default" in options[0]:
                values[key] = options[0]["default"]
        assert not given
        with torch.inference_mode():
            made = getattr(kind(), kind.FUNCTION)(**values)
        assert len(made["result"] if isinstance(made, dict) else made) == len(kind.RETURN_TYPES)
        return made

    return call


@pytest.fixture
def drawing(toy_model_folder: Path) -> dict[str, Any]:
    return {"model": str(toy_model_folder), "prompt": "a red apple", "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_onnx.middle_network(tmp_path_factory.mktemp("network") / "middle.onnx"))


def noise(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0))


def disc(size: int = 64) -> torch.Tensor:
    """(1, size, size): 1 in the middle."""
    across = torch.arange(size) - size / 2
    return (across[:, None] ** 2 + across**2 < (size / 4) ** 2).float()[None]


def comfy_of(monkeypatch, stop_after: float = float("inf")) -> list[tuple[int, int]]:
    """Stand in for ComfyUI's package; the list takes what its bar would show."""
    shown: list[tuple[int, int]] = []

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total = total

        def update_absolute(self, value: int, total: int | None = None) -> None:
            shown.append((value, total))

    def throw_exception_if_processing_interrupted() -> None:
        if len(shown) >= stop_after:
            raise InterruptedError

    utils, management = ModuleType("comfy.utils"), ModuleType("comfy.model_management")
    utils.ProgressBar = ProgressBar
    management.get_torch_device = lambda: torch.device("cpu")
    management.throw_exception_if_processing_interrupted = throw_exception_if_processing_interrupted
    for module in (ModuleType("comfy"), utils, management):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return shown


def test_mappings_are_what_comfyui_reads(pack: ModuleType) -> None:
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    for kind in pack.NODE_CLASS_MAPPINGS.values():
        inputs = kind.INPUT_TYPES()
        assert callable(getattr(kind, kind.FUNCTION))
        assert len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES)
        assert kind.CATEGORY == "text2layer"
        assert all(isinstance(one, tuple) for one in inputs["required"].values())


def test_importing_the_pack_loads_no_diffusers() -> None:
    import subprocess

    code = (
        f"import importlib.util, sys; sys.path.insert(0, {str(FOLDER.parent / 'src')!r}); "
        f"s = importlib.util.spec_from_file_location('p', {str(FOLDER / '__init__.py')!r}); "
        "m = importlib.util.module_from_spec(s); sys.modules['p'] = m; s.loader.exec_module(m); "
        "print('diffusers' in sys.modules, len(m.NODE_CLASS_MAPPINGS))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "7"]


def test_a_batch_is_drawn_with_the_seeds_that_follow(node, drawing) -> None:
    layers, composite, foreground, mask, background = node(
        "Text2LayerGenerate", **drawing, batch_size=2
    )
    side = layers[0].size[0]
    assert composite.shape == foreground.shape == background.shape == (2, side, side, 3)
    assert mask.shape == (2, side, side)
    assert {one.dtype for one in (composite, foreground, mask, background)} == {torch.float32}
    assert 0 <= composite.min() < composite.max() <= 1
    assert [one.metadata["seed"] for one in layers] == [3, 4]
    assert np.array_equal((mask[0] * 255).round().numpy(), layers[0].mask)
    again = node("Text2LayerGenerate", **drawing | {"seed": 4})
    assert (again[1][0] - composite[1]).abs().max() <= 2 / 255
    assert (composite[0] - composite[1]).abs().max() > 0.05


def test_a_given_background_comes_back(node, drawing) -> None:
    given = noise(2, 64, 64)
    made = node("Text2LayerGivenBackground", **drawing, background=given)
    assert (made[4] - given).abs().max() <= 0.51 / 255
    assert [one.metadata["seed"] for one in made[0]] == [3, 4]
    assert made[0][0].metadata["given"] == "background"


@pytest.mark.parametrize("inverted", [False, True])
def test_a_given_foreground_comes_back_under_both_conventions(node, drawing, inverted) -> None:
    given, mask = noise(1, 64, 64), disc()
    made = node(
        "Text2LayerGivenForeground", **drawing, foreground=given, invert_mask=inverted,
        mask=1 - mask if inverted else mask,
    )  # fmt: skip
    assert torch.equal(made[3], mask)
    inside = mask[0] == 1
    assert (made[1][0][inside] - given[0][inside]).abs().max() <= 0.51 / 255


def test_a_picture_is_taken_apart_by_networks(node, network: str) -> None:
    given = noise(2, 72, 96)
    made = node("Text2LayerDecompose", image=given, saliency=network, inpainter="opencv")
    assert [layer.name for layer in made[0][1].foregrounds] == ["Subject 1"]
    assert made[1].shape == (2, 72, 96, 3)
    opaque = made[3] == 1
    assert opaque.float().mean() > 0.1
    assert (made[1] - given)[opaque].abs().max() <= 0.51 / 255


def test_a_picture_is_taken_apart_by_a_model(node, toy_model_folder: Path) -> None:
    given = noise(1, 64, 64)
    made = node("Text2LayerDecompose", image=given, model=str(toy_model_folder), seed=5)
    assert (made[1] - given).abs().max() <= 0.51 / 255
    assert made[0][0].metadata["seed"] == 5


def test_pictures_of_other_nodes_become_layers_and_come_back(node) -> None:
    back, front = noise(1, 64, 64), 1 - noise(1, 64, 64)
    first = node(
        "Text2LayerImagesToLayers", foreground=front, mask=disc(), background=back, name="Apple"
    )
    second = node("Text2LayerImagesToLayers", foreground=back, mask=disc() / 2, layers=first[0])
    assert [layer.name for layer in second[0][0].foregrounds] == ["Apple", "Foreground"]
    colours, masks, background = node("Text2LayerLayersToImages", layers=second[0])
    assert colours.shape == (2, 64, 64, 3)
    assert torch.equal(masks[0], disc()[0])
    assert (background - back).abs().max() <= 0.51 / 255


@pytest.fixture
def output(tmp_path: Path, monkeypatch) -> Path:
    """ComfyUI's output folder."""
    folder_paths = ModuleType("folder_paths")
    folder_paths.get_output_directory = lambda: str(tmp_path / "output")
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths)
    return tmp_path / "output"


def a_picture(level: int = 9) -> LayeredImage:
    colour = np.full((8, 8, 3), level, np.uint8)
    return LayeredImage(colour, (Layer(colour, colour[..., 0], name="Apple"),))


@pytest.mark.parametrize("suffix", ["psd", "ora"])
def test_layers_are_saved_with_numbers_that_go_on(node, output: Path, suffix: str) -> None:
    layers = [a_picture(10), a_picture(20)]
    for _ in range(2):
        made = node("Text2LayerSave", layers=layers, filename_prefix="a/fox", format=suffix)
    names = sorted(path.name for path in (output / "a").iterdir())
    assert names == [f"fox_0000{number}_.{suffix}" for number in (1, 2, 3, 4)]
    assert made["result"] == ("\n".join(str(output / "a" / name) for name in names[2:]),)
    assert load(output / "a" / names[3]).background[0, 0, 0] == 20
    assert load(output / "a" / names[3]).foregrounds[0].name == "Apple"


@pytest.mark.parametrize("prefix", ["../fox", "/tmp/fox", "a/../../fox", "..", "."])
def test_no_prefix_leads_out_of_the_output_folder(node, output: Path, prefix: str) -> None:
    with pytest.raises(InputError, match="leads out of the output folder"):
        node("Text2LayerSave", layers=[a_picture()], filename_prefix=prefix, format="psd")
    assert not list(output.parent.rglob("*.psd"))


def test_a_mask_of_load_image_without_transparency_is_refused(node, drawing) -> None:
    with pytest.raises(InputError, match="64 x 64 for a file without transparency"):
        node(
            "Text2LayerGivenForeground", **drawing, foreground=noise(1, 96, 96),
            mask=torch.zeros(1, 64, 64), invert_mask=True,
        )  # fmt: skip
    with pytest.raises(InputError, match="3 masks were given for 1 pictures"):
        node(
            "Text2LayerImagesToLayers", foreground=noise(1, 64, 64), mask=torch.ones(3, 64, 64),
            background=noise(1, 64, 64),
        )  # fmt: skip
    with pytest.raises(InputError, match=re.escape("(B, H, W, 3), got (64, 64, 3)")):
        node("Text2LayerGivenBackground", **drawing, background=noise(1, 64, 64)[0])


def test_a_model_is_loaded_once(pack, drawing, toy_model_folder: Path) -> None:
    running = sys.modules[f"{NAME}.running"]
    first = running.load_model(str(toy_model_folder), False)
    assert running.load_model(str(toy_model_folder), False) is first


def test_the_bar_shows_every_step(node, drawing, monkeypatch) -> None:
    shown = comfy_of(monkeypatch)
    node("Text2LayerGenerate", **drawing, batch_size=2)
    assert shown == [(1, 2), (2, 2)]
    shown.clear()
    node("Text2LayerGivenBackground", **drawing, background=noise(2, 64, 64))
    assert shown == [(1, 4), (2, 4), (1, 2), (3, 4), (4, 4), (2, 2)]


def test_the_stop_button_ends_a_run_after_a_step(node, drawing, network, monkeypatch) -> None:
    shown = comfy_of(monkeypatch, stop_after=1)
    with pytest.raises(InterruptedError):
        node("Text2LayerGenerate", **drawing)
    assert shown == [(1, 2)]
    shown.clear()
    with pytest.raises(InterruptedError):
        node("Text2LayerDecompose", image=noise(3, 48, 48), saliency=network, inpainter="opencv")
    assert shown == [(1, 3)]
    monkeypatch.undo()
    assert len(node("Text2LayerGenerate", **drawing)[0]) == 1


def test_pyproject_has_what_the_registry_asks_for() -> None:
    said = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    project = said["project"]
    assert re.fullmatch(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*", project["name"])
    assert "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert set(project["license"]) <= {"text", "file"}
    assert "Repository" in project["urls"]
    assert {"PublisherId", "DisplayName"} <= set(said["tool"]["comfy"])


def test_readme_names_every_node(pack: ModuleType) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in pack.NODE_DISPLAY_NAME_MAPPINGS.values())
