"""Lessons 01 to 07 and their exercises as notebooks that run in a browser: JupyterLite, with Python in WebAssembly (Pyodide).

The site's folder `lite` holds JupyterLite, the notebooks, and the wheel of minunet, which is built here from the repository.
The notebooks' first cell takes it from there: no package index is asked for minunet. Pyodide itself, with NumPy and what else
minunet needs, comes from its own server, or from a copy of Pyodide's distribution elsewhere (`--pyodide URL`). The kernel takes
one small package, comm, from PyPI.
"""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minunet.errors import UserError
from minunet.grade.exercises import EXERCISES
from minunet.grade.notebook import notebook

if TYPE_CHECKING:
    from pages import Pages

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "lite"
LESSONS = range(1, 8)
KERNEL = "@jupyterlite/pyodide-kernel-extension"
SCIPY = {6: "scipy", 7: "scipy scikit-image"}  # which these lessons, and their exercises, need beside minunet
OURS = ("minunet", "pyproject.toml", "README.md", "LICENSE")  # what the wheel is made of
LARGE = ("__pycache__", "*.safetensors")  # trained networks are no part of a lesson

ABOUT = """# In the browser

Lessons 01 to 07 and their exercises run in the browser, with nothing to install: Python itself runs there
([Pyodide](https://pyodide.org), in [JupyterLite](https://jupyterlite.readthedocs.io)).

* Run the cells from the top. The first one installs minunet, from this site. The first start fetches Pyodide, NumPy and
  Matplotlib, some tens of megabytes, from their servers (jsdelivr.net, pypi.org); later ones find them in the browser's cache.
* There are no compiled kernels: the plain ops run, on one core. Lessons take several times as long as on your computer; 06 and
  07, which train networks, take many minutes.
* What you write is kept by the browser, on your computer, and sent nowhere. Download a notebook to keep it elsewhere.
* **An exercise is graded in the notebook's own process**: without isolation, and without limits on time and memory. That is for
  yourself. A grade that counts is given by `python -m minunet.grade` on another machine, see [For teachers](/teaching.md).
* A page that was opened from the disk cannot start Python: serve the site, `python -m http.server -d build/site`, and open
  `http://localhost:8000`.
"""


def build(out: Path, work: Path, pyodide: str | None = None) -> None:
    """Write the folder `lite` into the site `out`; UserError if JupyterLite cannot."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "files").mkdir(parents=True)
    config: dict[str, Any] = {"appName": "minunet", "contentsAllJsonFile": "all.json"}
    if pyodide:
        config["litePluginSettings"] = {f"{KERNEL}:kernel": {"pyodideUrl": pyodide}}
    settings = {"jupyter-lite-schema-version": 0, "jupyter-config-data": config}
    (work / "jupyter-lite.json").write_text(json.dumps(settings, indent=1))
    target = out / FOLDER
    command = [sys.executable, "-m", "jupyterlite_core", "build", "--lite-dir", str(work), "--output-dir", str(target),
               "--apps", "notebooks", "--apps", "lab", "--no-unused-shared-packages", "--no-sourcemaps",
               "--ignore-sys-prefix", f"--LiteBuildConfig.federated_extensions={extension()}",
               "--piplite-wheels", str(wheel(work))]  # fmt: skip
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"JupyterLite cannot be built: {' '.join((done.stderr or done.stdout).split())[-600:]}")
    write_contents(target)


def extension() -> Path:
    """The folder of the kernel's extension, which came with its package."""
    return Path(sys.prefix) / "share" / "jupyter" / "labextensions" / KERNEL


def wheel(work: Path) -> Path:
    """The wheel of minunet, from a copy of its files: the repository is left as it is."""
    source = work / "source"
    for name in OURS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns(*LARGE))
        else:
            source.mkdir(exist_ok=True)
            shutil.copyfile(path, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        str(work / "wheel"),
    ]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the wheel of minunet cannot be built: {' '.join(done.stderr.split())[-600:]}")
    return next((work / "wheel").glob("minunet-*.whl"))


def notebooks() -> dict[str, dict[str, Any]]:
    """The notebooks by name: lessons, then exercises in the order of the lessons."""
    from lessons import notebook_of

    found = {}
    for path in sorted((ROOT / "tutorials").glob("[0-9][0-9]_*.py")):
        if int(path.stem[:2]) in LESSONS:
            found[f"{path.stem}.ipynb"] = with_install(notebook_of(path), int(path.stem[:2]))
    for name, exercise in EXERCISES.items():
        if exercise.lesson in LESSONS:
            found[f"{name}.ipynb"] = with_install(json.loads(notebook(exercise)), exercise.lesson)
    return found


def with_install(content: dict[str, Any], lesson: int) -> dict[str, Any]:
    """A notebook with a cell, behind its title, that installs what it needs."""
    code = f"%pip install -q minunet {SCIPY.get(lesson, '')}".rstrip()
    cell = {
        "cell_type": "code",
        "id": "install",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": code,
    }
    content["cells"].insert(1, cell)
    content["metadata"]["kernelspec"] = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
    return content


def write_contents(target: Path) -> None:
    """Write the notebooks and their list, which JupyterLite itself makes only where Jupyter's server is installed."""
    files, now = target / "files", datetime.datetime.now(datetime.UTC).isoformat()
    files.mkdir(exist_ok=True)
    about = {"created": now, "last_modified": now, "writable": True, "content": None, "format": None, "mimetype": None}
    rows = []
    for name, content in notebooks().items():
        (files / name).write_text(json.dumps(content, indent=1))
        rows.append({**about, "name": name, "path": name, "type": "notebook", "size": (files / name).stat().st_size})
    index = {**about, "name": "", "path": "", "type": "directory", "format": "json", "size": None, "content": rows}
    (target / "api" / "contents").mkdir(parents=True, exist_ok=True)
    (target / "api" / "contents" / "all.json").write_text(json.dumps(index, indent=1))


def address(name: str, up: str = "") -> str:
    """Where a notebook runs, seen from a page that lies in a folder of the site if `up` is "../"."""
    return f"{up}{FOLDER}/notebooks/index.html?path={name}.ipynb"


def write_page(pages: Pages, lessons: list[str]) -> None:
    """The page that says what runs in the browser, and where."""
    parts = [
        ABOUT,
        "## Lessons",
        *(f'* <a href="{address(name)}">{name}</a>' for name in lessons if int(name[:2]) in LESSONS),
    ]
    parts += ["", "## Exercises", ""]
    for name, exercise in EXERCISES.items():
        if exercise.lesson in LESSONS:
            parts.append(f'* <a href="{address(name)}">{exercise.title}</a>, lesson {exercise.lesson:02d}')
    pages.write("browser", pages.text("\n".join(parts), "."))
