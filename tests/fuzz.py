"""Feed broken files to everything that reads files: the outcome must be a result or a UserError.

    python tests/fuzz.py --cases 10000         whole
    python tests/fuzz.py --minutes 2           as many as that allows
    python tests/fuzz.py --case 1234           one case again, in this process, with its traceback

Case number n is a function of (seed, n) alone: a reader, a file, a way to break it. Cases run one after the other in worker
processes. What fails: any exception but a UserError or one of more than a line, a case that takes over SECONDS, one that takes
more than MEMORY (of address space, touched or not, as Linux reports it; elsewhere this is not measured), and a worker that
dies. A worker's address space is limited, too, so that the machine survives what is found.

A reader joins by an entry in `targets`.
"""

import argparse
import io
import json
import multiprocessing
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import roifile
from helpers import fuzz_files as files
from helpers.pytorch_made import small_files
from tqdm import tqdm

from minunet.data.label_images import list_label_images
from minunet.errors import UserError

SECONDS = 10.0
MEMORY = 400e6  # bytes; files are of some kB, and may hold 10,000 times their size
SPACE = 6 << 30  # bytes of address space beyond what a worker has when it starts


@dataclass(frozen=True)
class Target:
    """A reader: `read` takes a folder in which `name` is the broken file; `files` are sound ones to break."""

    name: str
    read: Any
    files: list
    breaks: list
    beside: dict  # further files of the folder: name, content


def targets():
    """Everything that reads files. Add new readers here."""
    import minunet
    from minunet.data import count_pages, open_dataset, open_large, read_image, read_info, read_mask, read_names

    def read_all(path):
        for read in (read_info, count_pages, read_mask):
            try:
                read(path)
            except UserError as e:
                one_line(e)
        read_image(path)

    def data_set(folder, **options):
        return [sample.image.shape for sample in open_dataset(folder, **options)]

    made = [
        Target(f"broken.{ending}", lambda folder, n=f"broken.{ending}": read_all(folder / n), sound, files.BREAKS, {})
        for ending, sound in kinds().items()
        if ending in files.images()
    ]
    png, tif, both = kinds()["png"], kinds()["tif"], {}
    for name, path, sound, rest in (
        ("folder", "masks/a.png", png, {"imgs/a.png": png[0], "imgs/b.png": png[1], "masks/b.png": png[5]}),
        ("folder", "imgs/a.tif", tif, {"masks/a.png": png[5], "imgs/b.png": png[1], "masks/b.png": png[5]}),
        ("dsb2018", "stage1_train/a/masks/m.png", png, {"stage1_train/a/images/a.png": png[2]}),
        ("isbi2012", "train-volume.tif", [tif[4], tif[9]], {"train-labels.tif": tif[4]}),
        ("isbi2012", "train-labels.tif", [tif[4], tif[9]], {"train-volume.tif": tif[4]}),
        (
            "ctc",
            "01_GT/SEG/man_seg000.tif",
            [tif[8], tif[12]],
            {"01/t000.tif": tif[12], "01_ST/SEG/man_seg000.tif": tif[8]},
        ),
        ("ctc", "01_GT/TRA/man_track000.tif", [tif[8]], {"01/t000.tif": tif[12], "01_GT/SEG/man_seg000.tif": tif[8]}),
    ):
        made.append(
            Target(path, lambda folder, layout=name: data_set(folder, layout=layout), sound, files.BREAKS, rest)
        )
    names = [b"a\nb.png\n# c\n", "\ufeffé\n".encode(), b"\n"]
    made.append(Target("names.txt", lambda folder: read_names(folder / "names.txt"), names, files.BREAKS_OF_TEXT, both))
    for stored, breaks in (
        ("best.safetensors", files.BREAKS_OF_TEXT),
        ("weights.pth", files.BREAKS + files.BREAKS_OF_ZIP),
    ):
        sound = kinds()[stored.rpartition(".")[2]]
        made.append(Target(stored, lambda folder, n=stored: minunet.load(folder / n), sound, breaks, both))
    net = minunet.models.build("encoder_unet", in_channels=3, encoder="resnet18", encoder_width=1 / 32, decoder_width=1)
    for stored, start in (("encoder.pth", "encoder."), ("smp.pth", "")):
        sound, breaks = [network_of_smp(net, start)], files.BREAKS + files.BREAKS_OF_ZIP
        made.append(Target(stored, partial(read_weights, net, stored), sound, breaks, both))
    made += large_targets(open_large) + annotation_targets(data_set, png[0])
    runs = b"ImageId,EncodedPixels\na,1 3 30 5\na,100 2\nb,\n"
    made.append(Target("s.csv", lambda folder: read_runs(folder / "s.csv"), [runs], files.BREAKS_OF_TEXT, both))
    return made


def annotation_targets(data_set, image):
    """Masks that are no images, in a folder with their image: LabelMe's, COCO's, ImageJ's and Cellpose's; and arrays."""
    shapes = [
        {"label": k, "points": [[1, 1], [6, 2], [4, 7]], "shape_type": k} for k in ("polygon", "rectangle", "circle")
    ]
    about = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 3, "name": "cell"}]}
    drawn = [
        {"image_id": 1, "category_id": 3, "segmentation": s}
        for s in ([[1, 1, 6, 2, 4, 7]], {"size": [9, 9], "counts": "5"})
    ]
    outline, seg, array = roifile.ImagejRoi.frompoints([[1, 1], [6, 2], [4, 7]]).tobytes(), io.BytesIO(), io.BytesIO()
    np.save(seg, {"masks": np.eye(8, dtype=np.uint16), "diameter": np.float64(3)}, allow_pickle=True)
    np.save(array, np.zeros((3, 8, 9), np.uint8))
    read, beside = (lambda folder: data_set(folder)), {"a.png": image}
    return [
        Target("a.json", read, [json.dumps({"shapes": shapes}).encode()], files.BREAKS_OF_TEXT, beside),
        Target("all.json", read, [json.dumps(about | {"annotations": drawn}).encode()], files.BREAKS_OF_TEXT, beside),
        Target("a.roi", read, [outline], files.BREAKS, beside),
        Target("a_seg.npy", read, [seg.getvalue()], files.BREAKS, beside),
        Target("a_mask.npy", read, [array.getvalue()], files.BREAKS, beside),
    ]


def large_targets(open_large):
    """What is read by windows: TIFFs, and of every kind of OME-Zarr its metadata and its first chunk."""
    import zarr

    from minunet.data.files.lzw import is_sound

    is_sound(np.zeros(2, np.uint8))  # compiled before time is taken
    zarr.config.set({"threading.max_workers": 1})  # every thread takes address space, which is measured here

    def read_windows(path):
        image = open_large(path)
        H, W, _ = image.shape
        for rows, columns in ((slice(0, 20), slice(0, 30)), (slice(max(0, H - 30), H), slice(max(0, W - 20), W))):
            image[rows, columns]

    made = [Target("large.tif", lambda folder: read_windows(folder / "large.tif"), kinds()["tif"], files.BREAKS, {})]
    for content in files.zarrs():
        rest = {f"x.zarr/{path}": data for path, data in content.items()}
        described = [path for path, data in rest.items() if data.startswith(b"{")]
        chunk = next(path for path in rest if path not in described)
        for path in (*described, chunk):
            breaks = files.BREAKS if path == chunk else files.BREAKS_OF_METADATA
            made.append(Target(path, lambda folder: read_windows(folder / "x.zarr"), [rest[path]], breaks, rest))
    return made


def network_of_smp(net, start):
    """A network as segmentation_models.pytorch stores it, or only what begins so."""
    from minunet.checkpoint.pytorch.names import entries_of
    from minunet.checkpoint.pytorch.save import torch_zip
    from minunet.checkpoint.pytorch.smp import place_in_unet

    entries = entries_of(net, place_in_unet).items()
    return torch_zip(
        {k.removeprefix(start): np.full(e.shape, 0.5, np.float32) for k, e in entries if k.startswith(start)}
    )


def read_weights(net, name, folder):
    """Load a whole network, or the encoder of this one."""
    import minunet

    return minunet.load(folder / name) if name == "smp.pth" else minunet.load_encoder(net, folder / name, None)


def read_runs(path):
    """The objects of a submission in images of a given size."""
    return [read((24, 28)).shape for read in list_label_images(path).values()]


_kinds: dict = {}


def kinds():
    """Sound files by their ending."""
    if not _kinds:
        _kinds.update(files.images(), safetensors=checkpoints(), pth=small_files())
    return _kinds


def checkpoints():
    """A checkpoint as training writes it."""
    from minunet.checkpoint.file import save_checkpoint
    from minunet.data import ClassMap, Preprocessing
    from minunet.models import UNetOptions, build

    model = build(UNetOptions(in_channels=1, num_classes=3, base_width=2, depth=1, seed=0))
    model.preprocessing = Preprocessing(1, ClassMap.binary(), target="border", tta=4)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "a.safetensors", model)
        return [(Path(folder) / "a.safetensors").read_bytes()]


# ---- a case ----------------------------------------------------------------------------------------------------------


def make(case, seed, readers):
    """The target of a case, the broken file's content, and how it came to be."""
    rng = np.random.default_rng([seed, case])
    target = readers[rng.integers(len(readers))]
    kind = target.name.rsplit(".", 1)[-1]
    source, how = target.files, target.breaks
    if rng.random() < 0.05:  # mislabelled: another kind of file, under this one's name
        kind = list(kinds())[rng.integers(len(kinds()))]
        source, how = kinds()[kind], [lambda data, rng: data, *files.BREAKS]
    content = bytearray(source[rng.integers(len(source))])
    said = []
    for _ in range(rng.integers(1, 3)):
        chosen = how[rng.integers(len(how))]
        said.append(chosen.__name__)
        content = bytearray(chosen(content, rng)) if content else content
    return target, bytes(content), f"{target.name}, from {kind}: {', '.join(said)}"


def one_line(error):
    """A UserError's message; AssertionError if it is not one line."""
    assert "\n" not in str(error) and len(str(error)) > 10, f"not a message of one line: {str(error)!r}"
    return str(error)


def run_case(case, seed, readers):
    """(outcome, detail) of a case: "result", "UserError", or what is wrong."""
    target, content, said = make(case, seed, readers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in {**target.beside, target.name: content}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        before, peak = space("VmSize"), space("VmPeak")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                target.read(folder)
            outcome, detail = "result", said
        except UserError as e:
            outcome, detail = "UserError", one_line(e)
        except Exception as e:
            outcome, detail = "exception", f"{said}: {type(e).__name__}: {e}"
        taken = (
            space("VmPeak") - before if space("VmPeak") > peak else 0
        )  # else it was no more than that of a case before
    if taken > MEMORY or any(sign in detail for sign in ("MemoryError", "nable to allocate")):
        outcome, detail = "memory", f"{said}: {taken / 1e6:,.0f} MB, {detail}"
    return outcome, detail


def space(what):
    """This process's address space, "VmSize", or the most it ever was, "VmPeak", in bytes; 0 where /proc is not there."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


# ---- workers ---------------------------------------------------------------------------------------------------------


def work(pipe, seed, make_targets):
    """Run the cases whose numbers come through the pipe, until None comes."""
    tqdm.set_lock(threading.RLock())  # its own would outlive a worker that is killed
    readers = make_targets()
    limit_space()
    pipe.send("ready")
    while (case := pipe.recv()) is not None:
        try:
            pipe.send(run_case(case, seed, readers))
        except BaseException as e:
            pipe.send(("exception", f"{type(e).__name__}: {e}"))


def limit_space():
    """Refuse memory beyond SPACE more than now, where the system can."""
    try:
        import resource

        used = space("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        pass


class Worker:
    """A process that runs cases, and is replaced when it hangs or dies."""

    def __init__(self, seed, make_targets):
        self.seed, self.make_targets = seed, make_targets
        self.start()

    def start(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, self.seed, self.make_targets), daemon=True)
        self.process.start()
        other.close()
        self.case, self.waited = None, 0.0
        self.pipe.recv()  # it is ready

    def give(self, case):
        self.case, self.waited = case, 0.0
        self.pipe.send(case)

    def stop(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def result(self, seconds, passed):
        """(case, outcome, detail) if the case is over, else None.

        `passed` are the seconds since this was asked last; a jump means that all was suspended, and counts little.
        """
        case = self.case
        self.waited += min(passed, 0.5)
        if self.pipe.poll():
            try:
                outcome = self.pipe.recv()
                self.case = None
                if outcome[0] != "memory":  # after which the most that was taken says nothing of the next
                    return case, *outcome
            except (EOFError, OSError):
                outcome = "crash", "the process died"
        elif self.waited > seconds:
            outcome = "hang", f"over {seconds:g} s"
        else:
            return None
        self.stop()
        self.start()
        return case, *outcome


def fuzz(cases, seconds=None, seed=0, workers=2, make_targets=targets, limit=SECONDS, quiet=False):
    """Run cases 0, 1, ... and count outcomes; returns the counts and the failures, (case, outcome, detail) each."""
    counts, failures, ends = Counter(), [], time.monotonic() + (seconds or 1e9)
    pool = [Worker(seed, make_targets) for _ in range(workers)]
    todo, asked = iter(range(cases)), time.monotonic()
    try:
        with tqdm(total=cases, unit="case", disable=True if quiet else None) as bar:
            for worker in pool:
                worker.give(next(todo))
            while any(worker.case is not None for worker in pool):
                wait([w.pipe for w in pool if w.case is not None], timeout=0.2)
                passed, asked = time.monotonic() - asked, time.monotonic()
                for worker in pool:
                    done = worker.result(limit, passed) if worker.case is not None else None
                    if done is None:
                        continue
                    bar.update()
                    counts[done[1]] += 1
                    if done[1] not in ("result", "UserError"):
                        failures.append(done)
                        bar.write("case {}: {}: {}".format(*done))
                    following = next(todo, None) if time.monotonic() < ends else None
                    if following is not None:
                        worker.give(following)
    finally:
        for worker in pool:
            worker.stop()
    return counts, failures


def main(argv=None):
    p = argparse.ArgumentParser(prog="python tests/fuzz.py", formatter_class=argparse.RawDescriptionHelpFormatter,
                                description=__doc__)  # fmt: skip
    p.add_argument("--cases", type=int, default=10_000)
    p.add_argument("--minutes", type=float, help="stop after so long, whatever --cases says")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--case", type=int, help="run this one alone, in this process")
    p.add_argument("--keep", metavar="DIR", help="with --case: leave its file here")
    args = p.parse_args(argv)
    if args.case is not None:
        target, content, said = make(args.case, args.seed, targets())
        print(said)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(args.keep or name)
            for path, data in {**target.beside, target.name: content}.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            print(target.read(folder))
        return 0
    cases = args.cases if args.minutes is None else 10**9
    began = time.monotonic()
    counts, failures = fuzz(cases, args.minutes and 60 * args.minutes, args.seed, args.workers)
    listed = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
    print(f"{counts.total()} cases in {time.monotonic() - began:.0f} s, seed {args.seed}: {listed}")
    if failures:
        print(f"{len(failures)} failures; again: python tests/fuzz.py --seed {args.seed} --case {failures[0][0]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
