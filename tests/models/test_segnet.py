"""SegNet: what is only its own."""

import numpy as np
import pytest
from helpers.family import make

from minunet.models import outline
from minunet.models.summary import summary


def test_with_biases_it_equals_a_twin(rng):
    pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import family_twins

    net = make("segnet", base_width=2, conv_bias=True).convert(np.float64)
    family_twins.agree(net, family_twins.twin_of(net), rng.standard_normal((2, 45, 70, 2)), rng)


def test_its_decoder_narrows_where_a_level_ends():
    shapes = {path: p.shape[2:] for path, p in outline("segnet").named_params().items() if path.endswith(".w")}
    last = [max(path for path in shapes if path.startswith(f"decoder.{level}.")) for level in range(5)]
    assert [shapes[path] for path in last] == [(64, 64), (128, 64), (256, 128), (512, 256), (512, 512)]
    assert shapes["head.w"] == (64, 2)


def test_no_map_of_the_way_down_waits(rng):
    """At inference, what waits for the way up are winners, a byte each: less memory than the U-Net's skips."""
    shape = (1, 256, 256, 3)
    wide = {"in_channels": 3, "base_width": 64}
    waits = [summary(outline(name, **wide), shape, fused=True) for name in ("segnet", "unet")]
    assert waits[0].inference_peak - waits[0].weight_bytes < waits[1].inference_peak - waits[1].weight_bytes
