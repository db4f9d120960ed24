"""Several networks as one: the mean of their probabilities, whole and by tiles, and what does not go together."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.models import Ensemble, UNetOptions, build
from minunet.models.summary import summary
from minunet.ops import class_probabilities
from minunet.predict import tiles
from minunet.predict.command import main as predict
from minunet.predict.inference import probabilities


def network(seed, num_classes=2, **options):
    """A small network whose weights are drawn, so that its probabilities lie far from one half."""
    options = {"in_channels": 1, "num_classes": num_classes, "base_width": 3, "depth": 2, **options}
    model = build(UNetOptions(**options))
    rng = np.random.default_rng(seed)
    for name, a in model.named_params().items():
        a[...] = rng.normal(0 if name.endswith("b") else 0.1, 0.5, a.shape)
    numbers = list(range(max(2, num_classes)))
    classes = ClassMap(numbers, [str(i) for i in numbers])
    model.preprocessing = Preprocessing(1, classes)
    return model


def together(*members):
    ensemble = Ensemble(members)
    ensemble.preprocessing = members[0].preprocessing
    return ensemble


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)


def saved(path, model, **data):
    model.preprocessing = replace(model.preprocessing, **data)
    save_checkpoint(path, model)
    return str(path)


MIXED = [
    [{}, {}],
    [{"base_width": 5}, {"depth": 3}, {"norm": None}],
    [{"num_classes": 1}, {}],
    [{"num_classes": 3}, {"num_classes": 3, "up": "nearest"}],
    [{"padding": "valid"}, {"padding": "valid", "base_width": 5}],
]


@pytest.mark.parametrize("options", MIXED, ids=str)
def test_probabilities_are_the_mean(options, xp):
    members = [network(seed, **o).convert(xp.asarray) for seed, o in enumerate(options)]
    image = noise(45, 38)
    apart = [probabilities(m, image) for m in members]
    assert abs(apart[0] - apart[1]).max() > 0.1  # there is something to average
    np.testing.assert_allclose(probabilities(together(*members), image), np.mean(apart, axis=0), atol=2e-6)


@examples(10)
@given(st.integers(9, 90), st.integers(9, 90), st.sampled_from(MIXED), st.sampled_from([1, 8]))
def test_tiles_equal_the_whole(H, W, options, tta):
    """A stride and an overlap that are enough for every member."""
    ensemble, image = together(*(network(seed, **o) for seed, o in enumerate(options))), noise(H, W)
    whole = probabilities(ensemble, image, tile=0, tta=tta)
    assert abs(probabilities(ensemble, image, tile=24, tta=tta) - whole).max() < 1e-5


def test_what_tiles_ask_of_the_members():
    small, deep = network(0), network(1, depth=3)
    ensemble = together(small, deep)
    assert tiles.stride(ensemble) == tiles.stride(deep) == 8 > tiles.stride(small)
    assert tiles.reach(ensemble) == tiles.reach(deep) > tiles.reach(small)
    assert tiles.why_not_equal(together(small, network(1, norm="group")), 1000)
    alone, two = tiles.needed(deep, 256, 256), tiles.needed(together(deep, network(2, depth=3)), 256, 256)
    weights = summary(deep, (1, 256, 256, 1)).weight_bytes
    assert two == alone + weights + 4 * 256 * 256 * 2  # they run one after another


def test_logits_stay_finite_where_all_are_sure():
    sure = network(0, norm=None)
    sure.head.params["b"][...] = [1e4, -1e4]
    logits = together(sure, sure)(np.zeros((1, 8, 8, 1), np.float32))
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(class_probabilities(logits)[..., 0], 1)


def test_it_only_predicts():
    with pytest.raises(ValueError, match="only predicts"):
        together(network(0)).forward(np.zeros((1, 8, 8, 1), np.float32), train=True, keep=True)


@pytest.mark.parametrize(
    "members, words",
    [
        ([], "needs networks"),
        ([{}, {"padding": "valid"}], "unpadded"),
        ([{"padding": "valid"}, {"padding": "valid", "depth": 3}], "unpadded"),
    ],
)
def test_what_does_not_go_together(members, words):
    with pytest.raises(ValueError, match=words):
        Ensemble([network(0, **o) for o in members])


# ---- from files ------------------------------------------------------------------------------------------------------


def test_predict_takes_several_checkpoints(tmp_path):
    files = [saved(tmp_path / f"{seed}.safetensors", network(seed)) for seed in range(3)]
    image = noise(40, 33)
    tifffile.imwrite(tmp_path / "cell.tif", image)
    flags = ["-i", str(tmp_path / "cell.tif"), "-o", str(tmp_path / "out"), "--probabilities"]
    assert predict(["-m", *files, *flags]) == 0
    apart = [probabilities(minunet.load(f), image) for f in files]
    np.testing.assert_allclose(probabilities(minunet.load(*files), image), np.mean(apart, axis=0), atol=2e-6)
    mask = minunet.data.read_image(tmp_path / "out" / "cell_mask.png")[..., 0]
    np.testing.assert_array_equal(mask > 0, np.mean(apart, axis=0)[..., 1] > 0.5)


@pytest.mark.parametrize(
    "data, options, words",
    [
        ({"normalise": "range"}, {}, ["normalise range", "percentile"]),
        ({"scale": 0.5}, {}, ["scale 0.5"]),
        ({"target": "border", "classes": ClassMap.binary()}, {"num_classes": 3}, ["target border"]),
        ({}, {"num_classes": 3}, ["classes 0 -> 0, 1 -> 1, 2 -> 2"]),
        ({}, {"padding": "valid"}, ["a.safetensors", "unpadded"]),
    ],
)
def test_networks_for_other_images_are_refused(tmp_path, capsys, data, options, words):
    files = [
        saved(tmp_path / "a.safetensors", network(0)),
        saved(tmp_path / "b.safetensors", network(1, **options), **data),
    ]
    assert predict(["-m", *files, "-i", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for word in [files[1], "cannot be averaged", *words]:
        assert word in said
