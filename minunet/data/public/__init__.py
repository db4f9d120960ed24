"""Public data sets: downloading, checking, unpacking."""
