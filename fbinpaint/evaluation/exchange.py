"""Photos and masks go out as they are scored, and what another tool made of them comes back to be scored.

    DIR/images/NAME.png    RGB
    DIR/masks/NAME.png     255 = hole
    DIR/protocol.json      what they are, and their names

A tool's folder holds NAME.png of each, of the same size. It is a data folder as well: `evaluate --data DIR --masks
DIR/masks` scores the same photos with the same holes.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fbinpaint.errors import InputError, warn_user
from fbinpaint.images.convert import mask_image, to_rgb
from fbinpaint.images.crops import composite
from fbinpaint.images.folders import Pair, naming, photo_size
from fbinpaint.images.io import load_image, open_image
from fbinpaint.system.files import save_folder

DESCRIPTION = "protocol.json"
FEW = 5  # files that a line names; of more it says how many
DIFFERENT = 16  # levels by which known pixels may differ on average before they look like another photo's


def write_protocol(
    folder: Path, samples: Iterable[tuple[str, np.ndarray, np.ndarray]], description: Mapping[str, object]
) -> None:
    """The folder, whole or not at all.

    samples: stem, photo (H,W,3) uint8 and hole (H,W) bool of each
    Raises InputError for a folder that cannot be written, or that holds something else.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise InputError(f"{folder}: is there already, perhaps with results in it; remove it or name a new folder")

    def write(target: Path) -> None:
        names = []
        for stem, photo, hole in samples:
            for kind, picture in (("images", Image.fromarray(photo)), ("masks", mask_image(hole))):
                path = target / kind / f"{stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
            names.append(stem)
        content = json.dumps({**description, "names": names}, indent=2, allow_nan=False)
        (target / DESCRIPTION).write_text(content + "\n", encoding="utf-8")

    save_folder(folder, write)


def check_results(results: Mapping[str, Path], pairs: Sequence[Pair], resolution: int) -> None:
    """Before hours of work: raises InputError for a folder that lacks results, or holds some of another size, and for
    what is no picture."""
    for name, folder in results.items():
        if not folder.is_dir():
            raise InputError(f"--results {name}: {folder} is no folder; name the one with {name}'s NAME.png files")
        files = {pair: folder / f"{pair.stem}.png" for pair in pairs}
        if missing := [path for path in files.values() if not path.is_file()]:
            raise InputError(
                f"--results {name}: {folder} lacks {_named(missing, folder)} ({len(missing)} of {len(files)}); fill "
                "all photos that are scored"
            )
        wrong = {}
        for pair, path in files.items():
            with open_image(path, str(path)) as image:
                size, expected = image.size, photo_size(pair.image, resolution)
            if size != expected and expected != (0, 0):  # a photo that cannot be read is said in its turn
                wrong[path] = size, expected
        if wrong:
            (across, down), (width, height) = next(iter(wrong.values()))
            raise InputError(
                f"--results {name}: in {folder} {_named(list(wrong), folder)} have another size than the photos "
                f"as they are scored ({across}x{down}, not {width}x{height}); fill the photos of --export-protocol"
            )


def _named(paths: Sequence[Path], folder: Path) -> str:
    shown = ", ".join(path.relative_to(folder).as_posix() for path in paths[:FEW])
    return shown + (f" and {len(paths) - FEW} more" if len(paths) > FEW else "")


def read_result(folder: Path, stem: str, photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """What a tool painted in the hole (H,W) bool, around it the photo (H,W,3) uint8 itself, to the bit.

    Warns of a result whose known pixels look like another photo's. Raises InputError for what cannot be read.
    """
    path = folder / f"{stem}.png"
    with naming(path):
        result = to_rgb(load_image(path))
    if result.shape != photo.shape:
        raise InputError(f"{path}: is {result.shape[1]}x{result.shape[0]}, the photo {photo.shape[1]}x{photo.shape[0]}")
    known = ~hole
    difference = np.abs(result[known].astype(np.int16) - photo[known]).mean() if known.any() else 0
    if difference > DIFFERENT:
        warn_user(f"{path}: outside the hole it is {difference:.0f} levels off; check that it is of this photo")
    return composite(photo, result, hole)
