"""minunet: a U-Net from scratch, to learn from and to use.

    model = minunet.load("best.safetensors")
    mask = minunet.segment(model, image)            # (H, W) class numbers

    minunet.summary(minunet.models.UNet(3, 2), (1, 256, 256, 3))
    with minunet.use("reference"): ...              # plain ops only, no kernels

From the top down; each part imports only parts below it:

evaluate.py   scores of predictions on disk
export.py     a trained network as a file for other programs
doctor.py     common problems of a data set, found and named
look/         a page that shows a network as it ran on an image
grade/        exercises and their grader
train/        training
predict/      from images to masks and instances
checkpoint/   networks on disk
gradcheck/    checks whether a backward is right
metrics/      scores of pixels and of instances
models/       the networks
optim.py      optimisers, averages of weights, learning-rate schedules
nn/           layers: ops with their parameters
data/         images with their masks
cli.py        what the command lines share
kernels/      fast versions of the ops, for CPU and GPU
ops/          every layer's mathematics, forward and backward
array.py      which library an array belongs to
atomic.py     files that are written whole or not at all
errors.py     `UserError`: mistakes that the user can correct

Importing minunet is fast: these names are loaded when they are first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
