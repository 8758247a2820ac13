"""What a visitor takes away: the picture or its map, at full size, in a file under a name of their own."""

from pathlib import Path

import numpy as np

from fbinpaint.batch.batch import read_notes
from fbinpaint.errors import InputError
from fbinpaint.images.io import is_lossy, save_image
from fbinpaint.images.modes import as_photo, fit_to_format
from fbinpaint.images.xmp import model_name, tell_provenance
from fbinpaint.labels import LabelSpace

from .inputs import open_upload
from .session import Session


def export_picture(session: Session, suffix: str, models: dict[str, str]) -> tuple[Path, str | None]:
    """The picture that is shown now, at full size, as a file with this suffix, in the photo's mode and with its
    metadata as far as the format holds them; and what it has not of the photo, in a line."""
    version = session.now
    pixels = np.load(version.pixels)
    painted = np.zeros(pixels.shape[:2], bool) if version.painted is None else session.load_mask(version.painted)
    photo = open_upload(session.given, session.name)
    result = as_photo(photo, pixels, painted)
    notes = [note.removeprefix(f"{session.given}: ") for note in read_notes(session.given, photo, result)]
    picture, converted = fit_to_format(result, f"x{suffix}")
    if version.recipe:
        model = model_name(models[version.recipe.model])
        picture.info["xmp"] = tell_provenance(picture.info.get("xmp"), model)
    with session.whole():
        path = session.named_file(f"{Path(session.name).stem}_restored", suffix)
        try:
            save_image(picture, path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), path.name)) from error.__cause__
    if converted:
        notes.append(converted.removeprefix(f"x{suffix}: "))
    elif is_lossy(path):
        notes.append("known pixels are encoded anew, too; PNG keeps them bit for bit")
    return path, "; ".join(notes) or None


def export_map(session: Session, space: LabelSpace) -> Path:
    """The map that is shown now, at full size: a PNG whose values are class ids."""
    with session.whole():
        path = session.named_file(f"{Path(session.name).stem}_map", ".png")
        space.to_palette_image(session.now.map()).save(path)
    return path
