"""From a trained network and images to masks and instances.

command.py            `python -m minunet.predict`
images.py             which images are meant, and what must not be overwritten
inference.py          one image: `minunet.segment`
tiles.py              images by tiles; tta.py: averaged over flips and rotations
instances.py          from probabilities to separate instances: `minunet.segment_objects`
stitching.py          instances across seams
out_of_core.py        images larger than memory; writers.py: into which files
overlay.py            pictures of results, their colours; instance_files.py: label images, tables, outlines
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"command": ["main"]})
