"""minunet: a U-Net from scratch, to learn from and to use."""

__version__ = "0.1.0"
