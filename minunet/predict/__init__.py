"""From a trained network and images to masks and instances.

command.py            `python -m minunet.predict`; arguments.py: its flags
files.py              images to files: `predict_files`; options.py: what is asked of it; progress.py, results.py: what it tells
pipeline.py           one image, small or large, from its source to its results
images.py             which images are meant, and what must not be overwritten
inference.py          one image: `minunet.segment`
tiles.py              images by tiles; tta.py: averaged over flips and rotations
instances.py          from probabilities to separate instances: `minunet.segment_objects`
stitching.py          instances across the faces of blocks
writers.py            results in memory, and in files larger than it
measure.py            the table of objects; instance_files.py: label images, tables, outlines
overlay.py            pictures of results, their colours
"""

import lazy_loader

SHOWN = {"command": ["main"], "files": ["predict_files"], "options": ["PredictionOptions"]}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=SHOWN)
