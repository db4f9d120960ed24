"""torchvision's files of ImageNet weights, version 1 of each: downloaded once, checked, and kept in the cache folder.

Their names end with the first 8 hexadecimal digits of the file's SHA-256, which is how torchvision, too, checks them.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ..data.public.download import Resuming, Unreachable
from ..data.public.fetch import sha256
from ..errors import UserError, extra
from ..kernels.cuda.build import cache_folder

OFFICIAL = "imagenet"
URL = "https://download.pytorch.org/models/"
FILES = {
    "vgg11": "vgg11-8a719046.pth", "vgg11_bn": "vgg11_bn-6002323d.pth", "vgg16": "vgg16-397923af.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth", "resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth", "mobilenet_v2": "mobilenet_v2-b0353104.pth",
}  # fmt: skip
MOST = 600_000_000  # bytes; VGG's have 553 million, of which the classifier, which is left out, has most


def official(name: str, folder: Path | None = None, quiet: bool = True) -> Path:
    """The path of an encoder's official file, which is downloaded if it is not there yet.

    Parameters
    ----------
    name : str
        A key of `FILES`.
    folder : path, optional
        Where it is kept; by default "weights" in the cache folder (MINUNET_CACHE). A file that was put there by hand is used.
    quiet : bool
        Show no progress.

    Raises
    ------
    UserError
        If it cannot be downloaded, or what came is another file.
    """
    path = (folder or cache_folder() / "weights") / FILES[name]
    if path.exists():
        return path
    by_hand = f"Download {URL}{FILES[name]} by hand, and give --encoder-weights its path"
    try:
        import pooch
    except ImportError:
        raise UserError(f"fetching weights needs the package pooch: {extra('fetch')}. Or: {by_hand}") from None
    pooch.get_logger().setLevel(logging.ERROR)
    part = path.with_name(f"{path.name}.new")  # until its checksum is known to be right
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(URL + path.name, None, part.name, part.parent, downloader=Resuming(part, MOST, quiet))
        if not sha256(part).startswith(digits(path)):
            raise UserError(
                f"what {URL}{path.name} sent is not what its name says: its SHA-256 does not begin with {digits(path)}. It was "
                "thrown away; try once more"
            )
        part.rename(path)
    except Unreachable as e:
        raise UserError(f"{e}. {by_hand}") from e
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; free some space, or set MINUNET_CACHE") from e
    finally:
        part.unlink(missing_ok=True)
    return path


def digits(path: Path) -> str:
    """The digits that a file's name says its SHA-256 begins with; "" if it says none."""
    found = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    return found[1] if found else ""


def check_name(path: Path) -> None:
    """UserError if a file's SHA-256 is not the one that its name begins to tell."""
    if path.is_file() and not (total := sha256(path)).startswith(digits(path)):
        raise UserError(
            f"{path}: its SHA-256 begins with {total[:8]}, not with {digits(path)} as its name says: it is damaged, or another "
            "file; remove it and download it again, or rename it if it is yours"
        )
