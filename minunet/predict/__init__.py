"""From a trained network and images to masks and instances.

command.py            `python -m minunet.predict`; arguments.py: its flags
files.py              images to files: `predict_files`; options.py: its options; results.py: what it returns; progress.py
pipeline.py           one image, small or large, from its pixels to its results
images.py             which files the inputs name, and which files must not be overwritten
inference.py          one image: `minunet.segment`
tiles.py              images by tiles that overlap; tta.py: averaging over flips and rotations
instances.py          from probabilities to separate instances: `minunet.segment_objects`; separation.py: by which thresholds
diameter.py           objects of another size than the network knows
stars.py              from star-convex polygons to separate instances; maps.py: what a network's outputs mean
detections.py         from boxes and masks to separate instances
stitching.py          joining instances that lie in several blocks of a large image
writers.py            results in memory, and in files larger than memory
measure.py            the table of objects; instance_files.py: label images, tables, outlines
distributed/          large images by many processes, and machines
overlay.py            pictures of results, and their colours
"""

import lazy_loader

SHOWN = {"command": ["main"], "files": ["predict_files"], "options": ["PredictionOptions"]}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=SHOWN)
