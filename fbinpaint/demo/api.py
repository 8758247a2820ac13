"""The endpoints for programs."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.images.convert import mask_image, read_map, to_rgb
from fbinpaint.images.modes import as_photo, fit_to_format
from fbinpaint.labels import LabelSpace, spaces_that_know

from .files import save_restored
from .inputs import (
    as_sent,
    class_list,
    count_pixels,
    image_path,
    open_upload,
    read_hole,
    received_photo,
    toasts,
    whole_number,
)
from .models import (
    AUTO,
    MAX_RETRIES,
    MAX_ROUNDS,
    choose,
    label_space_of_model,
    load,
    places,
    remove_classes,
    restore,
    segment_photo,
)
from .rendering import figures, present_classes, round_share, size_and_hole


@dataclass(frozen=True)
class Endpoints:
    """What programs call: files and plain values, where the page has editors and buttons.

    models: name on the page -> folder or Hub id
    cache_dir: the folder for the files that are sent back
    """

    models: dict[str, str]
    cache_dir: str

    def inpaint(self, image, mask, model, rounds, semantic_map=None, forbidden=""):
        """Restore a photo where the mask is white.

        semantic_map: class ids the fill must follow, an index image of the photo's size, 255 = let the model decide.
        forbidden: classes that must not be in what is filled, names or ids, by commas: "car, person".
        Returns the restored photo (PNG; in its mode and with its EXIF data, as far as PNG holds them), its semantic
        maps before and after feedback (PNG; pixel values are class ids, the palette shows them in colour), and figures:
        size, share of hole, classes, and what each round changed.
        """
        with toasts(), places.take(count_pixels(image, mask, semantic_map)):
            self.check_model(model)
            given = received_photo(image)
            photo = to_rgb(given)
            size = photo.shape[1::-1]
            hole = read_hole(mask and open_upload(mask), size, given)
            del given  # opened again for the result: of large photos, each copy is a part of the server's memory
            model, forbidden = self.fitting(model, photo, forbidden, hole, "forbidden")
            folder, space = self.models[model], self.spaces[model]
            edits = semantic_map and read_map(open_upload(semantic_map), size, space)
            rounds = whole_number(rounds, "rounds", MAX_ROUNDS)
            load(folder)  # here, not in `restore`: on ZeroGPU that runs in a process of its own
            output = deque(restore(folder, photo, hole, rounds, edits, forbidden), maxlen=1).pop()
            del photo
            restored = self.save_result(received_photo(image), np.asarray(output.images.pop()), hole, folder)
        maps = output.semantic_before[0], output.semantic_after[0]
        return restored, *maps, {"model": model} | figures(output, hole, space)

    def segment(self, image, model):
        """The semantic map of an intact photo.

        Returns the map (PNG of the photo's size; pixel values are class ids, the palette shows them in colour), and
        figures: size, the classes that are there by their ids, and their shares of the photo's pixels by their names.
        """
        with toasts(), places.take(count_pixels(image)):
            self.check_model(model)
            photo = to_rgb(received_photo(image))
            model, _ = self.fitting(model, photo)
            folder, space = self.models[model], self.spaces[model]
            load(folder)  # here for the same reason as in `inpaint`
            labels = segment_photo(folder, photo)
        height, width = labels.shape
        classes = present_classes(labels, space)
        shares = {name: round_share((labels == int(i)).mean()) for i, name in classes.items()}
        measured = {"model": model, "width": width, "height": height, "classes": classes, "shares": shares}
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
        with toasts(), places.take(count_pixels(image)):
            self.check_model(model)
            photo = to_rgb(received_photo(image))
            check_classes(classes, self.spaces)
            model, ids = self.fitting(model, photo, classes)
            folder = self.models[model]
            rounds, retries = whole_number(rounds, "rounds", MAX_ROUNDS), whole_number(retries, "retries", MAX_RETRIES)
            if grow is not None:
                grow = whole_number(grow, "grow", max(photo.shape))
            if not isinstance(shadow, bool):
                raise InputError(f"shadow {shadow!r:.40}: must be true or false")
            load(folder)  # here for the same reason as in `inpaint`
            photo = Image.fromarray(photo)
            removal = remove_classes(folder, photo, ids, rounds, grow, shadow, retries)
            del photo  # opened again for the result, as in `inpaint`
            restored = self.save_result(received_photo(image), np.asarray(removal.image), removal.mask, folder)
        mask = mask_image(removal.mask)
        measured = {"model": model} | size_and_hole(removal.mask)
        for key, shares in (("found", removal.found), ("seen_again", removal.seen_again)):
            measured[key] = {name: round_share(share) for name, share in shares.items()}
        return restored, mask, removal.semantic_before, removal.semantic_after, measured

    @property
    def spaces(self) -> dict[str, LabelSpace]:
        return {name: label_space_of_model(folder) for name, folder in self.models.items()}

    def check_model(self, model: object) -> None:
        """Raises InputError unless it is the name of a model, or AUTO."""
        if not isinstance(model, str) or model not in (AUTO, *self.models):
            known = ", ".join((AUTO, *self.models) if len(self.models) > 1 else self.models)
            raise InputError(f"model {model!r:.80}: is none of this server's; name one of {known}")

    def fitting(
        self,
        model: str,
        photo: np.ndarray,
        classes: str | None = None,
        hole: np.ndarray | None = None,
        argument: str = "classes",
    ) -> tuple[str, list[int]]:
        """The name of the model for a photo (H,W,3) uint8 with a hole (H,W) bool, and the ids that classes ("car,
        person"; the argument of that name) have there. AUTO chooses by the photo among those that know them. Raises
        InputError where none does."""
        spaces = self.spaces if model == AUTO else {model: self.spaces[model]}
        ids = spaces_that_know(spaces, class_list(classes, argument))
        chosen = choose({name: self.models[name] for name in ids}, photo, hole)
        return chosen, ids[chosen]

    def save_result(self, given: Image.Image, pixels: np.ndarray, hole: np.ndarray, model: str) -> str:
        """The path of a PNG file of a photo as it was given, but filled in the hole (H,W) bool with the pixels (H,W,3)
        uint8: in its mode and with its EXIF data, as far as PNG holds them."""
        picture, _ = fit_to_format(as_photo(given, pixels, hole), "restored.png")
        return save_restored(picture, model if hole.any() else None, self.cache_dir)


def check_classes(classes: object, spaces: dict[str, LabelSpace]) -> None:
    """Raises InputError, with those that there are, unless a class is named: "car, person"."""
    if not class_list(classes, "classes"):
        of = [f"{name}: {', '.join(space.classes)}" for name, space in spaces.items()]
        raise InputError(f"No class is named; send some of these as `classes`: {'; '.join(of)}")


def add_endpoints(models: dict[str, str], **queue) -> None:
    """Puts the endpoints on the page that is being built; nothing of them is seen there."""
    hidden: dict[str, Any] = {"visible": False}
    image = image_path(label="Photo", **hidden)
    mask = image_path(label="Mask: white = restore", **hidden)
    semantic_map = image_path(label="Semantic map, 255 = undecided", **hidden)
    model = as_sent(gr.Radio([AUTO, *models], value=AUTO, label="Model", **hidden))
    rounds = as_sent(gr.Slider(0, MAX_ROUNDS, value=2, step=1, label="Feedback rounds", **hidden))
    forbidden = as_sent(gr.Textbox("", label="Classes that must not come back: names or ids, by commas", **hidden))
    classes = as_sent(gr.Textbox(label="Classes to remove: names or ids, by commas", **hidden))
    grow = as_sent(gr.Number(None, label="Grow, pixels", precision=0, minimum=0, **hidden))
    shadow = as_sent(gr.Checkbox(False, label="Shadows too", **hidden))
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
