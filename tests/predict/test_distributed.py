"""Prediction by many workers: what it writes is what one process writes, whatever happens to the workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from helpers.bright import discs, save_bright_network
from helpers.family import make
from helpers.sizes import examples
from helpers.zarr_files import write_zarr
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.data.files.large import open_large
from minunet.data.objects import ObjectSize, Rays
from minunet.errors import UserError
from minunet.models import UNetOptions, build
from minunet.predict import pipeline, predict_files
from minunet.predict.arguments import make_parser
from minunet.predict.command import Terminal
from minunet.predict.command import main as predict
from minunet.predict.distributed import plan, tasks
from minunet.predict.distributed.found import objects_near, save_objects
from minunet.predict.distributed.page import SharedPage
from minunet.predict.inference import make_tiles
from minunet.predict.options import PredictionOptions
from minunet.predict.pipeline import OneProcess

SIZE = 150, 131  # neither of whole tiles, nor of whole shards, nor of whole blocks


def blobs():
    """Discs of which many touch, and one long object through several shards and blocks; discs where four blocks meet."""
    image = discs(*SIZE, 40, seed=1)
    image[98:102, 10:125] = 220
    image[44:57, 43:56] = np.maximum(image[44:57, 43:56], discs(13, 13, 1, (6, 6.1), seed=2))
    image[45:55, 45:55] = 220
    return image


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """As if images of some thousand pixels were large: 3 x 3 shards of 2 x 2 tiles, and 3 x 3 blocks."""
    monkeypatch.setattr(plan, "SHARD", 48)
    monkeypatch.setattr(pipeline, "BLOCK", 50)
    monkeypatch.setattr(pipeline, "HALO", 16)
    monkeypatch.setattr(pipeline, "OVERVIEW", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image, and networks of all kinds."""
    folder = tmp_path_factory.mktemp("shared")
    write_zarr(folder / "a.zarr", blobs(), "yx", "0.5")
    save_bright_network(folder / "classes", blobs())
    bordered = build(UNetOptions(num_classes=3, base_width=2, depth=2, norm=None, seed=3))
    bordered.preprocessing = Preprocessing(1, ClassMap.binary(), target="border", objects=ObjectSize(10, 20, 12))
    save_checkpoint(folder / "border", bordered)
    blended = build(UNetOptions(num_classes=3, base_width=2, depth=2, norm="group", seed=4))
    blended.preprocessing = Preprocessing(1, ClassMap([0, 1, 2], ["background", "one", "two"]), tta=2, scale=0.7)
    save_checkpoint(folder / "blended", blended)
    stars = build(UNetOptions(num_classes=9, base_width=2, depth=2, norm=None, seed=1))
    stars.head.params["b"][1:] += 1
    stars.preprocessing = Preprocessing(1, ClassMap.binary(), target="stardist", rays=Rays(8, 5.0))
    save_checkpoint(folder / "stardist", stars)
    boxes = make("instance_net", in_channels=1)
    boxes.named_params()["distances.b"][...] += 2
    for name in ("prototypes.conv5.b", "coefficients.b"):  # so that masks fill their boxes
        boxes.named_params()[name][...] = 1
    boxes.preprocessing = Preprocessing(1, ClassMap.binary(), target="instances")
    save_checkpoint(folder / "instances", boxes)
    return folder


class Alone(OneProcess):
    """A crew of one: tasks run in this process, in another order than they are given."""

    def __init__(self, model, dies_after=None):
        self.done, self.dies_after = [], dies_after
        tasks.use_model(model)

    def page(self, *what):
        return SharedPage(self, *what)

    def explain(self, page):
        self.folder = page.job.folder
        return ""

    def run(self, job, name, places, done):
        found = {}
        for place in np.random.default_rng(0).permutation(places).tolist():
            if len(self.done) == self.dies_after:
                raise KeyboardInterrupt
            found[tuple(place)] = tasks.do(job, name, tuple(place))
            self.done.append((name, tuple(place)))
            done()
        return found


def results(out):
    """What a folder of results holds, by name: pixels of zarrs, bytes of files."""
    held = {}
    for path in out.iterdir():
        if path.suffix == ".zarr":
            image = open_large(path)
            held[path.name] = image[0 : image.shape[0], 0 : image.shape[1]]
        else:
            held[path.name] = path.read_bytes()
    return held


def assert_same(found, expected):
    assert found.keys() == expected.keys() and len(found) > 1
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert found[name] == value, name
        else:
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value, name)


def predicted(folder, kind, out, by=None, **more):
    """The results of a network for the image, by one process or by a crew."""
    options = PredictionOptions(**{"tile": 24, "min_size": 5, "instances": True, **more})
    model = minunet.load(folder / kind)
    made = predict_files(model, folder / "a.zarr", out, options, by=by and by(model))
    assert not made.failures
    return results(out)


CASES = {
    "classes": {"probabilities": True, "rois": True},
    "border": {"threshold": 0.6, "probabilities": True},
    "blended": {"instances": False, "probabilities": True},
    "stardist": {"threshold": 0.45, "probabilities": True},
    "instances": {"tile": 64, "overlap": 32, "threshold": 0.1},
}


@pytest.mark.drawn(quick=1)
@pytest.mark.parametrize("kind", CASES)
def test_what_tasks_write_is_what_one_process_writes(folder, tmp_path, kind):
    """Bit for bit: mask, probabilities, numbers of objects, table, outlines and overlay."""
    expected = predicted(folder, kind, tmp_path / "one", **CASES[kind])
    assert_same(predicted(folder, kind, tmp_path / "many", Alone, **CASES[kind]), expected)
    if kind != "blended":
        assert expected["a_labels.zarr"].max() > 8


def test_connected_objects_are_those_of_the_whole_image(folder, tmp_path):
    """Without a halo: also the long one, and those where four blocks meet."""
    found = predicted(folder, "classes", tmp_path / "many", Alone, split=False, min_size=0)
    from scipy.ndimage import label

    np.testing.assert_array_equal(found["a_labels.zarr"][..., 0], label(found["a_mask.zarr"][..., 0])[0])


@pytest.mark.slow
@pytest.mark.drawn(ci=1)
@pytest.mark.parametrize(("kind", "stops"), [("classes", (1, 20)), ("stardist", (11,))])
def test_a_run_that_was_stopped_goes_on(folder, tmp_path, kind, stops):
    """Wherever it was stopped; what was done is not done again, and another job does not go on with it."""
    expected = predicted(folder, kind, tmp_path / "one", **CASES[kind])
    whole = Alone(minunet.load(folder / kind))
    predicted(folder, kind, tmp_path / "whole", lambda model: whole, **CASES[kind])
    for stop in stops:
        crew, out = Alone(minunet.load(folder / kind), stop), tmp_path / f"stopped {stop}"
        with pytest.raises(KeyboardInterrupt):
            predicted(folder, kind, out, lambda model, crew=crew: crew, **CASES[kind])
        assert not [p for p in out.iterdir() if not p.name.startswith(".")]
        again = Alone(minunet.load(folder / kind))
        assert_same(predicted(folder, kind, out, lambda model, again=again: again, **CASES[kind]), expected)
        assert len(again.done) == len(whole.done) - stop and not set(again.done) & set(crew.done)
    crew, out = Alone(minunet.load(folder / kind), 5), tmp_path / "other"
    with pytest.raises(KeyboardInterrupt):
        predicted(folder, kind, out, lambda model: crew, **{**CASES[kind], "tta": 2})
    assert_same(predicted(folder, kind, out, Alone, **CASES[kind]), expected)


def test_a_shard_without_a_record_is_written_again(folder, tmp_path):
    """What a worker has left that was killed while it wrote: half of a shard, and no record."""
    expected = predicted(folder, "classes", tmp_path / "one", **CASES["classes"])
    crew, out = Alone(minunet.load(folder / "classes"), 6), tmp_path / "many"
    with pytest.raises(KeyboardInterrupt):
        predicted(folder, "classes", out, lambda model: crew, **CASES["classes"])
    name, place = crew.done[2]
    assert name == "segment"
    os.unlink(out / f".a.parts/done/{name}-{place[0]}-{place[1]}.npz")
    shard = out / f".a.parts/mask.zarr/0/c/{place[0]}/{place[1]}"
    shard.write_bytes(shard.read_bytes()[:50])
    (shard.parent / "x.partial").touch()
    assert_same(predicted(folder, "classes", out, Alone, **CASES["classes"]), expected)
    assert not list(out.rglob("*.partial"))


# ---- pure functions --------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
@examples(100)
def test_every_tile_lies_in_one_shard(rows, columns, k):
    seen = np.zeros((rows, columns), int)
    for (a, b), (i, j) in plan.shards((rows, columns), k).items():
        seen[i, j] += 1
        assert (i.start, j.start) == (a * k, b * k) and 0 < i.stop - i.start <= k and 0 < j.stop - j.start <= k
    assert (seen == 1).all()


@given(
    st.integers(9, 60), st.integers(9, 60), st.integers(4, 40), st.integers(1, 3), st.sampled_from(["classes", "blended"])
)  # fmt: skip
@examples(20)
def test_tiles_of_shards_are_those_of_the_image(folder, height, width, tile, k, kind):
    """Bit for bit, tiles that are blended, too; for images of all sizes, down to one tile."""
    model, image = minunet.load(folder / kind), blobs()[:height, :width]
    tiles = make_tiles(model, image, PredictionOptions(tile=tile, overlap=None if tile % 2 else 8))
    expected = np.zeros((height, width, tiles.num_classes), np.float32)
    for rows, columns, p in tiles:
        expected[rows, columns] = p
    found = np.full_like(expected, np.nan)
    for i, j in plan.shards((len(tiles.parts(0)), len(tiles.parts(1))), k).values():
        for rows, columns, p in tiles.group(i, j):
            assert np.isnan(found[rows, columns]).all()
            found[rows, columns] = p
    np.testing.assert_array_equal(found, expected)
    grid = plan.tile_grid(tiles)
    assert all(s % c == 0 for s, c in zip(grid.shard, grid.chunk))


def test_objects_near_a_block_are_drawn_as_all_are(tmp_path, folder):
    from minunet.data.objects import Separation
    from minunet.predict.stars import find_objects

    rng = np.random.default_rng(0)
    maps = rng.uniform(0.5, 1, (60, 70, 9)).astype(np.float32)
    maps[..., 1:] = rng.uniform(0, 9, (60, 70, 1)) * rng.uniform(0.8, 1.2, (60, 70, 8))
    objects = find_objects([(slice(0, 60), slice(0, 70), maps)], Separation(nms=0.3), 2)
    save_objects(tmp_path / "objects", objects)
    whole = objects.draw(slice(0, 60), slice(0, 70))
    for part in ((slice(10, 30), slice(0, 50)), (slice(0, 60), slice(0, 70)), (slice(59, 60), slice(69, 70))):
        near, numbers = objects_near(tmp_path / "objects", *part)
        np.testing.assert_array_equal(np.append(0, numbers)[near.draw(*part)], whole[part])
    assert len(numbers) < len(objects.boxes)


# ---- workers that are processes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers."""
    pytest.importorskip("distributed")
    from minunet.predict.distributed.local import local_cluster

    with local_cluster(2, 1) as cluster:
        yield cluster.scheduler_address


def test_workers_end_even_if_dask_does_not():
    """Seen once: the thread of Dask's event loop was gone, and closing the cluster waited for it for ever."""
    pytest.importorskip("distributed")
    from minunet.predict.distributed.local import end

    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    gone = SimpleNamespace(pid=None)
    end(
        SimpleNamespace(
            close=mock.Mock(side_effect=TimeoutError), workers={0: SimpleNamespace(pid=worker.pid), 1: gone}
        )
    )
    assert worker.wait(timeout=20) != 0


def flags(folder, kind, out):
    """The command's, for a case of `CASES`."""
    given = ["-m", folder / kind, "-i", folder / "a.zarr", "-o", out, "--device", "cpu"]
    for name, value in {"tile": 24, "min_size": 5, "instances": True, **CASES[kind]}.items():
        flag = {"threshold": "--mask-threshold"}.get(name, f"--{name.replace('_', '-')}")
        given += [flag] if value is True else [] if value is False else [flag, value]
    return list(map(str, given))


@pytest.mark.slow
@pytest.mark.drawn(ci=1)
@pytest.mark.parametrize("kind", ["classes", "stardist", "instances"])
def test_workers_write_what_one_process_writes(folder, tmp_path, address, capsys, kind):
    expected = predicted(folder, kind, tmp_path / "one", **CASES[kind])
    assert predict([*flags(folder, kind, tmp_path / "many"), "--dask", address, "--json"]) == 0
    assert_same(results(tmp_path / "many"), expected)
    said = capsys.readouterr()
    assert json.loads(said.out)["images"][0]["objects"] == expected["a_labels.zarr"].max()
    assert predict([*flags(folder, kind, tmp_path / "many"), "--dask", address]) == 2
    assert "a_mask.zarr is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_may_be_killed(folder, tmp_path, address, monkeypatch):
    """By -9, twice, in the middle of the work: the result is the same."""
    from distributed import Client

    expected = predicted(folder, "classes", tmp_path / "one", **CASES["classes"])
    parts, killed = tmp_path / "many" / ".a.parts", []

    def kill():
        with Client(address, set_as_default=False) as client:
            for done in (2, 12):
                while len(list(parts.glob("done/*.npz"))) < done:
                    time.sleep(0.01)
                process = next(iter(client.run(os.getpid).values()))
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert predict([*flags(folder, "classes", tmp_path / "many"), "--dask", address]) == 0
    killer.join(60)
    assert len(set(killed)) == 2
    assert_same(results(tmp_path / "many"), expected)


def test_progress_is_told_in_logs(monkeypatch, capsys):
    """With the time to the end of a step, by what this run has done; not more than once a minute."""
    args = make_parser().parse_args(["-m", "m", "-i", "i", "--workers", "2"])
    clock = iter([0, 30, 61, 70, 130, 140])
    monkeypatch.setattr("minunet.predict.command.time.monotonic", lambda: next(clock))
    progress = Terminal(args)
    for done in (4, 5, 6, 7, 8, 10):  # 4 of an earlier run
        progress._line("shard", done, 10)
    assert capsys.readouterr().err.splitlines() == [
        "6 of 10 shards, about 2 minutes to the last", "8 of 10 shards, about 1 minutes to the last"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_task_that_kills_workers_is_named(folder, tmp_path, address, monkeypatch, capsys):
    """Three deaths, and it is not tried again."""
    from minunet.predict.distributed import cluster

    def deadly(job, name, place):
        if tuple(place) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return tasks.do(job, name, place)

    monkeypatch.setattr(cluster, "do", deadly)
    assert predict([*flags(folder, "classes", tmp_path / "out"), "--dask", address]) == 2
    said = capsys.readouterr().err
    assert "a.zarr: shard of row 1, column 2 has ended 3 workers" in said and "goes on from where it was" in said


@pytest.mark.slow
def test_what_is_wrong_with_a_cluster_is_said(folder, tmp_path, address, monkeypatch, capsys):
    from minunet.predict.distributed import cluster

    monkeypatch.setattr(cluster, "ANSWER", 0.5)

    def fails(*more, without=()):
        assert predict([f for f in flags(folder, "classes", tmp_path / "out") if f not in without] + list(more)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "no scheduler answers there" in fails("--dask", "tcp://127.0.0.1:1")
    assert "no scheduler answers there" in fails("--dask", "nonsense://")
    (tmp_path / "b.npy").write_bytes((folder / "classes").read_bytes())
    assert "b.npy: with --dask" in fails("--dask", address, "-i", str(tmp_path / "b.npy"))
    monkeypatch.setattr(cluster, "__version__", "9.9")
    assert "has 0.1.0, and here is minunet 9.9: install the same" in fails("--dask", address)


def test_workers_without_the_image_or_minunet_are_named():
    """What workers answer that stand elsewhere; the question itself needs no minunet."""
    from minunet.predict.distributed.cluster import Cluster, asking

    class Client:
        def run(self, function, *args, **more):
            return {"tcp://a": True, "tcp://b": False} if function is os.path.exists else dict(self.answers)

        def wait_for_workers(self, *args, **more):
            raise TimeoutError

    elsewhere = Cluster(Client(), "the scheduler tcp://x", "--dask tcp://x")
    with pytest.raises(UserError, match="the worker tcp://b does not see /images/a"):
        elsewhere.check_paths(["/images/a.zarr"])
    told = {"host": "b", "free": 1, "limit": 0, "resident": 1}
    Client.answers = {"tcp://b": {**told, "version": "", "why": "ModuleNotFoundError: No module named 'minunet'"}}
    with pytest.raises(UserError, match=r"tcp://b has no minunet \(ModuleNotFoundError"):
        elsewhere.meet()
    Client.answers = {}
    with pytest.raises(UserError, match="has no workers"):
        elsewhere.meet()
    code = (
        "import pickle, sys, types; sys.modules['minunet'] = None; "
        f"ask = pickle.loads({pytest.importorskip('cloudpickle').dumps(asking())!r}); "
        "print(ask('1', types.SimpleNamespace(memory_manager=None))['why'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout.startswith("ModuleNotFoundError: import of minunet"), said


def test_without_dask_the_extra_is_named(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert predict([*flags(folder, "classes", tmp_path / "out"), "--workers", "2"]) == 2
    assert "--workers 2: needs Dask: pip install '.[dask]'" in capsys.readouterr().err
