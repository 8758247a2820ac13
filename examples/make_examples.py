"""Draw the procedural pictures of this folder, and all masks, anew: python examples/make_examples.py

fbinpaint/demo/pictures/portrait.jpg is a photo: Eileen Collins, NASA, in the public domain (a part of scikit-image's
`data.astronaut()`).
"""

from pathlib import Path

import numpy as np
from PIL import Image

from fbinpaint.data.scenes import SCENES, write_scenes
from fbinpaint.demo.examples import EXAMPLE_PHOTOS
from fbinpaint.masks import protocol_mask

HERE = Path(__file__).parent


def main() -> None:
    for name, space, size in (("street", "cityscapes", (256, 192)), ("face", "celebamask-hq", (192, 192))):
        photo, _ = SCENES[space](size, np.random.default_rng(7))
        photo.save(HERE / f"{name}.png")
        Image.fromarray(protocol_mask(size[1], size[0], index=1)).save(HERE / f"{name}_mask.png")
    Image.fromarray(protocol_mask(256, 256, index=0)).save(EXAMPLE_PHOTOS / "portrait_mask.png")
    write_scenes(HERE / "streets", "cityscapes", count=4, size=(192, 144), seed=0)


if __name__ == "__main__":
    main()
