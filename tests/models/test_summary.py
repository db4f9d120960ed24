"""What `summary` says of a network: arithmetic, shapes, parameters, and the bytes that a real forward keeps."""

import numpy as np
import pytest
from helpers.lazy_maps import distinct_bytes

import minunet
from minunet.models import UNet


def test_published_arithmetic():
    net = UNet(3, 2)
    for size, gflop in ((256, 96.3), (512, 385), (1024, 1542), (1664, 4071)):
        assert minunet.summary(net, (1, size, size, 3)).flops / 1e9 == pytest.approx(gflop, rel=2e-3)


@pytest.mark.parametrize("options, shape", [
    ({}, (2, 33, 40, 3)), ({"up": "bilinear", "norm": "group"}, (1, 32, 32, 3)),
    ({"norm": None, "padding": "valid"}, (1, 92, 92, 3)),
])  # fmt: skip
def test_summary_states_what_runs(rng, options, shape):
    """Shapes, parameters and the bytes that caches keep are those of a real forward."""
    net = UNet(3, 2, base_width=4, depth=3, **options)
    s = minunet.summary(net, shape)
    y, cache = net.forward(rng.standard_normal(shape).astype(np.float32))
    assert s.rows[-1].output == y.shape
    assert s.params == net.num_params()
    assert s.kept == pytest.approx(distinct_bytes(cache, net), rel=0.02)
    assert s.inference_peak < s.training_peak() < s.training_peak(2)
    assert "decoder.0.conv1" in str(s) and "GFLOP" in str(s)


def test_summary_of_what_cannot_be():
    net = UNet(3, 2, base_width=2, depth=1)
    with pytest.raises(ValueError, match="channels"):
        minunet.summary(net, (1, 8, 8, 1))
    with pytest.raises(ValueError, match="images, rows"):
        minunet.summary(net, (8, 8, 3))


def test_summary_leaves_the_model_alone():
    net = UNet(1, 2, base_width=2, depth=1)
    minunet.summary(net, (1, 8, 8, 1))
    assert net(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 8, 8, 2)
