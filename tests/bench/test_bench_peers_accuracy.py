"""Peers of the nuclei network: trained for so many CPU minutes, in parts, never on the test images, and scored once."""

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minunet.data import SyntheticCells

BENCH = Path(__file__).resolve().parents[2] / "bench"
if not BENCH.exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import nuclei_card  # noqa: E402
import peer_smp  # noqa: E402
import peer_stardist  # noqa: E402
import peer_training  # noqa: E402
import peers_accuracy  # noqa: E402
import pretrained  # noqa: E402

LISTS = {"train": "abcd", "validation": "ef", "test": "g"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Seven small images in both folders, and lists of them."""
    splits, cells = tmp_path / "splits", SyntheticCells(7, size=64, channels=3)
    splits.mkdir()
    for folder in pretrained.FOLDERS:
        (tmp_path / folder / "stage1_train").mkdir(parents=True)
        (tmp_path / folder / "index.csv").write_text("image_id,kind,width,height\n")
    for number, (name, sample) in enumerate(zip("abcdefg", cells)):
        folder = tmp_path / pretrained.FOLDERS[number % 2]
        with open(folder / "index.csv", "a") as file:
            file.write(f"{name},{'brightfield' if number == 3 else 'fluorescence'},64,64\n")
        for part in ("images", "masks"):
            (folder / "stage1_train" / name / part).mkdir(parents=True)
        pixels = (255 * np.clip(sample.image, 0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "stage1_train" / name / "images" / f"{name}.png")
        for k in range(1, sample.instances.max() + 1):
            mask = Image.fromarray(np.uint8(255) * (sample.instances == k))
            mask.save(folder / "stage1_train" / name / "masks" / f"{k}.png")
    for part, names in LISTS.items():
        (splits / f"nuclei_{part}.txt").write_text("\n".join(names) + "\n")
    for module in (pretrained, peer_training):
        monkeypatch.setattr(module, "SPLITS", splits)
    return tmp_path


class Fake:
    """A peer that learns nothing, half a CPU minute a step; it is told to stop after the third and the ninth."""

    TITLE, PACKAGES = "Fake", ("numpy",)
    now = 0.0

    def __init__(self, out, threads):
        self.file, self.steps = out / "state", 0
        if self.file.exists():
            self.steps = int(self.file.read_text())
        self.minutes = self.steps / 2

    def train(self, images, budget):
        assert sorted(Path(n).name for n in images.dataset.names) == list("abcdef")
        assert sorted(Path(images.dataset.names[i]).name for i in images.validation) == ["e", "f"]
        while not budget.over:
            self.steps, Fake.now = self.steps + 1, Fake.now + 0.5
            if Fake.now in (1.5, 4.5):
                signal.raise_signal(signal.SIGTERM)
        self.minutes = budget.used
        self.file.write_text(str(self.steps))

    def tune(self, images):
        self.file.with_name("tuned").write_text("")

    def segmenter(self):
        assert self.file.with_name("tuned").exists()
        return lambda pixels: (pixels[..., 0] > 128).astype(np.int32)


def test_it_stops_goes_on_and_is_tested_once(data, monkeypatch, capsys):
    monkeypatch.setitem(peers_accuracy.NETWORKS, "smp", Fake)
    monkeypatch.setattr(peer_training, "cpu_minutes", lambda: Fake.now)
    monkeypatch.setattr(Fake, "now", 0.0)
    results = data / "results.jsonl"
    flags = [str(data), "--peer", "smp", "--minutes", "4", "--out", str(data / "run"), "--results", str(results)]
    with pytest.raises(SystemExit, match="holds no smp of 4 CPU minutes"):
        peers_accuracy.main([*flags, "--test"])
    assert peers_accuracy.main(flags) == 130 and not results.exists()
    assert "stopped after 1.5 CPU minutes" in capsys.readouterr().out
    assert peers_accuracy.main(flags) == 0 and Fake.now == 4
    assert peers_accuracy.main([*flags, "--test"]) == 0 and Fake.now == 4
    with pytest.raises(SystemExit, match="scored once"):
        peers_accuracy.main([*flags, "--test"])
    with pytest.raises(SystemExit, match="holds no smp of 9 CPU minutes"):
        peers_accuracy.main([*flags, "--test", "--minutes", "9"])
    with pytest.raises(SystemExit, match="holds no stardist of 4 CPU minutes"):
        peers_accuracy.main([*flags, "--test", "--peer", "stardist"])
    assert peers_accuracy.main([*flags, "--minutes", "9"]) == 130
    with pytest.raises(SystemExit, match="holds no smp of 4 CPU minutes"):  # its weights are others now
        peers_accuracy.main([*flags, "--test"])
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(r["list"], r["all"]["images"], r["minutes"], r["steps"]) for r in rows] == [
        ("validation", 2, 4, 8), ("test", 1, 4, 8),
    ]  # fmt: skip
    assert rows[1]["versions"] == {"numpy": np.__version__} and rows[1]["machine"]


def test_the_rate_falls_to_nothing_over_the_minutes(monkeypatch):
    now = 7.0
    monkeypatch.setattr(peer_training, "cpu_minutes", lambda: now)
    budget = peer_training.Budget(10, before=0.0)
    assert budget.rate(0.5) == 0.5 and not budget.over
    now = 12.0
    assert budget.used == 5 and budget.rate(0.5) == pytest.approx(0.25)
    now = 17.5
    assert budget.spent and budget.rate(0.5) == 0
    assert peer_training.Budget(10, before=9.0).rate(1.0) == pytest.approx(0.0245, abs=1e-4)


def test_cpu_minutes_count_what_is_computed():
    before = peer_training.cpu_minutes()
    while peer_training.cpu_minutes() == before:
        sum(range(1000))
    assert 0 < peer_training.cpu_minutes() - before < 1 / 60


def test_a_patch_and_its_labels_are_turned_alike():
    labels = np.zeros((16, 16), np.int32)
    labels[2:5, 1:12] = 3
    seen = set()
    for k in range(40):
        x, y = peer_stardist.augmented(np.random.default_rng(k), np.repeat(labels[..., None] / 3.0, 3, 2), labels)
        assert (x.mean(-1) > (x.min() + x.max()) / 2).tolist() == (y == 3).tolist()
        seen.add(y.tobytes())
    assert len(seen) == 8


def test_the_page_shows_them_in_the_table(tmp_path, monkeypatch):
    score = {
        "images": 2,
        "mean_precision": 0.5,
        "precision_50": 0.75,
        "objects": 10,
        "merged": 1,
        "in_merged": 2,
        "split": 3,
    }
    scores, better = {"all": score, "brightfield": score}, {**score, "mean_precision": 0.625}
    row = {"peer": "stardist", "title": "StarDist", "minutes": 42.4, "versions": {"stardist": "0.9"}, "machine": "M"}
    rows = [{**row, "list": part, "all": score, "brightfield": better} for part in ("test", "validation", "test")]
    rows[2] |= {"versions": {"stardist": "0.10"}}
    path = tmp_path / "peers.jsonl"
    monkeypatch.setattr(nuclei_card, "PEERS", path)
    assert nuclei_card.tested_peers() == [] and nuclei_card.told_peers([]) == []
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (peer,) = nuclei_card.tested_peers()
    lines = nuclei_card.table(scores, "nuclei, 40 CPU minutes", [peer]).splitlines()
    assert lines[0].startswith("| kind of image | network | images |") and len({line.count("|") for line in lines}) == 1
    assert lines[4:] == [
        "| brightfield | nuclei, 40 CPU minutes | 2 | 10 | 0.500 | 0.750 | 20.0 % | 3 |",
        "| brightfield | StarDist, 42 CPU minutes | 2 | 10 | 0.625 | 0.750 | 20.0 % | 3 |",
    ]
    assert "StarDist (stardist 0.10; M)" in nuclei_card.told_peers([peer])[0]


@pytest.mark.slow
def test_a_network_of_segmentation_models_pytorch(data, monkeypatch):
    """Trained in two parts it has the weights of one training; minunet computes what it does, and finds objects with it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from helpers import encoder_twins

    encoder_twins.import_smp()
    monkeypatch.setattr(peer_smp, "RECIPE", [*pretrained.RECIPE, "--crop", "32", "-b", "2"])
    images, made = peer_training.opened(data, data), {}
    monkeypatch.setattr(peer_training, "cpu_minutes", lambda: float(peer.steps))
    for name, parts in (("whole", [6]), ("parts", [3, 6])):
        (data / name).mkdir()
        for stop in parts:
            peer = peer_smp.Smp(data / name, 1, "resnet18")
            budget = peer_training.Budget(6, peer.minutes)
            if stop < 6:
                peer.optimizer.register_step_post_hook(
                    lambda *_: setattr(budget, "asked", peer.steps + 1 >= stop),  # noqa: B023
                )
            peer.train(images, budget)
            assert (peer.steps, peer.minutes, budget.spent) == (stop, stop, stop == 6)
        made[name] = peer.net.state_dict()
    assert all(torch.equal(made["whole"][key], made["parts"][key]) for key in made["whole"])
    peer.tune(images)
    found = peer.segmenter()(images.dataset.entries[0].read_image(3))
    assert found.shape == (64, 64) and found.dtype == np.int32
