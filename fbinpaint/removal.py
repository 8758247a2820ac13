"""Removal by name: the map of the intact photo says what goes, and what must not come back.

    photo -> segmenter -> mask of the named things -> filled with these classes forbidden -> looked at again
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from fbinpaint.images.convert import is_deep, name_of, to_mask, to_rgb, upright
from fbinpaint.images.modes import as_photo
from fbinpaint.pipeline.inputs import split_planes

from .errors import InputError, check_whole

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline


@dataclass
class Removal:
    """What became of a photo.

    image: the restored photo, in its own mode; the photo itself, upright, where nothing was to be filled
    mask: (H,W) bool, what was filled
    found: by name, the share of the photo's pixels that showed each class and were filled; of those that were found
    seen_again: by name, the share of the mask that the result still shows as each class; of those that it shows
    semantic_before, semantic_after: PIL images of class ids: the intact photo's map, and the one that each pixel was
        last painted by
    """

    image: Image.Image
    mask: np.ndarray
    found: dict[str, float]
    seen_again: dict[str, float]
    semantic_before: Image.Image
    semantic_after: Image.Image


def remove(
    pipe: "FeedbackInpaintPipeline",
    photos: Image.Image | Sequence[Image.Image],
    classes: str | int | Sequence[str | int],
    masks: Sequence[Any] | None = None,
    num_feedback_rounds: int = 2,
    grow: int | None = None,
    shadow: bool = False,
    retries: int = 0,
    generator: torch.Generator | None = None,
) -> list[Removal]:
    """Take all things of some classes out of photos.

    Args:
        photos: PIL images of any mode and size, as the pipeline takes them; one or several.
        classes: by names or ids; forbidden in all that is filled.
        masks: one for each photo, as the pipeline takes them, or None: what is to be filled as well. Of one photo, one.
        grow, shadow: as `grow` and `shadows_in` of `FeedbackInpaintPipeline.select`.
        retries: how often what is seen again is filled anew, with the rest of the fill as its context; the photo that
            shows the least is kept.
        num_feedback_rounds, generator: as when calling the pipeline.

    Raises:
        InputError: as `select` and the pipeline do, or nothing of a photo would be left.
    """
    check_whole("retries", retries, 0)
    photos = [photos] if isinstance(photos, Image.Image) else list(photos)
    for photo in photos:
        if not isinstance(photo, Image.Image):
            raise InputError(f"the image is a {type(photo).__name__}; give PIL images")
    masks = None if masks is None else split_planes(masks)
    if masks is not None and len(masks) != len(photos):
        raise InputError(f"{len(photos)} photos, {len(masks)} masks: give one for each")
    names, ids = pipe.label_space.classes, pipe.label_space.class_ids(classes)
    if len(ids) == len(names):
        raise InputError(f"these are all classes of {pipe.label_space.name}; leave at least one to fill with")
    given = [
        None if mask is None else to_mask(mask, upright(photo, "image").size, photo, may_be_empty=True)
        for photo, mask in zip(photos, masks or [None] * len(photos), strict=True)
    ]
    # What somebody masks says nothing of the range of deep greyscale.
    seen_first = [
        Image.fromarray(to_rgb(photo, hole)) if hole is not None and is_deep(photo) else photo
        for photo, hole in zip(photos, given, strict=True)
    ]
    removals, to_do = [], []
    for i, (photo, semantic_map) in enumerate(zip(photos, pipe.segment(seen_first), strict=True)):
        labels = np.asarray(semantic_map)
        mask = pipe.select(labels, ids, grow=grow, shadows_in=seen_first[i] if shadow else None)
        hole = given[i]
        mask = mask if hole is None else mask | hole
        if mask.all():
            raise InputError(
                f"{name_of(photo, 'the photo')}: all of it would be filled, so nothing of the photo is known; name "
                "fewer classes, or grow them less"
            )
        found = {names[label]: float((mask & (labels == label)).mean()) for label in ids}
        found = {name: share for name, share in found.items() if share}
        removals.append(Removal(photo, mask, found, {}, semantic_map, semantic_map))
        if mask.any():
            to_do.append((removals[-1], mask))
        else:
            removals[-1].image = untouched(photo)
    for attempt in range(retries + 1):
        if not to_do:
            break
        pictures, holes = [removal.image for removal, _ in to_do], [hole for _, hole in to_do]
        out: Any = pipe(pictures, holes, num_feedback_rounds, forbidden=ids, generator=generator)
        images, maps = out.images, out.semantic_after
        del out, pictures  # with the rounds: looking at what was filled takes memory enough
        results = list(zip(to_do, images, pipe.segment(images), maps, strict=True))
        to_do = []
        for (removal, hole), image, looked_at, semantic_after in results:
            labels = np.asarray(looked_at)
            seen = {names[label]: float((labels[removal.mask] == label).mean()) for label in ids}
            if attempt and sum(seen.values()) >= sum(removal.seen_again.values()):
                continue  # no better, and would be none again
            if attempt:
                image.info = removal.image.info  # some of it was in the file of the photo alone
                semantic_after = np.where(hole, semantic_after, np.asarray(removal.semantic_after))
                semantic_after = pipe.label_space.to_palette_image(semantic_after)
            removal.image, removal.semantic_after = image, semantic_after
            removal.seen_again = {name: share for name, share in seen.items() if share}
            again = removal.mask & pipe.select(labels, ids, grow=grow)
            if again.any():
                to_do.append((removal, again))
    return removals


def untouched(photo: Image.Image) -> Image.Image:
    """As the pipeline gives back a photo without a hole."""
    pixels = to_rgb(photo)
    return as_photo(photo, pixels, np.zeros(pixels.shape[:2], bool))
