"""Procedural faces and streets with exact label maps: data without a download, for the demo, the tests, a dry run.

    from fbinpaint.data.scenes import write_scenes
    write_scenes("scenes/train", "cityscapes", count=100, size=(128, 96), seed=0)

A scene is painted back to front on a `Canvas`: every call lays down a shape, its colour and, unless it is mere shading,
its class, so picture and labels cannot disagree. Colours are functions of position ("materials"). A street is seen
through a pinhole camera, so facades, road and cars are textured in metres and foreshorten by themselves; a face is lit
as a small height field. Both are drawn several times larger than asked, then averaged (picture) or sampled within a
quarter of a pixel of the pixel centres (labels). The same generator state gives the same scene at every size.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from fbinpaint.data.scenes.faces import face_scene
from fbinpaint.data.scenes.streets import street_scene
from fbinpaint.labels import get_label_space

SCENES = {"celebamask-hq": face_scene, "cityscapes": street_scene}


def write_scenes(folder: str | Path, label_space: str, count: int, size: tuple[int, int], seed: int) -> None:
    """Writes a plain data folder: images/NNNN.png and, with the same name, labels/NNNN.png (palette images of ids).

    size is (width, height); scene number i depends on (seed, i) alone, so a longer folder begins with a shorter one.
    Raises InputError for an unknown label space.
    """
    space = get_label_space(label_space)
    for name in ("images", "labels"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc="scenes", unit="scene"):
        image, ids = SCENES[space.name](size, np.random.default_rng([seed, index]))
        image.save(Path(folder) / "images" / f"{index:04d}.png")
        space.to_palette_image(ids).save(Path(folder) / "labels" / f"{index:04d}.png")
