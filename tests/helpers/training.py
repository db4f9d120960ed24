"""Small runs of `minunet.train` as a user starts them: made, stopped, compared, refused."""

import csv

import pytest
from safetensors.numpy import load_file

from minunet.train.command import main as train
from minunet.train.trainer import Trainer

SMALL = ["--base-width", "2", "--depth", "2", "--crop", "16", "-b", "4"]


def go(data, out, *flags):
    small = SMALL[4:] if "instance_net" in flags else SMALL  # it has another kind of width, and no depth
    return train(["--data", str(data), "--out", str(out), *small, *flags])


def history(out):
    with open(out / "history.csv") as f:
        return list(csv.DictReader(f))


def stop_after(epochs, data, out, flags, batches=0):
    """Run until so many epochs and batches are done, then as if Ctrl-C had been pressed."""

    def step(self, *batch, plain=Trainer.step):
        loss = plain(self, *batch)
        if self.state.epoch == epochs and self.state.batch + 1 >= batches:
            self.stop()
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        assert go(data, out, *flags) == 130


def same_run(a, b):
    keys = ("train_loss", "val_loss", "val_dice", "val_iou")
    assert [[r[k] for k in keys] for r in history(a)] == [[r[k] for k in keys] for r in history(b)]
    wa, wb = load_file(a / "last.safetensors"), load_file(b / "last.safetensors")
    assert wa.keys() == wb.keys() and all((wa[k] == wb[k]).all() for k in wa)


def refused(capsys, status, *words):
    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("error: ") and "Traceback" not in err
    for word in words:
        assert str(word) in err
