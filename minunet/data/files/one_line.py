"""Any problem with an image file as a UserError of one line that names the file."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import UserError
from .limits import MAX_PIXELS, PathLike


@contextmanager
def one_line_errors(path: PathLike) -> Iterator[None]:
    """Turn whatever a reader raises into a UserError that names the file, and silence its warnings."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of which reading may never end
                raise UserError(f"{path}: is a pipe or a device, an image was expected")
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, an image was expected") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read (permission denied)") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image that can be read (PNG, TIFF, JPEG, BMP); convert or remove it") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: claims more than {MAX_PIXELS:,} pixels; cut it into smaller images") from None
    except Exception as e:  # on mangled files readers raise nearly anything: SyntaxError, struct.error, KeyError ...
        reason = " ".join(str(e).split())[:120] or type(e).__name__
        raise UserError(f"{path}: damaged or cut off ({reason}); copy or export it again") from None
