"""The page that `minunet mine` writes, driven in headless Chromium: the U, the slider, the maps beside ours."""

import json
import re

import numpy as np
import pytest

from minunet.grade.exercises import EXERCISES
from minunet.grade.mine import command
from minunet.grade.mine.network import Plug
from minunet.grade.mine.page import page
from minunet.grade.mine.parts import PARTS
from minunet.grade.mine.picture import make_drawing
from minunet.grade.mine.report import Report
from minunet.grade.mine.training import History, make_cells

RIGHT = ("max_pool", "conv_transpose", "momentum")
WRONG = {"batch_norm": "forgets_the_mean", "dice": "sign"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with what is right, what is wrong and what is missing."""
    folder = tmp_path_factory.mktemp("mine")
    for name in RIGHT:
        (folder / f"{name}.py").write_text(EXERCISES[name].reference)
    for name, mistake in WRONG.items():
        e = EXERCISES[name]
        (folder / f"<b>{name}.py").write_text(e.mistaken(next(w for w in e.wrongs if w.name == mistake)))
    flags = ["--look", "--steps", "4", "--isolation", "off", "-q", "-o", str(folder / "mine.html")]
    assert command.main([str(folder), *flags]) == 1
    return folder / "mine.html"


@pytest.fixture(params=[(1300, 900), (390, 844)], ids=["desktop", "phone"])
def opened(request, chromium, written):
    """The page in a window of that size; whatever it has to complain of fails the test."""
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url))
    page.goto(written.as_uri())
    page.wait_for_selector("body[data-frame]")
    yield page
    page.close()
    assert not wrong


def test_what_is_said_when_everything_is_there():
    judged = make_cells(Plug(), 2, 0)
    frames = [(step, np.full((2, *judged.labels.shape[1:]), 0.5)) for step in (0, 1)]
    history = History([1.0], frames, 0.9, 1.0)
    report = Report(
        {name: f"{name}.py" for name in PARTS}, list(PARTS), {}, {}, {"momentum": 1.0}, judged, mine=history
    )
    text = page(report)
    assert "This U-Net is yours." in text and "Dice of 0.90" in text and "<!--" not in text
    assert report.summary().startswith("All of it is yours") and text.count('<tr class="mine"') == len(PARTS)
    assert 'id="astray"' not in text and 'class="half ours' not in text


@pytest.mark.slow
def test_the_u_and_the_table(opened):
    halves = opened.locator("#u .half")
    assert halves.count() == 2 * len(make_drawing().boxes)
    assert opened.locator("#u .half.yours[data-exercise='max_pool']").count() == 4
    assert opened.locator("#u .half.astray").count() == 1
    assert opened.get_attribute("#u .half.astray", "data-words").startswith("soft Dice, backward: ours")
    assert opened.locator("#parts tbody tr").count() == len(PARTS)
    assert opened.locator("#parts tr.failed").count() == 2 and opened.locator("#parts tr.mine").count() == 3
    assert opened.locator("#joy").count() == 0 and f"{len(RIGHT)} of {len(PARTS)} parts are yours" in opened.inner_text(
        "#lead"
    )
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = opened.locator("#u").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= opened.viewport_size["width"] + 1  # all of it is seen


@pytest.mark.slow
def test_pointing_at_a_layer_or_a_row(opened):
    opened.hover("#parts tr[data-exercise='max_pool']")
    assert opened.locator("#u .half.lit").count() == 4 and opened.inner_text("#said").startswith(
        "max_pool: pools; yours"
    )
    opened.hover("#parts tr[data-exercise='batch_norm']")  # which is wrong: where it would be
    assert opened.locator("#u .half.lit").count() == 10
    opened.hover("[data-path='up.1'] .half >> nth=0")
    assert opened.inner_text("#said") == "transposed convolution, forward: yours (conv_transpose)"
    assert opened.locator("#u .half.lit").count() == 2
    opened.hover("h1")
    assert opened.locator("#u.picked").count() == 0


@pytest.mark.slow
def test_the_slider_goes_through_the_training(opened, written):
    data = json.loads(re.search(r'id="data">(.*?)</script>', written.read_text(), re.DOTALL)[1])
    assert [f["words"].split(":")[0] for f in data["frames"]] == [
        "before the training",
        *(f"after step {n}" for n in range(1, 5)),
    ]
    assert opened.get_attribute("body", "data-frame") == "4" and opened.inner_text("#now").startswith(
        "after step 4: loss "
    )
    last = opened.get_attribute(".shot.said img >> nth=0", "src")
    opened.fill("#frames", "0")
    assert opened.inner_text("#now") == "before the training"
    assert opened.get_attribute(".shot.said img >> nth=0", "src") == data["frames"][0]["uri"] != last
    assert opened.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")


@pytest.mark.slow
def test_the_maps_stand_beside_each_other(opened):
    assert opened.inner_text("#astray h2") == "Where your gradient first goes astray: loss"
    assert "<b>dice.py" in opened.inner_text("#astray")  # a name is text, not HTML
    assert (
        opened.locator("#astray > .three figure").count() == 3
        and opened.locator("#astray > .three circle").count() == 3
    )
    opened.click("#others summary")
    assert opened.locator("#others .three img").first.is_visible()
    assert "decoder.0.norm2" in opened.inner_text("#others")
