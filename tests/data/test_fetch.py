"""Fetching public data sets, from a server on this machine that misbehaves as servers do."""

import gzip
import hashlib
import http.server
import io
import re
import shutil
import socket
import threading
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from minunet.data import command, open_dataset
from minunet.data.public import download, fetch
from minunet.errors import UserError

pytest.importorskip("pooch")


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


RNG = np.random.default_rng(0)
NOISE = png(RNG.integers(0, 256, (64, 64), np.uint8))
CELL = png(np.kron([[0, 255], [0, 0]], np.ones((32, 32))).astype(np.uint8))


def archive(top="", images=2, **extra):
    """A zip file as the Data Science Bowl's, a folder an image."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for i in range(images):
            z.writestr(zipfile.ZipInfo(f"{top}a{i}/images/a{i}.png"), NOISE)  # without the time, so that its sum stays
            z.writestr(zipfile.ZipInfo(f"{top}a{i}/masks/m.png"), CELL)
        for name, content in extra.items():
            z.writestr(name, content)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at any path but /missing.zip; cuts the connection after `cut` bytes of an answer, if set."""

    content, cut, ranges, down = b"", None, True, 0

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, first, asked = self.server, 0, self.headers.get("Range")
        server.asked.append(asked)
        if server.down:
            server.down -= 1
            return self.send_error(503)
        if self.path == "/missing.zip":
            return self.send_error(404)
        if asked and server.ranges:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if first >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        rest = server.content[first:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if server.cut is None else rest[: server.cut])
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "PIECE", 512)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.content, running.asked = archive(), []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        publish(monkeypatch, running)
        yield running
        running.shutdown()
        thread.join()


def publish(monkeypatch, server, path="stage1_train.zip", known=True):
    """Let the server's content be the data set dsb2018."""
    made = replace(
        fetch.SETS["dsb2018"],
        url=f"http://127.0.0.1:{server.server_port}/{path}",
        sha256=hashlib.sha256(server.content).hexdigest() if known else None,
    )
    monkeypatch.setitem(fetch.SETS, "dsb2018", made)


def run(tmp_path):
    return command.main(["fetch", "dsb2018", "-o", str(tmp_path / "data")])


def left(tmp_path):
    return sorted(p.name for p in (tmp_path / "data").iterdir())


def test_fetch_says_the_terms_and_leaves_a_data_set(server, tmp_path, capsys):
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    for words in ("CC0 1.0", "Caicedo", server_url(), f"next: python -m minunet.train --data {tmp_path}/data/dsb2018"):
        assert words in said
    assert left(tmp_path) == ["dsb2018", "stage1_train.zip"]
    ds = open_dataset(tmp_path / "data" / "dsb2018")
    assert (ds.layout, ds.names) == ("dsb2018", ["a0", "a1"]) and ds[0].instances.max() == 1
    assert run(tmp_path) == 0 and len(server.asked) == 1  # all is there
    shutil.rmtree(tmp_path / "data" / "dsb2018")
    assert run(tmp_path) == 0 and len(server.asked) == 1  # the archive is


def test_quiet(server, tmp_path, capsys):
    assert command.main(["fetch", "dsb2018", "-o", str(tmp_path / "data"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "") and left(tmp_path) == ["dsb2018", "stage1_train.zip"]


def server_url():
    return fetch.SETS["dsb2018"].url


@pytest.mark.parametrize("cut", [600, 5000])
def test_a_connection_cut_midway_is_resumed(server, tmp_path, cut):
    server.cut = cut
    assert run(tmp_path) == 0 and left(tmp_path) == ["dsb2018", "stage1_train.zip"]
    starts = [0, *(int(a[6:-1]) for a in server.asked[1:])]
    assert len(starts) > 1
    assert starts == [cut * i for i in range(len(starts))]  # all that came is kept


def test_a_later_run_goes_on_where_an_earlier_one_ended(server, tmp_path, capsys, monkeypatch):
    server.cut = 0
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".stage1_train.zip.part").write_bytes(server.content[:1000])
    assert run(tmp_path) == 2 and len(server.asked) == download.TRIES
    assert "the 1,000 bytes that came are kept" in capsys.readouterr().err
    server.cut, server.asked = None, []
    assert run(tmp_path) == 0 and server.asked == ["bytes=1000-"]


def test_all_had_arrived_before_it_was_interrupted(server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".stage1_train.zip.part").write_bytes(server.content)
    assert run(tmp_path) == 0 and len(server.asked) == 1


def test_what_is_left_of_another_file_is_thrown_away(server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".stage1_train.zip.part").write_bytes(server.content + b"and more")
    assert run(tmp_path) == 0 and server.asked == [f"bytes={len(server.content) + 8}-", None]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".stage1_train.zip.part").write_bytes(b"x" * 1000)
    assert run(tmp_path) == 0 and server.asked == ["bytes=1000-"]


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.down = download.TRIES - 1
    assert run(tmp_path) == 0 and len(server.asked) == download.TRIES


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_a_wrong_checksum_leaves_nothing(server, tmp_path, capsys):
    server.content = archive(images=3)
    assert run(tmp_path) == 2 and "SHA-256 differs" in one_line(capsys)
    assert left(tmp_path) == []
    server.content = archive()
    assert run(tmp_path) == 0


def test_not_found(server, tmp_path, capsys, monkeypatch):
    publish(monkeypatch, server, "missing.zip")
    assert run(tmp_path) == 2
    said = one_line(capsys)
    assert "answers 404" in said and f"put it as {tmp_path}/data/missing.zip" in said and len(server.asked) == 1


def test_without_a_network_it_says_what_to_do_by_hand(server, tmp_path, capsys, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/stage1_train.zip"
        monkeypatch.setitem(fetch.SETS, "dsb2018", replace(fetch.SETS["dsb2018"], url=url))
        assert run(tmp_path) == 2
    said, by_hand = one_line(capsys), tmp_path / "data" / "stage1_train.zip"
    assert f"Download {url} by hand, put it as {by_hand}, and run this again" in said
    by_hand.write_bytes(server.content[:-9])
    assert run(tmp_path) == 2 and "SHA-256 differs" in one_line(capsys)
    by_hand.write_bytes(server.content)
    assert run(tmp_path) == 0 and not server.asked
    assert len(open_dataset(tmp_path / "data" / "dsb2018")) == 2


def test_without_pooch(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    assert run(tmp_path) == 2 and "pip install '.[fetch]'" in one_line(capsys)


def test_an_unknown_checksum_is_noted_and_held_to(server, tmp_path, capsys, monkeypatch):
    publish(monkeypatch, server, known=False)
    assert run(tmp_path) == 0
    total = hashlib.sha256(server.content).hexdigest()
    noted = tmp_path / "data" / "stage1_train.zip.sha256"
    assert noted.read_text() == f"{total}  stage1_train.zip\n" and total in capsys.readouterr().out
    shutil.rmtree(tmp_path / "data" / "dsb2018")
    (tmp_path / "data" / "stage1_train.zip").unlink()
    server.content = archive(images=3)
    assert run(tmp_path) == 2 and "SHA-256 differs" in one_line(capsys)


@pytest.mark.parametrize("top", ["", "stage1_train/", "download/stage1_train/"])
def test_wherever_the_images_lie_in_the_archive(server, tmp_path, monkeypatch, top):
    server.content = archive(top, **{"__MACOSX/._a0": b"x", "._b": b"x"})
    publish(monkeypatch, server)
    assert run(tmp_path) == 0
    assert sorted(p.name for p in (tmp_path / "data/dsb2018/stage1_train").iterdir()) == ["a0", "a1"]


def test_isbi_as_it_is_packed(server, tmp_path, monkeypatch):
    import tifffile

    stack = io.BytesIO()
    tifffile.imwrite(stack, RNG.integers(0, 2, (3, 16, 16), np.uint8) * np.uint8(255), photometric="minisblack")
    inside = {f"ISBI-2012-challenge/train-{name}.tif": stack.getvalue() for name in ("volume", "labels")}
    server.content = archive(images=0, **inside)
    url = f"http://127.0.0.1:{server.server_port}/ISBI-2012-challenge.zip"
    monkeypatch.setitem(fetch.SETS, "isbi2012", replace(fetch.SETS["isbi2012"], url=url))
    assert open_dataset(fetch.fetch("isbi2012", tmp_path)).layout == "isbi2012"


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_an_archive_that_would_write_elsewhere(server, tmp_path, monkeypatch, capsys, name):
    server.content = archive(**{name: b"x"})
    publish(monkeypatch, server)
    assert run(tmp_path) == 2 and "outside of its folder" in one_line(capsys)
    assert left(tmp_path) == ["stage1_train.zip"] and not list(tmp_path.rglob("evil*"))


def test_damaged_archives_and_strange_ones(server, tmp_path, monkeypatch, capsys):
    bad = bytearray(archive())
    bad[80:400] = b"x" * 320
    for content, words in ((b"<html>", "no zip file"), (bytes(bad), "damaged"), (archive(images=0), "does not hold"),
                           (server.content[:-40], "no zip file")):  # fmt: skip
        server.content = content
        publish(monkeypatch, server)
        assert run(tmp_path) == 2 and words in one_line(capsys)
        assert left(tmp_path) == ["stage1_train.zip"]
        (tmp_path / "data" / "stage1_train.zip").unlink()


def test_a_full_disk(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 100))
    assert run(tmp_path) == 2 and "needs 0 MB more" in one_line(capsys) and left(tmp_path) == []


def test_a_disk_that_fills_up_while_writing(server, tmp_path, monkeypatch, capsys):
    """What came is kept, and unpacking leaves nothing half done."""

    def full(self, member, path=None):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", full)
        assert run(tmp_path) == 2 and "No space left" in one_line(capsys)
    assert left(tmp_path) == ["stage1_train.zip"]
    assert run(tmp_path) == 0 and len(server.asked) == 1


def test_interrupted_while_unpacking(server, tmp_path, monkeypatch):
    plain, seen = zipfile.ZipFile.extract, []

    def interrupted(self, member, path=None):
        seen.append(member)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return plain(self, member, path)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", interrupted)
        assert run(tmp_path) == 130
    assert left(tmp_path) == ["stage1_train.zip"]
    assert run(tmp_path) == 0 and len(open_dataset(tmp_path / "data" / "dsb2018")) == 2


def test_a_folder_in_the_way(server, tmp_path, capsys):
    (tmp_path / "data" / "dsb2018").mkdir(parents=True)
    assert run(tmp_path) == 2 and "does not hold dsb2018" in one_line(capsys)
    with pytest.raises(UserError, match="cannot make the folder"):
        fetch.fetch("dsb2018", __file__ + "/x")


# ---- servers that mean ill -------------------------------------------------------------------------------------------


class Evil(Handler):
    """Answers as the server's `how` says."""

    def do_GET(self):
        how, content = self.server.how, self.server.content
        self.server.asked.append(self.path)
        if how.startswith("to "):
            self.send_response(302)
            self.send_header("Location", how[3:])
            return self.end_headers()
        self.send_response(206 if how == "a range" else 200)
        if how == "large":
            self.send_header("Content-Length", str(10**12))
        if how == "a range":
            self.send_header("Content-Range", f"bytes 0-{10**12 - 1}/{10**12}")
        if how == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        try:
            while how in ("endless", "drops"):
                self.wfile.write(bytes(1 if how == "drops" else 1 << 16))
                time.sleep(0.02 * (how == "drops"))
            self.wfile.write(gzip.compress(content) if how == "packed" else content)
        except OSError:
            pass


@pytest.mark.parametrize("how, words", [
    ("endless", "sends more than the"), ("large", "sends more than the"), ("a range", "sends more than the"),
    ("drops", "cannot be reached (no answer)"), ("packed", "another encoding"), ("to /loop", "redirects without end"),
    ("to http://127.0.0.1:9/x.zip", "sends elsewhere, to http://127.0.0.1:9/x.zip, and is not followed"),
    ("to https://127.0.0.1/x.zip", "sends elsewhere"), ("to file:///etc/passwd", "sends elsewhere"),
    ("to //example.com/\x1b", "sends elsewhere"),
])  # fmt: skip
def test_servers_that_mean_ill(server, tmp_path, monkeypatch, capsys, how, words):
    server.how, server.RequestHandlerClass = how, Evil
    monkeypatch.setattr(download, "TIMEOUT", 0.2 if how == "drops" else 30)
    monkeypatch.setitem(fetch.SETS, "dsb2018", replace(fetch.SETS["dsb2018"], most_bytes=1 << 20))
    assert run(tmp_path) == 2 and words in one_line(capsys)
    assert sum(p.stat().st_size for p in (tmp_path / "data").iterdir()) < 1 << 10
    assert len(server.asked) <= download.HOPS


def test_an_archive_may_move_within_its_server(server, tmp_path):
    plain = server.RequestHandlerClass.do_GET

    class Moved(Handler):
        def do_GET(self):
            if self.path == "/stage1_train.zip":
                self.send_response(301)
                self.send_header("Location", "/new/stage1_train.zip")
                return self.end_headers()
            return plain(self)

    server.RequestHandlerClass = Moved
    assert run(tmp_path) == 0


def test_an_archive_that_unpacks_to_too_much(server, tmp_path, monkeypatch, capsys):
    server.content = bomb()
    publish(monkeypatch, server)
    monkeypatch.setitem(fetch.SETS, "dsb2018", replace(fetch.SETS["dsb2018"], most_bytes=1 << 20))
    assert run(tmp_path) == 2 and "unpacks to 41,9" in one_line(capsys)
    assert left(tmp_path) == ["stage1_train.zip"]


def bomb():
    """A small zip file of 40 MB of zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("bomb.png", bytes(40 << 20))
    return buffer.getvalue()


def test_an_archive_with_a_link(server, tmp_path, monkeypatch, capsys):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        link = zipfile.ZipInfo("a0/images/a0.png")
        link.external_attr = 0o120777 << 16
        z.writestr(link, "/etc/passwd")
    server.content = buffer.getvalue()
    publish(monkeypatch, server)
    assert run(tmp_path) == 2 and "holds a link" in one_line(capsys)
