"""The site: lessons with their output, the reference, the benches, and the texts, as pages that need no server.

    python docs/website RUNS OUT [--lite] [--only MODULE ...]

RUNS holds what `python tutorials/build.py --run` leaves: a folder a lesson. `python tutorials/build.py --site` does both.
With --lite lessons 01 to 07 and their exercises also run in the browser (lite.py).
Sphinx makes the pages, from Markdown and reStructuredText that `pages.py` and the files beside it write; anything that it
warns of is an error. Needs `pip install ".[site]"`.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

from minunet import cli
from minunet.errors import UserError, extra

FOLDER = Path(__file__).resolve().parent
NEEDS = ("sphinx", "furo", "myst_parser", "numpydoc", "latex2mathml", "jupytext")
LITE_NEEDS = ("jupyterlite_core", "jupyterlite_pyodide_kernel", "setuptools")


def build(
    runs: Path,
    out: Path,
    work: Path,
    only: list[str] | None = None,
    with_lite: bool = False,
    pyodide: str | None = None,
) -> int:
    """Write the pages' sources to `work`, and the site to `out`; the exit status of Sphinx."""
    import lite
    from pages import write_pages
    from sphinx.cmd.build import build_main

    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    write_pages(runs, work / "pages", only, with_lite)
    flags = ["-b", "html", "-W", "--keep-going", "-c", str(FOLDER), "-d", str(work / "doctrees")]
    status = build_main([*flags, str(work / "pages"), str(out)])
    if with_lite and not status:
        lite.build(out.resolve(), (work / "lite").resolve(), pyodide)
    return status


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.HelpFormatter)
    parser.add_argument("runs", type=Path, help="what the lessons left when they ran")
    parser.add_argument("out", type=Path, help="folder of the site; what is there is replaced")
    parser.add_argument(
        "--only", nargs="+", metavar="MODULE", help="reference of these modules alone, and what is in them"
    )
    parser.add_argument("--lite", action="store_true", help="with lessons and exercises that run in the browser")
    parser.add_argument(
        "--pyodide", metavar="URL", help="of pyodide.mjs, in place of Pyodide's own server; with --lite"
    )
    args = parser.parse_args()
    needs = NEEDS + LITE_NEEDS * args.lite
    if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
        raise UserError(f"the site needs {', '.join(missing)}: {extra('site')}")
    if args.out.exists() and any(args.out.iterdir()) and not (args.out / "objects.inv").exists():
        raise UserError(
            f"{args.out} holds something else than a site: give an empty folder, or one that does not exist"
        )
    work = args.out.with_name(args.out.name + "-sources")
    status = build(args.runs.resolve(), args.out, work, args.only, args.lite, args.pyodide)
    if not status:
        print(f"{args.out / 'index.html'}: {len(list(args.out.rglob('*.html')))} pages")
    return status


if __name__ == "__main__":
    sys.exit(cli.run(main))
