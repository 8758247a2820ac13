"""What a model is called: a folder, a Hub id, the name of a bundled one, or `auto`; and the pipeline of that name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError
from fbinpaint.system.devices import AUTO_DEVICE, DTYPES, check_device, compile_networks, find_device

if TYPE_CHECKING:
    from fbinpaint.labels import LabelSpace
    from fbinpaint.pipeline import FeedbackInpaintPipeline

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"
DEFAULT_MODEL = CHECKPOINTS / "streets"  # of `exemplars`
NOT_BUNDLED = "no --model given, and the bundled ones are only in a clone; name a folder or a Hub id"
AUTO = "auto"  # instead of a model: the bundled one that suits the photo


def load_pipeline(
    model: str, device: str = AUTO_DEVICE, dtype: str = "float32", compile: bool = False
) -> "FeedbackInpaintPipeline":
    """The pipeline of a folder or a Hub id.

    device: as of `devices.find_device`; auto = the GPU if there is one
    dtype: of the networks, one of `devices.DTYPES`
    compile: whether torch.compile makes programs of the networks when they first run, which takes minutes

    Raises InputError if it cannot be loaded, or not so.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}: must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    check_device(device)
    check_bundled(model)
    on_the_hub = not os.path.isdir(model)
    if on_the_hub:  # a mistyped one shall not wait for the import of torch, which takes seconds
        from fbinpaint.hub.saved import COMPONENTS, fetch, pinned

        model = pinned(model)
        fetch(model, COMPONENTS)
    import torch
    from diffusers.utils import logging

    from fbinpaint.pipeline import FeedbackInpaintPipeline

    logging.disable_progress_bar()  # of loading; the commands have a bar of their own
    logging.set_verbosity_error()
    pipe = FeedbackInpaintPipeline.from_pretrained(model, dtype=getattr(torch, dtype), local_files_only=on_the_hub)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(find_device(device))
    if compile:
        compile_networks(pipe)
    return pipe


def check_bundled(model: str) -> None:
    """Raises InputError if the model is the bundled one and that is not there."""
    if model == str(DEFAULT_MODEL) and not os.path.isdir(model):
        raise InputError(NOT_BUNDLED)


def bundled_models() -> dict[str, str]:
    """The folders under checkpoints/ that hold a pipeline, by name."""
    return {path.parent.name: str(path.parent) for path in sorted(CHECKPOINTS.glob("*/model_index.json"))}


def by_name(models: Sequence[str]) -> dict[str, str]:
    """These folders and Hub ids by what those who ask for them call them: a folder by its own name alone, for where it
    lies is not theirs to know; but as it was given where another is called so, too."""
    own = [Path(model).resolve().name if os.path.isdir(model) else model for model in models]
    return {name if own.count(name) == 1 else model: model for name, model in zip(own, models, strict=True)}


def candidates(model: str, classes: Sequence[str] | None) -> dict[str, str]:
    """The models that photos may go to, folders or Hub ids by name: the bundled ones for AUTO, else the one named.

    classes: that are to go; only models that know all of them are left. None = none is named
    Raises InputError where no model is left, where these are all classes of one, or where an id is another class in
    each of several.
    """
    models = bundled_models() if model == AUTO else {model: model}
    if not models:
        raise InputError(NOT_BUNDLED)
    if classes is None:
        return models
    from fbinpaint.labels import spaces_that_know

    spaces = {name: label_space_of_model(folder) for name, folder in models.items()}
    try:
        ids = spaces_that_know(spaces, classes)
    except InputError as error:
        raise InputError(f"--remove: {error}") from error
    return {name: models[name] for name in ids}


def label_space_of_model(model: str) -> "LabelSpace":
    """The label space of a pipeline folder or Hub id, without loading its weights. Raises InputError without one."""
    from fbinpaint.hub.saved import fetch, pinned, read_label_space
    from fbinpaint.images.folders import naming

    check_bundled(model)
    with naming(model):
        return read_label_space(Path(model) if os.path.isdir(model) else fetch(pinned(model), ()))
