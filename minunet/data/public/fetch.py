"""Public data sets, from where their makers publish them: downloaded, checked, unpacked.

`fetch` leaves DIR/<archive> and DIR/<name>/. The archive may also be put there by hand, where there is no network or a
browser is needed; it is checked and unpacked all the same. A folder appears whole or not at all.

Checksums. The makers of these sets publish none. Those below were computed by several projects, independently of each other, on
what the address served them, and agree. Where there is none, the first download's is written beside the archive, in the form of
`sha256sum -c`, and later downloads must have the same. The checksums inside of a zip file are tested in any case.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...atomic import write_atomically
from ...errors import UserError, extra
from ..layouts.find import LAYOUTS
from .download import Resuming, Unreachable, check_space


@dataclass(frozen=True)
class PublicSet:
    """A data set that can be fetched.

    Attributes
    ----------
    title, terms, cite : str
        What is printed before anything is downloaded.
    url : str
        A zip file.
    most_bytes : int
        More than the zip file has; a server may not send more.
    layout : str
        The layout that the unpacked folder must have.
    sha256 : str or None
        Of the zip file, where it is known.
    inside : str
        Folder, within that of the set, to unpack to.
    """

    title: str
    terms: str
    cite: str
    url: str
    most_bytes: int
    layout: str
    sha256: str | None = None
    inside: str = "."

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.url.rsplit("/", 1)[-1]


_CTC_TERMS = (
    "conditions of the Cell Tracking Challenge, celltrackingchallenge.net/datasets: cite, and name the challenge as source; "
    "public scientific use outside the challenge: ask the data's provider ({}); commercial use: ask organisers and provider"
)
_CTC_CITE = (
    "Maska M. et al. 2023, The Cell Tracking Challenge: 10 years of objective benchmarking, Nature Methods 20:1010-1020, "
    "doi:10.1038/s41592-023-01879-y"
)
_CTC_URL = "https://data.celltrackingchallenge.net/training-datasets/"

UNPACKED = 30  # times as many bytes as packed; the sets have less than 10 times

SETS = {
    "dsb2018": PublicSet(
        title="Data Science Bowl 2018, stage 1: 670 images of nuclei (BBBC038v1)",
        terms="CC0 1.0, public domain",
        cite="image set BBBC038v1, Broad Bioimage Benchmark Collection; Caicedo J. C. et al. 2019, Nucleus segmentation across "
        "imaging experiments: the 2018 Data Science Bowl, Nature Methods 16:1247-1253, doi:10.1038/s41592-019-0612-7",
        url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        most_bytes=90_000_000,
        layout="dsb2018",
        sha256="dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
        inside="stage1_train",
    ),
    "isbi2012": PublicSet(
        title="ISBI 2012 challenge: 30 sections of neuronal tissue under the electron microscope",
        terms="free for generating or testing non-commercial image segmentation software",
        cite="Cardona A. et al. 2010, An Integrated Micro- and Macroarchitectural Analysis of the Drosophila Brain by "
        "Computer-Assisted Serial Section Electron Microscopy, PLoS Biology 8(10):e1000502, doi:10.1371/journal.pbio.1000502; "
        "Arganda-Carreras I. et al. 2015, Frontiers in Neuroanatomy 9:142, doi:10.3389/fnana.2015.00142",
        url="https://downloads.imagej.net/ISBI-2012-challenge.zip",
        most_bytes=100_000_000,
        layout="isbi2012",
    ),
    "PhC-C2DH-U373": PublicSet(
        title="U373 glioblastoma-astrocytoma cells, phase contrast: 2 sequences of 115 frames (43 MB)",
        terms=_CTC_TERMS.format("Dr. S. Kumar, University of California at Berkeley"),
        cite=_CTC_CITE,
        url=_CTC_URL + "PhC-C2DH-U373.zip",
        most_bytes=50_000_000,
        layout="ctc",
        sha256="b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
    ),
    "DIC-C2DH-HeLa": PublicSet(
        title="HeLa cells on glass, differential interference contrast: 2 sequences of 84 frames (42 MB)",
        terms=_CTC_TERMS.format("Dr. G. van Cappellen, Erasmus Medical Center, Rotterdam"),
        cite=_CTC_CITE,
        url=_CTC_URL + "DIC-C2DH-HeLa.zip",
        most_bytes=50_000_000,
        layout="ctc",
        sha256="832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
    ),
}


def fetch(name: str, folder: str | Path = "data", quiet: bool = True) -> Path:
    """Get a data set.

    Parameters
    ----------
    name : str
        A key of SETS.
    folder : path
        Where the archive and the unpacked folder go.
    quiet : bool
        Show no progress, and do not print the checksum of an archive without a published one.

    Returns
    -------
    Path of the data set, as `open_dataset` takes it

    Raises
    ------
    UserError
        If it cannot be downloaded; the message says what to download by hand and where to put it.
    """
    chosen, folder = SETS[name], Path(folder)
    archive, where = folder / chosen.file, folder / name
    if where.is_dir():
        if not LAYOUTS[chosen.layout].recognise(where):
            raise UserError(
                f"{where}: is there already but does not hold {name}; move it away or choose another --output"
            )
        return where
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot make the folder {folder}: {e.strerror or e}; choose another --output") from e
    if archive.exists():
        check_archive(archive, chosen)
    else:
        download_archive(archive, chosen, quiet)
    unpack_archive(archive, where, chosen, quiet)
    return where


def download_archive(archive: Path, chosen: PublicSet, quiet: bool = True) -> None:
    """Download an archive and check it; it appears whole or not at all."""
    by_hand = f"Download {chosen.url} by hand, put it as {archive}, and run this again: it will be checked and unpacked"
    try:
        import pooch
    except ImportError:
        raise UserError(f"fetching needs the package pooch: {extra('fetch')}. Or: {by_hand}") from None
    pooch.get_logger().setLevel(logging.ERROR)
    known = chosen.sha256 or written_sum(archive)
    resuming = Resuming(archive, chosen.most_bytes, quiet)
    try:
        pooch.retrieve(chosen.url, known and f"sha256:{known}", archive.name, archive.parent, downloader=resuming)
    except Unreachable as e:
        raise UserError(f"{e}. {by_hand}") from e
    except ValueError as e:  # pooch's, of a wrong checksum
        raise UserError(
            f"what {chosen.url} sent is not what it was: its SHA-256 differs from {known}. It was thrown away; try once more, "
            f"and if that fails, too, ask its makers"
        ) from e
    except OSError as e:
        raise UserError(f"cannot write {archive}: {e.strerror or e}; free some space or choose another --output") from e
    if not known:
        total = sha256(archive)
        write_atomically(archive.with_name(archive.name + ".sha256"), f"{total}  {archive.name}\n".encode())
        if not quiet:
            print(f"sha256      {total}; no published checksum to compare it with; it is written beside the archive")


def check_archive(archive: Path, chosen: PublicSet) -> None:
    """UserError if an archive that is there already is not the one that is wanted."""
    known = chosen.sha256 or written_sum(archive)
    if known and sha256(archive) != known:
        raise UserError(
            f"{archive}: is not {chosen.url}, or not all of it: its SHA-256 differs from {known}; remove it to have it "
            f"downloaded, or download it by hand once more"
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def written_sum(archive: Path) -> str | None:
    """The SHA-256 that an earlier download wrote beside an archive, if one did."""
    try:
        return archive.with_name(archive.name + ".sha256").read_text().split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return None


def unpack_archive(archive: Path, where: Path, chosen: PublicSet, quiet: bool = True) -> None:
    """Unpack an archive into the folder `where`, which appears whole or not at all.

    A single folder around everything is left out, and so is one with the name of the folder to unpack to.

    Raises
    ------
    UserError
        If the archive is damaged, would write outside of its folder, or does not hold the layout.
    """
    part = where.with_name(f".{where.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was interrupted
    try:
        with zipfile.ZipFile(archive) as opened:
            extract(opened, part, archive, UNPACKED * chosen.most_bytes, quiet)
        root, layout = part, LAYOUTS[chosen.layout]
        while not layout.recognise(root) and len(inside := list(root.iterdir())) == 1 and inside[0].is_dir():
            root = inside[0]
        root = root / chosen.inside if (root / chosen.inside).is_dir() else root
        made = part.with_name(f".{where.name}.made")
        shutil.rmtree(made, ignore_errors=True)
        (made / chosen.inside).parent.mkdir(parents=True, exist_ok=True)
        root.rename(made / chosen.inside if chosen.inside != "." else made)
        if not layout.recognise(made) or not any(p.is_file() for p in made.rglob("*")):
            shutil.rmtree(made)
            raise UserError(f"{archive}: does not hold {layout.EXPECTS}; is it the right file? Remove it")
        made.rename(where)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error) as e:
        raise UserError(f"{archive}: is no zip file, or damaged ({e}); remove it and run this again") from e
    except OSError as e:
        raise UserError(
            f"cannot unpack {archive}: {e.strerror or e}; free some space or choose another --output"
        ) from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


def extract(opened: zipfile.ZipFile, part: Path, archive: Path, most: int, quiet: bool = True) -> None:
    """Write an archive's files, of at most so many bytes, under `part`, without hidden ones and the __MACOSX of some."""
    from tqdm import tqdm

    wanted = []
    for member in opened.infolist():
        parts = Path(member.filename.replace("\\", "/")).parts
        if ".." in parts or Path(member.filename).is_absolute() or ":" in member.filename:
            raise UserError(
                f"{archive}: would write outside of its folder ({member.filename!r}); do not trust this file"
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{archive}: holds a link ({member.filename!r}); do not trust this file")
        if not member.is_dir() and not any(p.startswith((".", "__")) for p in parts):
            wanted.append(member)
    part.mkdir()
    needed = sum(member.file_size for member in wanted)  # `zipfile` reads no more of each than its size
    if needed > most:
        raise UserError(f"{archive}: unpacks to {needed:,} bytes, which no such data set has; do not trust this file")
    check_space(part, needed, archive)
    for member in tqdm(wanted, desc="unpacking", unit="file", delay=1, leave=False, disable=quiet or None):
        opened.extract(member, part)
