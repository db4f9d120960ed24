"""A U-Net of segmentation_models.pytorch, trained by PyTorch and then loaded into minunet; for peers_accuracy.py."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from peer_training import Budget, Images
from pretrained import RECIPE, Segment

import minunet
from minunet.atomic import write_atomically
from minunet.checkpoint.file import save_checkpoint
from minunet.data import Batches, ImageSet
from minunet.data.groups import read_groups
from minunet.data.sample import true_labels
from minunet.data.targets import Target, TargetSet
from minunet.metrics import Confusion
from minunet.models.encoders import IMAGENET
from minunet.ops import named_loss
from minunet.train.arguments import parse
from minunet.train.config import training_config
from minunet.train.tuning import add_objects

STRIDE = 32  # of the deepest map of a ResNet
CLOSE = 1e-3  # of the largest logit: how far minunet's may be from PyTorch's


class Smp:
    """A U-Net of segmentation_models.pytorch.

    Attributes
    ----------
    minutes : float
        CPU minutes of its training so far.
    """

    TITLE = "segmentation_models.pytorch"
    PACKAGES = ("segmentation-models-pytorch", "torch")
    RATE = 1e-3

    def __init__(self, out: Path, threads: int, encoder: str = "resnet34") -> None:
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.torch, self.out = torch, out
        net = import_smp().Unet(encoder, encoder_weights=None, classes=3)
        self.net = net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=self.RATE)
        self.minutes, self.steps, self.epoch, self.batch, self.best = 0.0, 0, 0, 0, -1.0
        if (out / "state.pt").exists():
            stored = torch.load(out / "state.pt", weights_only=True)
            self.net.load_state_dict(stored["net"])
            self.optimizer.load_state_dict(stored["optimizer"])
            self.minutes, self.steps, self.epoch, self.batch, self.best = stored["progress"]

    def train(self, images: Images, budget: Budget) -> None:
        """Until the budget is spent, or somebody asks to stop."""
        config = training_config(parse(RECIPE)[0])
        dataset = targets(images)
        kinds = read_groups(images.kinds, dataset.names)
        batches = Batches(dataset, images.train, groups=kinds, **config.of_patches())
        forward, backward = named_loss(config.loss, 3)
        while not budget.over:
            for x, labels in batches.epoch(self.epoch, start=self.batch):
                self.optimizer.param_groups[0]["lr"] = budget.rate(self.RATE)
                self.optimizer.zero_grad()
                logits = self.net(self.seen(x))
                _, cache = forward(logits.detach().permute(0, 2, 3, 1).contiguous().numpy(), labels)
                logits.backward(self.torch.from_numpy(backward(1.0, cache)).permute(0, 3, 1, 2))
                self.optimizer.step()
                self.steps, self.batch = self.steps + 1, self.batch + 1
                if budget.over:
                    break
            if self.batch == len(batches):
                self.epoch, self.batch = self.epoch + 1, 0
            if not budget.asked:
                self.choose(dataset, images.validation)
            self.save(budget.used)

    def choose(self, dataset: ImageSet, validation: list[int]) -> None:
        """Keep the weights if they are the best so far by the Dice of inside and border, as minunet's training does."""
        confusion = Confusion(3)
        for i in validation:
            confusion.add(true_labels(dataset[i]), self.logits(dataset[i].image).argmax(-1))
        print(f"step {self.steps}, epoch {self.epoch}: validation Dice {confusion.mean_dice():.3f}", flush=True)
        if confusion.mean_dice() > self.best:
            self.best = confusion.mean_dice()
            self.write("best.pt", self.net.state_dict())

    def seen(self, x: np.ndarray) -> Any:
        """Images (N, H, W, 3) in 0..1 as the tensor (N, 3, H, W) that its encoders are made for."""
        mean, std = (np.array(values, np.float32) for values in IMAGENET)
        return self.torch.from_numpy((x - mean) / std).permute(0, 3, 1, 2)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Of an image (H, W, 3): (H, W, 3); it is extended by mirroring to a size that the network takes."""
        H, W = image.shape[:2]
        padded = np.pad(image, ((0, -H % STRIDE), (0, -W % STRIDE), (0, 0)), mode="reflect")
        self.net.eval()
        with self.torch.no_grad():
            found = self.net(self.seen(padded[None]))[0].permute(1, 2, 0).numpy()
        self.net.train()
        return found[:H, :W]

    def write(self, name: str, content: Any) -> None:
        file = io.BytesIO()
        self.torch.save(content, file)
        write_atomically(self.out / name, file.getvalue())

    def save(self, minutes: float) -> None:
        self.minutes = minutes
        progress = [minutes, self.steps, self.epoch, self.batch, self.best]
        content = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "progress": progress}
        self.write("state.pt", content)

    def tune(self, images: Images) -> None:
        """Load the best weights into minunet, see that they compute the same there, and choose thresholds."""
        best = self.out / "best.pt"
        self.net.load_state_dict(self.torch.load(best, weights_only=True))
        dataset, model = targets(images), minunet.load_torch(best, report=None)
        model.preprocessing = dataset.preprocessing
        part = dataset[images.validation[0]].image[: 4 * STRIDE, : 4 * STRIDE]
        theirs, ours = self.logits(part), model(part[None])[0]
        if not np.allclose(ours, theirs, rtol=0, atol=CLOSE * max(1, float(np.abs(theirs).max()))):
            raise SystemExit(f"minunet's logits are up to {np.abs(ours - theirs).max():g} from PyTorch's")
        add_objects(model, images.dataset, images.train, images.validation)
        save_checkpoint(self.out / "tuned.safetensors", model)

    def segmenter(self) -> Segment:
        """Finds objects, once it is tuned."""
        return partial(minunet.segment_objects, minunet.load(self.out / "tuned.safetensors"))


def targets(images: Images) -> TargetSet:
    """The images with the target of the recipe."""
    args, _ = parse(RECIPE)
    return TargetSet(images.dataset, Target(args.target, args.border_width), images.train)


def import_smp() -> Any:
    """segmentation_models.pytorch. torchvision, which it needs, describes its own operators to PyTorch, which fails where they
    were built for another build of PyTorch; no network here uses them."""
    import torch

    with mock.patch.object(torch.library, "register_fake", lambda *name, **how: lambda described: described):
        import segmentation_models_pytorch
    return segmentation_models_pytorch
