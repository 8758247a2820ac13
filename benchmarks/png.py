"""What zlib's levels cost in PNG files, and what they save.

    python -m benchmarks.png [photo.jpg ...]

The photos are laid side by side, again and again, until they fill 12 Mpx; without any it is a procedural street. Times
are those of this process on one core, each the shorter of two.
"""

import argparse
import io
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.large import SIZE, procedural_photo
from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.images.convert import to_rgb
from fbinpaint.images.io import load_image

LEVELS = range(1, 7)


def side_by_side(photos: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", SIZE)
    x = y = count = 0
    while y < SIZE[1]:
        photo = photos[count % len(photos)]
        sheet.paste(photo, (x, y))
        count, x = count + 1, x + photo.width
        if x >= SIZE[0]:
            x, y = 0, y + photo.height
    return sheet


def print_levels(paths: Sequence[Path]) -> None:
    photo = side_by_side([Image.fromarray(to_rgb(load_image(path))) for path in paths]) if paths else procedural_photo()
    for level in LEVELS:
        times = []
        for _ in range(2):
            file = io.BytesIO()
            began = time.process_time()
            photo.save(file, "PNG", compress_level=level)
            times.append(time.process_time() - began)
        print(f"level {level}: {min(times):.2f} s, {len(file.getvalue()) / 1e6:.2f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Seconds and bytes of PNG files, by level.",
        epilog="example: python -m benchmarks.png examples/street.png",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("photos", nargs="*", type=Path, help="of one kind (default: a procedural street)")
    args = parser.parse_args()
    return exit_code(lambda: print_levels(args.photos))


if __name__ == "__main__":
    raise SystemExit(main())
