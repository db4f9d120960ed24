"""UNet++ on an encoder: other encoders equal a twin. (tests/checkpoint/test_smp.py compares it with the published class.)"""

import numpy as np
import pytest
from helpers.family import make


@pytest.mark.parametrize("options", [{"encoder": "vgg11"}, {"encoder": "mobilenet_v2", "attention": "scse"}], ids=str)
def test_others_equal_a_twin(options, rng):
    pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import family_twins

    net = make("encoder_unet_plus_plus", **options).convert(np.float64)
    sides = (64, 32) if options["encoder"] == "vgg11" else (45, 70)  # a VGG's pools round down, the twin only cuts
    family_twins.agree(net, family_twins.twin_of(net), rng.standard_normal((2, *sides, 2)), rng)
