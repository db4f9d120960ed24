"""OME-Zarr files for tests."""

import pytest


def write_zarr(path, array, axes, version):
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    image = {"version": version, "axes": [{"name": a} for a in axes], "datasets": [{"path": "full"}]}
    group.attrs.update({"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}})
    stored = group.create_array(
        "full", shape=array.shape, dtype=array.dtype, chunks=tuple(min(32, n) for n in array.shape)
    )
    stored[...] = array
    return path
