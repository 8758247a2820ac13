"""The pipeline: photo and mask in, restored photo and both semantic maps out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffusers
import torch
from torch import Tensor

from fbinpaint.errors import InputError, check_whole
from fbinpaint.hub.saved import COMPONENTS, FORMAT_VERSION, SAMPLE_SIZES
from fbinpaint.labels import LabelSpace, get_label_space
from fbinpaint.loop import Networks, Round
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.pipeline.callbacks import TENSORS, make_callback
from fbinpaint.pipeline.inputs import draw_seed, read_forbidden, read_photos
from fbinpaint.pipeline.maps import MapPipeline
from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput, make_output
from fbinpaint.pipeline.runner import Runner


class FeedbackInpaintPipeline(MapPipeline):
    """Restores the holes of photos, guided by a semantic map that the restoration itself corrects.

    Args:
        label_space: of the classes, or its name if it is built in, see `fbinpaint.labels`; None = as the segmenter has
            it. A segmenter that knows none is told.
        sample_size: crops whose shorter side is longer than this are worked on at this size, pixels, 16 to 4096.
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
        check_whole("sample_size", sample_size, *SAMPLE_SIZES)  # no other could be loaded again
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
            label_space=label_space.name, sample_size=int(sample_size), variant=variant, format_version=FORMAT_VERSION
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

        Thin holes of photos larger than `sample_size`, and holes in plain surroundings, are filled before the loop
        (`fbinpaint.pipeline.thin_holes`, `fbinpaint.pipeline.smooth_surfaces`) and known from then on: no round paints
        them or changes their map, unless `semantic_map` says something there.

        Args:
            image: one photo or a list: PIL of any mode (EXIF orientation honoured, alpha laid on white), an array
                (H,W,3), uint8 or float, or a tensor (3,H,W); or a batch, array (B,H,W,3) or tensor (B,3,H,W). From 16
                pixels a side to 64 megapixels.
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
        photos = read_photos(
            self.label_space, image, mask, mask_image, semantic_map, num_feedback_rounds, output_type, value_range
        )
        forbidden = read_forbidden(forbidden, self.label_space)
        callback = make_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
        runner = self._runner(num_feedback_rounds, forbidden, callback, draw_seed(generator) if grain else None)
        reached = max(runner.steps(photos), default=0)
        num_rounds = reached if self._interrupt else num_feedback_rounds
        output = make_output(photos, num_rounds + 1, self.label_space, output_type)
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
        photos = read_photos(
            self.label_space, image, mask, mask_image, semantic_map, num_feedback_rounds, output_type, value_range
        )
        forbidden = read_forbidden(forbidden, self.label_space)
        runner = self._runner(num_feedback_rounds, forbidden, None, draw_seed(None) if grain else None)
        painted = False
        for index in runner.steps(photos, abreast=True):
            painted = True
            yield make_output(photos, index + 1, self.label_space, output_type)
        if not painted:
            yield make_output(photos, num_feedback_rounds + 1, self.label_space, output_type)

    def _runner(
        self,
        num_rounds: int,
        forbidden: Tensor | None,
        callback: Callable[[Round], bool] | None,
        grain_seed: int | None,
    ) -> Runner:
        self._interrupt = False
        return Runner(
            networks=self.networks,
            device=self._execution_device,
            sample_size=self.config.sample_size,
            num_rounds=num_rounds,
            forbidden=forbidden,
            callback=callback,
            grain_seed=grain_seed,
            interrupted=lambda: self._interrupt,
            progress_bar=self.progress_bar,
        )


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


