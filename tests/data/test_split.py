"""Lists of images: the same for training, evaluation and doctor, whatever program wrote them."""

import numpy as np
import pytest
from PIL import Image

from minunet.data import read_names, split_indices
from minunet.data.split import find_named
from minunet.doctor import examine
from minunet.errors import UserError
from minunet.evaluate import evaluate

NAMES = ["a", "b.v2", "01/t000", "01/t001", "02/t000", "c d"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_are_read_as_windows_and_others_write_them(tmp_path, encoding, newline):
    text = newline.join(["# held out", "", "  zellen\\größe 1.png ", "C:\\d\\imgs\\c d.tif", "/x/b.v2.png"]) + newline
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "list.txt").write_bytes((mark + text).encode(encoding))
    assert read_names(tmp_path / "list.txt") == ["zellen\\größe 1.png", "C:\\d\\imgs\\c d.tif", "/x/b.v2.png"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfea\x00\x00\xd8")
    with pytest.raises(UserError, match="cannot be read as a list"):
        read_names(tmp_path / "bad.txt")


def test_names_paths_and_folders():
    assert find_named(NAMES, ["C:\\d\\imgs\\c d.tif", "imgs/a.png", "x\\b.v2.png"]) == [0, 1, 5]
    assert find_named(NAMES, ["02", "01/t001.tif"]) == [3, 4]
    assert find_named(NAMES, ["t001.tif"]) == [3]  # the last part of one name only
    for wrong, words in ((["t000"], "01/t000, 02/t000: give its folder"), (["e"], "no image is called 'e'")):
        with pytest.raises(UserError, match=words):
            find_named(NAMES, wrong)
    assert split_indices(NAMES, percent=0) == ([0, 1, 2, 3, 4, 5], [])


def test_one_list_for_all_commands(tmp_path):
    for i in range(5):
        mask = np.zeros((40, 40), np.uint8)
        mask[5 + i : 20, 8:25] = 255
        for name, pixels in (("imgs", 255 - mask // 2), ("masks", mask), ("pred", mask)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    (tmp_path / "held.txt").write_text("D:\\mine\\masks\\3.png\r\nimgs/1.tif\r\n", encoding="utf-16")
    for truth in (tmp_path, tmp_path / "masks"):
        assert list(evaluate(tmp_path / "pred", truth, val_files=tmp_path / "held.txt").images) == ["1", "3"]
    found = [f.name for f in examine(tmp_path, val_files=tmp_path / "held.txt")]
    assert "empty validation set" not in found
    (tmp_path / "held.txt").write_text("9\n")
    with pytest.raises(UserError, match=r"held\.txt.*no image is called '9'"):
        evaluate(tmp_path / "pred", tmp_path, val_files=tmp_path / "held.txt")
