"""Every layer's mathematics as a pure forward/backward pair.

All have the same form::

    y, cache = op(x, ...)            # a cache is a plain tuple with as little as the backward needs
    dx, ...  = op_backward(dy, cache)

Inputs and dy are never modified; every op runs in the dtype of its inputs, on NumPy and CuPy arrays alike.

Layout: images and feature maps are NHWC (image, row, column, channel), filters HWIO (row, column, input channel, output
channel), labels (N, H, W) integers: the convention of JAX and Keras. Names: arrays lower case (x w b y, gradients dx dw db
dy), sizes upper case (N H W C, K output channels, KH KW).

conv.py        convolution and transposed convolution, with their gradients
depthwise.py   depthwise convolution
norm.py        batch norm and group norm
activation.py  ReLU, ReLU6, leaky ReLU, sigmoid, tanh, scaled exponential, softmax
pool.py        max-pooling, unpooling and mean-pooling
combine.py     sums of maps, and gates
resample.py    upsampling and resizing to any size: nearest neighbour and bilinear
shape.py       pad, crop, concatenate
dropout.py     dropout
stars.py       the loss of star-convex polygons
loss.py        cross-entropy, binary cross-entropy, soft Dice, focal loss
detection.py   losses of detectors: focal loss of independent classes, cross-entropy of a share, generalised IoU of boxes
masks.py       masks of objects as sums of prototypes, and their loss
dispatch.py    how an op finds its kernel (which one runs: rules.py of kernels/cpu and kernels/cuda)
lazy.py        lazy maps, which kernels may return in place of arrays
"""

from .activation import (
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    scaled_exp,
    scaled_exp_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .combine import add, add_backward, gate, gate_backward
from .conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from .depthwise import depthwise_conv2d, depthwise_conv2d_backward
from .detection import (
    giou,
    giou_backward,
    sigmoid_bce,
    sigmoid_bce_backward,
    sigmoid_focal,
    sigmoid_focal_backward,
)
from .dropout import dropout, dropout_backward
from .loss import (
    bce_with_logits,
    bce_with_logits_backward,
    class_probabilities,
    focal,
    focal_backward,
    named_loss,
    soft_dice,
    soft_dice_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from .masks import Crop, prototype_masks, prototype_masks_backward
from .norm import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    running_average,
    shared_batch_norm_backward,
)
from .pool import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_padded,
    max_pool2d_padded_backward,
    max_unpool2d,
    max_unpool2d_backward,
)
from .resample import (
    resize_bilinear,
    resize_bilinear_backward,
    resize_nearest,
    resize_nearest_backward,
    upsample_bilinear,
    upsample_bilinear_backward,
    upsample_nearest,
    upsample_nearest_backward,
)
from .shape import concat, concat_backward, crop, crop_backward, pad, pad_backward
from .stars import star_loss, star_loss_backward

__all__ = [
    "Crop",
    "add",
    "add_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "bce_with_logits",
    "bce_with_logits_backward",
    "class_probabilities",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "crop",
    "crop_backward",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "dropout",
    "dropout_backward",
    "focal",
    "focal_backward",
    "gate",
    "gate_backward",
    "giou",
    "giou_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "group_norm",
    "group_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_padded",
    "max_pool2d_padded_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "named_loss",
    "pad",
    "pad_backward",
    "prototype_masks",
    "prototype_masks_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "resize_bilinear",
    "resize_bilinear_backward",
    "resize_nearest",
    "resize_nearest_backward",
    "running_average",
    "scaled_exp",
    "scaled_exp_backward",
    "shared_batch_norm_backward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_bce",
    "sigmoid_bce_backward",
    "sigmoid_focal",
    "sigmoid_focal_backward",
    "soft_dice",
    "soft_dice_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "star_loss",
    "star_loss_backward",
    "tanh",
    "tanh_backward",
    "upsample_bilinear",
    "upsample_bilinear_backward",
    "upsample_nearest",
    "upsample_nearest_backward",
]
