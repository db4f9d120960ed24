"""Layouts of data sets on disk: which file is the mask of which image.

folder.py     images and masks that belong together by name
dsb2018.py    the 2018 Data Science Bowl: a folder for each image, a file for each nucleus
isbi2012.py   the ISBI 2012 challenge: sections of one volume
ctc.py        the Cell Tracking Challenge: sequences of frames, some with annotated cells
source.py     what every layout is read into: entries, each an image and a way to read its mask
"""
