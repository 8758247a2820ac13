"""What a call of the pipeline returns. Each crop's work is kept at the size it was done at and laid out at the photo's
when somebody looks: three rounds of a 12 Mpx photo would hold 400 MB otherwise, mostly for nobody."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput

from fbinpaint.images.convert import mask_image
from fbinpaint.images.crops import Crop, resize_image
from fbinpaint.images.modes import in_mode_of
from fbinpaint.labels import IGNORE, LabelSpace


@dataclass
class Patch:
    """What one round made of one crop, (h,w) its working size.

    part: of the crop, (H,W) bool, what this one fills: of no pixel there are two. fill (h',w',3) uint8, may be finer;
    labels (h,w) uint8; diagnostics: by name, as in `RoundOutput` but (h,w); changed, confidence: as there, in
    that part.
    """

    crop: Crop
    part: np.ndarray
    fill: np.ndarray
    labels: np.ndarray
    diagnostics: dict[str, np.ndarray]
    changed: float
    confidence: float


@dataclass
class Photo:
    """A photo on its way through.

    pixels (H,W,3) uint8; hole (H,W) bool; drawn (H,W) uint8, the user's map, 255 = undecided; original (H,W,3)
    float32 in [0,1], the photo of a caller who gave floats; global_map (h,w) uint8, a small map of the whole photo,
    which the known part's labels come from; patches[k], those of round k so far; of a caller who gave a PIL image,
    source, its `fbinpaint.images.modes.own_copy`, and info, what results keep of its `Image.info`. Nothing here is the
    caller's own: rounds may be looked at when the photo has long been closed, or drawn on.

    What is filled before the loop is no longer hole but known; filled (H,W) bool remembers where, confidence is
    that of the global map's classes there if nothing else was a hole.
    """

    pixels: np.ndarray
    hole: np.ndarray
    drawn: np.ndarray | None
    original: np.ndarray | None
    patches: list[list[Patch]]
    global_map: np.ndarray | None = None
    filled: np.ndarray | None = None
    confidence: float = 0.0
    source: PIL.Image.Image | None = None
    info: dict = field(default_factory=dict)

    @property
    def painted(self) -> np.ndarray:
        """(H,W) bool: all that the mask marked."""
        return self.hole if self.filled is None else self.hole | self.filled

    @property
    def undecided(self) -> np.ndarray:
        """(H,W) bool: of that, what the user drew no class into."""
        return self.painted if self.drawn is None else self.painted & (self.drawn == IGNORE)


@dataclass(frozen=True)
class RoundOutput:
    """One round of one photo, at the photo's size; laid out anew each time it is asked for.

    image and semantic_map as in `FeedbackInpaintPipelineOutput`. On photos larger than the networks work at, details
    and grain are added to the last round's image only. The evidence behind them, arrays with 255 = 1, is zero outside
    the hole, and all but the doubt in round 0, before which nothing was corrected.

    doubt: (H,W,3) uint8, what was fed back: disagreement of the last two fills, depth into the hole, 1 - confidence.
    consistency: (H,W) uint8, how much the pixel looks like its class in the exemplars, S_c.
    trust: (H,W) uint8, what share of the say exemplars and newest fill had, beside the first map.
    exemplar: (H,W) int16, where this round changed the class: of the exemplars whose maps agree best with this one, the
        first (number in the bank) that has the new class there; -1 elsewhere, and where none of them does.
    changed: share of the hole of another class than one round before.
    confidence: mean probability of the map's classes in the hole.

    Holes that were filled before the loop count as known here, unless there are no others: of them confidence is.
    """

    photo: Photo = field(repr=False)
    patches: Sequence[Patch] = field(repr=False)
    label_space: LabelSpace = field(repr=False)
    output_type: str = field(repr=False)
    changed: float
    confidence: float

    @property
    def image(self) -> Any:
        pixels = self.photo.pixels.copy()
        for patch in self.patches:
            self._paste(pixels, patch, resize_image(patch.fill, (patch.crop.width, patch.crop.height)))
        if self.output_type == "pil":
            source, painted = self.photo.source, self.photo.painted
            image = PIL.Image.fromarray(pixels) if source is None else in_mode_of(source, pixels, painted, painted)
            image.info = dict(self.photo.info)
            return image
        floats = pixels.astype(np.float32)
        floats /= 255
        if self.photo.original is not None:
            np.copyto(floats, self.photo.original, where=~self.photo.hole[..., None])
        return floats if self.output_type == "np" else torch.from_numpy(floats).permute(2, 0, 1).contiguous()

    @property
    def semantic_map(self) -> Any:
        hole, global_map, drawn = self.photo.hole, self.photo.global_map, self.photo.drawn
        labels = np.full(hole.shape, IGNORE, np.uint8)
        if global_map is not None:
            # Known pixels never change, so neither may their labels: they are the same in every round.
            known = cv2.resize(global_map, hole.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            np.copyto(labels, known, where=~hole)
        for patch in self.patches:
            self._paste(labels, patch, patch.labels)
        if drawn is not None:
            np.copyto(labels, drawn, where=drawn != IGNORE)
        return as_output(labels, self.label_space, self.output_type)

    @property
    def doubt(self) -> np.ndarray:
        return self._plane("doubt", np.zeros((*self.photo.hole.shape, 3), np.uint8))

    @property
    def consistency(self) -> np.ndarray:
        return self._plane("consistency", np.zeros(self.photo.hole.shape, np.uint8))

    @property
    def trust(self) -> np.ndarray:
        return self._plane("trust", np.zeros(self.photo.hole.shape, np.uint8))

    @property
    def exemplar(self) -> np.ndarray:
        return self._plane("exemplar", np.full(self.photo.hole.shape, -1, np.int16))

    def _plane(self, name: str, plane: np.ndarray) -> np.ndarray:
        for patch in self.patches:
            if name in patch.diagnostics:
                self._paste(plane, patch, patch.diagnostics[name])
        return plane

    @staticmethod
    def _paste(plane: np.ndarray, patch: Patch, values: np.ndarray) -> None:
        """Write a patch's values, enlarged by nearest neighbours if they are smaller, to where it fills, in place."""
        part = patch.part
        if values.shape[:2] != part.shape:
            values = cv2.resize(values, part.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        np.copyto(plane[patch.crop.slices], values, where=part[..., None] if plane.ndim == 3 else part)


def as_output(labels: np.ndarray, label_space: LabelSpace, output_type: str) -> Any:
    """A map (H,W) uint8 as `FeedbackInpaintPipelineOutput` has it."""
    if output_type == "pil":
        return label_space.to_palette_image(labels)
    return labels if output_type == "np" else torch.from_numpy(labels.astype(np.int64))


def as_mask_like(semantic_map: Any, mask: np.ndarray) -> Any:
    """A mask (H,W) bool, of the kind that a map is of: a PIL image, white = hole, an array or a tensor."""
    if isinstance(semantic_map, PIL.Image.Image):
        return mask_image(mask)
    return mask if isinstance(semantic_map, np.ndarray) else torch.from_numpy(mask)


@dataclass
class FeedbackInpaintPipelineOutput(BaseOutput):
    """As long as the batch, and lists but for `images`.

    images: restored photos; "pil": those of PIL photos in their own mode, see `fbinpaint.images.modes.in_mode_of`, with
    their EXIF data, XMP, resolution and colour profile in `info`, others RGB; "np": (B,H,W,3) and "pt": (B,3,H,W),
    float32 in [0,1], or where photos differ in size a list of (H,W,3) or (3,H,W).
    semantic_before / semantic_after: class ids before and after feedback, at the photo's size ("pil": mode "P" images
    in the label space's colours, "np": (H,W) uint8, "pt": (H,W) int64).
    rounds[i][k]: round k of photo i, k = 0 being the one-way pass.
    """

    images: Any
    semantic_before: list[Any]
    semantic_after: list[Any]
    rounds: list[list[RoundOutput]]


def make_output(
    photos: Sequence[Photo], num_rounds: int, label_space: LabelSpace, output_type: str
) -> FeedbackInpaintPipelineOutput:
    """What is there of so many rounds, the first one counted."""
    rounds = [[make_round(photo, k, label_space, output_type) for k in range(num_rounds)] for photo in photos]
    images = [r[-1].image for r in rounds]
    if output_type != "pil" and len({image.shape for image in images}) == 1:
        # Of one photo no copy: 12 megapixels of floats are 144 MB.
        images = images[0][None] if len(images) == 1 else (np if output_type == "np" else torch).stack(images)
    return FeedbackInpaintPipelineOutput(
        images=images,
        semantic_before=[r[0].semantic_map for r in rounds],
        semantic_after=[r[-1].semantic_map for r in rounds],
        rounds=rounds,
    )


def make_round(photo: Photo, index: int, label_space: LabelSpace, output_type: str) -> RoundOutput:
    patches = tuple(photo.patches[index])
    shares = [np.count_nonzero(patch.part) for patch in patches]

    def mean(values: Iterable[float]) -> float:
        return min(1.0, sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares))

    return RoundOutput(
        photo=photo,
        patches=patches,
        label_space=label_space,
        output_type=output_type,
        changed=mean(patch.changed for patch in patches) if patches else 0.0,
        confidence=mean(patch.confidence for patch in patches) if patches else photo.confidence,
    )
