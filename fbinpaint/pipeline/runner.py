"""Runs the loop on crops of photos, round by round, and paints the details and the grain of what was made smaller."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fbinpaint.images.crops import resize_image, working_size
from fbinpaint.images.tensors import mask_to_tensor, pad_to_multiple, to_tensor, to_uint8
from fbinpaint.loop import Forbidden, Networks, Round, feedback_rounds
from fbinpaint.pipeline.crop_jobs import STRIDE, CropJob, in_batches, make_patches, plan_jobs, shrink
from fbinpaint.pipeline.grain import add_grain
from fbinpaint.pipeline.outputs import Patch, Photo
from fbinpaint.pipeline.plain_holes import fill_plain_holes, mean_in
from fbinpaint.pipeline.refinement import refine

MAX_DETAIL = 4  # details are painted up to so many times sample_size
MIN_ENLARGEMENT = 1.5  # a fill that is enlarged less loses nothing one would see


@dataclass(frozen=True)
class Runner:
    """What fills the holes of photos; what it makes of each crop is put into `Photo.patches`.

    num_rounds: of feedback; sample_size: crops are worked on at, pixels
    forbidden: (C,) bool, classes that no map may show in the holes; None = none
    callback: called with every round of every batch of crops, says whether it replaced anything
    grain_seed: None = no grain
    interrupted: asked after every round: whether to stop
    progress_bar: as that of a `DiffusionPipeline`
    """

    networks: Networks
    device: torch.device
    sample_size: int
    num_rounds: int
    forbidden: Tensor | None
    callback: Callable[[Round], bool] | None
    grain_seed: int | None
    interrupted: Callable[[], bool]
    progress_bar: Callable[..., Any]

    @property
    def dtype(self) -> torch.dtype:
        return self.networks.segmenter.dtype

    def steps(self, photos: Sequence[Photo], abreast: bool = False) -> Iterator[int]:
        """Run everything; yields the number of the round after each step of each batch of crops or, where they go
        abreast, of all of them."""
        for photo in photos:
            fill_plain_holes(photo, self.sample_size, self.grain_seed, self.first_fill)
        jobs = [job for photo in photos for job in plan_jobs(photo, self.sample_size)]
        # Global maps first: they lay down the map of the known part, the crops then write the holes.
        batches = in_batches(sorted(jobs, key=lambda job: not job.for_global_map))
        total = sum(1 if batch[0].for_global_map else self.num_rounds + 1 for batch in batches)
        with self.progress_bar(total=total) as progress:
            runs = []
            for batch in batches:
                if self.interrupted():
                    break
                run = self.global_maps(batch) if batch[0].for_global_map else self.rounds(batch)
                if abreast and not batch[0].for_global_map:
                    runs.append(run)
                    continue
                for index in run:
                    progress.update()
                    if not abreast:
                        yield index
            for indices in zip_longest(*runs):  # when interrupted, some have ended before, and the others end now
                reached = [index for index in indices if index is not None]
                progress.update(len(reached))
                yield reached[0]

    def first_fill(self, pixels: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the initial inpainter makes of a part of a photo, without details and with them: see `FirstFill`."""
        image = pad_to_multiple(to_tensor(pixels), STRIDE).to(self.device, self.dtype)
        mask = pad_to_multiple(mask_to_tensor(hole), STRIDE).to(self.device, self.dtype)
        filled = self.networks.initial_inpainter(image * (1 - mask), mask, self.networks.window(mask))
        smooth, detailed = to_uint8(torch.cat([filled.smooth, filled.image]))[:, : hole.shape[0], : hole.shape[1]]
        return smooth, detailed

    def loop(self, jobs: list[CropJob], num_rounds: int) -> Iterator[Round]:
        """The loop on a batch of crops of one size."""
        image = torch.cat([job.image for job in jobs]).to(self.device, self.dtype)
        mask = torch.cat([job.mask for job in jobs]).to(self.device, self.dtype)
        of_users = [job.drawn for job in jobs if job.drawn is not None]  # all of them, or none: see `batch_key`
        drawn = torch.cat(of_users).to(self.device) if of_users else None
        undecided = None if self.forbidden is None else torch.cat([job.undecided(job.size) for job in jobs])
        return feedback_rounds(
            self.networks, image, mask, num_rounds, semantic_map=drawn, forbidden=self.without_forbidden(undecided)
        )

    def without_forbidden(self, undecided: Tensor | None) -> Forbidden | None:
        """What the loop is to leave out where; undecided (B,1,h,w), None where nothing is forbidden."""
        if self.forbidden is None or undecided is None:
            return None
        return Forbidden(self.forbidden.to(self.device), undecided.to(self.device, self.dtype))

    def global_maps(self, jobs: list[CropJob]) -> Iterator[int]:
        """The maps of whole photos, for the parts that are known."""
        round_ = next(self.loop(jobs, 0))
        sure = round_.probabilities.amax(1).float().cpu().numpy()
        for i, (job, labels) in enumerate(zip(jobs, round_.labels().cpu().numpy().astype(np.uint8), strict=True)):
            job.photo.global_map = labels[: job.size[1], : job.size[0]]
            if job.photo.filled is not None and not job.photo.hole.any():
                job.photo.confidence = mean_in(job.photo.filled, sure[i, : job.size[1] // 4, : job.size[0] // 4])
        yield 0

    def rounds(self, jobs: list[CropJob]) -> Iterator[int]:
        """All rounds of a batch of crops; after the last one their details and their grain are painted."""
        mask = torch.cat([job.mask for job in jobs]).to(self.device, self.dtype)
        before = last = None
        final: dict[int, Patch] = {}  # by their crops' places in the batch, which must not depend on the others
        for round_ in self.loop(jobs, self.num_rounds):
            replaced = self.callback is not None and self.callback(round_)
            if replaced:
                final.clear()  # what had settled goes on from what takes its place
            labels = round_.labels()
            before = labels if before is None else before
            ends = [round_.index == self.num_rounds or self.interrupted()] * len(jobs)
            if last is not None and not replaced and not ends[0]:
                ends = settled(round_.image, last, labels, before, mask).tolist()
            patches = make_patches(jobs, round_, labels, before)
            guidance = zip(round_.probabilities.split(1), round_.styles.split(1), strict=True)
            for i, (job, guide) in enumerate(zip(jobs, guidance, strict=True)):
                if i in final:
                    patches[i] = replace(final[i], changed=0.0)
                elif ends[i]:
                    final[i] = patches[i]
                    patches[i].fill = self.with_detail(job, patches[i].fill, *guide)
                    if self.grain_seed is not None:
                        patches[i].fill = with_grain(job, patches[i].fill, self.grain_seed)
            done = len(final) == len(jobs)
            before, last = labels, round_.image
            # After an early stop the rounds to come would repeat this one; when interrupted, they may be needed beside
            # those of other crops, but were not reached.
            for index in range(round_.index, self.num_rounds + 1 if done else round_.index + 1):
                for job, patch in zip(jobs, patches, strict=True):
                    repeated = patch if index == round_.index else replace(patch, changed=0.0)
                    job.photo.patches[index].append(repeated)
                if index == round_.index or not self.interrupted():
                    yield index
            if done:
                return

    def with_detail(self, job: CropJob, fill: np.ndarray, probabilities: Tensor, styles: Tensor) -> np.ndarray:
        """The fill (h,w,3) uint8 of a crop that was made smaller, repainted at twice the size again and again, up to
        about the crop's own or the largest that details are painted at."""
        photo, crop = job.photo, job.crop
        largest = working_size(crop.width, crop.height, MAX_DETAIL * self.sample_size)
        width, height = job.size
        while min(largest) >= MIN_ENLARGEMENT * min(width, height):
            width, height = min(2 * width, largest[0]), min(2 * height, largest[1])
            pixels, hole = shrink(photo.pixels[crop.slices], photo.hole[crop.slices], (width, height))
            tensors = (to_tensor(pixels), mask_to_tensor(hole), to_tensor(fill))
            image, mask, filled = (x.to(self.device, self.dtype) for x in tensors)
            undecided = None if self.forbidden is None else job.undecided((width, height))
            without = self.without_forbidden(undecided)
            finer = refine(self.networks, image, mask, filled, probabilities, job.size[::-1], styles, without)
            fill = to_uint8(finer)[0]
        return fill


def with_grain(job: CropJob, fill: np.ndarray, seed: int) -> np.ndarray:
    """The fill (h,w,3) uint8 of a crop, at the crop's size and with its grain, unless it was worked on at that size."""
    crop = job.crop
    if job.size == (crop.width, crop.height):
        return fill
    fill = resize_image(fill, (crop.width, crop.height))
    # A seed for each crop, as what else is in the batch must not matter.
    return add_grain(fill, job.photo.pixels[crop.slices], job.photo.hole[crop.slices], [seed, crop.left, crop.top])


def settled(image: Tensor, last: Tensor, labels: Tensor, before: Tensor, mask: Tensor) -> Tensor:
    """(B,) bool, whether a round changed nothing that anyone could see: no pixel's class, and the fill by less than
    half a grey level on average. image, last (B,3,H,W) in [-1,1]; labels, before (B,H,W); mask (B,1,H,W)."""
    mask = mask.float()  # half precision would overflow in the sums
    moved = ((image - last).abs() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return (labels == before).all((1, 2)) & (moved * 127.5 < 0.5)
