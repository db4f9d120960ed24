"""Layouts of data sets on disk: which file is the mask of which image."""
