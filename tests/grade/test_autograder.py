"""The zip for Gradescope: what is in it, and graded with as Gradescope would; and what a container is built from."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from helpers.grading import RIGHT, momentum
from helpers.notebooks import filled

from minunet.grade.autograder import NEEDS, PACKAGE
from minunet.grade.command import main
from minunet.grade.grading import POINTS

ROOT = PACKAGE.parent
ONLY_NEEDS = """
import importlib.machinery, sys
allowed = {names}
class Guard(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        if found and found.origin and "site-packages" in found.origin and name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(name)
        return found
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Guard
"""


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """The zip's bytes, made twice in different places, with hints."""
    folder, made = tmp_path_factory.mktemp("autograder"), []
    (folder / "hints.toml").write_text('momentum-p-0123abcd = "look again"\n')
    for name in ("a.zip", "b.zip"):
        flags = ["-e", "im2col", "-e", "momentum", "--hints", str(folder / "hints.toml"), "--quiet"]
        assert main(["--autograder", str(folder / name), *flags]) == 0
        made.append((folder / name).read_bytes())
    assert made[0] == made[1]
    return made[0]


def test_the_zip_holds_what_gradescope_asks_for(autograder):
    with zipfile.ZipFile(io.BytesIO(autograder)) as archive:
        files = {entry.filename: entry for entry in archive.infolist()}
        assert {
            "setup.sh",
            "run_autograder",
            "requirements.txt",
            "hints.toml",
            "minunet/grade/process/child.py",
        } < files.keys()
        assert not [name for name in files if "__pycache__" in name or name.endswith(".safetensors")]
        for script in ("setup.sh", "run_autograder"):
            assert files[script].external_attr >> 16 == 0o100755
            assert archive.read(script).startswith(b"#!/usr/bin/env bash\n")
            done = subprocess.run(["bash", "-n"], input=archive.read(script), capture_output=True)
            assert not done.returncode and not done.stderr
        assert archive.read("requirements.txt").decode().split() == list(NEEDS)
        assert archive.read("minunet/__init__.py") == (PACKAGE / "__init__.py").read_bytes()


def unpacked(autograder, base: Path) -> Path:
    """The folder as Gradescope lays it out, with this Python in place of the one that setup.sh installs."""
    with zipfile.ZipFile(io.BytesIO(autograder)) as archive:
        archive.extractall(base / "source")
    (base / "run_autograder").write_bytes((base / "source" / "run_autograder").read_bytes())
    (base / "venv" / "bin").mkdir(parents=True)
    (base / "guard").mkdir()
    names = {re.split(r"\W", need.replace("-", "_"))[0] for need in NEEDS}
    (base / "guard" / "sitecustomize.py").write_text(ONLY_NEEDS.format(names=names))
    python = base / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{base}/guard:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    for script in (python, base / "run_autograder"):
        script.chmod(0o755)
    return base


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Gradescope's containers are Linux")
def test_files_and_notebooks_are_graded_as_gradescope_would(autograder, tmp_path):
    base = unpacked(autograder, tmp_path / "autograder")
    (base / "submission" / "deeper").mkdir(parents=True)
    (base / "submission" / "my step.py").write_text(momentum(RIGHT.replace("p -=", "p +=")))
    (base / "submission" / "deeper" / "columns.ipynb").write_text(filled("im2col"))
    (base / "submission" / "old.py").write_bytes("# \xfc\n".encode("latin-1"))
    env = {"AUTOGRADER": str(base), "PATH": os.environ["PATH"]}
    done = subprocess.run([base / "run_autograder"], cwd=base, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((base / "results" / "results.json").read_text())
    scores = {test["name"]: test["score"] for test in results["tests"]}
    assert {name.split(":")[0] for name in scores} == {"momentum", "im2col"}
    assert sum(score for name, score in scores.items() if "im2col" in name) == pytest.approx(POINTS, abs=1e-3)
    assert results["score"] == pytest.approx(sum(scores.values()), abs=1e-3) and scores["momentum: p"] == 0
    assert sum(test["max_score"] for test in results["tests"]) == pytest.approx(2 * POINTS, abs=1e-3)
    assert any("uphill" in test["output"] for test in results["tests"])
    assert "not text in UTF-8" in results["output"] and "'my step.py' -e momentum --seed" in results["output"]
    assert set(results) <= {
        "score",
        "execution_time",
        "output",
        "visibility",
        "stdout_visibility",
        "extra_data",
        "tests",
    }


def test_an_upload_may_be_empty(tmp_path, capsys):
    (tmp_path / "submission").mkdir()
    out = tmp_path / "results.json"
    assert main([str(tmp_path / "submission"), "--gradescope", str(out), "-e", "momentum"]) == 0
    results = json.loads(out.read_text())
    assert results["score"] == 0 and "handed in" in results["output"] and "handed in" in capsys.readouterr().err
    assert {test["output"] for test in results["tests"]} == {"no answer"}


def test_what_is_installed_is_what_the_package_asks_for():
    if not (ROOT / "Containerfile").exists():
        pytest.skip("the package is not in its repository")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(NEEDS) <= {need.split(";")[0] for need in project["dependencies"]}
    lines = re.sub(r"\\\n", " ", (ROOT / "Containerfile").read_text()).splitlines()
    (install,) = [line for line in lines if line.startswith("RUN") and "pip install" in line]
    assert re.findall(r'"([^"]+)"', install) == list(NEEDS)
    for source in (line.split()[1:-1] for line in lines if line.startswith("COPY")):
        assert all((ROOT / name).exists() for name in source)


def test_no_text_installs_minunet_from_the_index():
    """The name there is not ours: pip is told to take a clone."""
    if not (ROOT / "CONTRIBUTING.md").exists():
        pytest.skip("the package is not in its repository")
    pages = [p for ending in ("py", "md", "toml", "cu") for p in ROOT.rglob(f"*.{ending}") if "build" not in p.parts]
    command = re.compile(r"pip install (?:-\S+ )*[`'\"]*minunet\b|['\"`]minunet\[")
    # a history; extras that contain others; the browser's pip, which takes the wheel that lies in the site; this file
    own = ("CHANGELOG.md", "pyproject.toml", "lite.py", "test_lite.py", Path(__file__).name)
    assert not [p for p in pages if p.name not in own and command.search(p.read_text(encoding="utf-8"))]
