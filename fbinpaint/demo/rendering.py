"""What is shown: pictures, and figures in words."""

from typing import TYPE_CHECKING

import cv2
import gradio as gr
import numpy as np

from fbinpaint.images.crops import resize_image
from fbinpaint.labels import IGNORE, LabelSpace

if TYPE_CHECKING:
    from fbinpaint.pipeline.outputs import FeedbackInpaintPipelineOutput, RoundOutput

HOLE_COLOUR = (255, 255, 255)
SHOWN_FROM = 1e-3  # of the photo: what a map shows less of has no button


def classes_of(space: LabelSpace) -> list[dict]:
    """Name and colour of each class as they are shown, by id."""
    return [
        {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
        for name, colour in zip(space.shown_names, space.palette, strict=True)
    ]


def hex_colours(space: LabelSpace) -> dict[str, str]:
    """The colour of each class, by the name that is shown; another label space may call another colour the same."""
    return {shown["name"]: shown["colour"] for shown in classes_of(space)}


def with_hole(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The (H,W,3) photo with its hole blanked out."""
    return np.where(hole[..., None], np.array(HOLE_COLOUR, np.uint8), photo)


def annotate(picture: np.ndarray, labels: np.ndarray, space: LabelSpace) -> gr.AnnotatedImage:
    """A picture with a mask in its colour for each class that is present in the map."""
    ids = [i for i in np.unique(labels) if i < space.num_classes]
    masks = [((labels == i).astype(float), space.shown_names[i]) for i in ids]
    return gr.AnnotatedImage((picture, masks), color_map=hex_colours(space))


def annotate_changes(
    picture: np.ndarray, before: np.ndarray, after: np.ndarray, space: LabelSpace
) -> gr.AnnotatedImage:
    """The greyed picture, with the pixels of another class than before in the colour of their new one."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return annotate(grey, np.where(before == after, IGNORE, after), space)


def doubt_picture(round_: "RoundOutput") -> np.ndarray:
    """Where the round before left doubt, dark to bright: disagreement, depth and uncertainty, added up."""
    doubt = np.minimum(round_.doubt.sum(axis=2), 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(doubt, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def album(output: "FeedbackInpaintPipelineOutput", size: tuple[int, int]) -> list[tuple[np.ndarray, str]]:
    """Fill and doubt of every round, with the share of the hole that changed class, and how sure the map is there; at
    most as large as (width, height)."""
    pictures = []
    for index, round_ in enumerate(output.rounds[0]):
        changed = f"{round_.changed:.1%} changed" if index else "one-way"
        caption = f"Round {index}: {changed}, confidence {round_.confidence:.0%}"
        pictures.append((resize_image(np.asarray(round_.image), size), caption))
        pictures.append((resize_image(doubt_picture(round_), size), f"Doubt fed into round {index}"))
    return pictures


def summary(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray) -> str:
    """What happened, in one line."""
    rounds = output.rounds[0]
    height, width = hole.shape
    text = f"Restored {hole.mean():.1%} of {width} × {height} pixels."
    if len(rounds) == 1:
        return f"{text} No feedback."
    before, after = (np.asarray(labels)[hole] for labels in (output.semantic_before[0], output.semantic_after[0]))
    changed = (before != after).mean()
    return f"{text} Feedback changed {changed:.1%} of the map in the hole."


def figures(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray, space: LabelSpace) -> dict:
    """The same for programs."""
    return size_and_hole(hole) | {
        "classes": present_classes(np.asarray(output.semantic_after[0]), space),
        "rounds": [
            {"changed": round(float(round_.changed), 4), "confidence": round(float(round_.confidence), 4)}
            for round_ in output.rounds[0]
        ],
    }


def size_and_hole(hole: np.ndarray) -> dict:
    """Of a photo with an (H,W) bool hole: its size, and the hole's share of it."""
    height, width = hole.shape
    return {"width": width, "height": height, "hole": round_share(hole.mean())}


def present_classes(labels: np.ndarray, space: LabelSpace) -> dict[str, str]:
    """The classes that a map (H,W) shows, id -> owner's name; the ids as text, as JSON has them."""
    return {str(i): space.classes[i] for i in np.unique(labels) if i < space.num_classes}


def shown_classes(labels: np.ndarray, space: LabelSpace) -> list[int]:
    """The classes that a map (H,W) uint8 shows, the smallest first: what one wants to be rid of is seldom the road."""
    counts = np.bincount(labels.ravel(), minlength=space.num_classes)[: space.num_classes]
    order = np.argsort(counts, kind="stable")
    return [int(label) for label in order if counts[label] >= SHOWN_FROM * labels.size]


def round_share(share: float) -> float:
    """To a pixel in a million: small things in large photos are not nothing."""
    return round(float(share), 6)
