"""Training examples: random crops of photos with their labels and masks, each a pure function of (photo, seed)."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset, Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2 import functional as transforms

from ..errors import InputError
from ..images import resize_image, shorter_side, to_rgb
from ..labels import IGNORE, LabelSpace
from ..masks import training_mask


@dataclass
class Batch:
    """image (B,3,H,W) in [-1,1]; mask (B,1,H,W), 1 = hole; labels (B,H,W) int64, 255 = unknown; labelled (B,) bool."""

    image: Tensor
    mask: Tensor
    labels: Tensor
    labelled: Tensor

    def to(self, device: torch.device) -> "Batch":
        image = self.image.to(device, memory_format=torch.channels_last)
        return Batch(image, self.mask.to(device), self.labels.to(device), self.labelled.to(device))


def read_photo(photos: Dataset, index: int, shorter: int, label_space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Photo number `index` with its shorter side resized to `shorter` pixels: (H,W,3) uint8 and labels (H,W) uint8.

    Without a label all are 255. Raises InputError where the label is of another size or of another label space.
    """
    row = photos[index]
    image = to_rgb(row["image"])
    size = (image.shape[1], image.shape[0])
    resized = shorter_side(size, shorter)
    image, semantic_map = resize_image(image, resized), row["semantic_map"]
    if semantic_map is None:
        return image, np.full(image.shape[:2], IGNORE, np.uint8)
    if semantic_map.size != size:
        raise InputError(f"label of photo {index}: {semantic_map.size} pixels, but the photo has {size}")
    labels = np.array(semantic_map.resize(resized, 0))  # 0 = nearest, also for palette images
    if labels.ndim != 2 or ((labels >= label_space.num_classes) & (labels != IGNORE)).any():
        raise InputError(
            f"label of photo {index}: not an index image with ids 0..{label_space.num_classes - 1} or 255; "
            f"is {label_space.name} its label space?"
        )
    return image, labels


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
        photos: columns `image` and `semantic_map`.
        resolution: side of the crop, pixels. Unzoomed, it is the photo's shorter side (area averaging).
        max_zoom: half of the crops come from a photo enlarged by up to this factor.
        labelled_zoom: (low, high), the factor for all labelled photos, where their objects are smaller than those of
            the unlabelled ones; None = as for the others.
        label_fraction: the share of the labels that is used, evenly spaced; the others' photos count as unlabelled.
        colour_jitter: largest relative change of brightness, contrast and saturation.
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
    ):
        self.photos, self.label_space, self.resolution = photos, label_space, resolution
        self.max_zoom, self.labelled_zoom, self.colour_jitter = max_zoom, labelled_zoom, colour_jitter
        paths = photos.cast_column("semantic_map", Image(decode=False))["semantic_map"]
        with_label = np.flatnonzero([path is not None for path in paths])
        used = max(1, round(label_fraction * len(with_label))) if len(with_label) else 0
        self.labelled = np.zeros(len(photos), bool)
        self.labelled[with_label[np.linspace(0, len(with_label) - 1, used).round().astype(int)]] = True

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, np.ndarray]:
        index, seed = key
        generator = np.random.default_rng(seed)
        zoom = 1.0 if generator.random() < 0.5 else generator.uniform(1.0, self.max_zoom)
        if self.labelled[index] and self.labelled_zoom:
            zoom = generator.uniform(*self.labelled_zoom)
        image, labels = read_photo(self.photos, index, round(self.resolution * zoom), self.label_space)
        if not self.labelled[index]:
            labels = np.full_like(labels, IGNORE)
        free = np.array(labels.shape) - self.resolution  # how far a window can move
        corner = generator.integers(0, free + 1)
        if generator.random() < 0.5 and (centre := class_centred(labels, generator)):
            corner = np.clip(np.array(centre) - self.resolution // 2, 0, free)
        window = tuple(slice(start, start + self.resolution) for start in corner)
        image, labels = jitter_colours(image[window], generator, self.colour_jitter), labels[window]
        if generator.random() < 0.5:
            image, labels = image[:, ::-1], self.label_space.flip(labels[:, ::-1])
        mask = training_mask(*labels.shape, generator, labels if self.labelled[index] else None)
        return {"image": image, "labels": labels, "mask": mask, "labelled": self.labelled[index]}

    def class_counts(self) -> Tensor:
        """Labelled pixels of each class, (C,), over all photos."""
        labelled = self.photos.select(np.flatnonzero(self.labelled)).select_columns("semantic_map")
        counts = sum(np.bincount(np.asarray(row["semantic_map"]).ravel(), minlength=256) for row in labelled)
        return torch.from_numpy(counts[: self.label_space.num_classes]).float()


def collate(examples: list[dict[str, np.ndarray]]) -> Batch:
    image = torch.from_numpy(np.stack([example["image"] for example in examples]))
    return Batch(
        image=image.permute(0, 3, 1, 2).float().div_(127.5).sub_(1),
        mask=torch.from_numpy(np.stack([example["mask"] for example in examples]))[:, None].float(),
        labels=torch.from_numpy(np.stack([example["labels"] for example in examples])).long(),
        labelled=torch.tensor([bool(example["labelled"]) for example in examples]),
    )


class MixedBatches:
    """A batch sampler that mixes labelled and unlabelled photos at a fixed ratio, forever.

    Batch number b is a pure function of (seed, b), so a run resumes exactly by starting at its step; each source is
    walked through in shuffled epochs. A source that is empty leaves its places to the other.

    Args:
        labelled: (N,) bool, which photos carry labels.
        labelled_ratio: share of each batch drawn from them.
        start: number of the first step.
        process, processes: of several training processes, each takes its own batch of a step.
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
        self.sources = (
            (np.flatnonzero(labelled), with_labels),
            (np.flatnonzero(~labelled), batch_size - with_labels),
        )
        self.seed, self.start, self.process, self.processes = seed, start, process, processes

    def batch(self, number: int) -> list[tuple[int, int]]:
        keys = []
        for source, (indices, count) in enumerate(self.sources):
            for position in range(number * count, (number + 1) * count):
                epoch, place = divmod(position, len(indices))
                order = np.random.default_rng((self.seed, source, epoch)).permutation(len(indices))
                # The seed of an example: its own stream, never shared with another place in the run.
                stream = np.random.SeedSequence((self.seed, source, position)).generate_state(1)
                keys.append((int(indices[order[place]]), int(stream[0])))
        return keys

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in itertools.count(self.start):
            yield self.batch(step * self.processes + self.process)
