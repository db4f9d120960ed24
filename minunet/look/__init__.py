"""A page that shows a U-Net as it ran on an image: ``python -m minunet.look``.

command.py   `minunet look`
show.py      from a network and an image to the page; inputs.py: what the network is shown
record.py    watches the model's own forward and backward
nodes.py     gathers the calls into what the page draws
detector.py  a detector as a network with one map
field.py     what an output pixel depends on
sprites.py   pictures of maps
build.py     everything in one file, with the style and scripts of page/
"""
