"""minunet: a U-Net from scratch, to learn from and to use.

    model = minunet.load("best.safetensors")
    mask = minunet.segment(model, image)            # (H, W) class numbers

    minunet.summary(minunet.models.UNet(3, 2), (1, 256, 256, 3))
    with minunet.use("reference"): ...              # plain ops only, no kernels

Importing minunet is light: what is named here is fetched when it is first used.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # the names are in __init__.pyi
