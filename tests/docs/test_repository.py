"""The files beside the code that other programs read: one version everywhere, forms that GitHub takes, a CHANGELOG in order."""

import re
import tomllib
from pathlib import Path

import pytest

import minunet

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted(p for p in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if p.name != "config.yml")
CATEGORIES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
ATTRIBUTES = {
    "markdown": {"value"},
    "textarea": {"label", "description", "placeholder", "value", "render"},
    "input": {"label", "description", "placeholder", "value"},
    "dropdown": {"label", "description", "multiple", "options", "default"},
    "checkboxes": {"label", "description", "options"},
}  # by docs.github.com, "Syntax for GitHub's form schema"

if not (ROOT / "CITATION.cff").exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
yaml = pytest.importorskip("yaml")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version_one_licence_one_title():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project()["version"] == minunet.__version__ == cited["version"]
    assert project()["license"] == cited["license"] and project()["name"] == cited["title"]
    assert project()["authors"] == cited["authors"] and project()["keywords"] == cited["keywords"]


def test_ci_runs_on_the_first_and_the_last_python_that_is_promised():
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    promised = [c.split()[-1] for c in project()["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == [promised[0], promised[-1]]
    assert project()["requires-python"] == f">={promised[0]}"
    assert job["steps"][-1] == {"run": ".ci/run"} and (ROOT / ".ci/run").stat().st_mode & 0o100


@pytest.mark.parametrize("path", FORMS, ids=lambda p: p.stem)
def test_github_takes_the_form(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() <= {"name", "description", "title", "labels", "assignees", "body"}
    assert form["name"] and form["description"]
    asked = [element for element in form["body"] if element["type"] != "markdown"]
    assert asked and any(element.get("validations", {}).get("required") for element in asked)
    for key in ("id", "label"):
        values = [e["id"] if key == "id" else e["attributes"]["label"] for e in asked]
        assert len(set(values)) == len(values)
    for element in form["body"]:
        assert element.keys() <= {"type", "id", "attributes", "validations"}
        assert element["attributes"].keys() <= ATTRIBUTES[element["type"]]
        texts = [v for k, v in element["attributes"].items() if k not in ("options", "multiple", "default")]
        assert all(isinstance(v, str) and v for v in texts)
        if element["type"] == "dropdown":
            options = element["attributes"]["options"]
            assert all(isinstance(o, str) for o in options) and len(set(options)) == len(options) > 1  # no bare yes


def test_the_changelog_keeps_its_order():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *releases = re.findall(r"^## \[(.+?)\]", text, re.M)
    assert first == "Unreleased" and minunet.__version__ == releases[0]
    for release in re.split(r"^## ", text, flags=re.M)[1:]:
        categories = re.findall(r"^### (.+)$", release, re.M)
        assert set(categories) <= CATEGORIES and len(set(categories)) == len(categories)


def test_the_house_is_as_small_as_agreed_and_the_map_shows_all_of_it():
    inside = [p for p in (ROOT / "minunet").iterdir() if not p.name.startswith("_") and p.name != "py.typed"]
    folders, files = [f"{p.name}/" for p in inside if p.is_dir()], [p.name for p in inside if p.is_file()]
    assert len(folders) <= 12 and len(files) <= 8
    text = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    drawn = re.search(r"^## A map of the code$(.*)", text, re.M | re.S)[1]
    assert [name for name in folders + files if f"`{name}`" not in drawn] == []
