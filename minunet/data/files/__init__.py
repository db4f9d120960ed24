"""Files of images: reading pixels, whole or by windows.

images.py       `read_image` and `read_mask`: PNG, TIFF, JPEG, BMP, GIF, of any depth of bits
formats.py      the decoders under them; lzw.py: is compressed data sound, before it is decoded
large.py        images larger than memory, TIFF and OME-Zarr: `open_large`; zarr_store.py: chunks looked at first
windows.py      windows of such an image, prepared for the network
"""
