"""What the pipeline does with maps of intact photos: makes them, chooses things in them, learns from labelled ones."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import PIL.Image

from fbinpaint.errors import InputError
from fbinpaint.hub.origin import NOT_STATED, inherited
from fbinpaint.images.convert import read_map, upright
from fbinpaint.images.crops import resize_image, working_size
from fbinpaint.labels import IGNORE, LabelSpace, get_label_space
from fbinpaint.models import Recorrector, Segmenter
from fbinpaint.pipeline.exemplars import own_exemplars, shown_by
from fbinpaint.pipeline.inputs import check_output_type, is_batch, read_photo, split_photos, split_planes
from fbinpaint.pipeline.outputs import as_mask_like, as_output
from fbinpaint.pipeline.saved_pipeline import SavedPipeline
from fbinpaint.pipeline.segmentation import pyramid, segment_photos
from fbinpaint.pipeline.selection import select_things

MAX_BATCH = 8  # photos segmented together


class MapPipeline(SavedPipeline):
    """A saved pipeline with a segmenter and exemplars."""

    segmenter: Segmenter
    recorrector: Recorrector

    @property
    def label_space(self) -> LabelSpace:
        """What the segmenter says its classes are; a segmenter put into the pipeline later may know nothing."""
        return self.segmenter.label_space or get_label_space(self.config.label_space)

    @property
    def unseen_classes(self) -> tuple[int, ...]:
        """Ids of the classes that none of its exemplars shows, which it has most likely not learnt. Empty where it has
        no exemplars to tell."""
        counts = self.recorrector.bank.counts
        return tuple((counts == 0).nonzero().flatten().tolist()) if counts.any() else ()

    def segment(self, image: Any, output_type: str = "pil", value_range: tuple[float, float] = (0, 1)) -> Any:
        """The semantic map of an intact photo, at the photo's own size: to look at, to edit and pass back as
        `semantic_map=`, or to make a mask from one of its classes.

        Args:
            image, value_range: as when calling the pipeline.
            output_type: "pil" (mode "P": the pixel values are class ids, the palette shows them), "np" ((H,W) uint8) or
                "pt" ((H,W) int64).

        Returns:
            One map for one photo, a list for a list or a batch.

        Raises:
            InputError: an argument is not of this form.
        """
        check_output_type(output_type)
        photos = [read_photo(x, value_range)[0] for x in split_photos(image)]
        places: dict[tuple, list[int]] = {}  # those of one size are segmented together
        for place, photo in enumerate(photos):
            places.setdefault(photo.shape, []).append(place)
        maps: dict[int, np.ndarray] = {}
        for (height, width, _), group in places.items():
            # Large photos go alone: what a batch takes at their size is as much as eight small ones.
            step = MAX_BATCH if len(pyramid(width, height, self.config.sample_size)) == 1 else 1
            for start in range(0, len(group), step):
                some = group[start : start + step]
                found = segment_photos(
                    self.segmenter,
                    [photos[i] for i in some],
                    self.label_space,
                    self.config.sample_size,
                    self._execution_device,
                    self.recorrector,
                )
                maps |= dict(zip(some, found, strict=True))
        results = [as_output(maps[i], self.label_space, output_type) for i in range(len(photos))]
        return results if isinstance(image, list | tuple) or is_batch(image) else results[0]

    def select(
        self,
        semantic_map: Any,
        classes: str | int | Sequence[str | int] | None,
        point: tuple[int, int] | None = None,
        grow: int | None = None,
        shadows_in: Any = None,
        value_range: tuple[float, float] = (0, 1),
    ) -> Any:
        """The mask for all things of some classes, or for the one at a point: what `segment` found, ready to be filled.

        What a thing encloses belongs to it (a windscreen, the eyes behind glasses); specks are left out; the mask is
        grown, to take soft borders.

        Args:
            semantic_map: one map of an intact photo, at its size, as `semantic_map` when calling the pipeline.
            classes: by names or ids; None = that of the point.
            point: (x, y) in pixels, in the thing that is meant; things that touch are one.
            grow: pixels all around; None = a thirty-second of the shorter side.
            shadows_in, value_range: the photo, as when calling the pipeline: what is darker on the ground below and
                beside the things is taken, too.

        Returns:
            (H,W), of the kind that the map is of: a PIL image of mode "L" whose holes are white, a bool array or a bool
            tensor. Empty where the map shows none of the classes.

        Raises:
            InputError: an argument is not of this form, or the map shows another class at the point.
        """
        maps = split_planes(semantic_map)
        if len(maps) != 1:
            raise InputError(f"{len(maps)} semantic maps: give one")
        upright_map = upright(maps[0], "semantic map") if isinstance(maps[0], PIL.Image.Image) else maps[0]
        height, width, *_ = (*np.asarray(upright_map).shape, 0, 0)  # of what is no map it is told below what it is
        size = width, height
        labels = read_map(upright_map, size, self.label_space)
        if grow is not None and (not isinstance(grow, Integral) or isinstance(grow, bool) or grow < 0):
            raise InputError(f"grow {grow!r}: must be a whole number of pixels, 0 or more")
        shaded = [] if shadows_in is None else split_photos(shadows_in)
        if len(shaded) > 1:
            raise InputError(f"shadows_in is {len(shaded)} photos; give the one that the map is of")
        pixels = read_photo(shaded[0], value_range)[0] if shaded else None
        if pixels is not None and pixels.shape[:2] != labels.shape:
            raise InputError(f"shadows_in is {pixels.shape[1]}x{pixels.shape[0]}, the map {size[0]}x{size[1]}; "
                             "give the photo that the map is of")  # fmt: skip
        ids, point = read_selection(self.label_space, labels, classes, point)
        # Of the finest map of a photo, a cell of 4x4 pixels.
        smallest = (4 * size[0] / pyramid(width, height, self.config.sample_size)[-1][0]) ** 2
        kind = semantic_map[0] if isinstance(semantic_map, list | tuple) else semantic_map
        return as_mask_like(kind, select_things(labels, ids, smallest, grow, point, pixels))

    def set_exemplars(
        self, photos: Sequence[Any], semantic_maps: Sequence[Any], value_range: tuple[float, float] = (0, 1)
    ) -> None:
        """Consult labelled photos of one's own, five to a hundred, instead of the model's; saved with the pipeline.

        What they show of a class counts as far as there is enough of it; for the rest their statistics lean on those of
        the exemplars that the pipeline had before. From then on they are heard in every map, also in those of
        `segment`: of the classes that they show, as much as helps in photos left out of them (`pipeline.exemplars`). No
        network is trained.

        Args:
            photos, value_range: as when calling the pipeline, whole photos of the kind that is to be restored.
            semantic_maps: a map per photo, as `semantic_map` there; 255 = unknown, so partial labels will do.

        Raises:
            InputError: an argument is not of this form, or next to no pixel is labelled.
        """
        photos, maps = split_photos(photos), split_planes(semantic_maps)
        if not photos or len(photos) != len(maps):
            raise InputError(f"{len(photos)} exemplars, {len(maps)} semantic maps: give one or more, and as many maps")

        def labelled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for photo, map_ in zip(photos, maps, strict=True):
                pixels, _ = read_photo(photo, value_range)
                width, height = pixels.shape[1], pixels.shape[0]
                size = working_size(width, height, self.config.sample_size)
                yield resize_image(pixels, size), read_map(map_, (width, height), self.label_space, size)

        bank = self.recorrector.bank.to("cpu")
        own, weights = own_exemplars(bank, self.segmenter, self.label_space, labelled())
        if not own.counts.any():
            raise InputError("the exemplars' semantic maps know next to nothing (255 = unknown); label areas")
        self.recorrector.set_bank(bank.adapted(own), weights, shown_by(own))
        exemplars = {"name": f"{len(photos)} labelled photos, added as exemplars", "licence": NOT_STATED}
        self._origin = self.origin | inherited([exemplars], [("the model they were added to", self.origin)])


def read_selection(
    label_space: LabelSpace,
    labels: np.ndarray,
    classes: str | int | Sequence[str | int] | None,
    point: tuple[int, int] | None,
) -> tuple[list[int], tuple[int, int] | None]:
    """The ids that `select` is to take from a map, and the point, checked."""
    ids = label_space.class_ids(classes)
    if not ids and (classes is not None or point is None):
        raise InputError("no class is named, so nothing can be selected; name one or more, or give a point")
    if point is None:
        return ids, None
    height, width = labels.shape
    try:
        x, y = point
        inside = 0 <= x < width and 0 <= y < height and x == int(x) and y == int(y)
    except (TypeError, ValueError):
        inside = False
    if not inside:
        given = " ".join(repr(point).split())  # an array's has several lines
        raise InputError(f"point {given:.80}: must be (x, y) in whole pixels, of the map's {width}x{height}")
    x, y = int(x), int(y)
    there = int(labels[y, x])
    if there == IGNORE or (ids and there not in ids):
        names = label_space.classes
        shown = "nothing" if there == IGNORE else names[there]
        wanted = ", ".join(names[i] for i in ids) or "any class"
        raise InputError(f"point {(x, y)}: the map shows {shown} there, not {wanted}; name another point")
    return ids or [there], (x, y)
