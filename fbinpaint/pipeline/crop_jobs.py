"""Crops of photos as the loop works on them: which there are, at what sizes, in which batches, what becomes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.images.crops import Crop, divide_hole, plan_crops, resize_image, working_size
from fbinpaint.images.tensors import mask_to_tensor, pad_to_multiple, to_tensor, to_uint8
from fbinpaint.loop import Round
from fbinpaint.models.layers import downsample_labels, upsample_labels
from fbinpaint.pipeline.outputs import Patch, Photo

STRIDE = 16  # the networks' inputs are multiples of this
MAX_BATCH = 8  # crops run together
CONTEXT = 0.5  # a crop extends past its hole by this share of the hole's longer side


@dataclass
class CropJob:
    """A crop of a photo at its working size, padded: what the loop runs on.

    part: of the crop, (H,W) bool, what this one is to fill; None = run only for the map of the known part.
    """

    photo: Photo
    crop: Crop
    part: np.ndarray | None
    size: tuple[int, int]  # working (width, height)
    image: Tensor
    mask: Tensor
    drawn: Tensor | None

    @property
    def for_global_map(self) -> bool:
        return self.part is None

    @cached_property
    def weight(self) -> Tensor:
        """(1,1,h,w) in [0,1]: how much of each small pixel this crop is to fill; 0 in the padding."""
        assert self.part is not None, "a job for the global map fills nothing"
        part = cv2.resize(self.part.astype(np.float32), self.size, interpolation=cv2.INTER_AREA)
        weight = torch.zeros_like(self.mask)
        weight[..., : self.size[1], : self.size[0]] = torch.from_numpy(part)
        return weight

    def undecided(self, size: tuple[int, int]) -> Tensor:
        """(1,1,h,w) in {0,1}: what the mask marked, and the user drew no class into; at a (width, height), padded."""
        undecided = shrink_hole(self.photo.undecided[self.crop.slices], size)
        return pad_to_multiple(mask_to_tensor(undecided), STRIDE)

    @property
    def batch_key(self) -> tuple:
        return (self.image.shape, self.drawn is None, self.for_global_map)


def plan_jobs(photo: Photo, sample_size: int) -> list[CropJob]:
    """The crops around the holes and, unless one of them is the whole photo, one for the global map."""
    height, width = photo.hole.shape
    whole = Crop(0, 0, width, height)
    crops = plan_crops(photo.hole, min_size=sample_size, context=CONTEXT)
    parts = zip(crops, divide_hole(photo.hole, crops), strict=True)
    jobs = [make_job(photo, crop, part, sample_size) for crop, part in parts if part.any()]
    if crops != [whole]:
        jobs.append(make_job(photo, whole, None, sample_size))
    return jobs


def make_job(photo: Photo, crop: Crop, part: np.ndarray | None, sample_size: int) -> CropJob:
    size = working_size(crop.width, crop.height, sample_size)
    pixels, hole = shrink(photo.pixels[crop.slices], photo.hole[crop.slices], size)
    image = pad_to_multiple(to_tensor(pixels), STRIDE)
    mask = pad_to_multiple(mask_to_tensor(hole), STRIDE)
    drawn = None
    if photo.drawn is not None:
        drawn = cv2.resize(photo.drawn[crop.slices], size, interpolation=cv2.INTER_NEAREST_EXACT)
        drawn = pad_to_multiple(torch.from_numpy(drawn).float()[None, None], STRIDE)[:, 0].long()
    return CropJob(photo, crop, part, size, image, mask, drawn)


def in_batches(jobs: Sequence[CropJob]) -> list[list[CropJob]]:
    groups: dict[tuple, list[CropJob]] = {}
    for job in jobs:
        groups.setdefault(job.batch_key, []).append(job)
    return [group[i : i + MAX_BATCH] for group in groups.values() for i in range(0, len(group), MAX_BATCH)]


def make_patches(jobs: list[CropJob], round_: Round, labels: Tensor, before: Tensor) -> list[Patch]:
    """What a round made of some crops. labels and before (B,H,W): its map and that of one round before.

    A crop that is the whole photo also knows the map of the known part, the global map.
    """
    weight = torch.cat([job.weight for job in jobs]).to(labels.device)
    weight = weight / weight.sum((1, 2, 3), keepdim=True)
    sure = F.interpolate(round_.probabilities.amax(1, keepdim=True).float(), size=labels.shape[-2:])
    confidence, changed = ((plane * weight[:, 0]).sum((1, 2)) for plane in (sure[:, 0], labels != before))
    planes = {name: x.cpu().numpy() for name, x in diagnostics(round_, labels, before).items()}
    fills, maps = to_uint8(round_.image), labels.cpu().numpy().astype(np.uint8)
    patches = []
    for i, job in enumerate(jobs):
        assert job.part is not None, "a job for the global map makes no patch"
        inside = slice(job.size[1]), slice(job.size[0])
        patches.append(
            Patch(
                crop=job.crop,
                part=job.part,
                fill=fills[i][inside],
                labels=maps[i][inside],
                diagnostics={name: plane[i][inside] for name, plane in planes.items()},
                changed=float(changed[i]),
                confidence=float(confidence[i]),
            )
        )
        if job.photo.global_map is None and (job.crop.height, job.crop.width) == job.photo.hole.shape:
            job.photo.global_map = patches[-1].labels
    return patches


def shrink(pixels: np.ndarray, hole: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Photo (H,W,3) and hole (H,W) at a smaller (width, height), or as they are.

    The hole's own, arbitrary pixels must not bleed into the known ones: a small pixel is known only if all that it
    covers is.
    """
    if hole.shape == size[::-1]:
        return pixels, hole
    return resize_image(pixels, size), shrink_hole(hole, size)


def shrink_hole(hole: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A hole (H,W) bool at a smaller (width, height): a small pixel is one as soon as any that it covers is."""
    return cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0


def diagnostics(round_: Round, labels: Tensor, before: Tensor) -> dict[str, Tensor]:
    """The planes of a `RoundOutput` at the size of the crops: doubt (B,H,W,3), consistency and trust (B,H,W) uint8,
    exemplar (B,H,W) int16."""

    def at_size(x: Tensor) -> Tensor:
        return F.interpolate(x.float(), size=labels.shape[-2:], mode="bilinear")

    def levels(x: Tensor) -> Tensor:
        return (x.clamp(0, 1) * 255).round().to(torch.uint8)

    planes = {"doubt": levels(at_size(round_.doubt)).movedim(1, -1)}
    if round_.correction is not None and round_.consistency is not None and round_.layout is not None:
        planes["trust"] = levels(at_size(1 - round_.correction.gates[:, :1]))[:, 0]
        planes["consistency"] = levels(at_size(round_.consistency).gather(1, labels[:, None]))[:, 0]
        cells = downsample_labels(labels)  # (B, h, w); at the photo's size this would take as long as painting
        maps = F.interpolate(round_.layout.maps.float(), size=cells.shape[-2:], mode="nearest-exact")  # (B, K, h, w)
        agreeing = maps == cells[:, None]
        best = round_.layout.nearest.gather(1, agreeing.int().argmax(1).flatten(1)).view_as(cells)
        best = upsample_labels(torch.where(agreeing.any(1), best, -1))
        planes["exemplar"] = torch.where(labels != before, best, -1).to(torch.int16)
    return planes
