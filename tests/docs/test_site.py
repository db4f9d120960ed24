"""The site: built, and every page looked at in Chromium, from file://, on a phone's width and on a desk's.

With the reference of all packages in the size `whole`, and else of some, drawn anew every day.
"""

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEBSITE = ROOT / "docs" / "website"
if not WEBSITE.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
for needed in (
    "sphinx", "furo", "myst_parser", "numpydoc", "latex2mathml", "jupytext", "bs4", "jupyterlite_core",
    "jupyterlite_pyodide_kernel",
):  # fmt: skip
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f'{needed} is not installed: pip install ".[site]"', allow_module_level=True)

LESSONS = sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py"))
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
pytestmark = pytest.mark.slow

LOOK = """() => {
    const drawn = math => {
        const box = math.getBoundingClientRect();
        const fractions = [...math.querySelectorAll('mfrac')].map(f => [...f.children].map(c => c.getBoundingClientRect()));
        return box.width > 0 && box.height > 0 && !/[\\\\$]/.test(math.textContent)
            && fractions.every(([above, below]) => above.bottom <= below.top + 1);
    };
    const texts = [...document.querySelectorAll('article p, article li, article h1, article h2')].map(p => {
        const copy = p.cloneNode(true);
        copy.querySelectorAll('code, pre, math').forEach(e => e.remove());
        return copy.textContent;
    });
    return {
        excess: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        images: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
        formulas: document.querySelectorAll('.math').length,
        undrawn: [...document.querySelectorAll('.math')]
            .filter(m => !m.querySelector('math') || !drawn(m.querySelector('math'))).map(m => m.textContent),
        dollars: texts.filter(text => text.includes('$')),
    };
}"""


def build(runs, out, *flags):
    command = [sys.executable, str(WEBSITE), str(runs), str(out), *flags]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def packages(option):
    """What the reference is built of: the package whose pages are looked at below, and some others or all."""
    found = [path for path in (ROOT / "minunet").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = sorted(path.stem for path in found if not path.stem.startswith("_") and path.stem != "ops")
    drawn = names if option.size == "whole" else random.Random(option.draw).sample(names, len(names) // 4)
    return [f"minunet.{name}" for name in ("ops", *drawn)]


@pytest.fixture(scope="module")
def site(run_lesson, tmp_path_factory, pytestconfig):
    """The folder of the site."""
    for lesson in reversed(LESSONS):  # test_tutorials.py has begun with the first in another worker
        left, problem = run_lesson(lesson)
        assert not problem, problem
    out = tmp_path_factory.mktemp("out") / "site"
    done = build(left.parent, out, "--lite", "--only", *packages(pytestconfig.option))
    assert done.returncode == 0, done.stderr
    return out


def pages_of(site):
    """The pages, without JupyterLite's own, which need a server."""
    return [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] != "lite"]


def parse(path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(), "html.parser")


def test_every_lesson_and_module_has_its_page(site):
    for lesson in LESSONS:
        page = parse(site / "lessons" / f"{lesson.stem}.html")
        assert page.h1.text.startswith(lesson.stem[:2] + " ")
        assert len(page.select("article img.output")) >= 3 and page.select("article div.highlight-python")
    conv = (site / "reference" / "minunet.ops.conv.html").read_text()
    for words in ("conv2d_backward", "Parameters", "Returns", "(KH, KW, C/groups, K) float array", "window(dx, i, j)"):
        assert words in conv


class Addresses(HTMLParser):
    """The anchors of a page, and what it links to or loads: (tag, address)."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.addresses = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id"))
        if tag in ("a", "link", "img", "script", "source") and (address := given.get("href") or given.get("src")):
            self.addresses.append((tag, address))


def test_links_and_images_lead_somewhere(site):
    """Every address within the site, with its anchor; and nothing is fetched from elsewhere."""
    found = {path: Addresses(path) for path in pages_of(site)}
    anchors = {path: page.anchors for path, page in found.items()}
    broken, foreign = [], []
    for path, page in found.items():
        for tag, address in page.addresses:
            if re.match(r"(https?:)?//", address):
                foreign += [(path.name, address)] if tag != "a" else []
                continue
            if re.match(r"(mailto|data|javascript):", address):
                continue
            file, anchor = urldefrag(address)
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            known = anchors.get(target)
            if not target.is_file() or (anchor and known is not None and unquote(anchor) not in known):
                broken.append(f"{path.relative_to(site)}: {address}")
    assert not broken + foreign


def test_figures_are_those_of_the_results(site):
    """The tables on the page of the benches, from a result that is read here, and of the machine that measured."""
    text = parse(site / "benches.html").get_text()
    held = json.loads((ROOT / "bench" / "results" / "conv_ladder.json").read_text())
    assert held["setting"] in text and held["machine"] in text
    for rung in held["rungs"]:
        assert f"{rung['rung']} {rung['name']}" in text


def test_every_page_in_chromium(site, chromium):
    """No message on the console, nothing missing, formulas drawn, and nothing to scroll sideways."""
    problems = []
    page = chromium.new_page(viewport=PHONE)
    page.on("console", lambda m: problems.append(f"{page.url}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(f"{page.url}: {e}"))

    def failed(r):
        # going on to the next page aborts what a busy machine has not fetched yet, an icon; what is missing is FILE_NOT_FOUND
        if r.failure != "net::ERR_ABORTED":
            problems.append(f"{page.url}: {r.url} was not loaded: {r.failure}")

    page.on("requestfailed", failed)
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(f"{page.url}: {r.url}")
    )
    formulas = {}
    for path in pages_of(site):
        page.set_viewport_size(PHONE)
        page.goto(path.as_uri())
        seen = page.evaluate(LOOK)
        page.set_viewport_size(DESK)
        seen["excess"] = max(seen["excess"], page.evaluate(LOOK)["excess"])
        formulas[path.stem] = seen.pop("formulas")
        if any(seen.values()):
            problems.append(f"{path.relative_to(site)}: {seen}")
    page.close()
    assert not problems, "\n".join(problems)
    for lesson in LESSONS:
        text = "".join(re.findall(r"^# ?(.*\n)", lesson.read_text(), re.M))
        assert formulas[lesson.stem] == len(re.findall(r"\$\$.+?\$\$|\$[^$]+?\$", text, re.S)), lesson.stem


def test_what_runs_in_the_browser_is_linked_to(site):
    """From the page on it, which says what grading is there, and from each lesson's own."""
    page = parse(site / "browser.html")
    links = {a["href"].rpartition("path=")[2] for a in page.select("article a[href*='lite/']")}
    assert links == {path.name for path in (site / "lite" / "files").iterdir()} and len(links) > 20
    assert "without isolation" in " ".join(page.get_text().split())
    for lesson in LESSONS:
        found = parse(site / "lessons" / f"{lesson.stem}.html").select(
            f"a[href$='index.html?path={lesson.stem}.ipynb']"
        )
        assert len(found) == (int(lesson.stem[:2]) <= 7)


CONTRAST = """selector => {
    const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        const colour = getComputedStyle(element).backgroundColor;
        return /, 0\\)$/.test(colour) && element.parentElement ? ground(element.parentElement) : colour;
    };
    return [...document.querySelectorAll(selector)].map(element => {
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(site, chromium, scheme):
    """WCAG's contrast of texts and their ground, by day and by night: 7 for running text, 4.5 for code and links."""
    page = chromium.new_page(viewport=PHONE, color_scheme=scheme)
    for name in ("index", f"lessons/{LESSONS[0].stem}", "reference/minunet.ops.conv"):
        page.goto((site / f"{name}.html").as_uri())
        assert min(page.evaluate(CONTRAST, "article p, article h1, article h2")) >= 7, name
        assert min(page.evaluate(CONTRAST, "article pre, article code, article a")) >= 4.5, name
    page.close()


@pytest.mark.parametrize(
    "words, target", [("im2col", "lessons/01_"), ("conv2d_backward", "reference/minunet.ops.conv")]
)
def test_search(site, chromium, words, target):
    said = []
    page = chromium.new_page(viewport=DESK)
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: said.append(str(e)))
    page.goto((site / "index.html").as_uri())
    page.fill("input.sidebar-search", words)
    page.press("input.sidebar-search", "Enter")
    page.wait_for_selector(f"#search-results li a[href*='{target}']")
    page.click(f"#search-results li a[href*='{target}']")
    assert target in page.url and not said
    page.close()


def test_what_a_page_says_wrongly_fails(run_lesson, tmp_path):
    """A warning of Sphinx is an error: here a lesson that refers to what does not exist."""
    runs = tmp_path / "runs"
    for lesson in LESSONS[:1]:
        left, problem = run_lesson(lesson)
        assert not problem, problem
        shutil.copytree(left, runs / lesson.stem)
        cells = json.loads((left / "lesson.json").read_text())
        cells[0]["text"] += "\n\nSee {doc}`nowhere`."
        (runs / lesson.stem / "lesson.json").write_text(json.dumps(cells))
    done = build(runs, tmp_path / "site", "--only", "minunet.ops")
    assert done.returncode and "nowhere" in done.stderr


def test_other_peoples_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = build(tmp_path / "runs", tmp_path)
    assert done.returncode == 2 and "something else than a site" in done.stderr
    assert (tmp_path / "thesis.txt").exists()
