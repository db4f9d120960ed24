"""The zip from which Gradescope makes the container that grades: this package, and two scripts.

Gradescope unpacks it to /autograder/source, runs setup.sh once, and run_autograder for every submission, which it puts into
/autograder/submission; see https://gradescope-autograders.readthedocs.io/en/latest/specs/. Of the network only setup.sh needs
anything: a Python, if the image's is too old, and the libraries in `NEEDS`.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

from ..atomic import write_atomically
from ..errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
NEEDS = ("numpy>=2.0", "scipy>=1.13", "lazy-loader>=0.4", "tqdm>=4.66")  # all that grading imports
LEFT_OUT = ("__pycache__", ".safetensors")  # what Python and numba have compiled, and trained networks
SECONDS = 5  # for a call: Gradescope ends everything after ten minutes

SETUP = """#!/usr/bin/env bash
# Once, when the image is built: a Python of 3.11 or later, and what the grader imports. It itself lies here.
set -euo pipefail
base=${AUTOGRADER:-/autograder}

find_python() {
    for python in python3 python3.13 python3.12 python3.11; do
        "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    done
    return 1
}

find_python || { apt-get update && apt-get install -y --no-install-recommends python3-venv; }
find_python || apt-get install -y --no-install-recommends python3.11 python3.11-venv # Ubuntu 22.04, whose python3 is 3.10
find_python || { echo "the grader needs Python 3.11 or later: choose a newer base image" >&2; exit 1; }
"$python" -m venv "$base/venv"
"$base/venv/bin/python" -m pip install --no-cache-dir -r "$base/source/requirements.txt"
PYTHONPATH=$base/source "$base/venv/bin/python" -P -m minunet.grade --list # if that fails, it fails now
"""

RUN = """#!/usr/bin/env bash
# For every submission: grade all its files, and write results.json. The exit status tells whether that worked.
base=${{AUTOGRADER:-/autograder}}
export PYTHONPATH=$base/source OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
mkdir -p "$base/results"
exec "$base/venv/bin/python" -P -m minunet.grade "$base/submission" --gradescope "$base/results/results.json" {flags}
"""


def write_autograder(args: argparse.Namespace) -> int:
    """Write the zip, for the exercises and with the hints that the flags name; returns the exit status."""
    flags = [f"--seconds {SECONDS}", *(f"-e {name}" for name in dict.fromkeys(args.exercise or []))]
    files = {
        "setup.sh": SETUP.encode(),
        "requirements.txt": "".join(f"{need}\n" for need in NEEDS).encode(),
    }
    if args.hints:
        files["hints.toml"] = args.hints.read_bytes()
        flags.append('--hints "$base/source/hints.toml"')
    files["run_autograder"] = RUN.format(flags=" ".join(flags)).encode()
    write_atomically(args.autograder, zipped(files | package()))
    if not args.quiet:
        what = ", ".join(dict.fromkeys(args.exercise or [])) or "whatever exercises are answered"
        print(f"{args.autograder}: grades {what}")
    return 0


def package() -> dict[str, bytes]:
    """This package's files by their names in the zip, and its licence if that lies beside it."""
    paths = [p for p in PACKAGE.rglob("*") if p.is_file() and not {p.suffix, p.parent.name} & {*LEFT_OUT}]
    licence = PACKAGE.parent / "LICENSE"
    try:
        found = {p.relative_to(PACKAGE.parent).as_posix(): p.read_bytes() for p in [*paths, licence] if p.is_file()}
    except OSError as e:
        raise UserError(f"cannot read {e.filename}: {e.strerror}; install minunet again") from e
    return found


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of these files, the same for the same files: sorted, without times, and with rights to run the scripts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)  # of 1980, the earliest time that there is
            entry.create_system = 3  # Unix, on whatever system: only then the rights count
            script = files[name].startswith(b"#!") and "/" not in name
            entry.external_attr = (0o100755 if script else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return buffer.getvalue()
