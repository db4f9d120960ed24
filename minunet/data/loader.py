"""Batches for training: which patches, in which order, made one step ahead in a thread.

The loader has no state. The order of epoch e is drawn from `default_rng([seed, 1, e])` and its k-th patch from
`default_rng([seed, 2, e, k])`. So any batch of any epoch can be made again exactly, and an interrupted training continues with
the batches that it would have had.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import UserError
from .augment import augment, crop_patch
from .image_set import ImageSet
from .sample import Sample, true_labels
from .stars import object_numbers, star_targets

AHEAD = 2  # batches prepared in advance
MAX_PATCHES = 16  # per image and epoch, so that one huge image does not drown the others

Batch = tuple[np.ndarray, ...]  # images, labels (or what `star_targets` gives), and weights if the samples have any


class Batches:
    """The training batches of a data set.

    Parameters
    ----------
    dataset : ImageSet
    indices : sequence of int
        The images to use, as `dataset.split` gives them.
    batch_size : int
        Patches in a batch. The last batch of an epoch may be smaller; without crop, the last one of each size of images.
    crop : int or None
        Side of the square patches, in pixels. In an epoch an image gives max(1, round(H * W / inner²)) patches, at most 16,
        where inner = crop - 2 * context. An image smaller than a patch is extended by mirroring. None or 0: whole images, and
        only images of equal size share a batch.
    augment : bool
        Whether patches are distorted at random, see `minunet.data.augment`; whole images are flipped and turned only.
    seed : int
    context : int
        Width of the margin of a patch for which the network gives no output, see `minunet.data.augment`.
    foreground_share : float
        Share of the patches that are taken where foreground is: of a class drawn from all but the first, of one of the images
        that hold it, around one of its pixels. Needs `crop`.
    groups : sequence of str or None
        The kind of every image of the data set: then every kind gives as many patches, those of a rare one repeatedly.
    rank, ranks : int
        Which of how many ranks this is (`minunet.train.distributed`): every batch is the same on all, and each makes every
        `ranks`-th of its patches, from number `rank` on; no patch, of the right shape, if there are not so many.
    **distortion
        Further parameters of `augment`: elastic, scales, p_elastic, interpolation, intensity.

    Examples
    --------
    >>> from minunet.data import SyntheticCells
    >>> batches = Batches(SyntheticCells(4, size=64), indices=[0, 1, 2], batch_size=2, crop=32)
    >>> len(batches)  # four patches of each image
    6
    >>> images, labels = next(batches.epoch(0))
    >>> images.shape, labels.shape
    ((2, 32, 32, 1), (2, 32, 32))
    """

    def __init__(
        self,
        dataset: ImageSet,
        indices: Sequence[int],
        batch_size: int = 1,
        crop: int | None = None,
        augment: bool = True,
        seed: int = 0,
        context: int = 0,
        foreground_share: float = 0.0,
        groups: Sequence[str] | None = None,
        rank: int = 0,
        ranks: int = 1,
        **distortion: Any,
    ) -> None:
        if foreground_share and not crop:
            raise UserError("foreground_share: whole images are not placed; give a crop, or leave it out")
        if batch_size < 1 or (crop or 0) < 0 or seed < 0:
            raise ValueError(f"batch_size {batch_size}, crop {crop} and seed {seed} must be positive")
        self.dataset, self.indices, self.batch_size = dataset, [int(i) for i in indices], batch_size
        self.crop, self.augment, self.seed = crop or None, augment, seed
        self.context, self.distortion = context, distortion
        self.foreground_share, self.groups = foreground_share, groups
        self.rank, self.ranks = rank, ranks
        self._holding: dict[int, list[int]] | None = None  # the images that hold a class, once that is needed
        self._rays, self._numbers = dataset.preprocessing.rays, dataset.preprocessing.one_by_one
        self._length = len(self.plan(0))

    def __len__(self) -> int:
        """Batches in an epoch; the same for every epoch."""
        return self._length

    def plan(self, epoch: int) -> list[list[tuple[int, int]]]:
        """The batches of an epoch as lists of (k, index): patch number k of the epoch, cut from image number index."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        patches = np.repeat(self.indices, [self._patches(i) for i in self.indices])
        if self.groups is not None:
            patches = evenly(patches, [self.groups[i] for i in patches], np.random.default_rng([self.seed, 5, epoch]))
        order = list(enumerate(rng.permutation(patches).tolist()))
        if self.crop:
            groups = [order]
        else:
            sizes = self.dataset.sizes
            groups = [[p for p in order if sizes[p[1]] == s] for s in sorted({sizes[i] for i in self.indices})]
        batches = [g[start : start + self.batch_size] for g in groups for start in range(0, len(g), self.batch_size)]
        return batches if len(groups) < 2 else [batches[i] for i in rng.permutation(len(batches))]

    def _patches(self, index: int) -> int:
        """How many patches an image gives an epoch."""
        if not self.crop:
            return 1
        H, W = self.dataset.sizes[index]
        return min(MAX_PATCHES, max(1, round(H * W / (self.crop - 2 * self.context) ** 2)))

    def batch(self, epoch: int, number: int) -> Batch:
        """Batch `number` of an epoch, the same as `epoch` gives, made in this thread."""
        return self._make(epoch, self.plan(epoch)[number])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, prepared in a background thread where there are threads.

        The thread ends with the iterator, whether that is exhausted, closed or dropped; an error in the thread is raised here.

        Yields
        ------
        images : (N, h, w, C) float32 array
        labels : (N, h, w) int64 array, -1 where labels do not count; of polygons (N, h, w, 1 + R) float32, see `star_targets`;
            for boxes and masks the objects' numbers
        weights : (N, h, w) float32 array, only if the samples have weights
        """
        plan = self.plan(epoch)[start:]
        return _ahead((self._make(epoch, patches) for patches in plan), AHEAD)

    def _make(self, epoch: int, patches: list[tuple[int, int]]) -> Batch:
        made = []
        own = patches[self.rank :: self.ranks]
        for k, i in own or patches[:1]:
            index, at = self._foreground(np.random.default_rng([self.seed, 4, epoch, k])) or (i, None)
            made.append(self._patch(np.random.default_rng([self.seed, 2, epoch, k]), self.dataset[index], at))
        return tuple(np.stack(arrays)[: len(own)] for arrays in zip(*made))

    def _foreground(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]] | None:
        """An image and one of its foreground pixels, for a share of the patches; None for the others."""
        if not self.foreground_share or rng.random() >= self.foreground_share:
            return None
        if self._holding is None:
            held = {i: np.unique(true_labels(self.dataset[i])) for i in self.indices}
            classes = sorted({int(c) for found in held.values() for c in found if c > 0})
            self._holding = {c: [i for i in self.indices if c in held[i]] for c in classes}
        if not self._holding:
            return None
        label = sorted(self._holding)[rng.integers(len(self._holding))]
        index = self._holding[label][rng.integers(len(self._holding[label]))]
        sample = self.dataset[index]
        places = np.flatnonzero(
            sample.labels == label if sample.valid is None else (sample.labels == label) & sample.valid
        )
        row, column = divmod(int(places[rng.integers(len(places))]), sample.labels.shape[1])
        return index, (row, column)

    def _patch(self, rng: np.random.Generator, sample: Sample, at: tuple[int, int] | None = None) -> Batch:
        sample = replace(sample, instances=object_numbers(sample) if self._numbers else None)
        if self.augment or self.crop:
            sample = self._cut(rng, sample, at)
        labels = true_labels(sample) if sample.instances is None else sample.instances
        target = star_targets(labels, self._rays) if self._rays else labels
        return (sample.image, target) if sample.weight is None else (sample.image, target, sample.weight)

    def _cut(self, rng: np.random.Generator, sample: Sample, at: tuple[int, int] | None) -> Sample:
        """A patch of a sample. Only what lies in it is read: an image may be hundreds of times as large."""
        # for each pixel of the patch, the index of the image's pixel that labels and weights are read from
        source: Any = Places(sample.labels.shape)
        if not self.crop:
            source = source.array()
        if self.augment:
            image, source = augment(
                sample.image, source, rng, self.crop, context=self.context, at=at, **self.distortion
            )
        else:
            image, source = crop_patch(sample.image, source, rng, self.crop or 0, self.context, at)
        maps: dict[str, Any] = {name: getattr(sample, name) for name in ("labels", "instances", "valid", "weight")}
        cut: dict[str, Any] = {name: None if a is None else a.ravel()[source] for name, a in maps.items()}
        return replace(sample, image=image, **cut)


class Places:
    """The numbers of an image's pixels, row by row, as an array (H, W) int32 of which a part is made when it is asked for.

    >>> Places((3, 4))[np.array([[0], [2]]), np.array([1, 3])]
    array([[ 1,  3],
           [ 9, 11]], dtype=int32)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __getitem__(self, index: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, columns = index
        return (rows * self.shape[1] + columns).astype(np.int32)

    def array(self) -> np.ndarray:
        """All of them."""
        return np.arange(math.prod(self.shape), dtype=np.int32).reshape(self.shape)


def evenly(patches: np.ndarray, groups: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """As many patches (n,), but as many of each group; those of small groups repeatedly.

    Examples
    --------
    >>> evenly(np.array([0, 1, 2, 3, 4, 5]), ["a", "a", "a", "a", "a", "b"], np.random.default_rng(0)).tolist()[3:]
    [5, 5, 5]
    """
    names, taken = sorted(set(groups)), []
    for number, name in enumerate(names):
        members = patches[[group == name for group in groups]]
        count = len(patches) * (number + 1) // len(names) - len(patches) * number // len(names)
        drawn = [rng.permutation(members) for _ in range(-(-count // len(members)))]
        taken.append(np.concatenate(drawn)[:count] if drawn else members[:0])
    return np.concatenate(taken)


def to_device(batches: Iterator[tuple[Any, ...]], xp: ModuleType) -> Iterator[tuple[Any, ...]]:
    """Batches as arrays of xp; a batch is copied to the GPU while the one before it is computed on.

    A copy can run at the same time as the computation only from pinned memory and on a stream of its own. The memory of the
    arrays comes from the pool of the computing stream, in which earlier work may still use memory that has been freed
    meanwhile. So the copy waits for the work that is queued there.

    Yields
    ------
    tuple of arrays, in the order of the batch; valid until the next batch is requested
    """
    if xp is np:
        yield from batches
        return
    import cupyx

    copies, compute = xp.cuda.Stream(non_blocking=True), xp.cuda.get_current_stream()

    def send(batch: tuple[np.ndarray, ...]) -> tuple[list, list, Any]:
        pinned = [cupyx.empty_pinned(a.shape, a.dtype) for a in batch]
        arrays = [xp.empty(a.shape, a.dtype) for a in batch]
        copies.wait_event(compute.record())
        for a, host, array in zip(batch, pinned, arrays):
            np.copyto(host, a)
            array.set(host, stream=copies)
        return arrays, pinned, copies.record()

    def use(arrays: list, pinned: list, copied: Any) -> Iterator[tuple[Any, ...]]:
        compute.wait_event(copied)
        yield tuple(arrays)
        copied.synchronize()  # from here on the pinned memory may be freed

    sent = None
    try:
        for batch in batches:
            before, sent = sent, send(batch)
            if before:
                yield from use(*before)
        if sent:
            yield from use(*sent)
    finally:
        copies.synchronize()  # if the consumer stops early, a batch may still be being copied


def _ahead(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """Run an iterator in a thread, `count` items ahead of its consumer."""
    ready: queue.Queue = queue.Queue(count)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(batches, ready, stop), name="minunet-batches", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started, as in a browser
        yield from batches
        return
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        stop.set()
        while not ready.empty():  # the thread may be waiting for room
            ready.get_nowait()
        thread.join()


def _fill(batches: Iterator[Batch], ready: queue.Queue, stop: threading.Event) -> None:
    """Put every batch, then (None, None), or the error that came up, into the queue, unless told to stop."""
    try:
        for batch in batches:
            if stop.is_set():
                return
            ready.put((batch, None))
        ready.put((None, None))
    except BaseException as error:
        ready.put((None, error))
