"""Public data sets: downloading, checking, unpacking.

fetch.py      which there are, with terms, citation and checksum: ``python -m minunet.data fetch NAME``
download.py   downloads that go on where they were cut off
"""
