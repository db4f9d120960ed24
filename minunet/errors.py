"""The one exception for mistakes that are the user's to mend."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong: a file, a flag, a device.

    The message names the file or flag, the value found and what to do. The command lines print it as one line and
    exit with status 2; in a notebook it is an ordinary exception.
    """
