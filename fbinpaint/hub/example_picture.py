"""What a model makes of one of the demo's examples, as a picture for its card."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GAP = 8  # pixels between the panels
NAME = "example.png"
CAPTION = "An example: with a hole, the map before feedback, after two rounds, restored, intact"


def has_example(label_space: str) -> bool:
    from fbinpaint.demo.examples import EXAMPLES

    return label_space in EXAMPLES


def example_picture(folder: Path, variant: str | None = None) -> bytes:
    """A PNG file of five panels, see CAPTION, for a saved pipeline whose label space has an example. The photo is
    procedural or in the public domain.

    variant: of the weights, as in `from_pretrained`
    Raises InputError where the pipeline cannot be loaded.
    """
    from diffusers.utils import logging

    from fbinpaint.demo.examples import EXAMPLES, example
    from fbinpaint.pipeline import FeedbackInpaintPipeline

    with_bars = logging._tqdm_active  # there is no public way to ask
    logging.disable_progress_bar()
    try:
        pipe = FeedbackInpaintPipeline.from_pretrained(folder, variant=variant)
    finally:
        if with_bars:
            logging.enable_progress_bar()
    pipe.set_progress_bar_config(disable=True)
    space = pipe.label_space
    photo, mask = example(space.name, EXAMPLES[space.name][0])
    out: Any = pipe(photo, mask)
    pixels, hole = np.array(photo.convert("RGB")), np.asarray(mask) > 0
    with_hole = np.where(hole[..., None], np.uint8(255), pixels)
    maps = (space.colorize(np.asarray(labels[0])) for labels in (out.semantic_before, out.semantic_after))
    panels = [with_hole, *maps, np.asarray(out.images[0].convert("RGB")), pixels]
    height, width, _ = pixels.shape
    sheet = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for place, panel in enumerate(panels):
        sheet.paste(Image.fromarray(panel), (place * (width + GAP), 0))
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()
