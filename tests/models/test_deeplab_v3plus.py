"""DeepLab v3+: the class of segmentation_models.pytorch (SMP), and the norm behind the mean of a single image."""

import numpy as np
import pytest
from helpers.family import make

from minunet.errors import UserError
from minunet.models import build

MORE = {"encoder": "mobilenet_v2", "encoder_width": 1 / 16, "width": 2}


@pytest.mark.parametrize("options", [MORE, {**MORE, "encoder": "resnet50", "output_stride": 8}], ids=str)
def test_other_encoders_equal_a_twin(options, rng):
    pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import family_twins

    net = make("deeplab_v3plus", **options).convert(np.float64)
    family_twins.agree(net, family_twins.twin_of(net), rng.standard_normal((2, 45, 70, 2)), rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder, stride, separable",
    [("resnet18", 16, True), ("resnet50", 8, True), ("resnet34", 8, False), ("mobilenet_v2", 16, True)],
)
def test_equals_segmentation_models_pytorch(encoder, stride, separable, rng):
    pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import encoder_twins, family_twins

    smp = encoder_twins.import_smp()
    options = {"encoder": encoder, "output_stride": stride, "separable": separable}
    net = build("deeplab_v3plus", in_channels=3, layout="smp", dropout=0.0, **options).convert(np.float64)
    for name, a in net.state().items():
        a[...] = (
            rng.uniform(0.5, 1.5, a.shape) if name.endswith((".var", ".gamma")) else a + rng.normal(0, 0.1, a.shape)
        )
    twin = smp.DeepLabV3Plus(
        encoder, encoder_weights=None, encoder_output_stride=stride, decoder_aspp_separable=separable,
        decoder_aspp_dropout=0.0, classes=2,
    ).double()  # fmt: skip
    where = encoder_twins.smp_deeplab_path(separable)
    family_twins.with_weights(twin, net, where)
    family_twins.agree(net, twin, rng.standard_normal((2, 48, 64, 3)), rng, where)


@pytest.mark.parametrize("layout", ["plain", "smp"])
def test_a_batch_of_one_image(layout, rng):
    """The mean of its map is one value a channel: the norm behind it keeps its statistics. (PyTorch raises an error.)

    The branch of the mean learns nothing from it: it adds a constant to the map, which the next norm takes away again.
    """
    net = make("deeplab_v3plus", layout=layout).convert(np.float64)

    def step(count):
        before = {path: a.copy() for path, a in net.mean.named_buffers().items()}
        net.zero_grad()
        y, cache = net.forward(rng.standard_normal((count, 48, 64, 2)))
        net.backward(rng.standard_normal(y.shape), cache)
        moved = any((net.mean.named_buffers()[path] != a).any() for path, a in before.items())
        return moved, abs(net.mean.children["conv"].grads["w"]).max() / abs(net.head.grads["w"]).max()

    moved, share = step(1)
    assert not moved and share < 1e-12
    moved, share = step(2)
    assert moved and share > 1e-9


def test_what_is_refused():
    with pytest.raises(UserError, match="output_stride: 12 is neither 16 nor 8"):
        build("deeplab_v3plus", output_stride=12)
    with pytest.raises(UserError, match="encoder: 'vgg16_bn' is unknown"):
        build("deeplab_v3plus", encoder="vgg16_bn")
