"""Two peers of the nuclei network: trained on the same images, for so many CPU minutes, and scored by the same code.

    python bench/peers_accuracy.py DATA --peer smp|stardist --minutes M --out DIR           trains, or goes on; then scores the
                                                                                            validation images
    python bench/peers_accuracy.py DATA --peer smp|stardist --minutes M --out DIR --test    scores the test images, once

DATA, the lists of images, the scores and the pictures are those of pretrained.py. CPU minutes are user and system time of this
process, of all its threads together, while it trains, with the validations after every epoch and at the end, which comes a
little after the last minute; choosing thresholds and scoring do not count. A training that is told to stop, by Ctrl-C or by
`timeout 30m` before the command, saves its state, and the same command goes on with it. Every scoring is appended to
bench/results/nuclei_peers.jsonl, from which the nuclei network's page takes the test scores.

smp, a `Unet` of segmentation_models.pytorch on ResNet34 without pretrained weights, which would have to be downloaded. PyTorch
trains it; patches, target, loss and augmentation are those of pretrained.py's recipe, and after the best epoch minunet loads
it whole, so that tiles, thresholds and objects come from the same code. `pip install torch timm segmentation-models-pytorch`.

stardist, StarDist2D in TensorFlow, by the recipe of its own example notebook: 32 rays, grid 2, patches of 256 pixels, flips,
turns, changes of intensity and noise; its own choice of thresholds, its own prediction. `pip install stardist
tensorflow-cpu`, best in an environment of its own.

Both take Adam, and their rate falls along a cosine over the minutes. For StarDist that is in place of waiting 40 epochs for an
improvement, which in the minutes of a CPU never happens. Which epoch is best, and thresholds, are chosen by the validation
images alone; the test images are not even in the folder that a training sees.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclei_card import PEERS, Row, by_kind, table
from peer_smp import Smp
from peer_stardist import StarDist
from peer_training import Budget, Images, opened
from pretrained import score
from report import machine

from minunet.atomic import write_atomically
from minunet.cli import use_threads

NETWORKS: dict[str, Any] = {"smp": Smp, "stardist": StarDist}


def trained(peer: Any, images: Images, minutes: float) -> bool:
    """Train, or go on, until so many CPU minutes are spent; then choose thresholds. False if it was stopped before."""
    budget = Budget(minutes, peer.minutes)
    with budget.listening():
        peer.train(images, budget)
    if not budget.spent:
        return False
    peer.tune(images)
    return True


def check_test(path: Path, results: Path, peer: str, minutes: float) -> dict[str, Any]:
    """What is known of the training, if it has ended and was never tested."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"peer": None, "asked": None}
    if (known["peer"], known["asked"]) != (peer, minutes):
        raise SystemExit(f"{path.parent} holds no {peer} of {minutes:g} CPU minutes; train it first, without --test")
    if any((r["peer"], r["asked"], r["list"]) == (peer, minutes, "test") for r in rows_of(results)):
        raise SystemExit(f"{results} has its scores on the test images; these are scored once")
    return known


def rows_of(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds dsb2018 and dsb2018_more")
    parser.add_argument("--peer", choices=list(NETWORKS), required=True)
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes of the whole training")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--test", action="store_true", help="score the test images; no training")
    parser.add_argument("--results", type=Path, default=PEERS, help="the file of scores")
    args = parser.parse_args(argv)
    data, out = args.data.resolve(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    known = check_test(out / "trained.json", args.results, args.peer, args.minutes) if args.test else {}
    use_threads(args.threads)
    peer = NETWORKS[args.peer](out, args.threads)
    if not args.test:
        (out / "trained.json").unlink(missing_ok=True)  # until it has been trained, and its thresholds chosen, again
        if not trained(peer, opened(data, out), args.minutes):
            print(f"stopped after {peer.minutes:.1f} CPU minutes; the same command goes on")
            return 130
        versions = {name: version(name) for name in peer.PACKAGES}
        known = {"peer": args.peer, "title": peer.TITLE, "asked": args.minutes, "minutes": peer.minutes}
        known |= {"steps": peer.steps, "versions": versions}
        write_atomically(out / "trained.json", json.dumps(known).encode())
    part = "test" if args.test else "validation"
    scores = by_kind(score(peer.segmenter(), data, part, out, 3))
    row = {**known, "list": part, "threads": args.threads, "machine": machine()}
    with open(args.results, "a") as file:
        file.write(json.dumps(row | scores) + "\n")
    print(f"{part}, after {known['minutes']:.1f} CPU minutes and {known['steps']} steps:\n{table(scores)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
