"""A page that shows a U-Net as it ran on an image: ``python -m minunet.look``.

`record` watches the model's own forward and backward; `nodes` gathers the calls into what the page draws; `field` finds what
an output pixel depends on; `sprites` makes pictures of maps; `write` puts everything into one file with what is in page/.
"""
