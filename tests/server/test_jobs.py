"""Jobs from request to picture: what the API draws is what the library draws."""

import base64
import io
import json
import re
import time
import zipfile
from importlib import resources
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from psd_tools import PSDImage

from tests.server.running import LONG, running
from text2layer import io as layer_files
from text2layer.blend_modes import BLEND_MODES
from text2layer.server import schema
from text2layer.server.client import StudioError

PROMPT = "a red apple in front of a forest"


def loaded(client, picture, folder, suffix="ora"):
    return layer_files.load(client.save(picture, folder / f"{picture}.{suffix}"))


def test_candidates_are_one_batch_and_those_of_the_library(client, pipeline, tmp_path):
    seen = []
    job = client.wait(client.generate(PROMPT, count=3, seed=5, steps=4), seen.append)
    assert len(job.pictures) == 3
    assert max(one.steps for one in seen) in (0, 4)  # one denoising pass for all of them
    generators = [torch.Generator().manual_seed(5 + k) for k in range(3)]
    expected = pipeline(
        PROMPT, num_inference_steps=4, num_images_per_prompt=3, generator=generators
    ).layers
    for picture, one in zip(job.pictures, expected, strict=True):
        made = loaded(client, picture, tmp_path)
        assert np.array_equal(made.composite, one.composite)
        assert made.metadata["seed"] == one.metadata["seed"]


def test_a_job_without_a_seed_gets_one_and_can_be_drawn_again(client, tmp_path):
    job = client.wait(client.generate(PROMPT))
    again = client.wait(client.generate(PROMPT, seed=job.request["seed"]))
    first, second = (loaded(client, one.pictures[0], tmp_path) for one in (job, again))
    assert np.array_equal(first.composite, second.composite)


def test_given_layers_come_back_and_images_are_taken_apart(client, photo, cutout, tmp_path):
    given = Image.open(io.BytesIO(photo))
    background = client.upload(photo).id
    job = client.wait(client.generate(PROMPT, background=background, seed=1))
    assert np.array_equal(loaded(client, job.pictures[0], tmp_path).background, np.asarray(given))
    apart = client.wait(client.generate("", image=background, seed=1))
    assert np.array_equal(loaded(client, apart.pictures[0], tmp_path).composite, np.asarray(given))
    foreground = client.upload(cutout).id
    job = client.wait(client.generate(PROMPT, foreground=foreground, seed=1))
    layer = loaded(client, job.pictures[0], tmp_path).foregrounds[0]
    assert np.array_equal(layer.alpha, np.asarray(Image.open(io.BytesIO(cutout)))[..., 3])
    job = client.wait(client.generate(PROMPT, reference=foreground, seed=1))
    assert len(job.pictures) == 1


def test_layers_are_added_and_replaced(client, tmp_path):
    first = client.wait(client.generate(PROMPT, seed=1)).pictures[0]
    more = client.wait(client.add(first, "a blue ball", at=[4, 4, 32, 32], seed=2)).pictures[0]
    before, after = (loaded(client, one, tmp_path) for one in (first, more))
    assert after.foregrounds[:1] == before.foregrounds
    assert np.array_equal(after.background, before.background)
    new = client.wait(client.replace(more, "a blue ball 1", seed=3)).pictures[0]
    replaced = loaded(client, new, tmp_path)
    assert replaced.foregrounds[0] == before.foregrounds[0]
    assert replaced.foregrounds[1].metadata["seed"] == 3
    with pytest.raises(StudioError, match="There is no foreground layer 'lasagne'"):
        client.wait(client.replace(more, "lasagne"))


def test_photographs_are_taken_apart_by_networks(tmp_path, toy_model_folder):
    from text2layer.models.inpainting import load_inpainter
    from text2layer.models.saliency import SaliencyMap
    from text2layer.pipelines import PhotoLayers
    from text2layer.server.drawing import Studio

    class Bright:
        """Finds what is brighter than the middle."""

        name, sha256 = "bright", ""

        def predict(self, pictures):
            masks = [((one.mean(2) > 128) * 255).astype(np.uint8) for one in pictures]
            return [SaliencyMap(mask, float(mask.max()) / 255) for mask in masks]

    def build(saliency, inpainter):
        return PhotoLayers(Bright(), load_inpainter("opencv"))

    pixels = np.full((64, 64, 3), 40, np.uint8)
    pixels[8:24, 8:24] = pixels[40:56, 36:60] = 220
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    studio = Studio(toy_model_folder, "cpu", build)
    with running(tmp_path / "kept", None, studio=studio) as server, server.client() as client:
        photo = client.upload(buffer.getvalue()).id
        job = client.wait(client.decompose(photo, inpainter="opencv"))
        made = client.picture(job.pictures[0])
        assert [layer["name"] for layer in made.layers] == ["Subject 1", "Subject 2"]
        black = np.zeros((64, 64, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(black).save(buffer, "PNG")
        with pytest.raises(StudioError, match="finds no subject"):
            client.wait(client.decompose(client.upload(buffer.getvalue()).id))


FLAT = {"steps": 2, "width": 64, "height": 48, "seed": 5}


def test_a_text_to_image_pipeline_draws_candidates_that_are_taken_apart(drawer, tmp_path):
    with drawer.client() as client:
        seen = []
        job = client.wait(client.text_to_image("a fox", count=2, **FLAT), seen.append)
        made = [loaded(client, one, tmp_path) for one in job.pictures]
        assert job.kind == "text-to-image"
        assert max(one.steps for one in seen) in (0, 4)
        assert [one.metadata["seed"] for one in made] == [5, 6]
        assert [layer.name for layer in made[0].foregrounds] == ["Subject 1"]
        assert made[0].metadata["pipeline"] == "StableDiffusionPipeline"
        assert made[0].metadata["digital_source_type"].endswith("/trainedAlgorithmicMedia")
        again = client.wait(client.text_to_image("a fox", **FLAT | {"seed": 6}))
        same = loaded(client, again.pictures[0], tmp_path)
        assert np.array_equal(same.composite, made[1].composite)


def test_a_text_to_image_job_can_be_cancelled(drawer):
    with drawer.client() as client:
        job = client.text_to_image("a fox", **FLAT | {"steps": 900, "count": 8})
        drawer.until(job.id, "running")
        client.cancel(job.id)
        assert drawer.until(job.id, "cancelled", "done", "failed").state == "cancelled"
        assert client.wait(client.text_to_image("a fox", **FLAT)).state == "done"


def test_the_model_says_which_text_to_image_pipeline_there_is(drawer, client):
    with drawer.client() as other:
        assert other.model()["text_to_image"] == {
            "name": "stable-diffusion", "pipeline": "StableDiffusionPipeline", "size_multiple": 2,
        }  # fmt: skip
    assert client.model()["text_to_image"] is None


def test_what_a_pipeline_cannot_do_fails_in_one_sentence(drawer):
    with (
        drawer.client() as client,
        pytest.raises(StudioError, match="StableDiffusionPipeline cannot draw this: index 1000"),
    ):
        client.wait(client.text_to_image("a fox", **FLAT | {"steps": 1000}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 65}, "must be a multiple of 2"),
        ({"fast": True}, "fast"),
        ({"model": "/etc"}, "model"),
        ({"count": 8, "width": 2048, "height": 2048}, "fewer or smaller"),
        ({"saliency": "/etc/passwd"}, "saliency"),
    ],
)
def test_what_the_pipeline_does_not_take_is_refused_at_once(drawer, options, says):
    with drawer.client() as client, pytest.raises(StudioError, match=says) as error:
        client.text_to_image("a fox", **options)
    assert error.value.status == 422


def test_a_server_without_a_text_to_image_pipeline_says_so(client):
    with pytest.raises(StudioError, match="start it with --text-to-image") as error:
        client.text_to_image("a fox")
    assert error.value.status == 422


def test_a_drawn_picture_taken_apart_keeps_its_origin(drawer, tmp_path):
    with drawer.client() as client:
        drawn = client.wait(client.generate(PROMPT, seed=3)).pictures[0]
        apart = client.wait(client.decompose(drawn)).pictures[0]
        said = loaded(client, apart, tmp_path).metadata
        assert said["digital_source_type"].endswith("/trainedAlgorithmicMedia")
        assert (said["prompt"], said["seed"]) == (PROMPT, 3)


def test_every_download_holds_the_same_layers(client, http, tmp_path):
    picture = client.wait(client.generate(PROMPT, seed=4)).pictures[0]
    whole = loaded(client, picture, tmp_path, "psd")
    assert loaded(client, picture, tmp_path, "ora").foregrounds == whole.foregrounds
    with zipfile.ZipFile(io.BytesIO(client.download(picture, "zip"))) as archive:
        archive.extractall(tmp_path / "unpacked.layers")
    assert layer_files.load(tmp_path / "unpacked.layers").foregrounds == whole.foregrounds
    for kind in ("png", "webp"):
        flat = Image.open(io.BytesIO(client.download(picture, kind)))
        assert np.array_equal(np.asarray(flat.convert("RGB")), whole.composite)
    mask = Image.open(io.BytesIO(client.download(picture, "png", part="mask")))
    assert np.array_equal(np.asarray(mask), whole.mask)
    info = client.picture(picture, pngs=True)
    layer = Image.open(io.BytesIO(base64.b64decode(info.layers[0]["png"])))
    assert np.array_equal(np.asarray(layer)[..., 3], whole.foregrounds[0].alpha)
    part = http.get(f"/api/pictures/{picture}/layers/0").content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(part))), np.asarray(layer))
    assert http.get(f"/api/pictures/{picture}/layers/1").status_code == 404
    assert http.get(f"/api/pictures/{picture}/file?format=psd&part=mask").status_code == 422


def test_a_picture_is_downloaded_as_sprites_and_as_a_film(client, http, cutout):
    picture = client.upload(cutout).id
    answer = http.get(f"/api/pictures/{picture}/file?format=sprites")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].endswith('.zip"')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["sprites.json", "sprites.png"]
        sheet = json.loads(archive.read("sprites.json"))
        with Image.open(archive.open("sprites.png")) as atlas:
            assert atlas.size == tuple(sheet["meta"]["size"].values())
    assert len(sheet["frames"]) == 2
    answer = http.get(f"/api/pictures/{picture}/file?format=parallax")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"].endswith('.webp"')
    assert Image.open(io.BytesIO(answer.content)).n_frames > 50
    for kind in ("sprites", "parallax"):
        assert http.get(f"/api/pictures/{picture}/file?format={kind}&part=mask").status_code == 422


def test_an_arranged_picture_has_moved_mirrored_and_scaled_layers(client, cutout, photo, tmp_path):
    source, ground = client.upload(cutout).id, client.upload(photo).id
    layers = [
        {"picture": source, "layer": 0, "name": "Small", "offset": [-3, 7], "size": [20, 10]},
        {"picture": source, "layer": 0, "mirror": True, "opacity": 0.5, "visible": False},
        {"picture": source, "layer": 0, "blend_mode": "multiply"},
    ]
    made = client.arrange(ground, layers)
    psd = PSDImage.open(client.save(made.id, tmp_path / "arranged.psd"))
    small = next(layer for layer in psd if layer.name == "Small")
    assert (small.left, small.top, small.width, small.height) == (-3, 7, 20, 10)
    again = loaded(client, made.id, tmp_path)
    rgba = np.asarray(Image.open(io.BytesIO(cutout)))
    assert np.array_equal(again.foregrounds[1].alpha, rgba[:, ::-1, 3])
    assert (again.foregrounds[1].opacity_byte, again.foregrounds[1].visible) == (128, False)
    assert np.array_equal(again.background, np.asarray(Image.open(io.BytesIO(photo))))
    assert [layer["blend_mode"] for layer in made.layers] == ["normal", "normal", "multiply"]
    assert again.foregrounds[2].blend_mode == "multiply"
    with pytest.raises(StudioError, match="no layer 1"):
        client.arrange(ground, [{"picture": source, "layer": 1}])
    with pytest.raises(StudioError, match="blend_mode"):
        client.arrange(ground, [{"picture": source, "layer": 0, "blend_mode": "dissolve"}])


def test_the_api_and_the_page_know_every_blend_mode():
    page = (resources.files("text2layer.server") / "page" / "index.html").read_text("utf-8")
    offered = page.split('<select id="blend">')[1].split("</select>")[0]
    assert tuple(re.findall("<option>(.*?)</option>", offered)) == BLEND_MODES
    assert get_args(schema.BlendMode) == BLEND_MODES


def test_convert_rewrites_a_file_and_keeps_nothing(http, server, cutout):
    before = sorted(server.worker.store.folder.rglob("*"))
    answer = http.post("/api/convert?to=psd", content=cutout)
    assert answer.content.startswith(b"8BPS")
    end = time.monotonic() + 5  # the file goes once it is sent
    while (now := sorted(server.worker.store.folder.rglob("*"))) != before:
        assert time.monotonic() < end, now
        time.sleep(0.02)


def test_a_running_and_a_waiting_job_can_be_cancelled(client, server):
    runs, waits = client.generate(PROMPT, **LONG), client.generate(PROMPT)
    server.until(runs.id, "running")
    assert client.job(waits.id).position == 1
    assert client.cancel(waits.id).state == "cancelled"
    began = client.job(runs.id).step
    client.cancel(runs.id)
    ended = server.until(runs.id, "cancelled", seconds=10)
    assert ended.pictures == []
    assert began < LONG["steps"]
    with pytest.raises(StudioError, match="is cancelled"):
        client.wait(client.job(runs.id))


def test_a_client_that_leaves_in_mid_job_loses_nothing(client, server):
    job = client.generate(PROMPT, steps=300, seed=1)
    for one in client.events(job):
        if one.state == "running":
            break  # the connection is closed here
    assert len(server.until(job.id, "done").pictures) == 1


def test_events_tell_of_each_step_of_a_job(client):
    seen = list(client.events(client.generate(PROMPT, steps=300, count=4)))
    steps = [one.step for one in seen if one.state == "running"]
    assert seen[-1].state == "done"
    assert steps == sorted(steps)
    assert len(set(steps)) > 1


def test_a_full_queue_says_when_to_come_back(client, server, http):
    running_job = client.generate(PROMPT, **LONG)
    server.until(running_job.id, "running")
    for _ in range(3):
        client.generate(PROMPT)
    answer = http.post("/api/jobs/generate", json={"prompt": PROMPT})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    client.cancel(running_job.id)
    client.patience = 30
    assert client.wait(client.generate(PROMPT)).state == "done"  # after it has come back


def test_the_model_says_what_it_is(client, pipeline):
    told = client.model()
    assert (told["size"], told["steps"], told["device"]) == (64, 3, "cpu")
    assert told["fast"] is False
    with pytest.raises(StudioError, match="has no fast version"):
        client.generate(PROMPT, fast=True)
    with pytest.raises(StudioError, match="width must be a multiple of"):
        client.generate(PROMPT, width=65)


def test_a_model_that_cannot_be_loaded_is_told_and_the_server_stays(tmp_path):
    with running(tmp_path / "kept", tmp_path / "nothing") as server, server.client() as client:
        with pytest.raises(StudioError, match="There is no model folder") as refused:
            client.model()
        assert refused.value.status == 503
        with pytest.raises(StudioError, match="There is no model folder"):
            client.wait(client.generate(PROMPT))


def test_previews_come_nearer_to_what_is_drawn(client, http, server, tmp_path):
    job = client.generate(PROMPT, seed=3, steps=400, count=2)
    seen = []
    for now in client.events(job, previews=True):
        if now.state == "running":
            answer = http.get(f"/api/jobs/{job.id}/preview/1")
            if answer.status_code == 200:
                picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
                seen.append((now.step, np.asarray(picture)))
    made = loaded(client, server.until(job.id, "done").pictures[1], tmp_path)
    away = [np.abs(picture.astype(int) - made.composite).mean() for _, picture in seen]
    assert seen[0][0] < seen[-1][0]
    assert away[-1] < away[0]
    for number in (0, 5):
        assert http.get(f"/api/jobs/{job.id}/preview/{number}").status_code == 404
