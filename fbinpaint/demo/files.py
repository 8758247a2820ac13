"""The files that the page and programs are sent."""

import io
from pathlib import Path

import gradio as gr
from gradio import processing_utils
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.images.io import metadata_options
from fbinpaint.images.xmp import model_name, tell_provenance
from fbinpaint.system.files import whole_file

from .storage import NO_ROOM, make_room


def save_to_cache(picture: Image.Image, cache_dir: str, name: str = "image", format: str = "png") -> str:
    """Gradio's `save_pil_to_cache`, but whole or not at all; the file's path.

    Gradio 6.31 names pictures by their content and writes them in place: one that is written again while a browser is
    fetching it arrives cut short, and the page shows a broken picture.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format, **({"compress_level": 1} if format == "png" else {}))  # sooner on the page, as exact
    return to_cache(buffer.getvalue(), cache_dir, f"{name}.{format}")


def to_cache(data: bytes, cache_dir: str, name: str) -> str:
    """The path of a file that holds the data, written whole or not at all. Raises gr.Error, which names no path of the
    server's, where there is no room for it."""
    path = Path(cache_dir).resolve() / processing_utils.hash_bytes(data) / name
    try:
        make_room(cache_dir, len(data))
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except (InputError, OSError):
        raise gr.Error(NO_ROOM, print_exception=False) from None
    return str(path)


def save_restored(picture: Image.Image, model: str | None, cache_dir: str) -> str:
    """The path of a file of `restored_png`."""
    return to_cache(restored_png(picture, model), cache_dir, "restored.png")


def restored_png(picture: Image.Image, model: str | None) -> bytes:
    """A PNG file of a restored picture, which says of itself what its `info` does, and in its XMP that the model (a
    folder or Hub id; None = none) painted a part of it."""
    if model is not None:
        picture.info["xmp"] = tell_provenance(picture.info.get("xmp"), model_name(model))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, **metadata_options(picture, "PNG"))
    return buffer.getvalue()


processing_utils.save_pil_to_cache = save_to_cache
