"""Lessons and exercises as notebooks that run in the browser: what the folder `lite` holds, and its pages in Chromium."""

import functools
import hashlib
import json
import subprocess
import sys
import threading
import tomllib
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import minunet
from minunet.grade.exercises import EXERCISES

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs" / "website").exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
for needed in ("jupyterlite_core", "jupyterlite_pyodide_kernel", "jupytext", "nbformat", "packaging"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install '.[site]'")

from packaging.requirements import Requirement  # noqa: E402

RUNS = [path.stem for path in sorted((ROOT / "tutorials").glob("0[1-7]_*.py"))]
RUNS += [name for name, exercise in EXERCISES.items() if exercise.lesson <= 7]
PYODIDE = {"lazy-loader", "matplotlib", "numpy", "pillow", "threadpoolctl", "tqdm"}
"""Of what Pyodide's distribution holds (version 314, pyodide-lock.json)."""


def test_what_minunet_needs_there_is_in_pyodide():
    """Nothing else that is compiled, or of a system, is required on that platform."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [Requirement(text) for text in project["dependencies"]]
    here = {"sys_platform": "emscripten"}
    assert {need.name for need in needs if not need.marker or need.marker.evaluate(here)} == PYODIDE


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with `lite` in it, and nothing else of the site."""
    folder = tmp_path_factory.mktemp("site")
    code = "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import lite; lite.build(*map(pathlib.Path, sys.argv[2:]))"
    command = [sys.executable, "-c", code, ROOT / "docs" / "website", folder, folder.with_name("work")]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_notebooks(site):
    """Lessons 01 to 07 and their exercises: each is there, is listed, and installs minunet first."""
    import nbformat

    index = json.loads((site / "lite/api/contents/all.json").read_text())
    files = {path.stem: path for path in (site / "lite/files").iterdir()}
    assert [row["path"] for row in index["content"]] == [f"{name}.ipynb" for name in RUNS] and files.keys() == {*RUNS}
    for name, path in files.items():
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.cells[1].source.startswith("%pip install -q minunet"), name


@pytest.mark.slow
def test_minunet_comes_with_them(site):
    """The wheel is made of these files, and looked for here first."""
    settings = json.loads((site / "lite/jupyter-lite.json").read_text())["jupyter-config-data"]["litePluginSettings"]
    (kernel,) = settings.values()
    assert kernel["pipliteUrls"][0].startswith("./pypi/all.json")
    (release,) = json.loads((site / "lite/pypi/all.json").read_text())["minunet"]["releases"][minunet.__version__]
    wheel = site / "lite/pypi" / release["url"]
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == release["digests"]["sha256"]
    with zipfile.ZipFile(wheel) as archive:
        for name in ("minunet/ops/conv.py", "minunet/__init__.pyi", "minunet/grade/exercises/conv.py"):
            assert archive.read(name) == (ROOT / name).read_bytes()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_notebook_opens_in_chromium(site, chromium):
    """As far as it comes without Pyodide, which it asks for at Pyodide's own server: here no other is in reach."""
    foreign = []

    def refuse(route):
        foreign.append(route.request.url)
        route.abort()

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.route(lambda url: not url.startswith((home, "data:", "blob:")), refuse)
        page.goto(f"{home}lite/notebooks/index.html?path=filter_image.ipynb")
        page.wait_for_selector(".jp-CodeCell .cm-content", timeout=120_000)
        assert EXERCISES["filter_image"].title in page.inner_text(".jp-MarkdownCell h1")
        assert "%pip install -q minunet" in page.locator(".jp-CodeCell .cm-content").first.inner_text()
        page.close()
        server.shutdown()
    assert all(url.startswith("https://cdn.jsdelivr.net/pyodide/") for url in foreign), foreign
