"""Published as handler.py beside a model: Hugging Face Inference Endpoints make one `EndpointHandler` and call it.

A request is {"inputs": PICTURE, "parameters": {...}}, an answer {"image": PNG, "notes": [...]} or {"error": one line}.
Pictures are base64 text of image files (or PIL images, as the service makes of binary requests), PNGs base64 text.
Parameters: mask, a picture, white = hole; remove, names of classes that are to go; rounds, 2 by default. One of the
first two is needed.
"""

import base64
import binascii
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.errors import InputWarning, not_warned, warn_user
from fbinpaint.images.convert import to_mask
from fbinpaint.images.io import ImageBytes, encode_image, load_image
from fbinpaint.images.modes import fit_to_format
from fbinpaint.images.xmp import model_name, tell_provenance
from fbinpaint.removal import remove


class EndpointHandler:
    def __init__(self, path: str = ""):
        self.pipe, self.name = FeedbackInpaintPipeline.from_pretrained(path), model_name(path)
        self.pipe.to("cuda" if torch.cuda.is_available() else "cpu").set_progress_bar_config(disable=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", InputWarning)
                image, filled = self.restored(data.get("inputs"), **(data.get("parameters") or {}))
                encoded = self.encoded(image, filled)
        except InputError as error:
            return {"error": str(error)}
        except TypeError as error:  # another parameter
            return {"error": f"parameters: {error}; give mask, remove and rounds"}
        return {
            "image": base64.b64encode(encoded).decode(),
            "notes": [str(warning.message) for warning in said if issubclass(warning.category, InputWarning)],
        }

    def restored(self, image: Any, mask: Any = None, remove: Any = None, rounds: int = 2) -> tuple[Image.Image, bool]:
        """The photo, and whether anything of it was filled."""
        photo = picture(image, "inputs")
        hole = None if mask is None else picture(mask, "mask")
        if remove is not None:
            return take_out(self.pipe, photo, remove, hole, rounds)
        if hole is None:
            raise InputError("nothing says what to fill; give a mask, or name what is to go as remove")
        result = self.pipe(photo, hole, num_feedback_rounds=rounds).images[0]
        with not_warned():  # the pipeline has told of it
            return result, bool(to_mask(hole, result.size, photo).any())

    def encoded(self, image: Image.Image, filled: bool) -> bytes:
        """A PNG file, which says in its XMP that a model painted a part of it, where it did."""
        fitted, _ = fit_to_format(image, "restored.png")
        if filled:
            fitted.info["xmp"] = tell_provenance(fitted.info.get("xmp"), self.name)
        return encode_image(fitted, Path("restored.png"))


def take_out(
    pipe: FeedbackInpaintPipeline, photo: Image.Image, classes: Any, hole: Any, rounds: int
) -> tuple[Image.Image, bool]:
    removal = remove(pipe, photo, classes, masks=hole, num_feedback_rounds=rounds)[0]
    if not removal.found:
        warn_user("the photo shows nothing of these classes")
    return removal.image, bool(removal.mask.any())


def picture(value: Any, name: str) -> Image.Image:
    """Raises InputError for what is no picture."""
    if isinstance(value, Image.Image):
        return value
    if not isinstance(value, str):
        raise InputError(f"{name}: is a {type(value).__name__}; give an image file as base64 text")
    try:
        text = value.partition(",")[2] if value.startswith("data:") else value
        data = base64.b64decode("".join(text.split()), validate=True)  # many programs break it into lines
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: is not base64 text ({error}); give an image file as base64 text") from error
    return load_image(ImageBytes(name, data))
