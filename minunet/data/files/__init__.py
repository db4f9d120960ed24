"""Reading image files, whole or by windows.

images.py       `read_image` and `read_mask`: PNG, TIFF, JPEG, BMP, GIF, of any bit depth; info.py: what a header says
one_line.py     whatever is wrong with a file, as one line that names it
tiff.py         TIFF of 1 to 16 bits (8, 12, 16, ...) or float; lzw.py: checks compressed data before it is decoded
tiff_planes.py  which pages of a TIFF are which image; axes.py: by the letters of its axes
turn.py         orientation; pixel_size.py: how large a pixel is
npy.py          arrays of NumPy
pillow.py       all other formats; limits.py: how large an image may claim to be
large.py        images larger than memory: `open_large`
large_tiff.py   a TIFF by windows; large_zarr.py: an OME-Zarr by windows; zarr_store.py: its chunks, checked first
windows.py      windows of such an image, prepared for the network
"""
