"""Real microscopy: DSB 2018, ISBI 2012 and a StarDist pair, where they are at hand.

They are looked for in the folder that the environment variable MINUNET_DATA names, or else in shared/data beside the
repository.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from minunet.data import Batches, open_dataset, read_names

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MINUNET_DATA", ROOT.parent / "shared" / "data"))


def real(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}; set MINUNET_DATA to the folder that holds it")
    return DATA / name


@pytest.mark.slow
def test_dsb2018():
    ds = open_dataset(real("dsb2018"))
    assert (ds.layout, len(ds), ds.channels) == ("dsb2018", 120, 3)
    assert 0.05 < ds.foreground < 0.2 and not ds.warnings and len(set(ds.sizes)) == 8
    for i in range(0, 120, 10):
        masks = DATA / "dsb2018" / "stage1_train" / ds.names[i] / "masks"
        assert ds[i].instances.max() == len(list(masks.glob("*.png")))
    train, held = ds.split(names=read_names(ROOT / "bench" / "splits" / "dsb2018_val.txt"))
    assert len(held) == 24 and sorted(ds.names[i] for i in held) == sorted(ds.names)[::5]
    images, labels = Batches(ds, train, 8, 128).batch(0, 0)
    assert images.shape == (8, 128, 128, 3) and 0 < labels.mean() < 0.8


def test_isbi2012():
    ds = open_dataset(real("isbi2012"))
    assert (ds.layout, ds.names, ds.channels) == ("isbi2012", [str(i) for i in range(24)], 1)
    assert ds.sizes == [(512, 512)] * 24 and 0.73 < ds.foreground < 0.83
    sample = ds[3]
    cell, membrane = (sample.image[..., 0][sample.labels == i].mean() for i in (1, 0))
    assert cell > membrane + 0.15  # membranes are dark
    train, held = ds.split(names=read_names(ROOT / "bench" / "splits" / "isbi2012_val.txt"))
    assert held == [20, 21, 22, 23] and len(train) == 20


def test_stardist_pair(tmp_path):
    source = real("stardist_example")
    for folder, file in (("images", "img2d.tif"), ("masks", "mask2d.tif")):
        (tmp_path / folder).mkdir()
        shutil.copy(source / file, tmp_path / folder / "nuclei.tif")
    ds = open_dataset(tmp_path)
    assert (ds.layout, ds.channels, ds.classes.rule) == ("folder", 1, "instances")
    sample = ds[0]
    assert len(np.unique(sample.instances)) == 126 and sample.instances.max() == 183
    assert np.array_equal(sample.labels, sample.instances > 0) and "16-bit grey" in ds.describe()
