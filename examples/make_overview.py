"""Draw README's pictures with the bundled models: PYTHONPATH=. python examples/make_overview.py"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.scenes import SCENES
from fbinpaint.demo.examples import example
from fbinpaint.demo.rendering import with_hole
from fbinpaint.removal import remove

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (("faces", "portrait"), ("streets", 1))  # bundled model, and an example of the demo
# Bundled model, size and number of a procedural scene, what is taken out of it, and whether its shadow, too.
REMOVED = (("faces", (256, 256), 4, ["glasses"], False), ("streets", (320, 240), 9, ["car", "person"], True))
REMOVAL_SEED = 11


def panels(model: str, name: str | int) -> list[tuple[str, np.ndarray]]:
    pipe = FeedbackInpaintPipeline.from_pretrained(ROOT / "checkpoints" / model)
    photo, mask = example(pipe.label_space.name, name)
    out = pipe(photo, mask)
    return [
        ("with a hole", with_hole(np.asarray(photo), np.asarray(mask))),
        ("map before feedback", pipe.label_space.colorize(out.semantic_before[0])),
        ("map after two rounds", pipe.label_space.colorize(out.semantic_after[0])),
        ("restored", np.asarray(out.images[0])),
        ("intact", np.asarray(photo)),
    ]


def removal_panels(
    model: str, size: tuple[int, int], number: int, classes: list[str], shadow: bool
) -> list[tuple[str, np.ndarray]]:
    pipe = FeedbackInpaintPipeline.from_pretrained(ROOT / "checkpoints" / model)
    photo, _ = SCENES[pipe.label_space.name](size, np.random.default_rng([REMOVAL_SEED, number]))
    (removal,) = remove(pipe, [photo], classes, shadow=shadow)
    labels = np.asarray(removal.semantic_before)
    named = np.isin(labels, pipe.label_space.class_ids(classes))[..., None]
    return [
        ("photo", np.asarray(photo)),
        (
            "what its map calls " + " or ".join(classes),
            np.where(named, pipe.label_space.colorize(labels), np.asarray(photo) // 2 + 127),
        ),
        ("what is filled", with_hole(np.asarray(photo), removal.mask)),
        ("removed", np.asarray(removal.image)),
    ]


def draw(rows: list[list[tuple[str, np.ndarray]]], file: str, own_titles: bool = False) -> None:
    """Rows of pictures with the titles of the first, or each with its own."""
    heights = [row[0][1].shape[0] / row[0][1].shape[1] for row in rows]
    figure = Figure(figsize=(12, 2.4 * sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), height_ratios=heights)
    for place, row in zip(axes, rows, strict=True):
        for axis, (title, picture) in zip(place, row, strict=True):
            axis.imshow(picture)
            axis.axis("off")
            if own_titles or row is rows[0]:
                axis.set_title(title, fontsize=11)
    figure.savefig(ROOT / "docs" / file, dpi=80)


def main() -> None:
    draw([panels(*shown) for shown in SHOWN], "overview.png")
    draw([removal_panels(*shown) for shown in REMOVED], "removal.png", own_titles=True)


if __name__ == "__main__":
    main()
