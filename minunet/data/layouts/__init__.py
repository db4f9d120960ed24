"""Layouts of data sets on disk: which file is the mask of which image.

find.py       which layout a folder has
folder.py     images and masks that belong together by name
dsb2018.py    the 2018 Data Science Bowl: a folder for each image, a file for each nucleus
isbi2012.py   the ISBI 2012 challenge: sections of one volume
ctc.py        the Cell Tracking Challenge: sequences of frames, some with annotated cells
nnunet.py     nnU-Net's raw data sets; coco.py: COCO's annotations
annotated.py  LabelMe's, ImageJ's and Cellpose's files as masks; shapes.py draws them, seg_npy.py reads Cellpose's safely
parts.py      data sets that are divided into train/ and val/; stacks.py: pages of stacks
listing.py    which files are images, and what is said of others
source.py     what every layout is read into: entries, each an image and a way to read its mask
"""
