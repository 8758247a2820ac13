"""The pipeline: photo and mask in, restored photo and both semantic maps out."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from huggingface_hub import CommitInfo
from torch import Tensor
from torch.nn import functional as F

from .errors import InputError
from .folders import naming
from .hub import publish
from .images import (
    Crop,
    mask_to_tensor,
    pad_to_multiple,
    plan_crops,
    resize_image,
    to_index_map,
    to_mask,
    to_rgb,
    to_tensor,
    to_uint8,
)
from .labels import IGNORE, LabelSpace, get_label_space
from .loop import Networks, Round, feedback_rounds
from .models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from .saved import COMPONENTS, HUB_OPTIONS, check_pipeline, check_repo_id, fetch

STRIDE = 16  # the networks' inputs are multiples of this
MAX_BATCH = 8  # crops run together
CONTEXT = 0.5  # a crop extends past its hole by this share of the hole's longer side
MAX_ROUNDS = 100  # each is kept in memory
MAX_ASPECT = 4  # a working picture holds at most this many sample_size x sample_size squares


@dataclass
class RoundOutput:
    """One round of one photo, at the photo's size.

    image and semantic_map as in `FeedbackInpaintPipelineOutput`. The evidence behind them, arrays with 255 = 1, is zero
    outside the hole, and all but the doubt in round 0, before which nothing was corrected.

    doubt: (H,W,3) uint8, what was fed back: disagreement of the last two fills, depth into the hole, 1 - confidence.
    consistency: (H,W) uint8, how much the pixel looks like its class in the retrieved exemplars, S_c.
    trust: (H,W) uint8, how far the correction was let through.
    exemplar: (H,W) int16, where this round changed the class: the exemplar (number in the bank) that spoke loudest for
        the new one; -1 elsewhere.
    changed: share of the hole of another class than one round before.
    confidence: mean probability of the map's classes in the hole.
    """

    image: Any
    semantic_map: Any
    doubt: np.ndarray
    consistency: np.ndarray
    trust: np.ndarray
    exemplar: np.ndarray
    changed: float = 0.0
    confidence: float = 0.0


@dataclass
class FeedbackInpaintPipelineOutput(BaseOutput):
    """Lists as long as the batch.

    images: restored photos. semantic_before / semantic_after: class ids before and after feedback, at the photo's size
    ("pil": mode "P" images in the label space's colours, "np": (H,W) uint8, "pt": (H,W) int64). rounds[i][k]: round k
    of photo i, k = 0 being the one-way pass.
    """

    images: list[Any]
    semantic_before: list[Any]
    semantic_after: list[Any]
    rounds: list[list[RoundOutput]]


@dataclass
class _Photo:
    """A photo on its way through: pixels (H,W,3) uint8, hole (H,W) bool, drawn (H,W) uint8 with 255 = undecided; the
    rounds fill up crop by crop, their images (H,W,3) uint8, their maps (H,W) uint8."""

    pixels: np.ndarray
    hole: np.ndarray
    drawn: np.ndarray | None
    original: Tensor | None  # (3,H,W), the float photo a caller gave
    rounds: list[RoundOutput]


@dataclass
class _Job:
    """A crop of a photo at its working size, padded: what the loop runs on."""

    photo: _Photo
    crop: Crop
    size: tuple[int, int]  # working (width, height)
    image: Tensor
    mask: Tensor
    drawn: Tensor | None
    overview: bool  # run only for the map of the known part

    @property
    def batch_key(self) -> tuple:
        return (self.image.shape, self.drawn is None, self.overview)


class FeedbackInpaintPipeline(DiffusionPipeline):
    """Restores the holes of photos, guided by a semantic map that the restoration itself corrects.

    Args:
        label_space: name of the label space, see `fbinpaint.labels`.
        sample_size: crops whose shorter side is longer than this are worked on at this size, pixels.
        variant: what guides the inpainter, one of `fbinpaint.loop.VARIANTS`; all but "feedback" are controls.

    Example:
        >>> from PIL import Image
        >>> from fbinpaint import FeedbackInpaintPipeline
        >>> pipe = FeedbackInpaintPipeline.from_pretrained("checkpoints/streets")
        >>> out = pipe(Image.open("photo.jpg"), Image.open("mask.png"), num_feedback_rounds=2)
        >>> out.images[0].save("restored.png")
    """

    def __init__(
        self,
        initial_inpainter: InitialInpainter,
        segmenter: Segmenter,
        recorrector: Recorrector,
        guided_inpainter: GuidedInpainter,
        label_space: str = "cityscapes",
        sample_size: int = 192,
        variant: str = "feedback",
    ):
        super().__init__()
        get_label_space(label_space)  # refuses an unknown one
        self.register_modules(
            initial_inpainter=initial_inpainter,
            segmenter=segmenter,
            recorrector=recorrector,
            guided_inpainter=guided_inpainter,
        )
        self.register_to_config(label_space=label_space, sample_size=sample_size, variant=variant)
        self.networks = Networks(initial_inpainter, segmenter, recorrector, guided_inpainter, variant)
        self.networks.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @classmethod
    def from_networks(cls, networks: Networks, label_space: str, sample_size: int = 192) -> "FeedbackInpaintPipeline":
        """A pipeline of trained networks; they are put into evaluation mode."""
        parts = dict(networks.named_children())
        return cls(**parts, label_space=label_space, sample_size=sample_size, variant=networks.variant)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> "FeedbackInpaintPipeline":
        """The pipeline saved in a folder or a Hub repository.

        Args:
            name: the folder, or the repository's USER/NAME.
            options: as in diffusers: `variant` ("fp16": the weights saved under that name, where there are any; they
                still become float32 without `dtype=torch.float16`), `dtype`; for the Hub `revision`, `token`,
                `cache_dir`, `local_files_only`.

        Raises:
            InputError: not there, not this pipeline, incomplete, damaged, or pickled.
        """
        name = os.fspath(name)
        if os.path.isdir(name):
            check_pipeline(Path(name), options.get("variant"))
        else:
            check_repo_id(name)
        with naming(name):
            return super().from_pretrained(name, **options)

    @classmethod
    def download(cls, name: str, variant: str | None = None, **options: Any) -> str:
        """Fetch a pipeline from the Hub; the folder it lies in afterwards. Raises InputError as `from_pretrained`.

        The base class looks for a Python file beside each component that is not its own; ours are installed.
        """
        folder = fetch(name, COMPONENTS, variant, **{key: options.get(key) for key in HUB_OPTIONS})
        check_pipeline(folder, variant)
        return str(folder)

    def push_to_hub(
        self,
        repo_id: str,
        private: bool = False,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str = "Upload fbinpaint pipeline",
    ) -> CommitInfo:
        """Publish the pipeline as USER/NAME in one commit, with a card; see `fbinpaint.hub.publish`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant)
            return publish(
                Path(folder), repo_id, private=private, token=token, variant=variant, commit_message=commit_message
            )

    @property
    def label_space(self) -> LabelSpace:
        return get_label_space(self.config.label_space)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        mask: Any,
        num_feedback_rounds: int = 2,
        semantic_map: Any = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["FeedbackInpaintPipeline", int, int, dict], dict | None] | None = None,
    ) -> FeedbackInpaintPipelineOutput | tuple:
        """Restore the photos.

        Args:
            image: one photo or a list: PIL of any mode (EXIF orientation honoured, alpha laid on white) or (H,W,3)
                uint8; or a float tensor (B,3,H,W) in [-1,1]. At least 16 pixels a side.
            mask: as many masks, PIL, (H,W) arrays, or a tensor (B,1,H,W); non-zero = hole; another size is resized with
                nearest. One mask for several photos is used for each.
            num_feedback_rounds: K, corrections of the map; 0 = the usual one-way pipeline. Rounds after one that
                changes nothing are not run but repeat it.
            semantic_map: a map per photo, edited by the user: PIL "P"/"L" or (H,W) ids, 255 = let the model decide. The
                loop starts from it and keeps the user's pixels.
            generator: accepted for uniformity with other pipelines; the loop draws no random numbers.
            output_type: "pil", "np" ((H,W,3) uint8) or "pt" ((3,H,W) float in [-1,1]).
            return_dict: False gives a plain tuple.
            callback_on_step_end: called as f(pipeline, round, round, {"image", "probabilities"}) after every round of
                every batch of crops; the tensors are the crops' fills (B,3,h,w) and soft maps (B,C,h/4,w/4).

        Raises:
            InputError: an argument is not of this form.
        """
        photos = self._read(image, mask, semantic_map, num_feedback_rounds, output_type)
        for _ in self._steps(photos, num_feedback_rounds, callback_on_step_end):
            pass
        output = self._output(photos, num_feedback_rounds + 1, output_type)
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def stream(
        self,
        image: Any,
        mask: Any,
        num_feedback_rounds: int = 2,
        semantic_map: Any = None,
        output_type: str = "pil",
    ) -> Iterator[FeedbackInpaintPipelineOutput]:
        """Restore the photos, yielding what there is after every step; the last output is what calling the pipeline
        gives.

        Arguments and errors as there. Early outputs hold the rounds reached so far; where a photo is worked on in
        several crops, holes whose turn has not come still show the photo's own pixels, and 255 in the map.
        """
        photos = self._read(image, mask, semantic_map, num_feedback_rounds, output_type)
        reached = 0
        for index in self._steps(photos, num_feedback_rounds, None):
            reached = max(reached, index)
            yield self._output(photos, reached + 1, output_type)

    def _steps(self, photos: list[_Photo], num_rounds: int, callback) -> Iterator[int]:
        """Run everything; yields the number of the round after each step of each batch of crops."""
        jobs = [job for photo in photos for job in self._plan(photo)]
        # Overviews first: they lay down the map of the known part, the crops then write the holes.
        batches = self._batches(sorted(jobs, key=lambda job: not job.overview))
        total = sum(1 if batch[0].overview else num_rounds + 1 for batch in batches)
        with self.progress_bar(total=total) as progress:
            for batch in batches:
                for index in self._run(batch, num_rounds, callback):
                    progress.update()
                    yield index

    def _output(self, photos: list[_Photo], num_rounds: int, output_type: str) -> FeedbackInpaintPipelineOutput:
        rounds = [self._finish(photo, photo.rounds[:num_rounds], output_type) for photo in photos]
        return FeedbackInpaintPipelineOutput(
            images=[r[-1].image for r in rounds],
            semantic_before=[r[0].semantic_map for r in rounds],
            semantic_after=[r[-1].semantic_map for r in rounds],
            rounds=rounds,
        )

    def _read(
        self, image: Any, mask: Any, semantic_map: Any, num_rounds: int, output_type: str
    ) -> list[_Photo]:
        """The arguments of a call, checked."""
        if output_type not in ("pil", "np", "pt"):
            raise InputError(f"output_type {output_type!r}: must be 'pil', 'np' or 'pt'")
        if not isinstance(num_rounds, int) or not 0 <= num_rounds <= MAX_ROUNDS:
            raise InputError(f"num_feedback_rounds {num_rounds!r}: must be a whole number from 0 to {MAX_ROUNDS}")
        images, masks, maps = as_list(image), as_list(mask), as_list(semantic_map)
        masks = masks * len(images) if len(masks) == 1 else masks
        maps = maps * len(images) if len(maps) == 1 else maps
        if len(masks) != len(images) or len(maps) != len(images):
            raise InputError(f"{len(images)} photos, {len(masks)} masks, {len(maps)} semantic maps: one each, please")
        photos = []
        for x, m, s in zip(images, masks, maps, strict=True):
            original = None
            if isinstance(x, Tensor):
                if x.ndim != 3 or x.shape[0] != 3 or not x.is_floating_point() or not torch.isfinite(x).all():
                    raise InputError("an image tensor must be (B,3,H,W), floating point in [-1,1] and finite")
                original, x = x.detach().cpu().float(), to_uint8(x[None].float().cpu())[0]
            if isinstance(m, Tensor):
                m = (m.float() if m.is_floating_point() else m).detach().cpu().squeeze(0).numpy()
            s = s.detach().cpu().numpy() if isinstance(s, Tensor) else s
            pixels = to_rgb(x)
            size = (pixels.shape[1], pixels.shape[0])
            drawn = None if s is None else to_index_map(s, size, self.label_space.num_classes)
            photos.append(_Photo(pixels, to_mask(m, size), drawn, original, empty_rounds(pixels, num_rounds)))
        return photos

    def _plan(self, photo: _Photo) -> list[_Job]:
        """The crops around the holes and, unless one of them is the whole photo, an overview for the map."""
        height, width = photo.hole.shape
        whole = Crop(0, 0, width, height)
        crops = plan_crops(photo.hole, min_size=self.config.sample_size, context=CONTEXT)
        jobs = [self._job(photo, crop, overview=False) for crop in crops]
        if crops != [whole]:
            jobs.append(self._job(photo, whole, overview=True))
        return jobs

    def _job(self, photo: _Photo, crop: Crop, overview: bool) -> _Job:
        size = working_size(crop.width, crop.height, self.config.sample_size)
        pixels, hole = photo.pixels[crop.slices], photo.hole[crop.slices]
        drawn = None if photo.drawn is None else photo.drawn[crop.slices]
        if size != (crop.width, crop.height):
            # The hole's own (arbitrary) pixels must not bleed into the known ones when shrunk: a working pixel is known
            # only if all of its photo pixels are.
            hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
            pixels = resize_image(pixels, size)
            drawn = None if drawn is None else cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST_EXACT)
        image = pad_to_multiple(to_tensor(pixels), STRIDE)
        mask = pad_to_multiple(mask_to_tensor(hole), STRIDE)
        if drawn is not None:
            drawn = pad_to_multiple(torch.from_numpy(drawn).float()[None, None], STRIDE)[:, 0].long()
        return _Job(photo, crop, size, image, mask, drawn, overview)

    @staticmethod
    def _batches(jobs: Sequence[_Job]) -> list[list[_Job]]:
        groups: dict[tuple, list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.batch_key, []).append(job)
        return [group[i : i + MAX_BATCH] for group in groups.values() for i in range(0, len(group), MAX_BATCH)]

    def _run(self, jobs: list[_Job], num_rounds: int, callback) -> Iterator[int]:
        device, dtype = self.segmenter.device, self.segmenter.dtype
        image = torch.cat([job.image for job in jobs]).to(device, dtype)
        mask = torch.cat([job.mask for job in jobs]).to(device, dtype)
        drawn = None if jobs[0].drawn is None else torch.cat([job.drawn for job in jobs]).to(device)
        overview = jobs[0].overview
        before = last = None
        for round_ in feedback_rounds(self.networks, image, mask, 0 if overview else num_rounds, semantic_map=drawn):
            labels = round_.labels()
            if overview:
                for job, map_ in zip(jobs, labels.cpu().numpy().astype(np.uint8), strict=True):
                    self._write_overview(job, map_)
                yield 0
                return
            before = labels if before is None else before
            self._write(jobs, round_, labels, before, mask)
            done = last is not None and settled(round_.image, last, labels, before, mask)
            before, last = labels, round_.image
            if callback is not None:
                tensors = {"image": round_.image, "probabilities": round_.probabilities}
                callback(self, round_.index, round_.index, tensors)
            yield round_.index
            if done:
                # Early stop: the rounds to come would repeat this one.
                for index in range(round_.index + 1, num_rounds + 1):
                    self._write(jobs, replace(round_, index=index), labels, labels, mask)
                    yield index
                return

    @staticmethod
    def _write_overview(job: _Job, labels: np.ndarray) -> None:
        """The map of the known part, the same in every round."""
        (width, height), photo = job.size, job.photo
        labels = cv2.resize(labels[:height, :width], photo.hole.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        for round_ in photo.rounds:
            round_.semantic_map[:] = labels

    @staticmethod
    def _write(jobs: list[_Job], round_: Round, labels: Tensor, before: Tensor, mask: Tensor) -> None:
        """Put what the loop made of some crops into the holes of their photos.

        labels and before (B,H,W): the map and that of one round before; mask (B,1,H,W).
        """
        mask = mask.float()  # half precision would overflow in the sums
        hole4 = F.avg_pool2d(mask, 4)
        confidence = (round_.probabilities.amax(1, keepdim=True) * hole4).sum((1, 2, 3)) / hole4.sum((1, 2, 3))
        changed = ((labels != before) & (mask[:, 0] > 0)).sum((1, 2)) / mask.sum((1, 2, 3))
        evidences = {name: x.cpu().numpy() for name, x in evidence(round_, labels, before).items()}
        fills, maps = to_uint8(round_.image.float()), labels.cpu().numpy().astype(np.uint8)
        for i, job in enumerate(jobs):
            photo, crop, (width, height) = job.photo, job.crop, job.size
            target, hole = (crop.width, crop.height), photo.hole[crop.slices]
            written = photo.rounds[round_.index]
            fill = resize_image(np.ascontiguousarray(fills[i, :height, :width]), target)
            written.image[crop.slices][hole] = fill[hole]
            planes = {"semantic_map": maps[i]} | {name: plane[i] for name, plane in evidences.items()}
            for name, plane in planes.items():
                plane = cv2.resize(plane[:height, :width], target, interpolation=cv2.INTER_NEAREST_EXACT)
                # A crop that is the whole photo also knows the map of the known part.
                inside = np.ones_like(hole) if name == "semantic_map" and hole.shape == photo.hole.shape else hole
                getattr(written, name)[crop.slices][inside] = plane[inside]
            share = hole.sum() / photo.hole.sum()
            written.confidence += float(share * confidence[i])
            written.changed += float(share * changed[i])

    def _finish(self, photo: _Photo, rounds: list[RoundOutput], output_type: str) -> list[RoundOutput]:
        finished, first = [], None
        for round_ in rounds:
            labels = round_.semantic_map
            if photo.drawn is not None:
                labels = np.where(photo.drawn == IGNORE, labels, photo.drawn)
            # Known pixels never change, so neither may their labels.
            labels = labels.copy() if first is None else np.where(photo.hole, labels, first)
            first = labels if first is None else first
            image = self._picture(round_.image, photo, output_type)
            finished.append(replace(round_, image=image, semantic_map=self._map(labels, output_type)))
        return finished

    def _picture(self, pixels: np.ndarray, photo: _Photo, output_type: str) -> Any:
        if output_type == "pil":
            return PIL.Image.fromarray(pixels)
        if output_type == "np":
            return pixels
        tensor = to_tensor(pixels)[0]
        if photo.original is None:
            return tensor
        return torch.where(torch.from_numpy(photo.hole), tensor, photo.original)

    def _map(self, labels: np.ndarray, output_type: str) -> Any:
        if output_type == "pil":
            return self.label_space.to_palette_image(labels)
        return labels if output_type == "np" else torch.from_numpy(labels.astype(np.int64))


def empty_rounds(pixels: np.ndarray, num_rounds: int) -> list[RoundOutput]:
    """Rounds 0..num_rounds of a photo (H,W,3) of which nothing is known yet."""
    size = pixels.shape[:2]
    return [
        RoundOutput(
            image=pixels.copy(),
            semantic_map=np.full(size, IGNORE, np.uint8),
            doubt=np.zeros((*size, 3), np.uint8),
            consistency=np.zeros(size, np.uint8),
            trust=np.zeros(size, np.uint8),
            exemplar=np.full(size, -1, np.int16),
        )
        for _ in range(num_rounds + 1)
    ]


def settled(image: Tensor, last: Tensor, labels: Tensor, before: Tensor, mask: Tensor) -> bool:
    """Whether a round changed nothing that anyone could see: no pixel's class, and fills by less than half a grey level
    on average. image, last (B,3,H,W) in [-1,1]; labels, before (B,H,W); mask (B,1,H,W)."""
    mask = mask.float()  # half precision would overflow in the sums
    moved = ((image - last).abs() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return bool(torch.equal(labels, before) and (moved * 127.5 < 0.5).all())


def evidence(round_: Round, labels: Tensor, before: Tensor) -> dict[str, Tensor]:
    """The planes of a `RoundOutput` at the size of the crops: doubt (B,H,W,3), consistency and trust (B,H,W) uint8,
    exemplar (B,H,W) int16."""

    def levels(x: Tensor) -> Tensor:
        x = F.interpolate(x.float(), size=labels.shape[-2:], mode="bilinear")
        return (x.clamp(0, 1) * 255).round().to(torch.uint8)

    planes = {"doubt": levels(round_.doubt).movedim(1, -1)}
    if round_.trust is not None:
        planes["trust"] = levels(round_.trust)[:, 0]
        planes["consistency"] = levels(round_.consistency).gather(1, labels[:, None])[:, 0]
        speakers = torch.where(round_.shared > 0, round_.speakers, -1)  # (B, C)
        speaker = speakers.gather(1, labels.flatten(1)).view_as(labels)
        planes["exemplar"] = torch.where(labels != before, speaker, -1).to(torch.int16)
    return planes


def as_list(x: Any) -> list[Any]:
    """One photo (or mask, or map), a list of them, or a batch tensor -> a list."""
    if isinstance(x, Tensor):
        if x.ndim not in (3, 4):
            raise InputError(f"a tensor of shape {tuple(x.shape)}: images are (B,3,H,W), masks (B,1,H,W), maps (B,H,W)")
        return list(x)
    return list(x) if isinstance(x, list | tuple) else [x]


def working_size(width: int, height: int, sample_size: int) -> tuple[int, int]:
    """The (width, height) a crop is worked on at: never enlarged, shorter side at most sample_size, bounded area."""
    scale = min(1.0, sample_size / min(width, height), (MAX_ASPECT * sample_size**2 / (width * height)) ** 0.5)
    return max(1, round(width * scale)), max(1, round(height * scale))
