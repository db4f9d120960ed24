"""Pages for students and of the class: what is on them, that nothing there does anything, and clusters of what got no hint."""

import csv
import html
import os
import re

import numpy as np
import pytest
from helpers.grading import QUICK, RIGHT, momentum

from minunet.errors import UserError
from minunet.grade.command import main
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import Grade, Part
from minunet.grade.reports.class_page import class_page
from minunet.grade.reports.clusters import add_clusters, numbers, outcome, read_sentences
from minunet.grade.reports.document import (
    MARK,
    Bold,
    Code,
    Heading,
    Items,
    Lines,
    Link,
    Table,
    Text,
    as_html,
    as_markdown,
)
from minunet.grade.reports.folder import Feedback, safe_names
from minunet.grade.reports.student import student_page
from minunet.grade.sheet import Mark, Raised
from minunet.grade.submissions import grade_file

EVIL = "<img src=x onerror=alert(1)> `` ` ![x](http://evil) [y](javascript:alert(1)) | </code></pre><script>1</script>"
TAGS = set(
    re.findall(r"\w+", "html head meta title body h1 h2 h3 span p code b a ul li pre div table tr th td svg rect text")
)
ODD = momentum("p += 2 * velocity; velocity *= 0.3")  # a mistake that nobody has foreseen
ODD_TOO = "# another's\n" + momentum("for i in range(2):\n    p += velocity\nvelocity[...] = velocity * 3 / 10")


@pytest.fixture(scope="module")
def graded_folder(tmp_path_factory):
    """A folder of submissions, and the pages of it."""
    folder = tmp_path_factory.mktemp("class")
    submissions, pages = folder / "submissions", folder / "pages"
    (submissions / "=ada `x` <b>").mkdir(parents=True)
    (submissions / "=ada `x` <b>" / "step.py").write_text(momentum(RIGHT))
    (submissions / "bob.py").write_text(momentum(RIGHT.replace("p -=", "p +=")))
    (submissions / "odd.py").write_text(ODD)
    (submissions / "too.py").write_text(ODD_TOO)
    (submissions / "eve.py").write_text(momentum(f"raise ValueError('''{EVIL}''')"))
    (submissions / "old.py").write_bytes("# \xfc\n".encode("latin-1"))
    out = folder / "grades.csv"
    assert main([str(submissions), "--csv", str(out), "--feedback", str(pages), "-q", "-e", "momentum"]) == 0
    return submissions, pages, out


def test_bold_ends_before_the_space():
    """In CommonMark a sign with two stars and a letter behind it closes nothing."""
    assert "> **Likely:** dx: turn it" in as_markdown([Text(Bold("Likely: "), "dx: turn it", kind="hint")])


def test_everybody_has_a_page_with_points_and_reasons(graded_folder):
    _, pages, out = graded_folder
    stems = {p.stem for p in (pages / "students").iterdir()}
    assert len(stems) == 6 and {"bob", "odd", "too", "eve", "old"} < stems
    for ending in (".html", ".md"):
        bob = (pages / "students" / f"bob{ending}").read_text()
        assert "uphill" in bob and "of 10" in bob and re.search(r"minunet\.grade bob\.py -e momentum --seed \d+", bob)
        assert bob.count("uphill") == 1 and all(part in bob for part in EXERCISES["momentum"].parts)
        assert "UTF-8" in (pages / "students" / f"old{ending}").read_text()
        assert str(pages.parent) not in (pages / "students" / f"old{ending}").read_text()
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["submission"]: row["momentum (of 10)"] for row in rows} == {
        "'=ada `x` <b>": "10.00", "bob.py": "4.00", "odd.py": "2.00", "too.py": "2.00", "eve.py": "0.00", "old.py": "",
    }  # fmt: skip


@pytest.mark.slow
def test_one_sentence_reaches_all_of_a_cluster_and_nobody_else(graded_folder, tmp_path):
    submissions, pages, _ = graded_folder
    page = (pages / "summary.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith('"momentum-p-'))  # the largest cluster is first
    assert "2 students" in page and "[`odd.py`](students/odd.html), [`too.py`](students/too.html)" in page
    hints, again = tmp_path / "hints.toml", tmp_path / "pages"
    hints.write_text(line.replace('""', '"p goes *against* the velocity"'))
    assert main([str(submissions), "--feedback", str(again), "--hints", str(hints), "-q"]) == 0  # with other numbers
    told = [p.stem for p in sorted((again / "students").glob("*.html")) if "against" in p.read_text()]
    assert told == ["odd", "too"]
    after = (again / "summary.md").read_text()
    assert r"**2** in momentum (yours): p goes \*against\* the velocity" in after and line not in after


def test_nothing_on_a_page_does_anything(graded_folder):
    _, pages, _ = graded_folder
    for path in [*pages.glob("*.html"), *pages.glob("students/*.html")]:
        text = path.read_text()
        assert "default-src 'none'" in text
        tags = {
            tag.split()[0] for tag in re.findall(r"<([^!/>][^>]*)>", re.sub("<style>.*?</style>", "", text, flags=re.S))
        }
        assert tags <= TAGS
        assert all(re.fullmatch(r"students/[\w%.-]+\.html", link) for link in re.findall(r'href="([^"]*)"', text))
    for path in [*pages.glob("*.md"), *pages.glob("students/*.md")]:
        without_code = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", path.read_text())
        assert "<img" not in without_code and "javascript" not in without_code and "<script" not in without_code


def test_markdown_is_read_as_it_was_meant(graded_folder):
    markdown = pytest.importorskip("markdown_it", reason="markdown-it is not installed: pip install '.[site]'")
    _, pages, _ = graded_folder
    for name in ("summary", "students/eve"):
        shown = markdown.MarkdownIt("commonmark").enable("table").render((pages / f"{name}.md").read_text())
        assert html.escape(EVIL) in shown and "<script" not in shown and "<img src=x" not in shown
        assert set(re.findall(r'(?:src|href)="([^"]*)"', shown)) <= {
            "parts.svg", *(f"students/{p.name}" for p in (pages / "students").iterdir()),
        }  # fmt: skip


def test_blocks_as_both_formats():
    blocks = [
        Heading(1, ["a_b ", Code("`x")], "3 of 4"),
        Text("1 < 2, and `code`", kind="hint"),
        Items([[Text(Code(" a | b"), kind="ok"), Text("more")]]),
        Table(["", "n"], [[Link(Code("a|b"), "x.html"), "1"]]),
        Lines("```"),
    ]
    assert as_markdown(blocks) == (
        f"<!-- {MARK} -->\n\n# a\\_b `` `x ``: 3 of 4\n\n> 1 \\< 2, and `code`\n\n* \u2713 `  a | b `\n\n  more\n\n"
        "|  | n |\n| --- | ---: |\n| [`a\\|b`](x.html) | 1 |\n\n````text\n```\n````\n"
    )
    page = as_html("<t>", blocks)
    assert '<h1><span>a_b <code>`x</code></span><span class="points">3 of 4</span></h1>' in page
    assert '<p class="hint">1 &lt; 2, and <code>code</code></p>' in page and "<title>&lt;t&gt;</title>" in page


# ---- clusters --------------------------------------------------------------------------------------------------------


def ids(source, tmp_path, seed):
    (tmp_path / "a.py").write_text(source)
    grades = grade_file(tmp_path / "a.py", seed=seed, limits=QUICK)
    add_clusters(grades, {}, QUICK, "auto")
    return {p.name: p.cluster for p in grades[0].parts}


@pytest.mark.slow
def test_clusters_have_the_same_names_whatever_the_seed_and_the_style(tmp_path):
    first = ids(ODD, tmp_path, 1)
    assert {name for name, cluster in first.items() if cluster} == {"p", "velocity", "nesterov", "weight decay"}
    assert first == ids(ODD_TOO, tmp_path, 2)
    other = ids(ODD.replace("0.3", "0.31"), tmp_path, 3)
    assert other["velocity"] != first["velocity"] and all(
        re.fullmatch(r"momentum-\w+-[0-9a-f]{8}", c) for c in other.values() if c
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [momentum("raise NotImplementedError"), momentum("import minunet"), "def sgd_step(:\n", momentum(RIGHT)]
)
def test_what_gives_no_output_is_in_no_cluster(source, tmp_path):
    (tmp_path / "momentum.py").write_text(source)
    grades = grade_file(tmp_path / "momentum.py", seed=1, limits=QUICK)
    add_clusters(grades, {}, QUICK, "auto")
    clusters = {p.cluster for p in grades[0].parts}
    assert clusters == {""} or "(:" in source  # what is no Python is: many have the same line wrong


def test_rounding_makes_no_cluster_of_its_own(rng):
    x = rng.standard_normal((5, 7))
    assert numbers(x) == numbers((x * 3) / 3) and numbers(x) != numbers(x * (1 + 1e-5)) != numbers(x[::-1])
    assert numbers(x) != numbers(x.astype(np.float32)) and numbers(x) != numbers(x[:, :6])
    ones = np.array([0.0, 1.0, np.nan, np.inf])
    assert numbers(ones) == numbers(ones + np.array([1e-15, -1e-15, 0, 0])) != numbers(-ones)
    assert (
        numbers(True) != numbers(False) and numbers((x, 1)) == numbers((x + 1e-16, 1)) and numbers("a") != numbers("b")
    )


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("ValueError: no in line 3: x = 1", "ValueError: no in line 9: yy = 1", True),
        ("TypeError: <f at 0x7f1a>", "TypeError: <f at 0x7f2b>", True),
        ("ValueError: (2,3) (3,2)", "ValueError: (2,3) (4,2)", False),
    ],
)
def test_errors_are_compared_without_their_place(one, other, same):
    said = [outcome(Mark("p", "", Raised(text), False)) for text in (one, other)]
    assert (said[0] == said[1]) is same


@pytest.mark.parametrize(
    "content, says",
    [
        ("momentum-p-0123abcd = 3", "write a sentence"),
        ('momentum = "x"', "'momentum' is no cluster"),
        ('nothing-p-0123abcd = "x"', "is no cluster"),
        ("x", "is no TOML"),
        ('"" = "x"', "is no cluster"),
    ],
)
def test_mistakes_in_the_sentences_are_named(content, says, tmp_path):
    (tmp_path / "h.toml").write_text(content)
    with pytest.raises(UserError, match=says):
        read_sentences(tmp_path / "h.toml")


def test_sentences_that_are_not_written_yet_are_none(tmp_path):
    (tmp_path / "h.toml").write_text(
        'momentum-p-0123abcd = ""\n"momentum-p-1123abcd momentum-p-2123abcd" = " a\\n b "\n'
    )
    assert read_sentences(tmp_path / "h.toml") == {"momentum-p-1123abcd": "a b", "momentum-p-2123abcd": "a b"}


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_names_of_files_are_safe_and_no_two_alike():
    names = ["ada", "ada.py", "Bob", "bob", "../../x", "a/b", "con.py", "\udcfc", "\udcfd", "", "..", "\u202egpj.py"]
    names += ["J\u00fcrgen", "Ju\u0308rgen", "x" * 300, "\u00fc" * 300, "<b>", "carl.ipynb"]
    stems = safe_names(names)
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert all(re.fullmatch(r"[\w-][\w.-]*", stem) and len(os.fsencode(stem)) < 140 for stem in stems)
    assert stems[-1] == "carl" and "ada" not in stems and safe_names(names[::-1]) == stems[::-1]
    odd = safe_names(["a!"])[0]
    assert len(set(safe_names([odd, "a!"]))) == 2  # who calls himself as another's file would be called
    assert safe_names(["con"])[0] != "con"


def test_a_rerun_leaves_nothing_of_those_who_left_and_keeps_what_is_the_teachers(tmp_path):
    (tmp_path / "in").mkdir()
    pages = tmp_path / "pages"
    for names in (["ada", "bob"], ["ada"]):
        feedback = Feedback(pages, tmp_path / "in", names)
        for name in names:
            feedback.add(name, [], ["of it"])
        (pages / "students" / "own.md").write_text("mine")
        (pages / "hints.toml").write_text("mine")
        feedback.finish({name: ([], ["of it"]) for name in names})
    assert sorted(p.name for p in pages.iterdir()) == ["hints.toml", "students", "summary.html", "summary.md"]
    assert sorted(p.name for p in (pages / "students").iterdir()) == ["ada.html", "ada.md", "own.md"]


def test_a_run_that_is_stopped_leaves_whole_pages(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("ada", "bob"):
        (tmp_path / "in" / f"{name}.py").touch()

    def graded(files, *_, **__):
        if files[0].name == "bob.py":
            raise KeyboardInterrupt
        return [], ["of it"]

    monkeypatch.setattr("minunet.grade.files.grade_submission", graded)
    assert main([str(tmp_path / "in"), "--feedback", str(tmp_path / "pages"), "--quiet"]) == 130
    found = sorted(str(p.relative_to(tmp_path / "pages")) for p in (tmp_path / "pages").rglob("*.*"))
    assert found == ["students/ada.html", "students/ada.md"]
    assert (tmp_path / "pages" / "students" / "ada.html").read_text().endswith("</html>\n")


def test_pages_do_not_lie_among_the_submissions(tmp_path, capsys):
    (tmp_path / "a.py").touch()
    assert main([str(tmp_path), "--feedback", str(tmp_path / "pages")]) == 2
    assert "choose a folder outside" in capsys.readouterr().err and not (tmp_path / "pages").exists()


def test_the_class_page_names_what_is_in_no_cluster():
    e = EXERCISES["momentum"]
    slow = Grade(e, "a.py", [Part(p, False, "it took longer than 10 seconds") for p in e.parts], 1.0, 1)
    page = as_markdown(class_page({"ada": ([slow], [])}, {"ada": "students/ada.html"}))
    assert "## To be looked at" in page and page.count("momentum: it took longer than 10 seconds") == 1
    assert "Wrong, and without a hint" not in page
    assert "it took longer" in as_markdown(student_page("ada", [slow], []))
