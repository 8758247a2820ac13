"""What a model makes of one of the demo's examples, as a picture for its card."""

import io
from typing import Any

import numpy as np
from PIL import Image

GAP = 8  # pixels between the panels
NAME = "example.png"
CAPTION = "An example: with a hole, the map before feedback, after two rounds, restored, intact"


def has_example(label_space: str) -> bool:
    from fbinpaint.demo.examples import EXAMPLES

    return label_space in EXAMPLES


def example_picture(pipe: Any) -> bytes:
    """A PNG file of five panels, see CAPTION, by a `FeedbackInpaintPipeline` whose label space has an example. The
    photo is procedural or in the public domain."""
    from fbinpaint.demo.examples import EXAMPLES, example

    space = pipe.label_space
    photo, mask = example(space.name, EXAMPLES[space.name][0])
    out = pipe(photo, mask)
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
