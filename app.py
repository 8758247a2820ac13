"""The demo: mark a part of a photo, have it restored, watch its semantic map being corrected, and edit the map by hand.

    python app.py                                         # the bundled models, http://127.0.0.1:7860
    python app.py --model my/pipeline user/name-on-hub    # others: folders or Hub ids

Programs call the same page:

    from gradio_client import Client, handle_file
    client = Client("http://127.0.0.1:7860")
    restored, before, after, figures = client.predict(
        handle_file("photo.png"), handle_file("mask.png"), api_name="/inpaint"
    )
    restored, mask, before, after, figures = client.predict(
        handle_file("photo.png"), "car, person", model="streets", api_name="/remove"
    )
"""

try:
    import spaces  # Hugging Face ZeroGPU; it must be imported before torch
except ImportError:
    spaces = None

import argparse
import functools
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.threads import openmp_settings

# Read when Gradio is imported: without it, a machine without internet waits half a minute for the import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.update(openmp_settings())  # read when torch is imported

import cv2
import gradio as gr
import numpy as np
from gradio import processing_utils
from PIL import Image

from fbinpaint import cli
from fbinpaint.arguments import HelpWithDefaults, names
from fbinpaint.cli import load_pipeline
from fbinpaint.data.scenes import SCENES
from fbinpaint.errors import InputError
from fbinpaint.files import whole_file
from fbinpaint.image_io import metadata_options
from fbinpaint.images import (
    NOTHING_MARKED,
    check_hole,
    load_image,
    mask_image,
    resize_image,
    to_index_map,
    to_mask,
    to_rgb,
)
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import feather_weights, grow_mask, protocol_mask
from fbinpaint.memory import keep_freed_memory
from fbinpaint.modes import as_photo, fit_to_format
from fbinpaint.xmp import model_name, tell_provenance

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipelineOutput, RoundOutput
    from fbinpaint.removal import Removal

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
MAX_ROUNDS = 4
MAX_RETRIES = 4  # of a removal; each takes as long as the first fill
MAX_SIDE = 2048  # pixels; longer photos are scaled down on the page: no screen shows more, and the browser is slow
HOLE_COLOUR = (255, 255, 255)
KNOWN_OPACITY = 0.3  # of the classes outside the hole in the map that is edited: there, nothing can be painted
QUEUE_LENGTH = 32  # visitors who wait; the next ones are told to come back
KEEP_FILES = 3600  # seconds

EXAMPLE_PHOTOS = Path(__file__).resolve().parent / "examples"
# By built-in label space; models of others have no examples. A photo of that folder, or the number of a procedural
# scene and of its mask: small and medium holes.
EXAMPLES = {"celebamask-hq": ("portrait", 0, 5), "cityscapes": (0, 1, 5)}
EXAMPLE_SIZES = {"celebamask-hq": (256, 256), "cityscapes": (256, 192)}  # of a scene, (width, height)
EXAMPLE_SEED = 7

HINT = "Drop in a photo or pick an example, mark a hole, and press **Restore**."
TITLE = """# fbinpaint
Mark what is damaged or should go: the hole is filled, a semantic map is read from the fill and corrected,
and the corrected map guides the next fill, round after round. Not what you had in mind? Repaint the map."""
EDIT_HINT = """### Edit the map
Pick a class, paint it **into the hole** of the map, and restore again: the hole is filled to match."""

SYSTEM_FONTS = ("system-ui", "sans-serif")  # the themes' own are fetched from Google


def hex_colours(space: LabelSpace) -> dict[str, str]:
    """The colour of each class, by the name that is shown; another label space may call another colour the same."""
    return {
        name: "#{:02x}{:02x}{:02x}".format(*colour)
        for name, colour in zip(space.shown_names, space.palette, strict=True)
    }


def class_swatches(pickers: list[tuple[str, LabelSpace]]) -> str:
    """CSS that shows each class's colour in front of its name in the class pickers, which are found by their id."""
    return "\n".join(
        f"#{elem_id} label:nth-of-type({i + 1})::before {{ background: {colour}; }}"
        for elem_id, space in pickers
        for i, colour in enumerate(hex_colours(space).values())
    )


STYLE = {
    "theme": gr.themes.Default(primary_hue="teal", neutral_hue="slate", radius_size="lg", font=SYSTEM_FONTS),
    "css": """
        .gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
        #title { margin-top: 0.75rem; } #title h1 { margin-bottom: 0.25rem; }
        #examples .gallery { display: grid; grid-template-columns: repeat(3, 1fr); }
        #examples .gallery-item { width: 100%; aspect-ratio: 16 / 9; overflow: hidden; }
        #examples .gallery-item * { display: block; width: 100%; height: 100%; max-width: none; object-fit: cover; }
        .map .image-container img { max-height: 420px; object-fit: contain; }
        #rounds .grid-wrap { min-height: 0; max-height: none; }
        #rounds .caption-label { max-width: 100%; white-space: normal; }
        .classes label { padding: 4px 8px; } .classes .wrap { gap: 4px; }
        .classes label::before { content: ""; width: 0.9em; height: 0.9em; margin-right: 0.4em; border-radius: 3px;
                                 border: 1px solid #8888; }
        @media (max-width: 640px) {
            #rounds .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
            .gradio-container { padding: 4px !important; }
        }
    """,
}

SERVING = {"ssr_mode": False, "max_file_size": "100mb"}


def save_to_cache(picture: Image.Image, cache_dir: str, name: str = "image", format: str = "png") -> str:
    """Gradio's `save_pil_to_cache`, but whole or not at all; the file's path.

    Gradio 6.31 names pictures by their content and writes them in place: one that is written again while a browser is
    fetching it arrives cut short, and the page shows a broken picture.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format, **({"compress_level": 1} if format == "png" else {}))  # sooner on the page, as exact
    return to_cache(buffer.getvalue(), cache_dir, f"{name}.{format}")


def to_cache(data: bytes, cache_dir: str, name: str) -> str:
    """The path of a file that holds the data, written whole or not at all."""
    path = Path(cache_dir).resolve() / processing_utils.hash_bytes(data) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return str(path)


processing_utils.save_pil_to_cache = save_to_cache

gpu = spaces.GPU if spaces else lambda function: function


# ---------------------------------------------------------------------------------------------- models

load = functools.cache(load_pipeline)  # on first use, then kept
label_space_of_model = functools.cache(cli.label_space_of_model)


def bundled_models() -> dict[str, str]:
    """The folders under checkpoints/ that hold a pipeline, by name."""
    return {path.parent.name: str(path.parent) for path in sorted(CHECKPOINTS.glob("*/model_index.json"))}


@gpu
def restore(
    model: str,
    photo: np.ndarray,
    hole: np.ndarray,
    rounds: int,
    semantic_map: np.ndarray | None = None,
    forbidden: Sequence[int] = (),
) -> Iterator["FeedbackInpaintPipelineOutput"]:
    """photo (H,W,3) uint8, hole (H,W) bool, a map edited by the user, ids of classes that must not be in the hole
    -> the pipeline's output after every step."""
    pipe = load(model)
    yield from pipe.stream(photo, hole, rounds, semantic_map=semantic_map, output_type="np", forbidden=forbidden)


def restore_with_progress(
    model: str,
    photo: np.ndarray,
    hole: np.ndarray,
    rounds: int,
    edits: np.ndarray | None,
    progress: gr.Progress,
    forbidden: Sequence[int] = (),
) -> Iterator["FeedbackInpaintPipelineOutput"]:
    """`restore`, and a bar that shows which round it is at."""
    progress((0, rounds + 1), desc="Round 0", unit="rounds")
    load(model)  # here, not in `restore`: on ZeroGPU that runs in a process of its own
    for output in restore(model, photo, hole, rounds, edits, forbidden):
        if (done := len(output.rounds[0])) <= rounds:
            progress((done, rounds + 1), desc=f"Round {done}", unit="rounds")
        yield output


@gpu
def segment_photo(model: str, photo: np.ndarray) -> np.ndarray:
    """photo (H,W,3) uint8 -> its map, (H,W) uint8 ids."""
    return load(model).segment(photo, output_type="np")


@gpu
def remove_classes(
    model: str, photo: np.ndarray, classes: Sequence[int], rounds: int, grow: int | None, shadow: bool, retries: int
) -> "Removal":
    """What becomes of a photo (H,W,3) uint8 without the classes of these ids; the rest as for `removal.remove`."""
    from fbinpaint.removal import remove  # which imports torch

    settings = {"num_feedback_rounds": rounds, "grow": grow, "shadow": shadow, "retries": retries}
    return remove(load(model), [Image.fromarray(photo)], classes, **settings)[0]


@functools.cache
def restored_example(model: str, name: str | int, rounds: int) -> "FeedbackInpaintPipelineOutput":
    """An example's output, computed when it is first asked for."""
    photo, mask = example(label_space_of_model(model).name, name)
    *_, output = restore(model, np.asarray(photo), np.asarray(mask), rounds)
    return output


# ---------------------------------------------------------------------------------------------- what the user gave


@dataclass(frozen=True)
class Session:
    """What a visitor's last restoration leaves for the next one.

    photo: (H,W,3) uint8; result: (H,W,3) uint8; hole: (H,W) bool
    edits: (H,W) uint8, the classes the user has painted so far, 255 = none
    """

    model: str
    photo: np.ndarray
    hole: np.ndarray
    result: np.ndarray
    edits: np.ndarray

    def is_about(self, model: str, photo: np.ndarray) -> bool:
        return self.model == model and np.array_equal(self.photo, photo)


@contextmanager
def toasts() -> Iterator[None]:
    """Shows an InputError to the visitor."""
    try:
        yield
    except InputError as error:
        raise gr.Error(str(error), title="Not yet", print_exception=False) from None


def background_of(drawing: dict | None) -> Image.Image:
    """The photo in the editor. Raises InputError where there is none."""
    background = drawing["background"] if drawing else None
    if background is None or not background.getchannel("A").getbbox():  # a cleared canvas is transparent
        raise InputError("There is no photo yet: drop one into the editor, or pick an example.")
    return background


def read_photo(photo: Image.Image) -> np.ndarray:
    """(H,W,3) uint8, at most MAX_SIDE pixels long."""
    pixels = to_rgb(photo)
    height, width = pixels.shape[:2]
    if max(height, width) <= MAX_SIDE:
        return pixels
    scale = MAX_SIDE / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    gr.Info(f"The photo of {width} × {height} pixels was scaled down to {size[0]} × {size[1]}.")
    return resize_image(pixels, size)


def image_path(**settings) -> gr.Image:
    """An image that reaches the functions as the path of its file, unopened: Gradio would refuse a broken file without
    telling the visitor why."""
    image = gr.Image(**settings)
    image.preprocess = lambda payload: payload and payload.path
    return image


def as_sent(component: gr.components.Component) -> gr.components.Component:
    """The component, whose values reach the functions as programs sent them: of text where a number belongs, Gradio
    would not tell them what is wrong."""
    component.preprocess = lambda payload: payload
    return component


def open_upload(path: str) -> Image.Image:
    """The uploaded image, `filename` and messages of InputError naming it as the sender called it."""
    try:
        image = load_image(path)
    except InputError as error:
        raise InputError(str(error).replace(path, Path(path).name)) from None
    image.filename = Path(path).name
    return image


def received_photo(path: str | None) -> Image.Image:
    """The photo that a program sent. Raises InputError where there is none."""
    if path is None:
        raise InputError("There is no photo yet: send one as `image`.")
    return open_upload(path)


def listed_classes(text: str | None, space: LabelSpace) -> list[int]:
    """The ids of "car, person": names or ids, by commas. Raises InputError for what is no class."""
    return space.class_ids(names(text or ""))


def whole_number(value: object, name: str, highest: int) -> int:
    """A number that a program sent. Raises InputError, naming it, unless it is a whole one from 0 to the highest."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value % 1 != 0 or not 0 <= value <= highest:
        raise InputError(f"{name} {value!r:.40}: must be a whole number from 0 to {highest}")
    return int(value)


def read_hole(
    masks: list[Image.Image],
    size: tuple[int, int],
    grow: int = 0,
    invert: bool = False,
    photo: Image.Image | None = None,
) -> np.ndarray:
    """The (H,W) bool union of the masks at the photo's (width, height), inverted, then grown.

    Warns in a toast where that can hardly be meant. Raises InputError if nothing is marked, or everything.
    """
    hole = np.zeros(size[::-1], bool)
    for mask in masks:
        hole |= to_mask(mask, size, photo, gr.Warning)
    if not hole.any():
        raise InputError(f"The mask: {NOTHING_MARKED}")
    hole = grow_mask(~hole if invert else hole, grow)
    if not hole.any():
        raise InputError("Nothing of the marked part is left: shrink it less, or do not invert it.")
    check_hole(hole, "The mask", gr.Warning)
    return hole


def read_edits(layers: list[np.ndarray], hole: np.ndarray, space: LabelSpace) -> np.ndarray:
    """The classes painted on the map: brush strokes, (H,W,4) uint8, in the colours of the classes -> (H,W) ids, 255
    where nothing is painted, outside the hole, or where the colour is no class's."""
    edits = np.full(hole.shape, IGNORE, np.uint8)
    for layer in layers:
        layer = cv2.resize(layer, hole.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        for label, colour in enumerate(space.palette):
            edits[hole & (layer[..., 3] > 127) & (layer[..., :3] == colour).all(axis=2)] = label
    return edits


# ---------------------------------------------------------------------------------------------- pictures


def with_hole(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The (H,W,3) photo with its hole blanked out."""
    return np.where(hole[..., None], np.uint8(HOLE_COLOUR), photo)


def levels(image: np.ndarray) -> np.ndarray:
    """A picture of the pipeline's, (H,W,3) float in [0,1], as uint8."""
    return np.rint(image * 255).astype(np.uint8)


def feathered(photo: np.ndarray, fill: np.ndarray, hole: np.ndarray, pixels: int) -> np.ndarray:
    """The fill of a hole that was grown by so many pixels, blended into the photo over that band. All (H,W,3) uint8."""
    if pixels == 0:
        return fill
    weights = feather_weights(grow_mask(hole, -pixels), pixels)[..., None]
    return np.where(hole[..., None], np.rint(weights * fill + (1 - weights) * photo), photo).astype(np.uint8)


def annotate(picture: np.ndarray, labels: np.ndarray, space: LabelSpace) -> gr.AnnotatedImage:
    """A picture with a mask in its colour for each class that is present in the map."""
    ids = [i for i in np.unique(labels) if i < space.num_classes]
    masks = [((labels == i).astype(float), space.shown_names[i]) for i in ids]
    return gr.AnnotatedImage((picture, masks), color_map=hex_colours(space))


def changes(output: "FeedbackInpaintPipelineOutput", photo: np.ndarray, space: LabelSpace) -> gr.AnnotatedImage:
    """The greyed photo, with the pixels of another class than before feedback in the colour of their new one."""
    before, after = output.semantic_before[0], output.semantic_after[0]
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return annotate(grey, np.where(before == after, IGNORE, after), space)


def editable_map(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray, space: LabelSpace) -> dict:
    """The map to paint on: classes in full colour in the hole, pale around it."""
    colours = space.colorize(output.semantic_after[0]).astype(np.float32)
    pale = KNOWN_OPACITY * colours + (1 - KNOWN_OPACITY) * 255
    return {"background": np.where(hole[..., None], colours, pale).astype(np.uint8), "layers": [], "composite": None}


def doubt_picture(round_: "RoundOutput") -> np.ndarray:
    """Where the round before left doubt, dark to bright: disagreement, depth and uncertainty, added up."""
    doubt = np.minimum(round_.doubt.sum(axis=2), 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(doubt, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def album(output: "FeedbackInpaintPipelineOutput") -> list[tuple[np.ndarray, str]]:
    """Fill and doubt of every round, with the share of the hole that changed class, and how sure the map is there."""
    pictures = []
    for index, round_ in enumerate(output.rounds[0]):
        changed = f"{round_.changed:.1%} changed" if index else "one-way"
        pictures.append((levels(round_.image), f"Round {index}: {changed}, confidence {round_.confidence:.0%}"))
        pictures.append((doubt_picture(round_), f"Doubt fed into round {index}"))
    return pictures


def summary(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray) -> str:
    """What happened, in one line of Markdown."""
    rounds = output.rounds[0]
    height, width = hole.shape
    text = f"**Restored {hole.mean():.0%} of {width} × {height} pixels.**"
    if len(rounds) == 1:
        return f"{text} No feedback."
    changed = (output.semantic_before[0] != output.semantic_after[0])[hole].mean()
    return f"{text} Feedback changed {changed:.1%} of the map in the hole."


def figures(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray, space: LabelSpace) -> dict:
    """The same for programs."""
    return size_and_hole(hole) | {
        "classes": present_classes(output.semantic_after[0], space),
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


def round_share(share: float) -> float:
    """To a pixel in a million: small things in large photos are not nothing."""
    return round(float(share), 6)


def save_restored(picture: Image.Image, model: str | None, cache_dir: str) -> str:
    """The path of a PNG file of a restored picture, which says of itself what its `info` does, and in its XMP that the
    model (a folder or Hub id; None = none) painted a part of it."""
    if model is not None:
        picture.info["xmp"] = tell_provenance(picture.info.get("xmp"), model_name(model))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, **metadata_options(picture, "PNG"))
    return to_cache(buffer.getvalue(), cache_dir, "restored.png")


@functools.cache
def example(space: str, name: str | int) -> tuple[Image.Image, Image.Image]:
    """One of the label space's `EXAMPLES`, and a mask for it."""
    if isinstance(name, str):
        return load_image(EXAMPLE_PHOTOS / f"{name}.jpg"), load_image(EXAMPLE_PHOTOS / f"{name}_mask.png")
    width, height = EXAMPLE_SIZES[space]
    photo, _ = SCENES[space]((width, height), np.random.default_rng([EXAMPLE_SEED, name]))
    return photo, Image.fromarray(protocol_mask(height, width, name))


def list_examples(spaces_of_models: dict[str, LabelSpace]) -> list[tuple[str, str | int]]:
    """(model, name) of each example: those of every label space that has some, with the first model that knows it."""
    first_models = {space.name: model for model, space in reversed(spaces_of_models.items())}
    return [(model, name) for space, model in reversed(first_models.items()) for name in EXAMPLES.get(space, ())]


# ---------------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Endpoints:
    """What programs call: files and plain values, where the page has editors and buttons.

    models: name on the page -> folder or Hub id
    cache_dir: the folder for the files that are sent back
    """

    models: dict[str, str]
    cache_dir: str

    def inpaint(
        self, image, mask, model, rounds, semantic_map=None, forbidden="", progress=gr.Progress()  # noqa: B008
    ):  # fmt: skip
        """Restore a photo where the mask is white.

        semantic_map: class ids the fill must follow, an index image of the photo's size, 255 = let the model decide.
        forbidden: classes that must not be in what is filled, names or ids, by commas: "car, person".
        Returns the restored photo (PNG; in its mode and with its EXIF data, as far as PNG holds them), its semantic
        maps before and after feedback (PNG; pixel values are class ids, the palette shows them in colour), and figures:
        size, share of hole, classes, and what each round changed.
        """
        with toasts():
            folder, space = self.served(model)
            given = received_photo(image)
            photo = to_rgb(given)
            size = photo.shape[1::-1]
            hole = read_hole([] if mask is None else [open_upload(mask)], size, photo=given)
            edits = semantic_map and to_index_map(
                open_upload(semantic_map), size, space.num_classes, space.ignored_ids
            )
            rounds, forbidden = whole_number(rounds, "rounds", MAX_ROUNDS), listed_classes(forbidden, space)
            *_, output = restore_with_progress(folder, photo, hole, rounds, edits, progress, forbidden)
        maps = [space.to_palette_image(labels) for labels in (output.semantic_before[0], output.semantic_after[0])]
        restored = self.save_result(given, levels(output.images[0]), hole, folder)
        return restored, *maps, figures(output, hole, space)

    def segment(self, image, model):
        """The semantic map of an intact photo.

        Returns the map (PNG of the photo's size; pixel values are class ids, the palette shows them in colour), and
        figures: size, the classes that are there by their ids, and their shares of the photo's pixels by their names.
        """
        with toasts():
            folder, space = self.served(model)
            photo = to_rgb(received_photo(image))
            load(folder)  # here for the same reason as in `restore_with_progress`
            labels = segment_photo(folder, photo)
        height, width = labels.shape
        classes = present_classes(labels, space)
        shares = {name: round_share((labels == int(i)).mean()) for i, name in classes.items()}
        measured = {"width": width, "height": height, "classes": classes, "shares": shares}
        return space.to_palette_image(labels), measured

    def remove(self, image, classes, model, rounds, grow=None, shadow=False, retries=0):
        """Take all things of some classes out of a photo: they are found, filled, and must not come back.

        classes: names or ids, by commas: "car, person".
        grow: pixels to fill around the things; none = a thirty-second of the photo's shorter side.
        shadow: whether their shadows go, too.
        retries: how often what is still seen of them is filled anew.
        Returns the restored photo (PNG; in its mode and with its EXIF data, as far as PNG holds them; the photo itself
        where no such things were found), the mask (PNG; white = filled), the semantic map of the photo and the one that
        was painted by (PNG; pixel values are class ids, the palette shows them in colour), and figures: size, share of
        hole, what was found (shares of the photo's pixels), and what is still seen (shares of the hole).
        """
        with toasts():
            folder, space = self.served(model)
            given = received_photo(image)
            photo = to_rgb(given)
            ids = listed_classes(classes, space)
            if not ids:
                raise InputError(f"No class is named; send some of these as `classes`: {', '.join(space.classes)}")
            rounds, retries = whole_number(rounds, "rounds", MAX_ROUNDS), whole_number(retries, "retries", MAX_RETRIES)
            if grow is not None:
                grow = whole_number(grow, "grow", max(photo.shape))
            if not isinstance(shadow, bool):
                raise InputError(f"shadow {shadow!r:.40}: must be true or false")
            load(folder)  # here for the same reason as in `restore_with_progress`
            removal = remove_classes(folder, photo, ids, rounds, grow, shadow, retries)
        restored = self.save_result(given, np.asarray(removal.image), removal.mask, folder)
        mask = mask_image(removal.mask)
        measured = size_and_hole(removal.mask)
        for key, shares in (("found", removal.found), ("seen_again", removal.seen_again)):
            measured[key] = {name: round_share(share) for name, share in shares.items()}
        return restored, mask, removal.semantic_before, removal.semantic_after, measured

    def served(self, model: str | None) -> tuple[str, LabelSpace]:
        """The folder or Hub id of the model of that name, and its label space. Raises InputError if there is none."""
        if not isinstance(model, str) or model not in self.models:
            raise InputError(f"model {model!r:.80}: is none of this demo's; name one of {', '.join(self.models)}")
        return self.models[model], label_space_of_model(self.models[model])

    def save_result(self, given: Image.Image, pixels: np.ndarray, hole: np.ndarray, model: str) -> str:
        """The path of a PNG file of a photo as it was given, but filled in the hole (H,W) bool with the pixels (H,W,3)
        uint8: in its mode and with its EXIF data, as far as PNG holds them."""
        picture, _ = fit_to_format(as_photo(given, pixels, hole), "restored.png")
        return save_restored(picture, model if hole.any() else None, self.cache_dir)


def add_endpoints(models: dict[str, str], **queue) -> None:
    """Puts the endpoints on the page that is being built; nothing of them is seen there."""
    hidden = {"visible": False}
    image = image_path(label="Photo", **hidden)
    mask = image_path(label="Mask: white = restore", **hidden)
    semantic_map = image_path(label="Semantic map, 255 = undecided", **hidden)
    model = as_sent(gr.Radio(list(models), value=next(iter(models)), label="Model", **hidden))
    rounds = as_sent(gr.Slider(0, MAX_ROUNDS, value=2, step=1, label="Feedback rounds", **hidden))
    forbidden = gr.Textbox("", label="Classes that must not come back: names or ids, by commas", **hidden)
    classes = gr.Textbox(label="Classes to remove: names or ids, by commas", **hidden)
    grow = as_sent(gr.Number(None, label="Grow, pixels", precision=0, minimum=0, **hidden))
    shadow = gr.Checkbox(False, label="Shadows too", **hidden)
    retries = as_sent(gr.Slider(0, MAX_RETRIES, value=0, step=1, label="Retries", **hidden))
    restored, map_before, map_after, semantic, filled = (
        gr.Image(format="png", label=label, **hidden)
        for label in ("Restored", "Map before", "Map after", "Map", "Mask")
    )
    measured = gr.JSON(label="Figures", **hidden)
    endpoints = Endpoints(models, restored.GRADIO_CACHE)
    for function, inputs, outputs in (
        (endpoints.inpaint, [image, mask, model, rounds, semantic_map, forbidden], [restored, map_before, map_after]),
        (endpoints.segment, [image, model], [semantic]),
        (endpoints.remove, [image, classes, model, rounds, grow, shadow, retries],
         [restored, filled, map_before, map_after]),
    ):  # fmt: skip
        gr.on([], function, inputs, [*outputs, measured], api_name=function.__name__, **queue)


# ---------------------------------------------------------------------------------------------- page


def build_demo(models: dict[str, str]) -> gr.Blocks:
    """The page for these models, name on the page -> folder or Hub id. Raises InputError if one is neither."""
    label_spaces = {name: label_space_of_model(model) for name, model in models.items()}
    examples = list_examples(label_spaces)

    def save_marked(photo, hole) -> str:
        """The picture stays the same from step to step, and is encoded once."""
        return save_to_cache(Image.fromarray(with_hole(photo, hole)), comparison.GRADIO_CACHE)

    def show_first(output, model) -> dict:
        """What round 0 already decides."""
        return {
            map_before: annotate(levels(output.rounds[0][0].image), output.semantic_before[0], label_spaces[model]),
            details: gr.Column(visible=True),
        }

    def show_result(output, marked, session) -> dict:
        """What the visitor waits for, and the map to paint on: what is painted from now on must not be replaced."""
        return {
            status: summary(output, session.hole),
            comparison: (marked, session.result),
            map_editor: editable_map(output, session.hole, label_spaces[session.model]),
            state: session,
        }

    def show_details(output, session) -> dict:
        """Everything else, and the buttons that act on it."""
        space, cache = label_spaces[session.model], comparison.GRADIO_CACHE
        files = {
            download: save_restored(Image.fromarray(session.result), models[session.model], cache),
            download_map: save_to_cache(space.to_palette_image(output.semantic_after[0]), cache),
        }
        return {
            map_after: annotate(levels(output.images[0]), output.semantic_after[0], space),
            map_changes: changes(output, session.photo, space),
            gallery: album(output),
            reuse: gr.Button(interactive=True),
        } | {
            button: gr.DownloadButton(value=file, interactive=True) for button, file in files.items()
        }

    def on_restore(drawing, mask, grow, feather, invert, model, rounds, painted, session, progress=gr.Progress()):  # noqa: B008
        """Restore, and keep what was painted on the map as long as photo and model stay the same."""
        with toasts():
            background = background_of(drawing)
            photo = read_photo(background)
            size = photo.shape[1::-1]
            mask = mask and open_upload(mask)
            masks = [layer for layer in (*drawing["layers"], mask) if layer is not None]
            hole = read_hole(masks, size, grow + feather, invert, background)
            space, edits = label_spaces[model], np.full(hole.shape, IGNORE, np.uint8)
            if session and session.is_about(model, photo):
                strokes = read_edits(painted["layers"] if painted else [], session.hole, space)
                edits = np.where(strokes == IGNORE, session.edits, strokes)
            used, rounds = np.where(hole, edits, IGNORE).astype(np.uint8), int(rounds)
            used = used if (used != IGNORE).any() else None
            steps = restore_with_progress(models[model], photo, hole, rounds, used, progress)
            # The page shows the first step and the last, details after the rest; steps between move the progress bar.
            for step, output in enumerate(steps):
                if step == 0:
                    marked = save_marked(photo, hole)
                    first = (marked, feathered(photo, levels(output.images[0]), hole, feather))
                    yield {status: "Round 0: the rest follows …", comparison: first} | show_first(output, model)
            result = feathered(photo, levels(output.images[0]), hole, feather)
            session = Session(model, photo, hole, result, edits)
            yield show_result(output, marked, session)
            yield show_details(output, session)

    def on_forget(*inputs, progress=gr.Progress()):  # noqa: B008
        """Restore without what was painted on the map."""
        yield from on_restore(*inputs[:-1], None, progress)

    def on_example(index):
        """The example and, at once, its result with the settings it was restored with before."""
        model, name = examples[index]
        photo, mask = example(label_spaces[model].name, name)
        pixels, hole = np.asarray(photo), np.asarray(mask)
        with toasts():
            output = restored_example(models[model], name, 2)
        # The hole goes into the mask, not the editor: there, Gradio 6.31 drops a given layer at the first stroke.
        given = {editor: {"background": photo, "layers": [], "composite": None}, mask_upload: mask}
        settings = {model_picker: model, rounds: 2, grow: 0, feather: 0, invert: False}
        nothing = np.full(hole.shape, IGNORE, np.uint8)
        session = Session(model, pixels, hole, levels(output.images[0]), nothing)
        shown = show_first(output, model) | show_result(output, save_marked(pixels, hole), session)
        return given | settings | shown | show_details(output, session)

    def on_clear():
        """The next photo starts without the last one's hole, map and edits, and without its result."""
        return {mask_upload: None, map_editor: None, state: None, reuse: gr.Button(interactive=False)}

    def on_reuse(session):
        """The result as the next photo; nothing where it was forgotten, after an hour."""
        shown = on_clear()
        if session:
            shown[editor] = {"background": session.result, "layers": [], "composite": None}
        return shown

    def on_random_hole(drawing, seed):
        with toasts():
            width, height = background_of(drawing).size
            if seed is None:
                raise InputError("The seed is empty: type a number from 0 up.")
        return Image.fromarray(protocol_mask(height, width, int(seed)))

    def on_model(model, *picked):
        """The class picker of the model's label space, and a brush of the class that is picked there."""
        space = label_spaces[model]
        name = dict(zip(pickers, picked, strict=True))[space]
        return [*(gr.Radio(visible=other == space) for other in pickers), on_class(name, model)]

    def on_class(name, model):
        return gr.ImageEditor(brush=brush_of(label_spaces[model], name))

    def brush_of(space: LabelSpace, name: str) -> gr.Brush:
        colour = hex_colours(space)[name]
        return gr.Brush(colors=[colour], default_color=colour, color_mode="fixed", default_size=24)

    with gr.Blocks(title="fbinpaint", analytics_enabled=False, delete_cache=(KEEP_FILES, KEEP_FILES)) as demo:
        state = gr.State(None, time_to_live=KEEP_FILES)
        gr.Markdown(TITLE, elem_id="title")
        with gr.Row():
            with gr.Column():
                editor = gr.ImageEditor(
                    type="pil", image_mode="RGBA", format="png", label="Photo: paint the hole",
                    placeholder="Drop a photo here or pick an example",
                    brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"), eraser=gr.Eraser(),
                    layers=False, transforms=(), sources=("upload", "clipboard", "webcam"), height=440,
                    elem_id="editor",
                )  # fmt: skip
                with gr.Row():
                    model_picker = gr.Radio(list(models), value=next(iter(models)), label="Model", elem_id="model")
                    rounds = gr.Slider(0, MAX_ROUNDS, value=2, step=1, label="Feedback rounds", info="0 = one-way")
                button = gr.Button("Restore", variant="primary", size="lg", elem_id="restore")
                with gr.Accordion("The hole: upload, grow, feather, invert", open=False, elem_id="hole"):
                    mask_upload = image_path(
                        format="png", sources=("upload", "clipboard"), height=185,
                        label="Mask, beside what you paint", placeholder="White where to restore", elem_id="mask",
                    )  # fmt: skip
                    grow = gr.Slider(-16, 32, value=0, step=1, label="Grow", info="pixels; below 0 the hole shrinks")
                    feather = gr.Slider(0, 16, value=0, step=1, label="Feather", info="pixels around the hole to blend")
                    invert = gr.Checkbox(label="Invert: keep what is marked, restore the rest")
                    with gr.Row():
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31, min_width=80)
                        random_hole = gr.Button("Random hole", elem_id="random-hole")
            with gr.Column():
                comparison = gr.ImageSlider(
                    format="png", label="Before | after", height=440, buttons=["fullscreen"], elem_id="comparison"
                )
                status = gr.Markdown(HINT, elem_id="status")
                with gr.Row():
                    download = gr.DownloadButton("Result (PNG)", size="sm", interactive=False, elem_id="download")
                    download_map = gr.DownloadButton("Map (PNG)", size="sm", interactive=False, elem_id="download-map")
                    reuse = gr.Button("Use result as photo", size="sm", interactive=False, elem_id="reuse")
                gallery_of_examples = gr.Dataset(
                    components=[gr.Image(format="png", render=False)],
                    samples=[
                        [with_hole(*map(np.asarray, example(label_spaces[model].name, name)))]
                        for model, name in examples
                    ],
                    type="index", layout="gallery", label="Examples", visible=bool(examples), elem_id="examples",
                )  # fmt: skip
        with gr.Column(visible=False) as details:
            with gr.Row():
                maps = {"format": "png", "min_width": 300, "elem_classes": "map"}
                map_before = gr.AnnotatedImage(label="Semantic map before feedback", elem_id="map-before", **maps)
                map_after = gr.AnnotatedImage(label="Semantic map after feedback", elem_id="map-after", **maps)
                map_changes = gr.AnnotatedImage(label="What feedback changed", elem_id="map-changes", **maps)
            with gr.Row(elem_id="map-editing"):
                with gr.Column(min_width=300):
                    gr.Markdown(EDIT_HINT)
                    first = label_spaces[next(iter(models))]
                    pickers = {
                        space: gr.Radio(
                            list(space.shown_names), value=space.shown_names[0], show_label=False, container=False,
                            visible=space == first, elem_classes="classes", elem_id=f"classes-{number}",
                        )
                        for number, space in enumerate(dict.fromkeys(label_spaces.values()))
                    }  # fmt: skip
                    swatches = class_swatches([(picker.elem_id, space) for space, picker in pickers.items()])
                    gr.HTML(f"<style>{swatches}</style>", visible="hidden")
                    with gr.Row():
                        again = gr.Button("Restore with this map", variant="primary", elem_id="restore-again")
                        forget = gr.Button("Forget my edits", elem_id="forget")
                with gr.Column(min_width=300):
                    map_editor = gr.ImageEditor(
                        type="numpy", image_mode="RGBA", format="png", label="Map: paint in the hole", sources=(),
                        brush=brush_of(first, first.shown_names[0]), eraser=gr.Eraser(), layers=False,
                        transforms=(), height=440, elem_id="map-editor",
                    )  # fmt: skip
            gallery = gr.Gallery(
                format="png", label="Round by round", columns=6, object_fit="contain", height="auto",
                interactive=False, elem_id="rounds",
            )  # fmt: skip

        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        private = {"api_visibility": "private"}
        # What takes no time skips the queue: Gradio 6.31's page can miss the answer to a click that reaches the queue
        # just as the last answer's stream closes, and then waits for it for ever.
        quick = {"queue": False, **private}
        given = [editor, mask_upload, grow, feather, invert, model_picker, rounds, map_editor, state]
        results = [comparison, status, map_before, map_after, map_changes, gallery, details, map_editor]
        results += [download, download_map, reuse, state]
        for trigger, function in ((button, on_restore), (again, on_restore), (forget, on_forget)):
            trigger.click(function, given, results, show_progress_on=comparison, **private, **one_at_a_time)
        gallery_of_examples.click(
            on_example, gallery_of_examples,
            [editor, mask_upload, model_picker, rounds, grow, feather, invert, *results],
            show_progress_on=comparison, **private, **one_at_a_time,
        )  # fmt: skip
        # The map goes too as an editor that holds one slows down every click: Gradio 6.31 has it fetch and send its
        # pictures again with each message.
        forgotten = [mask_upload, map_editor, state, reuse]
        editor.clear(on_clear, outputs=forgotten, **quick)
        reuse.click(on_reuse, state, [editor, *forgotten], **quick)
        random_hole.click(on_random_hole, [editor, seed], mask_upload, **quick)
        of_classes = list(pickers.values())
        model_picker.change(
            on_model, [model_picker, *of_classes], [*of_classes, map_editor], show_progress="hidden", **quick
        )
        for picker in of_classes:
            picker.change(on_class, [picker, model_picker], map_editor, show_progress="hidden", **quick)

        add_endpoints(models, **one_at_a_time)

    return demo.queue(max_size=QUEUE_LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The demo page.", epilog="example: python app.py --port 8000", formatter_class=HelpWithDefaults
    )
    parser.add_argument("--model", nargs="+", metavar="DIR|HUB_ID", help="default: those under checkpoints/")
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1, or of --host")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 = reachable from other machines")
    args = parser.parse_args()
    keep_freed_memory()
    models = {model: model for model in args.model} if args.model else bundled_models()
    if not models:
        parser.error(f"no model under {CHECKPOINTS}; name one with --model")
    try:
        demo = build_demo(models)
    except InputError as error:
        parser.exit(1, f"error: {error}\n")
    address = {"server_name": args.host, "server_port": args.port}
    try:
        demo.launch(**address, footer_links=["api", "gradio"], **STYLE, **SERVING)
    except (OSError, OverflowError):  # Gradio words neither
        parser.exit(1, f"error: {args.host}:{args.port} is taken or no address of this machine; name another --port\n")


if __name__ == "__main__":
    main()
