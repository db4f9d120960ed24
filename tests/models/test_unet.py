"""The U-Net and the modules it is made of."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.sizes import examples
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops
from minunet.checkpoint.file import save_checkpoint
from minunet.checkpoint.load import load
from minunet.data import ClassMap, Preprocessing
from minunet.errors import UserError
from minunet.models import UNet, UNetOptions, build
from minunet.nn import BatchNorm2d, Conv2d, Dropout, ReLU, Sequential
from minunet.optim import Adam


def test_parameter_counts():
    assert UNet(3, 2).num_params() == 31_037_698
    assert UNet(3, 2, up="bilinear").num_params() == 17_263_042
    assert UNet(1, 2, norm=None, padding="valid").num_params() == 31_030_658
    assert UNet(1, 1).num_params() == 31_036_481
    assert UNet(3, 2, conv_bias=True).num_params() == 31_043_586


@pytest.mark.parametrize("claim", [{"base_width": 10**6}, {"depth": 10**9}, {"num_classes": 10**9}, {"base_width": 0},
                                   {"in_channels": -1}, {"widths": [[10**6, 1], [1]]}, {"depth": "4"}])  # fmt: skip
def test_a_checkpoint_whose_options_claim_more_than_it_holds(tmp_path, claim):
    """It is refused before memory is taken for what it claims."""
    import tracemalloc

    options = UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=1)
    model = build(options)
    model.architecture = SimpleNamespace(name="unet", to_json=lambda: options.to_json() | claim)
    model.preprocessing = Preprocessing(1, ClassMap.binary())
    save_checkpoint(tmp_path / "a.safetensors", model)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.safetensors"):
        load(tmp_path / "a.safetensors")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_paper_sizes():
    net = UNet(1, 2, norm=None, padding="valid")
    assert [net.valid_output(n) for n in (572, 188)] == [388, 4]
    assert all((net.valid_output(n) is not None) == (n % 16 == 12 and n >= 188) for n in range(100, 700))
    with pytest.raises(ValueError, match="556 and 572"):
        net.check_size(560, 572)
    narrow = UNet(1, 2, base_width=2, norm=None, padding="valid")
    assert narrow(np.zeros((1, 572, 572, 1), np.float32)).shape == (1, 388, 388, 2)


def test_widths_of_the_bilinear_form():
    shapes = {path: p.shape for path, p in UNet(3, 2, up="bilinear").named_params().items() if path.endswith(".w")}
    assert shapes["bottom.conv2.w"] == (3, 3, 512, 512)
    assert [shapes[f"decoder.{i}.conv1.w"][2:] for i in range(4)] == [(128, 64), (256, 128), (512, 256), (1024, 512)]
    assert [shapes[f"decoder.{i}.conv2.w"][3] for i in range(4)] == [64, 64, 128, 256]


def test_explicit_widths():
    net = UNet(2, 3, widths=([4, (5, 6), 7], [(3, 8), 9]), up="nearest")
    shapes = {path: p.shape[2:] for path, p in net.named_params().items() if path.endswith(".w")}
    assert shapes["encoder.1.conv1.w"] == (4, 5) and shapes["encoder.1.conv2.w"] == (5, 6)
    assert shapes["decoder.1.conv1.w"] == (6 + 7, 9) and shapes["decoder.0.conv1.w"] == (4 + 9, 3)
    assert shapes["head.w"] == (8, 3)
    for widths in (([4, 8, 16], [4]), ([4, 8, 16], [4, 8], [4]), ([4, 0, 16], [4, 8])):
        with pytest.raises(UserError, match="encoder's has one more"):
            UNet(1, 2, widths=widths)
    net = UNet(1, 2, widths=([4, 8, 8], [4, 4], [3, 8]))
    shapes = {path: p.shape[2:] for path, p in net.named_params().items()}
    assert shapes["up.0.w"] == (4, 3) and shapes["up.1.w"] == (8, 8) and shapes["decoder.0.conv1.w"] == (4 + 3, 4)


@examples(20)
@given(st.integers(4, 21), st.integers(4, 21), st.sampled_from(["transpose", "bilinear", "nearest"]))
def test_any_size_in_same_mode(H, W, up):
    net = UNet(1, 2, base_width=2, depth=2, up=up)
    y, cache = net.forward(np.zeros((2, H, W, 1), np.float32))  # of one image of 4 x 4 a batch norm has a single value
    assert y.shape == (2, H, W, 2)
    assert net.backward(y, cache).shape == (2, H, W, 1)


def test_bad_options_and_sizes():
    with pytest.raises(UserError, match="norm: 'layer' is unknown"):
        UNet(1, 2, norm="layer")
    with pytest.raises(ValueError, match="16 is the least"):
        UNet(1, 2, base_width=1)(np.zeros((1, 15, 30, 1), np.float32))
    with pytest.raises(ValueError, match="channels"):
        UNet(3, 2, base_width=1)(np.zeros((1, 16, 16, 1), np.float32))


def test_a_fresh_network_knows_nothing():
    """With a zeroed head every class has the same chance: the loss is ln K."""
    net = UNet(1, 3, base_width=4, depth=2)
    net.head.params["w"][...] = 0
    logits, _ = net.forward(np.random.default_rng(0).standard_normal((2, 16, 16, 1), np.float32))
    loss, _ = ops.softmax_cross_entropy(logits, np.random.default_rng(1).integers(0, 3, (2, 16, 16)))
    assert math.isclose(loss, math.log(3), rel_tol=1e-6)


def test_one_batch_can_be_learned_by_heart(rng):
    net, x = UNet(1, 2, base_width=8, depth=2), rng.standard_normal((1, 16, 16, 1)).astype(np.float32)
    labels = rng.integers(0, 2, (1, 16, 16))  # pure noise: only memory helps
    opt = Adam(net, 0.01)
    for _ in range(200):
        logits, cache = net.forward(x)
        loss, loss_cache = ops.softmax_cross_entropy(logits, labels)
        net.zero_grad()
        net.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
        opt.step()
    assert loss < 0.02
    assert (logits.argmax(-1) == labels).all()


def test_a_cache_is_used_once_and_emptied(rng):
    net = UNet(1, 2, base_width=2, depth=1)
    y, cache = net.forward(rng.standard_normal((1, 4, 4, 1)).astype(np.float32))
    net.backward(y, cache)
    assert cache == []
    with pytest.raises(RuntimeError, match="used up"):
        net.backward(y, cache)
    y, cache = net.forward(np.zeros((1, 4, 4, 1), np.float32), keep=False)
    with pytest.raises(RuntimeError, match="keep=False"):
        net.backward(y, cache)


def test_gradients_add_up_until_they_are_zeroed(rng):
    net, x = Conv2d(2, 3), rng.standard_normal((1, 5, 5, 2)).astype(np.float32)
    for _ in range(2):
        y, cache = net.forward(x)
        net.backward(y, cache)
    twice = net.grads["w"].copy()
    net.zero_grad()
    assert not net.named_grads()
    y, cache = net.forward(x)
    net.backward(y, cache)
    np.testing.assert_allclose(twice, 2 * net.grads["w"], rtol=OP["float32"])


def test_running_statistics(rng):
    norm, x = BatchNorm2d(3), (5 + 2 * rng.standard_normal((4, 8, 8, 3))).astype(np.float32)
    for _ in range(100):
        norm.forward(x, train=True)
    np.testing.assert_allclose(norm.buffers["mean"], x.mean((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(norm.buffers["var"], x.var((0, 1, 2), ddof=1), rtol=1e-3)
    before = norm.buffers["mean"].copy()
    y = norm(x)
    assert abs(float(y.mean())) < 1e-2 and (norm.buffers["mean"] == before).all()


def test_train_and_keep_are_separate(rng):
    net, x = (
        Sequential(conv=Conv2d(1, 2), norm=BatchNorm2d(2), relu=ReLU(), drop=Dropout(0.5)),
        np.ones((1, 3, 3, 1), "f4"),
    )
    y, cache = net.forward(x, train=False, keep=True)
    assert net.backward(y, cache).shape == x.shape
    with pytest.raises(ValueError, match="random generator"):
        net.forward(x, train=True)


def test_the_same_seed_gives_the_same_weights():
    a, b, c = (UNet(1, 2, base_width=2, seed=s).state() for s in (4, 4, 5))
    assert all((a[k] == b[k]).all() for k in a) and any((a[k] != c[k]).any() for k in a)


def test_he_initialisation():
    w = Conv2d(64, 256, rng=np.random.default_rng(0)).params["w"]
    assert abs(w.std() / math.sqrt(2 / 576) - 1) < 0.01


def test_load_state_names_what_does_not_fit():
    small, large = UNet(1, 2, base_width=2, depth=1), UNet(1, 2, base_width=4, depth=1)
    with pytest.raises(ValueError, match=r"bottom.conv1.w has shape"):
        small.load_state(large.state())
    state = small.state()
    del state["head.b"]
    with pytest.raises(ValueError, match=r"head.b is missing"):
        UNet(1, 2, base_width=2, depth=1).load_state(state)
