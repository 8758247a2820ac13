"""A plain folder of photos, read through Hugging Face `datasets`: `images/`, and optionally `labels/` (same stem)."""

from pathlib import Path

from datasets import Dataset, Features, Image

from ..errors import InputError
from ..folders import visible_files
from ..images import SAVE_FORMATS


def load_photo_folder(folder: str | Path) -> Dataset:
    """Columns `image` and `semantic_map` (an index image, None where the photo has no label), decoded on access.

    Raises:
        InputError: the folder has no `images/`, or there is no photo in it.
    """
    folder = Path(folder)
    if not (folder / "images").is_dir():
        raise InputError(f"{folder}: no images/ folder in it; a data folder holds images/ and, if labelled, labels/")
    photos = [path for path in visible_files(folder / "images") if path.suffix.lower() in SAVE_FORMATS]
    if not photos:
        raise InputError(f"{folder / 'images'}: no photo in it ({', '.join(SAVE_FORMATS)})")
    labels = [folder / "labels" / path.relative_to(folder / "images").with_suffix(".png") for path in photos]
    return Dataset.from_dict(
        {
            "image": [str(path) for path in photos],
            "semantic_map": [str(path) if path.is_file() else None for path in labels],
        },
        features=Features({"image": Image(), "semantic_map": Image()}),
    )
