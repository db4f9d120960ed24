"""A downloader for pooch that resumes where an earlier download was cut off (pooch's own start anew).

What has arrived is kept in a file `.NAME.part`. Each request asks for the rest (HTTP ranges, RFC 9110, section 14); a server
without ranges sends everything again. That the pieces fit together is checked by the checksum.

What a server sends is bounded: in bytes, whatever it says of their number; in time, by a least speed; and it may not send
elsewhere.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from ...errors import UserError

TRIES = 4  # without another PIECE, before giving up
PAUSE = 2.0  # seconds before the second try, and then twice as long each time
TIMEOUT = 30  # seconds of silence, or in which less than a PIECE arrives
PIECE = 1 << 14  # bytes read at once
HOPS = 5  # redirects, all to the same server


class Unreachable(Exception):
    """The file cannot be had from its address; says why."""


class Resuming:
    """Called by pooch as downloader(url, output_file, pooch).

    `archive` is the file that is wanted in the end, of at most so many bytes; `quiet` shows no progress.
    """

    def __init__(self, archive: Path, most: int, quiet: bool = True) -> None:
        self.most, self.quiet = most, quiet
        self.part = archive.with_name(f".{archive.name}.part")

    def __call__(self, url: str, output_file: str | Path, pooch: Any) -> None:
        import requests

        failures, reason = 0, ""
        while failures < TRIES:
            if failures:
                time.sleep(PAUSE * 2 ** (failures - 1))
            before = self._arrived()
            try:
                if self._get_rest(url):
                    os.replace(self.part, output_file)
                    return
                reason = "the connection was cut"
            except requests.RequestException as e:
                reason = _reason(e)
            failures = failures + 1 if self._arrived() < before + PIECE else 0
        kept = f"; the {self._arrived():,} bytes that came are kept, and running this again goes on there"
        raise Unreachable(f"{url} cannot be reached ({reason})" + kept * bool(self._arrived()))

    def _arrived(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _get_rest(self, url: str) -> bool:
        """Ask for what has not arrived yet and append it; whether all is there."""
        import requests

        if self._arrived() > self.most:
            self.part.unlink()  # it is another file's
        arrived = self._arrived()
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={arrived}-"} if arrived else {})
        with _ask(url, asked) as answer:
            sent = answer.headers.get("Content-Range", "").removeprefix("bytes ")  # "100-199/200", or "*/200"
            total = int(sent.rpartition("/")[2]) if sent.rpartition("/")[2].isdigit() else None
            if answer.status_code == 416 and arrived:  # nothing lies beyond what has arrived
                if total != arrived:
                    self.part.unlink()  # it is another file's
                return total == arrived
            if answer.status_code >= 500:  # may pass
                raise requests.ConnectionError(f"{answer.status_code} {answer.reason}")
            if answer.status_code not in (200, 206):
                raise Unreachable(f"{url} answers {answer.status_code} {answer.reason}")
            if answer.status_code == 200 or not sent.startswith(f"{arrived}-"):
                if answer.status_code == 206:
                    self.part.unlink()
                    return False
                arrived, length = 0, answer.headers.get("Content-Length", "")
                total = int(length) if length.isdigit() else None
            self._check_bytes(total or 0, url)
            check_space(self.part.parent, (total or 0) - arrived, self.part)
            self._append(answer, arrived, total, url)
        return total is None or self._arrived() == total

    def _append(self, answer: Any, arrived: int, total: int | None, url: str) -> None:
        """Write what a server sends behind the bytes that have arrived, as long as it is neither too much nor too slow."""
        import requests
        from tqdm import tqdm
        from urllib3.exceptions import HTTPError

        with open(self.part, "ab" if arrived else "wb") as file, tqdm(
            total=total, initial=arrived, unit="B", unit_scale=True, desc="downloading", leave=False,
            disable=self.quiet or None,
        ) as bar:  # fmt: skip
            enough, until = arrived + PIECE, time.monotonic() + TIMEOUT
            try:
                while piece := answer.raw.read1(PIECE, decode_content=False):
                    arrived += len(piece)
                    self._check_bytes(arrived, url)
                    file.write(piece)
                    bar.update(len(piece))
                    if arrived >= enough:
                        enough, until = arrived + PIECE, time.monotonic() + TIMEOUT
                    elif time.monotonic() > until:
                        raise requests.ConnectionError("timed out")
            except HTTPError as e:
                raise requests.ConnectionError(str(e)) from e

    def _check_bytes(self, n: int, url: str) -> None:
        """Unreachable, and what has arrived is thrown away, if a server sends more bytes than the file has."""
        if n > self.most:
            self.part.unlink(missing_ok=True)
            raise Unreachable(f"{url} sends more than the {self.most:,} bytes that the file may have")


def _ask(url: str, headers: dict[str, str]) -> Any:
    """The answer to a request, redirected at most within the same server; Unreachable if it leads elsewhere."""
    import requests

    place = url
    for _ in range(HOPS):
        answer = requests.get(place, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            answer.close()
            raise Unreachable(f"{url} answers in another encoding than was asked for")
        if not answer.is_redirect:
            return answer
        answer.close()
        place = urljoin(place, answer.headers["Location"])
        if urlsplit(place)[:2] != urlsplit(url)[:2]:
            raise Unreachable(f"{url} sends elsewhere, to {place[:100]}, and is not followed")
    raise Unreachable(f"{url} redirects without end")


def check_space(folder: Path, needed: int, path: Path) -> None:
    """UserError if a folder's disk has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{path}: needs {needed / 1e6:,.0f} MB more but {folder} has {free / 1e6:,.0f} MB free; free some space or choose "
            f"another --output"
        )


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words, from exceptions that wrap each other."""
    text = str(error)
    for sign, meaning in (
        ("NameResolution", "its name is not known: no network?"),
        ("Name or service", "its name is not known: no network?"),
        ("timed out", "no answer"),
        ("refused", "connection refused"),
        ("CERTIFICATE", "its certificate is not trusted"),
        ("ProxyError", "the proxy does not let it through"),
        ("IncompleteRead", "the connection was cut"),
    ):
        if sign in text:
            return meaning
    return text[:60] if text[:3].isdigit() else type(error).__name__
