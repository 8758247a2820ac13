"""Semantic maps of intact photos: the segmenter alone, on photo and mirror image, on large photos at several sizes."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.images.crops import resize_image, working_size
from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.labels import LabelSpace
from fbinpaint.models import Recorrector, Segmenter

ENLARGEMENTS = (2, 4)  # the sizes looked at beside that of the loop, in sample sizes, as far as a photo has the pixels
MAX_ASPECT = 2  # these hold at most so many squares of their shorter side: a panorama at 1024x4096 would take .9 GB
MIN_RATIO = 2  # of the pixels of one size to those of the next: with fewer there is nothing more to see
# How much surer the segmenter must be at one size than at another, on average, to be heard e times as loudly. Measured
# on photos as they are and on mosaics of 4 and 9 of them, whose objects are small (docs/experiments.md).
TEMPERATURE = 0.02


def segment_photos(
    segmenter: Segmenter,
    photos: Sequence[np.ndarray],
    label_space: LabelSpace,
    sample_size: int,
    device: torch.device,
    recorrector: Recorrector | None = None,
) -> list[np.ndarray]:
    """Photos (H,W,3) uint8, all of one size -> their maps, (H,W) uint8 class ids; with a recorrector as its exemplars
    have them, if they have a weight in maps.

    A map is the mean of what the segmenter says of the photo and of its mirror image: twice the time, and 1 to 2 % more
    mIoU on every set of real photos (docs/experiments.md).

    What a photo shows is recognised at about the size it was learnt at: a face that fills the photo when it is made
    small, a car in the distance of a large one only close up. So a photo larger than sample_size is segmented at
    several sizes, and they are averaged, weighted by how sure the segmenter is at each (after attention to scale, Chen
    et al., CVPR 2016, with its confidence in the place of learnt weights).
    """
    height, width = photos[0].shape[:2]
    sizes = pyramid(width, height, sample_size)
    # Exemplars speak of things of the size that the loop sees.
    heard = [recorrector] + [None] * (len(sizes) - 1)
    at_each = [
        class_probabilities(segmenter, photos, label_space, size, device, own)
        for size, own in zip(sizes, heard, strict=True)
    ]
    confidence = torch.stack([mean_confidence(x, size) for x, size in zip(at_each, sizes, strict=True)])  # (sizes, B)
    weights = torch.softmax(confidence / TEMPERATURE, dim=0)

    def total(photo: int) -> Iterable[np.ndarray]:
        for of_class in range(label_space.num_classes):
            mean: Tensor | None = None
            for weight, probabilities, size in zip(weights[:, photo], at_each, sizes, strict=True):
                enlarged = in_pixels(probabilities[photo : photo + 1, of_class : of_class + 1], size)
                part = weight * F.interpolate(enlarged, size=sizes[-1][::-1], mode="bilinear")
                mean = part if mean is None else mean + part
            assert mean is not None, "there is a size at least"
            yield mean[0, 0].cpu().numpy()

    return [most_probable(total(photo), (width, height)) for photo in range(len(photos))]


def pyramid(width: int, height: int, sample_size: int) -> list[tuple[int, int]]:
    """The sizes (width, height) that a photo is segmented at, the smallest first: that of the loop, and larger ones."""
    sizes = [working_size(width, height, sample_size)]
    for enlargement in ENLARGEMENTS:
        size = working_size(width, height, enlargement * sample_size, MAX_ASPECT)
        if size[0] * size[1] >= MIN_RATIO * sizes[-1][0] * sizes[-1][1]:
            sizes.append(size)
    return sizes


@torch.no_grad()
def class_probabilities(
    segmenter: Segmenter,
    photos: Sequence[np.ndarray],
    label_space: LabelSpace,
    size: tuple[int, int],
    device: torch.device,
    recorrector: Recorrector | None = None,
) -> Tensor:
    """(B,C,h,w) of photos made so large and padded to multiples of 16, in cells of 4 pixels."""
    image = torch.cat([pad_to_multiple(to_tensor(resize_image(photo, size)), 16) for photo in photos])
    image = image.to(device, segmenter.dtype)
    intact = torch.zeros_like(image[:, :1])

    def seen(image: Tensor) -> Tensor:
        segmented = segmenter(image, intact)
        found = segmented.logits.float().softmax(1)
        return found if recorrector is None else recorrector.adapt(segmented.pyramid, found, intact)

    probabilities, mirrored = seen(image), seen(image.flip(3)).flip(3)
    other_side = label_space.flip(np.arange(label_space.num_classes))  # a left eye was seen as a right one
    return ((probabilities + mirrored[:, torch.from_numpy(other_side)]) / 2).contiguous()


def in_pixels(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """What `class_probabilities` made (B,C,h,w) at its own (width, height), without the padding: (B,C,height,width)."""
    return F.interpolate(probabilities, scale_factor=4, mode="bilinear")[..., : size[1], : size[0]]


def mean_confidence(probabilities: Tensor, size: tuple[int, int]) -> Tensor:
    """(B,), how sure the segmenter is on average. Class by class, as `most_probable`."""
    highest = in_pixels(probabilities[:, :1], size)
    for of_class in range(1, probabilities.shape[1]):
        highest = torch.maximum(highest, in_pixels(probabilities[:, of_class : of_class + 1], size))
    return highest[:, 0].mean((1, 2))


def most_probable(probabilities: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(h,w) of each class, one after the other -> at another (width, height): (height,width) uint8, the class that is
    likeliest there.

    Class by class: all of them at the size of a 12 Mpx photo would take a gigabyte, and those at a third of its sides
    half of one.
    """
    labels = np.zeros(size[::-1], np.uint8)
    highest = np.full(size[::-1], -1, np.float32)
    enlarged = np.empty_like(highest)
    for index, of_class in enumerate(probabilities):
        cv2.resize(of_class, size, enlarged, interpolation=cv2.INTER_LINEAR)
        np.copyto(labels, index, where=enlarged > highest)
        np.maximum(highest, enlarged, out=highest)
    return labels
