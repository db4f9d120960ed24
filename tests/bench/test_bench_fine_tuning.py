"""The bench of fine-tuning: its table, and a curve of one image with a network and trainings that are stood in for."""

import sys
from pathlib import Path

import pytest
from helpers.bright import discs, save_bright_network
from PIL import Image

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import fine_tuning  # noqa: E402


def test_a_curve(tmp_path, monkeypatch, capsys):
    """Each training runs once, on images of tissue alone; what has ended is not made again; the page holds the table."""
    data, lists, asked = tmp_path / "data", tmp_path / "lists", []
    lists.mkdir()
    for n, (part, kind) in enumerate(
        [("train", "stained_tissue"), ("train", "fluorescence"), ("validation", "stained_tissue")]
    ):
        folder = data / "dsb2018/stage1_train" / f"i{n}"
        for inside in ("images", "masks"):
            (folder / inside).mkdir(parents=True)
        picture = discs(40, 40, 3, seed=n)
        Image.fromarray(picture).save(folder / f"images/i{n}.png")
        Image.fromarray((picture > 120).astype("uint8") * 255).save(folder / "masks/a.png")
        with open(lists / f"nuclei_{part}.txt", "a") as file:
            file.write(f"i{n}\n")
        with open(data / "dsb2018/index.csv", "a") as file:
            file.write("image_id,kind,width,height\n" * (n == 0) + f"i{n},{kind},40,40\n")
    base = save_bright_network(tmp_path / "base.safetensors", discs(40, 40, 3))

    def train(command, *flags):
        out, images = (Path(flags[flags.index(flag) + 1]) for flag in ("--out", "--data"))
        out.mkdir()
        asked.append((sorted(p.name for p in (images / "stage1_train").iterdir()), "-f" in flags))
        (out / "last.safetensors").write_bytes(base.read_bytes())
        (out / "history.csv").write_text("seconds\n60\n30\n")

    monkeypatch.setattr(fine_tuning, "python", train)
    monkeypatch.setattr(fine_tuning, "SPLITS", lists)
    monkeypatch.setattr(fine_tuning, "FOLDERS", ("dsb2018",))
    monkeypatch.setattr("nuclei_lists.FOLDERS", ("dsb2018",))
    monkeypatch.setattr(fine_tuning, "PAGE", fine_tuning.ROOT / "docs" / "x.md")
    flags = [str(data), "--images", "1", "--seeds", "2", "--base", str(base), "--out", str(tmp_path / "out")]
    flags += ["--results", str(tmp_path / "r.jsonl")]
    for _ in range(2):
        assert fine_tuning.main(flags) == 0
    assert asked == 2 * [(["i0"], False), (["i0"], True)]
    table = capsys.readouterr().out.split("| ---: | --- | ---: | ---: | ---: | ---: |\n")[-1].splitlines()
    assert [row.split(" | ")[:2] for row in table] == [["| 0", "as it is"], ["| 1", "scratch"], ["| 1", "fine-tuned"]]
    assert table[1].endswith("| 1.5 | 2 |")
    monkeypatch.setattr(fine_tuning, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(fine_tuning, "ROOT", tmp_path)
    assert fine_tuning.main(["--page", "--results", str(tmp_path / "r.jsonl")]) == 0
    assert table[2] in (tmp_path / "page.md").read_text()
