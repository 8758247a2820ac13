"""Training examples: random crops of photos with their labels and masks, each a pure function of (photo, seed)."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional as transforms

from fbinpaint.errors import InputError
from fbinpaint.images.convert import on_its_side, to_rgb
from fbinpaint.images.crops import resize_image, shorter_side
from fbinpaint.images.folders import naming
from fbinpaint.images.io import decode_image, index_values
from fbinpaint.labels import CELEBAMASK_HQ, CITYSCAPES, IGNORE, LabelSpace
from fbinpaint.masks import training_mask

from .celebamask_hq import merge_parts
from .cityscapes import to_train_ids
from .label_map import map_ids
from .rows import evenly_spaced, has_label, open_picture, read_first, rows_from

CLASS_COUNT_PHOTOS = 512  # enough to balance the classes; all 30,000 faces would take a quarter of an hour


@dataclass
class Batch:
    """image (B,3,H,W) in [-1,1]; mask (B,1,H,W), 1 = hole; labels (B,H,W) int64, 255 = unknown: all pixels of a photo
    without a label, some of one whose label is partial; has_label (B,) bool, whether the photo has one at all, though
    its crop may miss what it knows; names of the photos; labelled_share (B,), of the crop's pixels, by default counted.

    The last three never leave the host: steps that differ by them need not wait for a GPU to answer.
    """

    image: Tensor
    mask: Tensor
    labels: Tensor
    has_label: Tensor
    names: tuple[str, ...]
    labelled_share: Tensor = None  # type: ignore[assignment]  # until it is counted

    def __post_init__(self) -> None:
        if self.labelled_share is None:
            self.labelled_share = (self.labels != IGNORE).float().mean((1, 2)).cpu()

    def to(self, device: torch.device) -> "Batch":
        image, mask, labels = (x.to(device, non_blocking=True) for x in (self.image, self.mask, self.labels))
        return Batch(image, mask, labels, self.has_label, self.names, self.labelled_share)

    def resized(self, side: int) -> "Batch":
        """The same crops at a smaller size, side x side pixels."""
        if side == self.image.shape[-1]:
            return self
        image, mask = (F.interpolate(x, size=(side, side), mode="area") for x in (self.image, self.mask))
        labels = F.interpolate(self.labels[:, None].float(), size=(side, side), mode="nearest-exact")
        labels = labels[:, 0].long()
        return Batch(image, (mask >= 0.5).float(), labels, self.has_label, self.names, self.labelled_share)


def read_photo(
    row: dict, shorter: int, label_space: LabelSpace, label_map: np.ndarray | None = None, enlarge: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The photo of a row with its shorter side resized to `shorter` pixels, if it is larger or to be enlarged: (H,W,3)
    uint8 and labels (H,W) uint8.

    Without a label all are 255.

    label_map: the classes of the ids in index images, as of `read_label_map`; None = these are the label space's own

    Raises InputError, naming the file, where one is broken or missing, and where the label is of another size (part
    masks excepted, whose owners made them smaller) or of another label space.
    """
    picture = open_picture(row["image"], row["name"])
    size = picture.size
    if picture.format == "JPEG":
        # Large ones decode several times faster at 1/2, 1/4 or 1/8; twice the pixels asked for are left to average.
        picture.draft(None, (2 * shorter, 2 * shorter))
    with naming(row["name"]):
        image = to_rgb(decode_image(picture, row["name"]))
    if on_its_side(picture):  # not told by the shapes: what is drafted may be square where the photo is not
        size = size[::-1]
    resized = shorter_side(size, shorter if enlarge else min(shorter, *size))
    image = resize_image(image, resized)
    if row["label_format"] is None:
        return image, np.full(image.shape[:2], IGNORE, np.uint8)
    labels = read_labels(row, label_space, label_map)
    if labels.shape[::-1] != size and row["label_format"] != CELEBAMASK_HQ.name:
        raise InputError(f"{label_name(row)}: {labels.shape[::-1]} pixels, but the photo has {size}; resize the label")
    return image, np.array(Image.fromarray(labels).resize(resized, Image.Resampling.NEAREST))


def read_labels(row: dict, label_space: LabelSpace, label_map: np.ndarray | None = None) -> np.ndarray:
    """The label of a row at its own size, (H,W) uint8. Arguments and errors as of `read_photo`."""
    name, label_format = label_name(row), row["label_format"]
    if label_format not in ("ids", label_space.name):
        raise InputError(f"{name}: a label of {label_format}, not of {label_space.name}; check --label_space")
    if label_format == CELEBAMASK_HQ.name:
        return merge_parts(row["semantic_map"]["path"])
    picture = open_picture(row["semantic_map"], name)
    if picture.format == "JPEG":
        raise InputError(f"{name}: is a JPEG, which does not keep ids as they were; label with PNG files")
    labels = index_values(decode_image(picture, name))
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise InputError(f"{name}: not an index image but one of mode {picture.mode}; its pixels must be ids")
    if label_format == CITYSCAPES.name:
        labels = to_train_ids(labels)
    elif label_map is not None:
        labels = map_ids(labels, label_map)
    if label_space.ignored_ids:
        labels = np.where(np.isin(labels, label_space.ignored_ids), IGNORE, labels)
    known = labels[labels != IGNORE]
    if known.size and not 0 <= known.min() <= known.max() < label_space.num_classes:
        raise InputError(
            f"{name}: not an index image with ids 0..{label_space.num_classes - 1} or 255; "
            f"is {label_space.name} its label space? Ids of another numbering need --label_map"
        )
    return labels.astype(np.uint8)


def label_name(row: dict) -> str:
    """What errors call the label of a row."""
    return row["semantic_map"]["path"] if row["semantic_map"]["bytes"] is None else f"label of {row['name']}"


def jitter_colours(image: np.ndarray, generator: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, contrast and saturation changed by up to +-strength each; image (H,W,3) uint8."""
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    for adjust in (transforms.adjust_brightness, transforms.adjust_contrast, transforms.adjust_saturation):
        tensor = adjust(tensor, generator.uniform(1 - strength, 1 + strength))
    return tensor.permute(1, 2, 0).numpy()


def class_centred(labels: np.ndarray, generator: np.random.Generator) -> tuple[int, int] | None:
    """A random pixel (row, column) of a random class of the label map (H,W); None where nothing is labelled."""
    classes = np.setdiff1d(np.unique(labels), [IGNORE])
    if not len(classes):
        return None
    rows, columns = np.nonzero(labels == generator.choice(classes))
    pixel = generator.integers(len(rows))
    return int(rows[pixel]), int(columns[pixel])


class PhotoCrops(TorchDataset):
    """Square crops at the working resolution, some zoomed in, mirrored and recoloured at random, with a training mask.

    Half of the crops of labelled photos are centred on a random class, so that small ones (a pole, an eye) are seen.

    Items are asked for by (index, seed): the same key always gives the same example, whichever worker makes it. That is
    what makes a resumed run exact.

    Args:
        photos: rows as in `rows.FEATURES`.
        resolution: side of the crop, pixels. Unzoomed, it is the photo's shorter side (area averaging).
        max_zoom: half of the crops come from a photo enlarged by up to this factor.
        labelled_zoom: (low, high), the factor for all labelled photos, where their objects are smaller than those of
            the unlabelled ones; None = as for the others.
        label_fraction: the share of the labels that is used, evenly spaced; the others' photos count as unlabelled.
        colour_jitter: largest relative change of brightness, contrast and saturation.
        label_map: as of `read_photo`.
        skip_bad: in place of a photo that cannot be read the next one of its kind, labelled or not, is taken, and the
            example's `skipped` tells the problem by the bad photo's name; without, InputError is raised.
    """

    def __init__(
        self,
        photos: Dataset,
        label_space: LabelSpace,
        resolution: int,
        max_zoom: float = 1.5,
        labelled_zoom: tuple[float, float] | None = None,
        label_fraction: float = 1.0,
        colour_jitter: float = 0.2,
        skip_bad: bool = False,
        label_map: np.ndarray | None = None,
    ):
        self.photos, self.label_space, self.resolution = photos, label_space, resolution
        self.max_zoom, self.labelled_zoom, self.colour_jitter = max_zoom, labelled_zoom, colour_jitter
        self.skip_bad, self.label_map = skip_bad, label_map
        with_label = np.flatnonzero(has_label(photos))
        self.labelled = np.zeros(len(photos), bool)
        used = max(1, round(label_fraction * len(with_label)))
        self.labelled[with_label[evenly_spaced(len(with_label), used)]] = True

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        index, seed = key
        return self.example(rows_from(self.photos, index, self.labelled), bool(self.labelled[index]), seed)

    def example(self, rows: Iterable[dict], use_label: bool, seed: int) -> dict:
        """The example of the first of `rows` that can be read; `use_label` = False hides its label, if it has one."""
        generator = np.random.default_rng(seed)
        zoom = 1.0 if generator.random() < 0.5 else generator.uniform(1.0, self.max_zoom)
        if use_label and self.labelled_zoom:
            zoom = generator.uniform(*self.labelled_zoom)
        skipped: dict[str, str] = {}

        def read(row: dict) -> tuple[np.ndarray, np.ndarray, dict]:
            if not use_label:
                row = row | {"label_format": None}
            return *self.read_photo(row, round(self.resolution * zoom)), row

        image, labels, row = read_first(rows, read, skipped.__setitem__ if self.skip_bad else None)
        free = np.array(labels.shape) - self.resolution  # how far a window can move
        corner = generator.integers(0, free + 1)
        if generator.random() < 0.5 and (centre := class_centred(labels, generator)):
            corner = np.clip(np.array(centre) - self.resolution // 2, 0, free)
        window = tuple(slice(start, start + self.resolution) for start in corner)
        image, labels = jitter_colours(image[window], generator, self.colour_jitter), labels[window]
        if generator.random() < 0.5:
            image, labels = image[:, ::-1], np.asarray(self.label_space.flip(labels[:, ::-1]))
        height, width = labels.shape
        mask = training_mask(height, width, generator, labels)
        return {
            "image": image,
            "labels": labels,
            "mask": mask,
            "has_label": row["label_format"] is not None,
            "name": row["name"],
            "skipped": skipped,
        }

    def read_photo(self, row: dict, shorter: int) -> tuple[np.ndarray, np.ndarray]:
        """`read_photo` of a row, with the labels as they are read here."""
        return read_photo(row, shorter, self.label_space, self.label_map)

    def labelled_photos(self) -> Dataset:
        """The rows whose labels are used."""
        return self.photos.select(np.flatnonzero(self.labelled))

    def class_counts(self, skip: Callable[[str, str], None] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each class, over at most CLASS_COUNT_PHOTOS photos with a label: its pixels, their share of all pixels,
        and the share of photos that show it, (C,) each; `skip` as in `read_first`.

        What a label leaves unknown counts as none of the classes, so both shares are at least so large.
        """
        photos = self.labelled_photos()
        counts, pixels = [], 0
        for index in evenly_spaced(len(photos), CLASS_COUNT_PHOTOS):
            labels = read_first(
                rows_from(photos, index), lambda row: read_labels(row, self.label_space, self.label_map), skip
            )
            counts.append(np.bincount(labels.ravel(), minlength=256)[: self.label_space.num_classes])
            pixels += labels.size
        counts = torch.from_numpy(np.stack(counts))
        return counts.sum(0).float(), counts.sum(0) / pixels, (counts > 0).float().mean(0)


def collate(examples: list[dict[str, Any]]) -> Batch:
    image = torch.from_numpy(np.stack([example["image"] for example in examples]))
    return Batch(
        image=image.permute(0, 3, 1, 2).float().div_(127.5).sub_(1),
        mask=torch.from_numpy(np.stack([example["mask"] for example in examples]))[:, None].float(),
        labels=torch.from_numpy(np.stack([example["labels"] for example in examples])).long(),
        has_label=torch.tensor([example["has_label"] for example in examples]),
        names=tuple(example["name"] for example in examples),
    )


class MixedBatches:
    """A batch sampler that mixes labelled and unlabelled photos at a fixed ratio, forever.

    Batch number b is a pure function of (seed, b), so a run resumes exactly by starting at its step; each source is
    walked through in shuffled epochs. A source that is empty leaves its places to the other.

    Args:
        labelled: (N,) bool, which photos carry a label, be it of a part of them.
        labelled_ratio: share of each batch drawn from them.
        start: number of the first step.
        process, processes: of several training processes, each takes its own batch of a step.

    Raises:
        InputError: there are photos of both kinds, but a batch would get no labelled one: its exemplars.
    """

    def __init__(
        self,
        labelled: np.ndarray,
        batch_size: int,
        labelled_ratio: float,
        seed: int,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ):
        with_labels = round(batch_size * labelled_ratio)
        if labelled.all() or not labelled.any():
            with_labels = batch_size if labelled.all() else 0
        elif not with_labels:
            raise InputError(
                f"{labelled_ratio:g} of {batch_size} photos is none: a batch needs a labelled photo; "
                "raise --labelled_ratio or --train_batch_size"
            )
        self.sources = (
            (np.flatnonzero(labelled), with_labels),
            (np.flatnonzero(~labelled), batch_size - with_labels),
        )
        self.seed, self.start, self.process, self.processes = seed, start, process, processes
        self.orders: dict[int, tuple[int, np.ndarray]] = {}  # source -> its current epoch and the order in it

    def places(self, number: int) -> list[tuple[int, int, int]]:
        """Of each example of batch `number`: the source (0 = labelled), how many came from it before, a seed."""
        return [
            # The seed of an example: its own stream, never shared with another place in the run.
            (source, position, int(np.random.SeedSequence((self.seed, source, position)).generate_state(1)[0]))
            for source, (_, count) in enumerate(self.sources)
            for position in range(number * count, (number + 1) * count)
        ]

    def batch(self, number: int) -> list[tuple[int, int]]:
        """The keys (index, seed) of the examples of batch `number`."""
        keys = []
        for source, position, seed in self.places(number):
            indices = self.sources[source][0]
            epoch, place = divmod(position, len(indices))
            keys.append((int(indices[self._order(source, epoch)[place]]), seed))
        return keys

    def _order(self, source: int, epoch: int) -> np.ndarray:
        if source not in self.orders or self.orders[source][0] != epoch:  # a million photos take long to shuffle
            generator = np.random.default_rng((self.seed, source, epoch))
            self.orders[source] = epoch, generator.permutation(len(self.sources[source][0]))
        return self.orders[source][1]

    def reading(self, workers: int, number: int) -> dict[str, Any]:
        """What rows a reader of streams gets depends on, before batch `number` of a process."""
        of_kinds = [count for _, count in self.sources]
        return {
            "processes": self.processes,
            "workers": workers,
            "of_kinds": of_kinds,
            "batch": number,
            "seed": self.seed,
        }

    def number(self, step: int) -> int:
        """Of this process's batch of a step, among the batches of all processes."""
        return step * self.processes + self.process

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in itertools.count(self.start):
            yield self.batch(self.number(step))
