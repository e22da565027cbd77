"""The page in a real browser: from a prompt to a moved foreground in a downloaded PSD."""

import io
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from psd_tools import PSDImage

from text2layer import load
from text2layer.blend_modes import BLEND_MODES

sync = pytest.importorskip("playwright.sync_api", reason="drives a browser")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.skipif(not BROWSER, reason="there is no Chromium"),
    pytest.mark.slow,  # a browser starts
]
LAYER = "studio.picture.layer"


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser, server):
    """The page, ready; it fails the test if the page writes an error into its console."""
    with opened(browser, server) as made:
        yield made


@contextmanager
def opened(browser, server):
    """The page of a server; see `page`."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    made = context.new_page()
    wrong, asked = [], []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda line: wrong.append(line.text) if is_fault(line) else None)
    made.on("request", lambda request: asked.append(request.url))
    made.goto(server.address)
    until(made, "document.getElementById('server').textContent.includes('pixels')")
    yield made
    assert wrong == []
    assert [url for url in asked if not url.startswith((server.address, "blob:"))] == []
    context.close()
    server.drained()


def is_fault(line):
    """Whether a line of the console is an error of the page, and not an answer of 400 or 404."""
    return line.type == "error" and not line.text.startswith("Failed to load resource")


def until(page, condition, seconds=60):
    """Wait for a condition in JavaScript; the page's own policy forbids wait_for_function."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, (condition, page.inner_text("#message"))
        time.sleep(0.05)


def draw(page):
    """Draw four candidates; the first one is shown."""
    page.fill("#prompt", "a red apple in front of a forest")
    page.evaluate("document.getElementById('candidates').replaceChildren()")
    frames = page.evaluate("studio.canvas.frames")
    page.click("#generate")
    until(page, "document.querySelectorAll('#candidates .tile:not(.waiting)').length === 4")
    until(page, f"studio.picture.layers.length === 1 && studio.canvas.frames > {frames}")


def drag(page, by, start=None):
    """Drag from a point of the canvas, in pixels of the picture, by so many of them."""
    x, y, scale = page.evaluate(
        "(start) => { const { scale, left, top } = studio.canvas.view;"
        "const box = studio.canvas.element.getBoundingClientRect();"
        "return [box.left + left + start[0] * scale, box.top + top + start[1] * scale, scale]; }",
        start,
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0] * scale / 2, y + by[1] * scale / 2)
    page.mouse.move(x + by[0] * scale, y + by[1] * scale)
    page.mouse.up()


def use_picture(page, data, role, name="picture.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": data})
    page.click(f'#role button[value="{role}"]')


def test_from_prompt_to_a_moved_foreground_in_a_psd(page, cutout, tmp_path):
    draw(page)
    use_picture(page, cutout, "layer")
    until(page, "studio.picture.layers.length === 2")
    page.keyboard.down("Alt")  # no snapping
    drag(page, (7, -5), start=(32, 32))
    page.keyboard.up("Alt")
    assert page.evaluate(f"[{LAYER}.x, {LAYER}.y]") == [7, -5]
    page.focus("#canvas")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("m")
    assert page.evaluate(f"[{LAYER}.x, {LAYER}.y, {LAYER}.mirror]") == [17, -6, True]
    page.click("#layers li.chosen .eye")
    assert page.evaluate(f"{LAYER}.visible") is False
    page.click("#undo")
    assert page.evaluate(f"{LAYER}.visible") is True
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "moved.psd")
    assert download.value.suggested_filename == "a-red-apple-in-front-of-a-forest.psd"
    psd = PSDImage.open(tmp_path / "moved.psd")
    assert (psd[-1].left, psd[-1].top) == (17, -6)
    top = load(tmp_path / "moved.psd").foregrounds[-1]
    assert np.array_equal(top.alpha, np.asarray(Image.open(io.BytesIO(cutout)))[:, ::-1, 3])
    shown = canvas_pixels(page)
    expected = np.asarray(psd.topil().convert("RGB"))
    assert np.abs(shown.astype(int) - expected).max() <= 2  # the browser premultiplies


def canvas_pixels(page):
    """What the canvas shows, (H, W, 3), drawn at one pixel of the screen for one of the picture."""
    page.evaluate(
        "studio.picture.choose(null), Object.defineProperty(studio.canvas, 'view',"
        "{ value: { scale: 1, left: 0, top: 0 } }), studio.canvas.draw()"
    )
    time.sleep(0.3)
    values = page.evaluate(
        "(([w, h]) => [w, h, [...studio.canvas.context.getImageData(0, 0, w, h).data]])"
        "(studio.picture.state.size)"
    )
    return np.array(values[2], np.uint8).reshape(values[1], values[0], 4)[..., :3]


@pytest.mark.parametrize("mode", [mode for mode in BLEND_MODES if mode != "normal"])
def test_the_canvas_shows_blend_modes_as_the_file_does(page, cutout, photo, tmp_path, mode):
    use_picture(page, photo, "open")
    until(page, "studio.picture.state !== null")
    use_picture(page, cutout, "layer")
    until(page, "studio.picture.layers.length === 1")
    page.select_option("#blend", mode)
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "blended.psd")
    saved = load(tmp_path / "blended.psd")
    assert saved.foregrounds[0].blend_mode == mode
    shown = canvas_pixels(page).astype(int)
    assert np.abs(shown - saved.composite).max() <= 2
    plain = saved.replace_layer(0, saved.foregrounds[0].replace(blend_mode="normal"))
    assert np.abs(shown - plain.composite).max() > 20


def test_a_blended_layer_above_the_chosen_one_is_shown_too(page, cutout, photo):
    use_picture(page, photo, "open")
    until(page, "studio.picture.state !== null")
    for number in (1, 2):
        use_picture(page, cutout, "layer")
        until(page, f"studio.picture.layers.length === {number}")
    page.select_option("#blend", "multiply")
    page.evaluate("studio.picture.choose(studio.picture.layers[0].key)")
    time.sleep(0.3)
    pixels = "[...studio.canvas.context.getImageData(0, 0, 600, 600).data]"
    with_lower_chosen = np.array(page.evaluate(pixels))
    page.evaluate("studio.picture.choose(null)")
    time.sleep(0.3)
    changed = (np.abs(np.array(page.evaluate(pixels)) - with_lower_chosen) > 4).mean()
    assert changed < 0.02  # the frame of the chosen layer alone


def test_undo_and_redo_go_through_a_drag_in_one_step(page, cutout):
    use_picture(page, cutout, "open")
    until(page, "studio.picture.layers.length === 1")
    until(page, "studio.canvas.frames > 0")
    drag(page, (9, 9), start=(32, 32))
    moved = page.evaluate(f"[{LAYER}.x, {LAYER}.y]")
    assert moved != [0, 0]
    page.focus("#canvas")
    page.keyboard.press("Control+z")
    assert page.evaluate(f"[{LAYER}.x, {LAYER}.y]") == [0, 0]
    assert page.is_disabled("#undo")
    page.keyboard.press("Control+Shift+z")
    assert page.evaluate(f"[{LAYER}.x, {LAYER}.y]") == moved


def test_a_corner_scales_about_the_opposite_one_and_edges_catch(page, cutout):
    use_picture(page, cutout, "open")
    until(page, "studio.picture.layers.length === 1")
    until(page, "studio.canvas.frames > 0")
    drag(page, (-16, -16), start=(48, 48))  # the object is the square from 16 to 48
    x, y, w, h = page.evaluate(f"[{LAYER}.x, {LAYER}.y, {LAYER}.w, {LAYER}.h]")
    assert (w, h) == (32, 32)
    assert (x, y) == (8, 8)  # so that its object begins at 16, 16 still
    drag(page, (-15.7, 0), start=(24, 24))
    assert page.evaluate(f"{LAYER}.x") == -8  # its object lies on the left edge


def test_a_layer_is_drawn_again_and_another_added(page, cutout, photo):
    draw(page)
    before = page.evaluate(f"[{LAYER}.picture, {LAYER}.number]")
    page.click("#again")
    until(page, f"{LAYER}.picture !== '{before[0]}'")
    page.fill("#more-prompt", "a blue ball")
    page.select_option("#more-at", "left")
    page.click("#more button")
    until(page, "studio.picture.layers.length === 2")
    assert page.evaluate(f"{LAYER}.name") == "a blue ball 1"
    page.focus("#canvas")
    page.keyboard.press("[")
    assert page.evaluate("studio.picture.layers[0].name") == "a blue ball 1"


def test_dropped_pictures_are_given_to_the_model(page, server, photo, cutout):
    for role, data in (("background", photo), ("reference", cutout), ("foreground", cutout)):
        use_picture(page, data, role)
        until(page, "!document.getElementById('given').hidden")
        draw(page)
        assert server.worker.store.jobs(1)[0].request[role]
        page.click("#given-remove")
    use_picture(page, photo, "image")
    until(page, "studio.picture.state.size.join() === '64,48'")
    page.click("#past summary")
    until(page, "document.querySelectorAll('#history .tile').length >= 4")


def test_what_goes_wrong_is_said_on_the_page(page):
    use_picture(page, b"<svg onload='alert(1)'></svg>", "open")
    until(page, "document.getElementById('message').textContent.includes('no PSD, ORA')")
    assert page.evaluate("document.getElementById('message').classList.contains('error')")


def test_a_running_job_is_cancelled_by_its_button(page, server):
    page.fill("#prompt", "a cat")
    page.evaluate("document.querySelector('#form details').open = true")
    page.fill("#steps", "1000")
    page.click("#generate")
    page.click("#cancel")
    until(page, "document.getElementById('message').textContent === 'Cancelled.'")
    assert server.worker.store.jobs(1)[0].state == "cancelled"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["large", "small"])
def test_axe_finds_nothing_and_a_small_screen_has_no_sideways_scrolling(page, cutout, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="runs axe")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    draw(page)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    found = axe.Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_api_is_described_at_docs(page, server):
    page.goto(f"{server.address}/docs")
    until(page, "document.querySelectorAll('article').length > 20")
    assert "POST /api/jobs/generate" in page.inner_text("#requests")


FRAMES = """async (draw) => {
    const begin = performance.now();
    let frames = 0;
    for (; performance.now() - begin < 3000; frames++) {
        draw(frames);
        await new Promise(requestAnimationFrame);
    }
    return frames / 3;
}"""


def test_six_layers_of_1024_pixels_are_dragged_at_30_frames_a_second(page):
    """Or, on a machine that is busy, nearly as fast as a canvas is filled with one colour."""
    rgba = np.random.default_rng(3).integers(0, 256, (1024, 1024, 4), dtype=np.uint8)
    rgba[..., 3] = 200
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", compress_level=1)
    use_picture(page, buffer.getvalue(), "open")
    until(page, "studio.picture.layers.length === 1")
    page.evaluate(
        "for (let k = 0; k < 5; k++) studio.picture.add({ ...studio.picture.layer, key: `k${k}` })"
    )
    drawn = page.evaluate("studio.canvas.frames")
    dragged = page.evaluate(
        f"({FRAMES})((k) => studio.picture.change({{ x: (7 * k) % 200 }}, 'drag'))"
    )
    assert page.evaluate("studio.canvas.frames") - drawn >= 3 * dragged - 2  # each was painted
    filled = page.evaluate(
        "studio.canvas.draw = () => {}, studio.picture.choose(null),"
        f"({FRAMES})((k) => {{ const {{ context, element }} = studio.canvas;"
        "context.fillStyle = k % 2 ? '#333' : '#444';"
        "context.fillRect(0, 0, element.width, element.height); })"
    )
    print(f"{dragged:.0f} frames a second, {filled:.0f} of one colour alone")
    assert dragged >= min(30, 0.6 * filled)


def test_a_text_to_image_pipeline_is_one_box_away(browser, drawer, page, cutout):
    assert not page.is_visible("#source")  # this server has none
    with opened(browser, drawer) as other:
        other.click("summary:has-text('Settings')")
        assert other.inner_text("#source").strip() == "Draw with stable-diffusion, then take apart"
        other.check("#text-to-image")
        for field, value in (("width", 64), ("height", 48), ("steps", 2), ("count", 2)):
            other.fill(f"#{field}", str(value))
        other.fill("#prompt", "a red fox")
        other.click("#generate")
        until(other, "studio.picture.layers.length === 1")
        assert other.evaluate("studio.picture.layers[0].name") == "Subject 1"
        use_picture(other, cutout, "foreground")
        until(other, "!document.getElementById('given').hidden")
        other.click("#generate")
        assert "takes no given picture" in other.inner_text("#message")
