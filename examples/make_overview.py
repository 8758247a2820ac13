"""Draw README's picture with the bundled models: python examples/make_overview.py

A photo restored, and a procedural street restored twice: by its own map, and by one that was edited by hand.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import SCENES
from fbinpaint.labels import IGNORE

HERE = Path(__file__).parent
STREET_SEED, STREET_SIZE = (7, 4), (256, 192)
TREE = (150, 28, 232, 118)  # the ellipse that is missing, and then drawn as vegetation; pixels


def panels_of_portrait() -> list[tuple[str, np.ndarray]]:
    pipe = FeedbackInpaintPipeline.from_pretrained(HERE.parent / "checkpoints" / "faces")
    photo, mask = Image.open(HERE / "portrait.jpg"), Image.open(HERE / "portrait_mask.png")
    out = pipe(photo, mask)
    return [
        ("a photo with a hole", marked(photo, mask)),
        ("its map before feedback", pipe.label_space.colorize(out.semantic_before[0])),
        ("... after two rounds", pipe.label_space.colorize(out.semantic_after[0])),
        ("restored", np.asarray(out.images[0])),
        ("the intact photo", np.asarray(photo)),
    ]


def panels_of_street() -> list[tuple[str, np.ndarray]]:
    pipe = FeedbackInpaintPipeline.from_pretrained(HERE.parent / "checkpoints" / "streets")
    photo, _ = SCENES["cityscapes"](STREET_SIZE, np.random.default_rng(STREET_SEED))
    mask = Image.new("1", STREET_SIZE)
    ImageDraw.Draw(mask).ellipse(TREE, fill=1)
    out = pipe(photo, mask)
    drawn = np.where(np.asarray(mask), pipe.label_space.classes.index("vegetation"), IGNORE).astype(np.uint8)
    edited = pipe(photo, mask, semantic_map=drawn)
    return [
        ("another", marked(photo, mask)),
        ("its map after feedback", pipe.label_space.colorize(out.semantic_after[0])),
        ("restored", np.asarray(out.images[0])),
        ("a tree drawn into the map", pipe.label_space.colorize(edited.semantic_after[0])),
        ("restored by that map", np.asarray(edited.images[0])),
    ]


def marked(photo: Image.Image, mask: Image.Image) -> np.ndarray:
    return np.where(np.asarray(mask)[..., None], np.uint8(255), np.asarray(photo))


def main() -> None:
    rows = [panels_of_portrait(), panels_of_street()]
    heights = [panels[0][1].shape[0] / panels[0][1].shape[1] for panels in rows]
    figure = Figure(figsize=(12, 2.4 * sum(heights) + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), height_ratios=heights)
    for axis, (title, picture) in zip(axes.flat, [panel for panels in rows for panel in panels], strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    figure.savefig(HERE.parent / "docs" / "overview.png", dpi=80)


if __name__ == "__main__":
    main()
