"""What UNet++, UNet 3+ and nnU-Net have of their own; what all networks share is in test_family.py."""

import tracemalloc

import numpy as np
import pytest
from helpers.family import make
from helpers.look_pages import facts
from helpers.tolerances import NETWORK

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.errors import UserError
from minunet.look.show import show
from minunet.models import outline
from minunet.models.nnunet import stages_for, supervision_weights
from minunet.models.summary import summary
from minunet.ops import softmax_cross_entropy, softmax_cross_entropy_backward
from minunet.predict.inference import make_tiles
from minunet.predict.options import PredictionOptions
from minunet.train.arguments import Arguments
from minunet.train.config import TrainingConfig
from minunet.train.fit import default_options
from minunet.train.heads import heads_gradients, heads_loss
from minunet.train.network import network_options

X = np.random.default_rng(0).random((2, 25, 22, 2), np.float32)

NAMES = ["unet_plus_plus", "unet_3plus", "nnunet"]


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_predicted(name):
    """Of the plain ops, within 15 % of what NumPy really takes, heads and their losses included."""
    model, shape = make(name, base_width=8), (1, 96, 80, 2)
    x, labels, peaks = np.zeros(shape, np.float32), np.zeros(shape[:3], np.int64), []
    with minunet.use("reference"):
        for training in (False, True):
            tracemalloc.start()
            if training:
                y, cache = model.forward(x)
                _, caches = heads_loss(softmax_cross_entropy, model.head_weights, y, labels)
                dy = heads_gradients(softmax_cross_entropy_backward, model.head_weights, caches)
                del y, caches
                model.backward(dy, cache)
            else:
                model(x)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        found = summary(model, shape)
    outside = sum(p.nbytes for p in model.named_params().values()) + x.nbytes  # was there before
    assert (found.inference_peak - outside, found.training_peak(0) - outside) == pytest.approx(peaks, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_tiles(name):
    """Equal to the whole where all layers look at a neighbourhood; an instance norm looks at all of its map."""
    tiles = make_tiles(make(name), np.zeros((90, 85, 2)), PredictionOptions(tile=48))
    assert ("instance norm" in tiles.note) if name == "nnunet" else not tiles.note


@pytest.mark.parametrize("name", NAMES)
def test_the_page_that_shows_it_at_work(name):
    model = make(name)
    x = np.random.default_rng(2).random((22, 17, 2), np.float32)
    page = facts(show(model, x, None, 1, {"model": "m", "image": "i", "mask": None, "whole": [22, 17], "params": 1}))
    levels = [node["level"] for node in page["nodes"]]
    assert max(levels) == 2 and levels[0] == levels[-1] == 0
    assert all(abs(node["shape"][0] - 22 / 2 ** node["level"]) < 3 for node in page["nodes"])
    joints = [node for node in page["nodes"] if node["kind"] == "join" and len(node["sources"]) > 1]
    assert {len(j["sources"]) for j in joints} == {"unet_plus_plus": {2, 3}, "unet_3plus": {3}, "nnunet": {2}}[name]


# ---- UNet++ ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "params", "running"), [(1, 101_826, 512), (2, 512_418, 1_408),
                                                          (3, 2_207_234, 3_328), (4, 9_045_858, 7_296)])  # fmt: skip
def test_what_is_left_of_a_pruned_network(level, params, running):
    whole = outline("unet_plus_plus", in_channels=3)
    pruned = whole.prune(level)
    assert pruned.num_params() == params and sum(b.size for b in pruned.named_buffers().values()) == running
    assert set(pruned.state()) <= set(whole.state())


@pytest.mark.parametrize("mode", ["fast", "reference"])
@pytest.mark.parametrize("options", [{}, {"norm": None, "up": "bilinear"}], ids=str)
def test_a_pruned_network_gives_bit_by_bit_what_its_head_gave(options, mode):
    whole = make("unet_plus_plus", depth=3, **options)
    whole.preprocessing = "as it was"
    with minunet.use(mode):
        heads, _ = whole.forward(X, train=True)
        assert len(heads) == 3 and len(whole.head_weights) == 3
        for level in (1, 2, 3):
            pruned = whole.prune(level)
            assert pruned.head_weights == (1.0,) and pruned.preprocessing == "as it was"
            np.testing.assert_array_equal(pruned.forward(X, train=True)[0], heads[3 - level])
        np.testing.assert_array_equal(whole.prune(3)(X), whole(X))


def test_a_pruned_network_at_inference():
    """With running statistics, too: the node under the head is what the whole network makes of it."""
    whole, seen = make("unet_plus_plus", depth=3), {}
    for d in (1, 2):

        def watch(*args, d=d, forward=whole.node[0, d].forward, **named):
            y, cache = forward(*args, **named)
            seen[d] = y
            return y, cache

        whole.node[0, d].forward = watch
    with minunet.use("reference"):
        whole(X)
        for d in (1, 2):
            np.testing.assert_array_equal(whole.prune(d)(X), whole.head[d](seen[d]))


def test_a_pruned_network_is_a_network(tmp_path):
    whole = make("unet_plus_plus", depth=3)
    pruned = whole.prune(2)
    pruned.head[2].params["b"][...] += 1
    assert (pruned.head[2].params["b"] != whole.head[2].params["b"]).all()  # a copy
    save_checkpoint(tmp_path / "small.safetensors", pruned)
    again = minunet.load(tmp_path / "small.safetensors")
    assert again.architecture == pruned.architecture and again.preprocessing == whole.preprocessing
    np.testing.assert_array_equal(again(X), pruned(X))
    assert again.prune(2).num_params() == pruned.num_params()
    costs = [summary(m, (1, 64, 64, 2)) for m in (pruned, whole)]
    assert costs[0].flops < costs[1].flops / 1.5 and costs[0].training_peak() < costs[1].training_peak()
    with pytest.raises(ValueError, match="heads at 2 cannot be cut to depth 1"):
        again.prune(1)


# ---- UNet 3+ ---------------------------------------------------------------------------------------------------------


def test_any_size_gives_the_pixels_that_a_larger_image_gives():
    """Far from the edges: maps of odd sizes are not shifted against each other."""
    model = make("unet_3plus", depth=2, norm=None)
    large = np.random.default_rng(1).random((1, 80, 80, 2), np.float32)
    for H, W in ((77, 79), (74, 65)):
        y, whole = model(large[:, :H, :W]), model(large)
        np.testing.assert_allclose(y[:, :36, :36], whole[:, :36, :36], atol=NETWORK["float32"] * abs(whole).max())


# ---- nnU-Net ---------------------------------------------------------------------------------------------------------


def test_stages_follow_from_the_patch():
    assert [stages_for(n) for n in (4, 8, 16, 64, 127, 128, 256, 320, 512)] == [1, 2, 3, 5, 6, 6, 7, 7, 8]
    for patch, stages in ((128, 6), (256, 7), (512, 8)):
        assert len(outline("nnunet", patch=patch).encoder) == stages
    assert len(outline("nnunet", patch=256, stages=3).encoder) == 3
    with pytest.raises(UserError, match="patch: 4 is out of range"):
        outline("nnunet", patch=4)


def test_a_new_network_gets_its_stages_from_the_training_patches():
    args = Arguments(arch="nnunet", crop=128)
    assert network_options(args, {"crop"}, 1, 2, None).patch == 128
    assert network_options(Arguments(arch="nnunet", crop=0), {"crop"}, 1, 2, None).patch == 256
    given = Arguments(arch="nnunet", crop=128, arch_options=("stages=3",))
    assert len(outline(network_options(given, {"crop"}, 1, 2, None)).encoder) == 3
    assert default_options("nnunet", TrainingConfig(crop=64), "classes").patch == 64


def test_the_last_head_counts_nothing_unless_it_is_the_only_one():
    np.testing.assert_allclose(supervision_weights(6), [0.5161, 0.2581, 0.1290, 0.0645, 0.0323, 0], atol=5e-5)
    assert supervision_weights(2) == (1, 0)
    assert supervision_weights(1) == (1,)  # with 0 / 0 a network of two stages would not learn
    assert make("nnunet", stages=2).head_weights == (1,)


def test_a_bottom_of_one_pixel_is_refused():
    """Its instance norm would give the same whatever is in the image."""
    model = make("nnunet", stages=4)
    with pytest.raises(ValueError, match="9 is the least"):
        model(np.zeros((1, 8, 32, 2), np.float32))
    assert model(np.zeros((1, 9, 16, 2), np.float32)).shape == (1, 9, 16, 3)
