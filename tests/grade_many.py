"""Grade a folder of submissions, some of them hostile: the table must be complete, and the others' points right.

    python tests/grade_many.py                                 500 submissions, 30 of them hostile
    python tests/grade_many.py --submissions 20 --hostile 12   what .ci/run does
    python tests/grade_many.py --isolation landlock+seccomp    at one level, as of minunet.grade

Every kind of `helpers/hostile_submissions.py` takes its turn; --draw N begins at the Nth. What fails: a row that is missing or
twice, an honest submission whose points are not those that it has alone, a hostile one with all points or without a sentence, a
file that came to be or is no longer what it was, a process that is left, and an exit status other than 0.
"""

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.hostile_submissions import KINDS, RIGHT, WRONG, write_hostile


def write_all(
    folder: Path, submissions: int, hostile: int, draw: int, mark: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Write them; by the submission's name, the points of honest ones, and the kinds of hostile ones."""
    honest, kinds = {}, {}
    for number in range(submissions - hostile):
        name = f"honest{number:03d}.py" if number else "m\udcfcller.py"  # one that is no UTF-8
        right = number % 3 > 0
        (folder / name).write_text(f"# {number}\n{RIGHT if right else WRONG}")
        honest[name.replace("\udcfc", "\ufffd")] = "10.00" if right else "4.00"
    victim = folder / "honest001.py"
    for number in range(hostile):
        kind = KINDS[(draw + number) % len(KINDS)]
        kinds[f"hostile{number:03d}"] = kind
        write_hostile(kind, folder / f"hostile{number:03d}", mark, victim)
    return honest, kinds


def state(folder: Path) -> dict[str, str]:
    """What lies in a folder: every ordinary file with a hash of what it holds, everything else by its name."""
    files = [Path(place, name) for place, folders, names in os.walk(folder) for name in (*folders, *names)]
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() and not p.is_symlink() else "" for p in files
    }


def left_over(mark: str) -> list[str]:
    """The command lines of processes that were started with `mark` in their environment, and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes() and process.name != str(os.getpid()):
                found.append((process / "cmdline").read_bytes().decode("utf-8", "replace"))
        except OSError:  # it has ended, or is another's
            continue
    return found


def problems(rows: list[dict[str, str]], honest: dict[str, str], kinds: dict[str, str]) -> list[str]:
    """What is wrong with a table."""
    found = []
    by_name = {row["submission"]: row for row in rows}
    if sorted(row["submission"] for row in rows) != sorted([*honest, *kinds]):
        missing = sorted({*honest, *kinds} ^ by_name.keys())
        found.append(f"{len(rows)} rows for {len(honest) + len(kinds)} submissions: {missing}")
    for name, score in honest.items():
        row = by_name.get(name, {"score": "none"})
        if row["score"] != score:
            found.append(f"{name}: {score} points are right, not {row}")
    for name, kind in kinds.items():
        row = by_name.get(name, {"score": "0", "notes": "none"})
        alike = "a hard link" in row["notes"]  # nobody can tell which was first; both rows say so
        if (float(row["score"]) > 2 and not alike) or not (row["notes"] or row["forbidden"] or float(row["score"])):
            found.append(f"{name}, {kind}: {row}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--hostile", type=int, default=30)
    parser.add_argument("--draw", type=int, default=0, metavar="N")
    parser.add_argument("--seconds", default="2", help="for a call, as of minunet.grade")
    parser.add_argument("--isolation", default="auto", help="as of minunet.grade")
    args = parser.parse_args()
    begun, env = time.monotonic(), os.environ | {"MINUNET_GRADE_MANY": f"run{os.getpid()}"}
    with tempfile.TemporaryDirectory(prefix="minunet_grade_") as place:
        folder, mark, out = Path(place, "submissions"), Path(place, "mark"), Path(place, "grades.csv")
        folder.mkdir()
        honest, kinds = write_all(folder, args.submissions, args.hostile, args.draw, mark)
        before = state(folder)
        command = [sys.executable, "-m", "minunet.grade", folder, "--csv", out, "--seconds", args.seconds, "--quiet"]
        done = subprocess.run([*map(str, command), "--isolation", args.isolation], env=env, check=False)
        found = [f"exit status {done.returncode}"] * bool(done.returncode)
        with open(out, newline="", encoding="utf-8") as f:
            rows = [{name.partition(" (of ")[0]: cell for name, cell in row.items()} for row in csv.DictReader(f)]
        found += problems(rows, honest, kinds)
        found += ["a file came to be"] * mark.exists() + ["a submission was changed"] * (state(folder) != before)
        found += [f"a process is left: {line}" for line in left_over(env["MINUNET_GRADE_MANY"])]
    print("\n".join(found), end="\n" if found else "")
    levels = sorted({row["isolation"] for row in rows} - {""})
    seconds = time.monotonic() - begun
    print(f"{len(rows)} submissions, {len(kinds)} of them hostile, {levels}: {len(found)} problems, {seconds:.0f} s")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
