"""The pipeline: photo and mask in, restored photo and both semantic maps out."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import cv2
import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import CommitInfo
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.batch.folders import naming
from fbinpaint.errors import InputError
from fbinpaint.hub.origin import NOT_STATED, inherited, read_origin, write_origin
from fbinpaint.hub.publish import publish
from fbinpaint.hub.saved import (
    COMPONENTS,
    FORMAT_VERSION,
    HUB_OPTIONS,
    WithoutPath,
    check_pipeline,
    check_repo_id,
    fetch,
)
from fbinpaint.images.convert import check_hole, name_of, to_index_map, to_mask, upright
from fbinpaint.images.crops import Crop, divide_hole, plan_crops, resize_image, shorter_side, working_size
from fbinpaint.images.tensors import mask_to_tensor, pad_to_multiple, to_tensor, to_uint8
from fbinpaint.labels import IGNORE, LabelSpace, get_label_space
from fbinpaint.loop import Forbidden, Networks, Round, feedback_rounds
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.models.layers import in_cells, in_pixels
from fbinpaint.pipeline.callbacks import TENSORS, make_callback
from fbinpaint.pipeline.exemplars import make_exemplars
from fbinpaint.pipeline.grain import add_grain
from fbinpaint.pipeline.inputs import is_batch, read_photo, split_photos, split_planes
from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput, Patch, Photo, RoundOutput, as_mask_like, as_output
from fbinpaint.pipeline.plain_holes import fill_plain_holes, mean_in
from fbinpaint.pipeline.refinement import refine
from fbinpaint.pipeline.segmentation import pyramid, segment_photos
from fbinpaint.pipeline.selection import select_things

STRIDE = 16  # the networks' inputs are multiples of this
MAX_BATCH = 8  # crops run together
CONTEXT = 0.5  # a crop extends past its hole by this share of the hole's longer side
MAX_ROUNDS = 100  # each keeps its patches in memory
MAX_DETAIL = 4  # details are painted up to so many times sample_size
MIN_ENLARGEMENT = 1.5  # a fill that is enlarged less loses nothing one would see


@dataclass
class _Job:
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
    def overview(self) -> bool:
        return self.part is None

    @cached_property
    def weight(self) -> Tensor:
        """(1,1,h,w) in [0,1]: how much of each small pixel this crop is to fill; 0 in the padding."""
        assert self.part is not None, "an overview fills nothing"
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
        return (self.image.shape, self.drawn is None, self.overview)


class FeedbackInpaintPipeline(WithoutPath, DiffusionPipeline):
    """Restores the holes of photos, guided by a semantic map that the restoration itself corrects.

    Args:
        label_space: of the classes, or its name if it is built in, see `fbinpaint.labels`; None = as the segmenter has
            it. A segmenter that knows none is told.
        sample_size: crops whose shorter side is longer than this are worked on at this size, pixels.
        variant: what guides the inpainter, one of `fbinpaint.loop.VARIANTS`; all but "feedback" are controls.
        format_version: not to be given; diffusers wants an argument for each entry of model_index.json.

    Example:
        >>> from PIL import Image
        >>> from fbinpaint import FeedbackInpaintPipeline
        >>> pipe = FeedbackInpaintPipeline.from_pretrained("checkpoints/streets")
        >>> out = pipe(Image.open("photo.jpg"), Image.open("mask.png"), num_feedback_rounds=2)
        >>> out.images[0].save("restored.png")
    """

    # `enable_model_cpu_offload` keeps one network at a time on the accelerator, in this order.
    model_cpu_offload_seq = "initial_inpainter->segmenter->recorrector->guided_inpainter"  # type: ignore[assignment]  # declared as None
    _callback_tensor_inputs = list(TENSORS)
    initial_inpainter: InitialInpainter
    segmenter: Segmenter
    recorrector: Recorrector
    guided_inpainter: GuidedInpainter
    _interrupt = False
    _origin: dict | None = None

    def __init__(
        self,
        initial_inpainter: InitialInpainter,
        segmenter: Segmenter,
        recorrector: Recorrector,
        guided_inpainter: GuidedInpainter,
        label_space: LabelSpace | str | None = None,
        sample_size: int = 256,
        variant: str = "feedback",
        format_version: int = FORMAT_VERSION,
    ):
        super().__init__()
        label_space = agreed_label_space(label_space, segmenter)
        for network in (segmenter, recorrector, guided_inpainter):
            if network.config.num_classes != label_space.num_classes:
                raise InputError(
                    f"the {type(network).__name__} is of {network.config.num_classes} classes, the label space "
                    f"{label_space.name} has {label_space.num_classes}; give networks of that one"
                )
        segmenter.register_to_config(label_space=label_space.to_config())
        self.register_modules(
            initial_inpainter=initial_inpainter,
            segmenter=segmenter,
            recorrector=recorrector,
            guided_inpainter=guided_inpainter,
        )
        self.register_to_config(
            label_space=label_space.name, sample_size=sample_size, variant=variant, format_version=FORMAT_VERSION
        )
        self.networks.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def networks(self) -> Networks:
        """The components as the loop takes them; one that was replaced (`pipe.segmenter = ...`) is among them."""
        parts = {name: getattr(self, name) for name in COMPONENTS}
        return Networks(**parts, variant=self.config.variant)

    @classmethod
    def from_networks(
        cls, networks: Networks, label_space: LabelSpace | str | None = None, sample_size: int = 256
    ) -> "FeedbackInpaintPipeline":
        """A pipeline of trained networks; they are put into evaluation mode."""
        parts = {name: getattr(networks, name) for name in COMPONENTS}
        return cls(**parts, label_space=label_space, sample_size=sample_size, variant=networks.variant)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # a name of its own
        cls, name: str | os.PathLike, **options: Any
    ) -> "FeedbackInpaintPipeline":
        """The pipeline saved in a folder or a Hub repository.

        Args:
            name: the folder, or the repository's USER/NAME or USER/NAME@REVISION (a branch, tag or commit).
            options: as in diffusers: `variant` ("fp16": the weights saved under that name, where there are any; they
                still become float32 without `dtype=torch.float16`), `dtype`; for the Hub `revision`, `token`,
                `cache_dir`, `local_files_only`.

        Raises:
            InputError: not there, not this pipeline, incomplete, damaged, or pickled.
        """
        name = os.fspath(name)
        folder = name
        if os.path.isdir(name):
            check_pipeline(Path(name), options.get("variant"))
        else:
            check_repo_id(name)
        with naming(name):
            if not os.path.isdir(name):
                folder = cls.download(name, **options)
            options = {key: value for key, value in options.items() if key not in HUB_OPTIONS}
            pipe = super().from_pretrained(folder, **options)
            pipe._origin = read_origin(Path(folder))
        return pipe

    @property
    def origin(self) -> dict:
        """What is on file about where the model comes from, see `fbinpaint.hub.origin`; saved with the pipeline."""
        if self._origin is None:  # not loaded, or by `DiffusionPipeline.from_pretrained`
            folder = self.config.get("_name_or_path")
            self._origin = read_origin(Path(folder)) if folder else {}
        return self._origin

    def save_pretrained(  # type: ignore[override]  # no option of sharing
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """As in diffusers, with the model's origin. `push_to_hub=True` publishes the folder as `push_to_hub` does;
        options: `repo_id` (default: the folder's name), `private`, `token`, `commit_message`."""
        folder = Path(save_directory)
        super().save_pretrained(str(folder), safe_serialization, variant, max_shard_size)
        if self.origin:
            write_origin(folder, self.origin)
        if push_to_hub:
            publish(folder, options.pop("repo_id", folder.name), variant=variant, **options)

    def to(self, *args: Any, **options: Any) -> "FeedbackInpaintPipeline":
        # diffusers warns of float16 on CPUs, where these networks run as well.
        return super().to(*args, **{"silence_dtype_warnings": True} | options)

    @classmethod
    def download(  # type: ignore[override]  # a name of its own
        cls, name: str, variant: str | None = None, **options: Any) -> str:
        """Fetch a pipeline from the Hub; the folder it lies in afterwards. Raises InputError as `from_pretrained`.

        The base class looks for a Python file beside each component that is not its own; ours are installed.
        """
        folder = fetch(name, COMPONENTS, variant, **{key: options.get(key) for key in HUB_OPTIONS})
        check_pipeline(folder, variant)
        return str(folder)

    def push_to_hub(  # type: ignore[override]  # without options that make no sense here
        self,
        repo_id: str,
        private: bool = False,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str = "Upload fbinpaint pipeline",
    ) -> CommitInfo:
        """Publish the pipeline as USER/NAME in one commit, with a card; see `fbinpaint.hub.publish.publish`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant)
            return publish(
                Path(folder), repo_id, private=private, token=token, variant=variant, commit_message=commit_message
            )

    @property
    def label_space(self) -> LabelSpace:
        """What the segmenter says its classes are; a segmenter put into the pipeline later may know nothing."""
        return self.segmenter.label_space or get_label_space(self.config.label_space)

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        mask: Any = None,
        num_feedback_rounds: int = 2,
        semantic_map: Any = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["FeedbackInpaintPipeline", int, int, dict], dict | None] | None = None,
        grain: bool = True,
        mask_image: Any = None,
        value_range: tuple[float, float] = (0, 1),
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        forbidden: str | int | Sequence[str | int] | None = None,
    ) -> FeedbackInpaintPipelineOutput | tuple:
        """Restore the photos.

        Thin holes of photos larger than `sample_size`, and holes in plain surroundings, are filled without the networks
        (`fbinpaint.pipeline.thin_holes`, `fbinpaint.pipeline.smooth_surfaces`) and known from then on: no round paints
        them or changes their map, unless `semantic_map` says something there.

        Args:
            image: one photo or a list: PIL of any mode (EXIF orientation honoured, alpha laid on white), an array
                (H,W,3), uint8 or float, or a tensor (3,H,W); or a batch, array (B,H,W,3) or tensor (B,3,H,W). At least
                16 pixels a side.
            mask: as many masks, PIL, arrays (H,W), (B,H,W) or (B,H,W,1), or a tensor (H,W), (B,H,W) or (B,1,H,W);
                white = hole, from half of its range on, so soft masks are cut there (bools and 0/1 as they are; a
                painted layer on transparency by its alpha; see `images.to_mask`). Another size of the same shape is
                resized with nearest. "alpha" = the transparent part of the photo. One mask for several photos is used
                for each.
            num_feedback_rounds: K, corrections of the map; 0 = the usual one-way pipeline. Rounds after one that
                changes nothing are not run but repeat it.
            semantic_map: a map per photo, edited by the user: PIL "P"/"L" or (H,W) ids, 255 = let the model decide. The
                loop starts from it and keeps the user's pixels.
            generator: of the grain; None = the same grain in every call. The loop draws no random numbers.
            output_type: "pil"; "np", (B,H,W,3) float in [0,1]; "pt", (B,3,H,W) float in [0,1]; of photos that differ
                in size "np" and "pt" give a list, as "pil" always does.
            return_dict: False gives a plain tuple.
            callback_on_step_end: called as f(pipeline, round, round, tensors) after every round of every batch of
                crops. tensors: "image", the crops' fills (B,3,h,w) in [-1,1], and "probabilities", their soft maps
                (B,C,h/4,w/4). Those in the dict it returns, of the same shapes, take their place: in the result, and in
                what the next round corrects. `pipeline._interrupt = True` ends the work after this round: what is done
                so far is returned, and holes whose turn has not come still show the photo's own pixels.
            grain: whether fills that were enlarged, and those that continue plain surroundings, get the noise of the
                photo around them; see `fbinpaint.pipeline.grain`.
            mask_image: the same as `mask`, by the name it has in diffusers.
            value_range: the lowest and the highest value of float tensors and arrays, as (-1, 1) or (0, 255).
            callback_on_step_end_tensor_inputs: which of the tensors the callback is given; None = all.
            forbidden: classes, by names or ids, that no map of any round shows in what the masks mark, unless
                `semantic_map` does: what is to go does not come back.

        Raises:
            InputError: an argument is not of this form, a mask marks the whole photo, or every class is forbidden.

        Warns:
            InputWarning: a mask can hardly be meant (it marks nothing, or nearly everything), or was turned to fit.
        """
        photos = self._read(image, mask, mask_image, semantic_map, num_feedback_rounds, output_type, value_range)
        forbidden = self._read_forbidden(forbidden)
        callback = make_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
        grain_seed = draw_seed(generator) if grain else None
        reached = max(self._steps(photos, num_feedback_rounds, forbidden, callback, grain_seed), default=0)
        output = self._output(photos, (reached if self._interrupt else num_feedback_rounds) + 1, output_type)
        return output if return_dict else output.to_tuple()

    @torch.no_grad()
    def stream(
        self,
        image: Any,
        mask: Any = None,
        num_feedback_rounds: int = 2,
        semantic_map: Any = None,
        output_type: str = "pil",
        grain: bool = True,
        mask_image: Any = None,
        value_range: tuple[float, float] = (0, 1),
        forbidden: str | int | Sequence[str | int] | None = None,
    ) -> Iterator[FeedbackInpaintPipelineOutput]:
        """Restore the photos, yielding what there is after every step; the last output is what calling the pipeline
        gives.

        Arguments and errors as there. There is one output after each round of all crops, so that every hole is painted
        in each; what the crops have in the works is held until the last one. Details and grain are added to the last
        round. Photos without anything to paint have one output.
        """
        photos = self._read(image, mask, mask_image, semantic_map, num_feedback_rounds, output_type, value_range)
        forbidden, grain_seed = self._read_forbidden(forbidden), draw_seed(None) if grain else None
        painted = False
        for index in self._steps(photos, num_feedback_rounds, forbidden, None, grain_seed, abreast=True):
            painted = True
            yield self._output(photos, index + 1, output_type)
        if not painted:
            yield self._output(photos, num_feedback_rounds + 1, output_type)

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
    ) -> Any:
        """The mask for all things of some classes, or for the one at a point: what `segment` found, ready to be filled.

        What a thing encloses belongs to it (a windscreen, the eyes behind glasses); specks are left out; the mask is
        grown, to take soft borders.

        Args:
            semantic_map: one map of an intact photo, at its size, as `semantic_map` when calling the pipeline.
            classes: by names or ids; None = that of the point.
            point: (x, y) in pixels, in the thing that is meant; things that touch are one.
            grow: pixels all around; None = a thirty-second of the shorter side.
            shadows_in: the photo, as when calling the pipeline: what is darker on the ground below and beside the
                things is taken, too.

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
        height, width = np.asarray(upright_map).shape[:2]
        size = width, height
        labels = self._read_map(upright_map, size)
        if grow is not None and (not isinstance(grow, Integral) or isinstance(grow, bool) or grow < 0):
            raise InputError(f"grow {grow!r}: must be a whole number of pixels, 0 or more")
        shaded = [] if shadows_in is None else split_photos(shadows_in)
        if len(shaded) > 1:
            raise InputError(f"shadows_in is {len(shaded)} photos; give the one that the map is of")
        pixels = read_photo(shaded[0], (0, 1))[0] if shaded else None
        if pixels is not None and pixels.shape[:2] != labels.shape:
            raise InputError(f"shadows_in is {pixels.shape[1]}x{pixels.shape[0]}, the map {size[0]}x{size[1]}; "
                             "give the photo that the map is of")  # fmt: skip
        ids, point = self._read_selection(labels, classes, point)
        # Of the finest map of a photo, a cell of 4x4 pixels.
        smallest = (4 * size[0] / pyramid(width, height, self.config.sample_size)[-1][0]) ** 2
        kind = semantic_map[0] if isinstance(semantic_map, list | tuple) else semantic_map
        return as_mask_like(kind, select_things(labels, ids, smallest, grow, point, pixels))

    def _read_selection(
        self, labels: np.ndarray, classes: str | int | Sequence[str | int] | None, point: tuple[int, int] | None
    ) -> tuple[list[int], tuple[int, int] | None]:
        """The ids that `select` is to take from a map, and the point, checked."""
        ids = self.label_space.class_ids(classes)
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
            names = self.label_space.classes
            shown = "nothing" if there == IGNORE else names[there]
            wanted = ", ".join(names[i] for i in ids) or "any class"
            raise InputError(f"point {(x, y)}: the map shows {shown} there, not {wanted}; name another point")
        return ids or [there], (x, y)

    def set_exemplars(
        self, photos: Sequence[Any], semantic_maps: Sequence[Any], value_range: tuple[float, float] = (0, 1)
    ) -> None:
        """Consult labelled photos of one's own, five to a hundred, instead of the model's; saved with the pipeline.

        What they show of a class counts as far as there is enough of it; for the rest their statistics lean on those of
        the exemplars that the pipeline had before. No network is trained.

        Args:
            photos, value_range: as when calling the pipeline, whole photos of the kind that is to be restored.
            semantic_maps: a map per photo, as `semantic_map` there; 255 = unknown, so partial labels will do.

        Raises:
            InputError: an argument is not of this form, or no pixel is labelled.
        """
        photos, maps = split_photos(photos), split_planes(semantic_maps)
        if not photos or len(photos) != len(maps):
            raise InputError(f"{len(photos)} exemplars, {len(maps)} semantic maps: give one or more, and as many maps")

        def labelled() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for photo, map_ in zip(photos, maps, strict=True):
                pixels, _ = read_photo(photo, value_range)
                size = shorter_side(pixels.shape[1::-1], self.config.sample_size)
                yield resize_image(pixels, size), self._read_map(map_, size)

        own = make_exemplars(self.segmenter, self.label_space, labelled())
        if not own.counts.any():
            raise InputError("the exemplars' semantic maps know no pixel (all are 255); label some")
        self.recorrector.set_bank(self.recorrector.bank.to("cpu").adapted(own))
        exemplars = {"name": f"{len(photos)} labelled photos, added as exemplars", "licence": NOT_STATED}
        self._origin = self.origin | inherited([exemplars], [("the model they were added to", self.origin)])

    def _steps(
        self,
        photos: list[Photo],
        num_rounds: int,
        forbidden: Tensor | None,
        callback,
        grain_seed: int | None,
        abreast: bool = False,
    ) -> Iterator[int]:
        """Run everything; yields the number of the round after each step of each batch of crops or, where they go
        abreast, of all of them. No seed, no grain."""
        for photo in photos:
            fill_plain_holes(photo, self.config.sample_size, grain_seed)
        jobs = [job for photo in photos for job in self._plan(photo)]
        # Overviews first: they lay down the map of the known part, the crops then write the holes.
        batches = self._batches(sorted(jobs, key=lambda job: not job.overview))
        total = sum(1 if batch[0].overview else num_rounds + 1 for batch in batches)
        self._interrupt = False
        with self.progress_bar(total=total) as progress:
            runs = []
            for batch in batches:
                if self._interrupt:
                    break
                run = self._run(batch, num_rounds, forbidden, callback, grain_seed)
                if abreast and not batch[0].overview:
                    runs.append(run)
                    continue
                for index in run:
                    progress.update()
                    if not abreast:
                        yield index
            for indices in zip(*runs, strict=False):  # when interrupted, they end as soon as one of them does
                progress.update(len(runs))
                yield indices[0]

    def _output(self, photos: list[Photo], num_rounds: int, output_type: str) -> FeedbackInpaintPipelineOutput:
        rounds = [[self._round(photo, k, output_type) for k in range(num_rounds)] for photo in photos]
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

    def _round(self, photo: Photo, index: int, output_type: str) -> RoundOutput:
        patches = tuple(photo.patches[index])
        shares = [np.count_nonzero(patch.part) for patch in patches]

        def mean(values: Iterable[float]) -> float:
            return min(1.0, sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares))

        return RoundOutput(
            photo=photo,
            patches=patches,
            label_space=self.label_space,
            output_type=output_type,
            changed=mean(patch.changed for patch in patches) if patches else 0.0,
            confidence=mean(patch.confidence for patch in patches) if patches else photo.confidence,
        )

    def _read(
        self,
        image: Any,
        mask: Any,
        mask_image: Any,
        semantic_map: Any,
        num_rounds: int,
        output_type: str,
        value_range: tuple[float, float],
    ) -> list[Photo]:
        """The arguments of a call, checked."""
        check_output_type(output_type)
        if (mask is None) == (mask_image is None):
            raise InputError(f"{'no mask' if mask is None else 'mask and mask_image'}: give one of mask and mask_image")
        if not isinstance(num_rounds, Integral) or not 0 <= num_rounds <= MAX_ROUNDS:
            raise InputError(f"num_feedback_rounds {num_rounds!r}: must be a whole number from 0 to {MAX_ROUNDS}")
        images, maps = split_photos(image), split_planes(semantic_map)
        masks = split_planes(mask_image if mask is None else mask)
        masks = masks * len(images) if len(masks) == 1 else masks
        maps = maps * len(images) if len(maps) == 1 else maps
        if len(masks) != len(images) or len(maps) != len(images):
            raise InputError(f"{len(images)} photos, {len(masks)} masks, {len(maps)} semantic maps: one each, please")
        photos = []
        for x, m, s in zip(images, masks, maps, strict=True):
            pixels, original = read_photo(x, value_range)
            size = (pixels.shape[1], pixels.shape[0])
            drawn = None if s is None else self._read_map(s, size)
            patches = [[] for _ in range(num_rounds + 1)]
            hole = to_mask(m, size, photo=x)
            check_hole(hole, name_of(x if isinstance(m, str) else m, "the mask"))
            source = x if isinstance(x, PIL.Image.Image) else None
            photos.append(Photo(pixels, hole, drawn, original, patches, source=source))
        return photos

    def _read_map(self, semantic_map: Any, size: tuple[int, int]) -> np.ndarray:
        return to_index_map(semantic_map, size, self.label_space.num_classes, self.label_space.ignored_ids)

    def _read_forbidden(self, classes: str | int | Sequence[str | int] | None) -> Tensor | None:
        """(C,) bool, or None where nothing is forbidden."""
        ids = self.label_space.class_ids(classes)
        if len(ids) == self.label_space.num_classes:
            raise InputError(f"forbidden: these are all classes of {self.label_space.name}; leave at least one")
        return torch.isin(torch.arange(self.label_space.num_classes), torch.tensor(ids)) if ids else None

    def _plan(self, photo: Photo) -> list[_Job]:
        """The crops around the holes and, unless one of them is the whole photo, an overview for the map."""
        height, width = photo.hole.shape
        whole = Crop(0, 0, width, height)
        crops = plan_crops(photo.hole, min_size=self.config.sample_size, context=CONTEXT)
        parts = zip(crops, divide_hole(photo.hole, crops), strict=True)
        jobs = [self._job(photo, crop, part) for crop, part in parts if part.any()]
        if crops != [whole]:
            jobs.append(self._job(photo, whole, None))
        return jobs

    def _job(self, photo: Photo, crop: Crop, part: np.ndarray | None) -> _Job:
        size = working_size(crop.width, crop.height, self.config.sample_size)
        pixels, hole = shrink(photo.pixels[crop.slices], photo.hole[crop.slices], size)
        image = pad_to_multiple(to_tensor(pixels), STRIDE)
        mask = pad_to_multiple(mask_to_tensor(hole), STRIDE)
        drawn = None
        if photo.drawn is not None:
            drawn = cv2.resize(photo.drawn[crop.slices], size, interpolation=cv2.INTER_NEAREST_EXACT)
            drawn = pad_to_multiple(torch.from_numpy(drawn).float()[None, None], STRIDE)[:, 0].long()
        return _Job(photo, crop, part, size, image, mask, drawn)

    @staticmethod
    def _batches(jobs: Sequence[_Job]) -> list[list[_Job]]:
        groups: dict[tuple, list[_Job]] = {}
        for job in jobs:
            groups.setdefault(job.batch_key, []).append(job)
        return [group[i : i + MAX_BATCH] for group in groups.values() for i in range(0, len(group), MAX_BATCH)]

    def _run(
        self, jobs: list[_Job], num_rounds: int, forbidden: Tensor | None, callback, grain_seed: int | None
    ) -> Iterator[int]:
        device, dtype = self._execution_device, self.segmenter.dtype
        image = torch.cat([job.image for job in jobs]).to(device, dtype)
        mask = torch.cat([job.mask for job in jobs]).to(device, dtype)
        of_users = [job.drawn for job in jobs if job.drawn is not None]  # all of them, or none: see `batch_key`
        drawn = torch.cat(of_users).to(device) if of_users else None
        wishes: dict[str, Any] = {"semantic_map": drawn}
        if forbidden is not None:
            forbidden = forbidden.to(device)
            undecided = torch.cat([job.undecided(job.size) for job in jobs]).to(device, dtype)
            wishes["forbidden"] = Forbidden(forbidden, undecided)
        if jobs[0].overview:
            round_ = next(feedback_rounds(self.networks, image, mask, 0, **wishes))
            sure = round_.probabilities.amax(1).float().cpu().numpy()
            for i, (job, labels) in enumerate(zip(jobs, round_.labels().cpu().numpy().astype(np.uint8), strict=True)):
                job.photo.overview = labels[: job.size[1], : job.size[0]]
                if job.photo.filled is not None and not job.photo.hole.any():
                    job.photo.confidence = mean_in(job.photo.filled, sure[i, : job.size[1] // 4, : job.size[0] // 4])
            yield 0
            return
        before = last = None
        for round_ in feedback_rounds(self.networks, image, mask, num_rounds, **wishes):
            replaced = callback is not None and callback(round_)
            labels = round_.labels()
            before = labels if before is None else before
            done = round_.index == num_rounds or self._interrupt
            done |= last is not None and not replaced and settled(round_.image, last, labels, before, mask)
            patches = make_patches(jobs, round_, labels, before)
            if done:
                guidance = zip(round_.probabilities.split(1), round_.styles.split(1), strict=True)
                for job, patch, guide in zip(jobs, patches, guidance, strict=True):
                    patch.fill = self._detail(job, patch.fill, *guide, forbidden)
                    if grain_seed is not None:
                        patch.fill = with_grain(job, patch.fill, grain_seed)
            before, last = labels, round_.image
            # After an early stop the rounds to come would repeat this one; when interrupted, they may be needed beside
            # those of other crops, but were not reached.
            for index in range(round_.index, num_rounds + 1 if done else round_.index + 1):
                for job, patch in zip(jobs, patches, strict=True):
                    repeated = patch if index == round_.index else replace(patch, changed=0.0)
                    job.photo.patches[index].append(repeated)
                if index == round_.index or not self._interrupt:
                    yield index
            if done:
                return

    def _detail(
        self, job: _Job, fill: np.ndarray, probabilities: Tensor, styles: Tensor, forbidden: Tensor | None
    ) -> np.ndarray:
        """The fill (h,w,3) uint8 of a crop that was made smaller, repainted at twice the size again and again, up to
        about the crop's own or the largest that details are painted at."""
        photo, crop = job.photo, job.crop
        largest = working_size(crop.width, crop.height, MAX_DETAIL * self.config.sample_size)
        device, dtype = probabilities.device, probabilities.dtype
        width, height = job.size
        while min(largest) >= MIN_ENLARGEMENT * min(width, height):
            width, height = min(2 * width, largest[0]), min(2 * height, largest[1])
            pixels, hole = shrink(photo.pixels[crop.slices], photo.hole[crop.slices], (width, height))
            tensors = (to_tensor(pixels), mask_to_tensor(hole), to_tensor(fill))
            image, mask, filled = (x.to(device, dtype) for x in tensors)
            without = None
            if forbidden is not None:
                without = Forbidden(forbidden, job.undecided((width, height)).to(device, dtype))
            finer = refine(self.networks, image, mask, filled, probabilities, job.size[::-1], styles, without)
            fill = to_uint8(finer)[0]
        return fill


# `DiffusionPipeline.from_pretrained` looks for the classes that saved pipelines name among those of diffusers.
setattr(diffusers, FeedbackInpaintPipeline.__name__, FeedbackInpaintPipeline)


def agreed_label_space(given: LabelSpace | str | None, segmenter: Segmenter) -> LabelSpace:
    """That of the segmenter, which the argument `label_space` may repeat, or give where the segmenter knows none.

    Raises InputError where they differ, or there is none.
    """
    known = segmenter.label_space
    if given is None:
        if known is None:
            raise InputError("the segmenter does not say what its classes are; give label_space=")
        return known
    if known is not None and given == known.name:
        return known
    if not isinstance(given, LabelSpace):
        given = get_label_space(given)
    if known is not None and given != known:
        raise InputError(
            f"label_space is {given.name!r}, the segmenter's own is {known.name!r}, and these are not the same; leave "
            "the argument out"
        )
    return given


def with_grain(job: _Job, fill: np.ndarray, seed: int) -> np.ndarray:
    """The fill (h,w,3) uint8 of a crop, at the crop's size and with its grain, unless it was worked on at that size."""
    crop = job.crop
    if job.size == (crop.width, crop.height):
        return fill
    fill = resize_image(fill, (crop.width, crop.height))
    # A seed for each crop, as what else is in the batch must not matter.
    return add_grain(fill, job.photo.pixels[crop.slices], job.photo.hole[crop.slices], [seed, crop.left, crop.top])


def draw_seed(generator: torch.Generator | None) -> int:
    """A number for `with_grain`, the same one each time without a generator."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if not isinstance(generator, torch.Generator):
        raise InputError(f"generator is a {type(generator).__name__}; give one torch.Generator")
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))


def make_patches(jobs: list[_Job], round_: Round, labels: Tensor, before: Tensor) -> list[Patch]:
    """What a round made of some crops. labels and before (B,H,W): its map and that of one round before.

    A crop that is the whole photo also knows the map of the known part, its overview.
    """
    weight = torch.cat([job.weight for job in jobs]).to(labels.device)
    weight = weight / weight.sum((1, 2, 3), keepdim=True)
    sure = F.interpolate(round_.probabilities.amax(1, keepdim=True).float(), size=labels.shape[-2:])
    confidence, changed = ((plane * weight[:, 0]).sum((1, 2)) for plane in (sure[:, 0], labels != before))
    evidences = {name: x.cpu().numpy() for name, x in evidence(round_, labels, before).items()}
    fills, maps = to_uint8(round_.image), labels.cpu().numpy().astype(np.uint8)
    patches = []
    for i, job in enumerate(jobs):
        assert job.part is not None, "an overview makes no patch"
        inside = slice(job.size[1]), slice(job.size[0])
        patches.append(
            Patch(
                crop=job.crop,
                part=job.part,
                fill=fills[i][inside],
                labels=maps[i][inside],
                planes={name: plane[i][inside] for name, plane in evidences.items()},
                changed=float(changed[i]),
                confidence=float(confidence[i]),
            )
        )
        if job.photo.overview is None and (job.crop.height, job.crop.width) == job.photo.hole.shape:
            job.photo.overview = patches[-1].labels
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
    if round_.correction is not None and round_.consistency is not None and round_.layout is not None:
        planes["trust"] = levels(1 - round_.correction.gates[:, :1])[:, 0]
        planes["consistency"] = levels(round_.consistency).gather(1, labels[:, None])[:, 0]
        cells = in_cells(labels)  # (B, h, w); at the photo's size this would take as long as painting
        maps = F.interpolate(round_.layout.maps.float(), size=cells.shape[-2:], mode="nearest-exact")  # (B, K, h, w)
        agreeing = maps == cells[:, None]
        best = round_.layout.nearest.gather(1, agreeing.int().argmax(1).flatten(1)).view_as(cells)
        best = in_pixels(torch.where(agreeing.any(1), best, -1))
        planes["exemplar"] = torch.where(labels != before, best, -1).to(torch.int16)
    return planes


def check_output_type(output_type: str) -> None:
    if output_type not in ("pil", "np", "pt"):
        raise InputError(f"output_type {output_type!r}: must be 'pil', 'np' or 'pt'")
