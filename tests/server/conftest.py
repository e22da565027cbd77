"""One server for the tests of a file, and pictures to give it."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the server needs the extra 'serve'")

from tests.server.running import running


@pytest.fixture(scope="module")
def server(tmp_path_factory, toy_model_folder):
    with running(tmp_path_factory.mktemp("studio"), toy_model_folder, queue=3) as made:
        yield made


@pytest.fixture(scope="module")
def drawer(tmp_path_factory, toy_model_folder, toy_pipelines):
    """A server with a tiny text-to-image pipeline, whose pictures have a subject in the middle."""
    from tests import toy_onnx
    from text2layer.pipelines import PhotoLayers
    from text2layer.server.drawing import Studio

    folder = tmp_path_factory.mktemp("drawer")
    network = str(toy_onnx.middle_network(folder / "middle.onnx"))

    def build(saliency, inpainter):
        return PhotoLayers(network, "opencv")

    source = str(toy_pipelines["stable-diffusion"])
    studio = Studio(toy_model_folder, "cpu", build, text_to_image=source)
    with running(folder / "kept", None, studio=studio) as made:
        yield made


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made
    server.drained()


@pytest.fixture
def http(server):
    with server.http() as made:
        yield made
    server.drained()


def png_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo():
    """A PNG of 64 x 48 opaque pixels."""
    return png_of(np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def cutout():
    """A PNG of 64 x 64 pixels whose alpha is a square in the middle."""
    rgba = np.random.default_rng(2).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    rgba[16:48, 16:48, 3] = 255
    return png_of(rgba)
