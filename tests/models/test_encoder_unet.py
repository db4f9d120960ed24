"""Encoders and the U-Net on top of them: sizes, PyTorch twins, and the classes of segmentation_models.pytorch (SMP)."""

import numpy as np
import pytest
from helpers.family import make

from minunet.errors import UserError
from minunet.models import build, outline
from minunet.models.encoders import make_encoder

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
from helpers import encoder_twins, family_twins  # noqa: E402  (they need PyTorch)


@pytest.mark.parametrize(
    ("name", "params", "channels"),
    [
        ("vgg11_bn", 9_225_984, [64, 128, 256, 512, 512, 512]), ("vgg16_bn", 14_723_136, [64, 128, 256, 512, 512, 512]),
        ("resnet18", 11_176_512, [3, 64, 64, 128, 256, 512]), ("resnet34", 21_284_672, [3, 64, 64, 128, 256, 512]),
        ("resnet50", 23_508_032, [3, 64, 256, 512, 1024, 2048]), ("mobilenet_v2", 2_223_872, [3, 16, 24, 32, 96, 1280]),
    ],
)  # fmt: skip
def test_encoders_have_torchvision_s_size(name, params, channels):
    net = outline("encoder_unet", in_channels=3, encoder=name)
    assert net.encoder.num_params() == params and net.encoder.channels == channels


@pytest.mark.parametrize(
    "options",
    [
        {"encoder": "vgg11_bn"}, {"encoder": "vgg16_bn", "full_resolution_skip": True}, {"encoder": "resnet34"},
        {"encoder": "resnet50"}, {"encoder": "mobilenet_v2"}, {"attention": "scse"},
        {"encoder": "vgg11", "full_resolution_skip": True, "attention": "scse"},
    ], ids=str,
)  # fmt: skip
def test_others_equal_a_twin(options, rng):
    net = make("encoder_unet", **options).convert(np.float64)
    family_twins.agree(net, family_twins.twin_of(net), rng.standard_normal((2, 70, 45, 2)), rng)


@pytest.mark.parametrize("name, stride", [("resnet18", 16), ("resnet50", 8), ("mobilenet_v2", 16), ("mobilenet_v2", 8)])
def test_stages_that_keep_their_size(name, stride, rng):
    """The features of dilated encoders, and their gradients when only two are read."""
    net = make_encoder(name, 2, 1 / 16, stride, rng=rng).convert(np.float64)
    twin = family_twins.with_weights(encoder_twins.encoder(name, 2, 1 / 16, stride)[0].double(), net)
    x = rng.standard_normal((1, 33, 50, 2))
    image = family_twins.nchw(x).requires_grad_()
    theirs = twin.train()(image)
    features, cache = net.forward(x)
    assert features[5].shape[1:3] == (-(-33 // stride), -(-50 // stride))
    for f, t in zip(features, theirs, strict=True):
        family_twins.same(f, family_twins.nhwc(t), "features")
    upstream = [rng.standard_normal(f.shape) if k in (2, 5) else None for k, f in enumerate(features)]
    sum((t * family_twins.nchw(d)).sum() for t, d in zip(theirs, upstream) if d is not None).backward()
    family_twins.same(net.backward(upstream, cache), family_twins.nhwc(image.grad), "image")


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoder, attention",
    [("vgg11_bn", None), ("resnet18", None), ("resnet18", "scse"), ("resnet50", None), ("mobilenet_v2", None)],
)
def test_equals_segmentation_models_pytorch(encoder, attention, rng):
    """At full width, and but for VGG at odd sizes."""
    smp = encoder_twins.import_smp()
    net = build("encoder_unet", in_channels=3, num_classes=2, encoder=encoder, attention=attention).convert(np.float64)
    for name, a in net.state().items():
        a[...] = (
            rng.uniform(0.5, 1.5, a.shape) if name.endswith((".var", ".gamma")) else a + rng.normal(0, 0.1, a.shape)
        )
    widths = [256, 128, 64, 32, 16]
    twin = smp.Unet(
        encoder, encoder_weights=None, classes=2, decoder_channels=widths, decoder_attention_type=attention
    ).double()
    family_twins.with_weights(twin, net, encoder_twins.smp_path)
    sides = (64, 64) if encoder.startswith("vgg") else (67, 46)
    family_twins.agree(net, twin, rng.standard_normal((2, *sides, 3)), rng, encoder_twins.smp_path)


def test_only_a_vgg_has_a_skip_at_full_resolution():
    with pytest.raises(UserError, match="full_resolution_skip: the first map of resnet34"):
        build("encoder_unet", full_resolution_skip=True)
    with pytest.raises(UserError, match="encoder: 'vgg19' is unknown"):
        build("encoder_unet", encoder="vgg19")
