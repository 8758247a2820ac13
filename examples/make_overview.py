"""Draw README's picture with the bundled models: PYTHONPATH=. python examples/make_overview.py"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import app
from fbinpaint import FeedbackInpaintPipeline

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (("faces", "portrait"), ("streets", 1))  # bundled model, and an example of the demo


def panels(model: str, name: str | int) -> list[tuple[str, np.ndarray]]:
    pipe = FeedbackInpaintPipeline.from_pretrained(ROOT / "checkpoints" / model)
    photo, mask = app.example(pipe.label_space.name, name)
    out = pipe(photo, mask)
    return [
        ("with a hole", app.with_hole(np.asarray(photo), np.asarray(mask))),
        ("map before feedback", pipe.label_space.colorize(out.semantic_before[0])),
        ("map after two rounds", pipe.label_space.colorize(out.semantic_after[0])),
        ("restored", np.asarray(out.images[0])),
        ("intact", np.asarray(photo)),
    ]


def main() -> None:
    rows = [panels(*shown) for shown in SHOWN]
    heights = [row[0][1].shape[0] / row[0][1].shape[1] for row in rows]
    figure = Figure(figsize=(12, 2.4 * sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), height_ratios=heights)
    for place, row in zip(axes, rows, strict=True):
        for axis, (title, picture) in zip(place, row, strict=True):
            axis.imshow(picture)
            axis.axis("off")
            if row is rows[0]:
                axis.set_title(title, fontsize=11)
    figure.savefig(ROOT / "docs" / "overview.png", dpi=80)


if __name__ == "__main__":
    main()
