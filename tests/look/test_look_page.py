"""The page that minunet.look writes, driven in headless Chromium: every step, forward and backward, and the output pixels."""

import numpy as np
import pytest
from helpers.look_pages import facts
from PIL import Image

from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.look.command import main
from minunet.models import UNetOptions, build


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page of a small network, not trained, on noise."""
    folder = tmp_path_factory.mktemp("look")
    rng = np.random.default_rng(0)
    model = build(UNetOptions(in_channels=3, num_classes=2, base_width=4, depth=2))
    model.preprocessing = Preprocessing(3, ClassMap.binary())
    save_checkpoint(folder / "net.safetensors", model)
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(
        folder / "<b>cell.png"
    )  # a name is text, not HTML
    flags = [
        "-m",
        f"{folder}/net.safetensors",
        "-i",
        f"{folder}/<b>cell.png",
        "-o",
        f"{folder}/look.html",
        "--grid",
        "3",
    ]
    assert main(flags) == 0
    return folder / "look.html"


@pytest.fixture(params=[(1400, 900), (390, 844)], ids=["desktop", "phone"])
def opened(request, chromium, written):
    """The page in a window of that size; whatever it has to complain of fails the test."""
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url))
    page.goto(written.as_uri())
    page.wait_for_selector("#network[data-step]")
    yield page
    page.close()
    assert not wrong


def is_drawn(page, selector):
    """Whether a canvas shows more than one colour."""
    script = """canvas => {
        const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return pixels.some(p => p !== pixels[0]);
    }"""
    return page.eval_on_selector(selector, script)


def test_every_step_forward_and_backward(opened, written):
    nodes = facts(written.read_text())["nodes"]
    last = len(nodes)  # the prediction and the loss come after them
    assert opened.locator(".card").count() == last + 1
    assert opened.locator(".card:not(.empty)").count() == 1
    for step in range(2 * last + 1):
        backward, at = step > last, min(step, 2 * last - step)
        assert opened.get_attribute("#network", "class") == ("backward" if backward else "forward")
        assert opened.get_attribute(".card.active", "data-node") == str(at)
        if at < last:
            shape = " \u00d7 ".join(str(n) for n in nodes[at]["shape"])
            assert shape in opened.inner_text("#facts")
            tiles = 1 if step == 0 else len(nodes[at]["shown"])
            assert opened.locator("#tiles button").count() == tiles
        assert opened.inner_text("#text") and opened.inner_text("#title")
        both = backward and set(nodes[at]["handed"]) == {"join", "pool"}
        assert opened.locator("#parts .bar").count() == both
        opened.click("#next")
    assert opened.get_attribute("#network", "data-step") == str(2 * last)
    assert opened.locator(".card.empty").count() == 0
    opened.wait_for_function(
        "[...document.querySelectorAll('.card')].slice(0, -1).every(c => c.dataset.shows === 'gradient')"
    )
    opened.wait_for_timeout(200)
    for i in range(last):
        assert is_drawn(opened, f".card[data-node='{i}'] canvas")
    words = "" if opened.viewport_size["width"] < 700 else " of the gradient"
    assert opened.locator(".share").all_text_contents() == [
        f"{share(node)} %{words}" for node in reversed(nodes) if meets(node)
    ]


def meets(node):
    return {"join", "pool"} <= node["handed"].keys()


def share(node):
    over, below = node["handed"]["join"], node["handed"]["pool"]
    return int(100 * over / (over + below) + 0.5)


def test_keys_the_slider_and_playing(opened):
    steps = int(opened.get_attribute("#scrub", "max"))
    for key, step in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", steps), ("Home", 0)]:
        opened.keyboard.press(key)
        assert opened.get_attribute("#network", "data-step") == str(step)
    opened.fill("#scrub", "7")
    assert opened.get_attribute("#network", "data-step") == "7"
    opened.select_option("#speed", "300")
    opened.click("#play")
    opened.wait_for_function("document.getElementById('network').dataset.step > 8")
    opened.click("#play")
    assert opened.get_attribute("#play", "aria-label") == "Play"


def test_an_output_pixel(opened, written):
    field = facts(written.read_text())["field"]
    assert opened.locator(".dot").count() == 9
    for i in (0, 8):
        opened.locator(".dot").nth(i).click()
        top, bottom, left, right = field["boxes"][i]
        opened.wait_for_function("text => document.getElementById('seen').innerText.includes(text)",
                                 arg=f"rows {top} to {bottom}, columns {left} to {right}")  # fmt: skip
        assert opened.locator(".dot[aria-pressed='true']").count() == 1
        assert is_drawn(opened, "#input canvas")
    opened.locator(".dot").nth(8).focus()
    opened.keyboard.press("ArrowUp")
    row, column = field["pixels"][5]
    opened.wait_for_function(
        "text => document.getElementById('seen').innerText.includes(text)", arg=f"row {row}, column {column}"
    )


def test_a_channel_enlarged(opened):
    opened.fill("#scrub", "3")
    opened.locator("#tiles button").first.click()
    assert opened.locator("#zoom[open] canvas").count() == 4  # the map and its gradient, each with its scale
    opened.keyboard.press("Escape")
    assert opened.locator("#zoom[open]").count() == 0


def test_nothing_sticks_out_and_names_are_text(opened):
    """Not out of the page, and not out of the stage: the whole U is seen, on a phone too."""
    assert opened.evaluate("document.documentElement.scrollWidth") <= opened.viewport_size["width"]
    assert opened.evaluate("document.getElementById('stage').scrollWidth") <= opened.viewport_size["width"]
    for card in opened.locator(".card").all():
        box = card.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= opened.viewport_size["width"] and box["width"] > 7
    assert "<b>cell.png" in opened.inner_text("#about")
