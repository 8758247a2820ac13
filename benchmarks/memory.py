"""What memory the demo's server takes while photos of all sizes come in: at its start, at its peak, at the end.

    python -m benchmarks.memory [--requests 60] [--clients 4]

Starts `app.py` with the bundled models in a process of its own and sends it photos of 100 to 4000 pixels a side, every
sixth of 4000x3000, to be restored (`/inpaint`) or rid of cars and people (`/remove`), by both models, several at once.
"""

import argparse
import math
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image
from tqdm import tqdm

from benchmarks.demo import gigabytes, start
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.scenes import street_scene
from fbinpaint.masks import protocol_mask

LARGEST = (4000, 3000)
SIDES = (100, 4000)  # of the others
SCENE = (1000, 750)
EVERY = 6  # requests, of which one is of the largest size


def size_of(request: int, every: int = EVERY, sides: tuple[int, int] = SIDES) -> tuple[int, int]:
    """(width, height), hardly any twice: each side is as likely to be between 100 and 200 as between 500 and 1000."""
    if request % every == every - 1:
        return LARGEST
    generator = np.random.default_rng(request)
    while True:
        width, height = np.exp(generator.uniform(math.log(sides[0]), math.log(sides[1]), 2)).astype(int).tolist()
        if width * height <= LARGEST[0] * LARGEST[1]:
            return width, height


def free_port() -> int:
    """Nobody else's, lest another server be measured."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def send(folder: Path, port: int, request: int) -> None:
    """One photo; its result has its size."""
    size, generator = size_of(request), np.random.default_rng(request)
    photo, mask = folder / f"{request}.jpg", folder / f"{request}.png"
    street_scene(SCENE, generator)[0].resize(size).save(photo, quality=92)
    Image.fromarray(protocol_mask(*size[::-1], request)).save(mask)
    client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=folder / str(request))
    if request % 4 == 3:
        restored = client.predict(handle_file(photo), "car, person", "streets", api_name="/remove")[0]
    else:
        model = ("streets", "faces")[request % 2]
        restored = client.predict(handle_file(photo), handle_file(mask), model, api_name="/inpaint")[0]
    if Image.open(restored).size != size:
        raise SystemExit(f"request {request}: a photo of {size} came back as {Image.open(restored).size}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the memory of the demo's server.",
        epilog="example: python -m benchmarks.memory --requests 60",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--requests", type=positive, default=60, help="photos that are sent")
    parser.add_argument("--clients", type=positive, default=4, help="that send them at once")
    args = parser.parse_args()
    process, _ = start(port := free_port())
    try:
        print(f"at the start {gigabytes(process):.2f} GB")
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.clients) as pool:
            sent = pool.map(send, repeat(Path(folder)), repeat(port), range(args.requests))
            for number, _ in enumerate(tqdm(sent, total=args.requests, unit="photo"), 1):
                if number % 10 == 0:
                    tqdm.write(f"after {number} requests {gigabytes(process):.2f} GB")
        seconds = time.perf_counter() - began
        print(f"peak {gigabytes(process, 'VmHWM'):.2f} GB, {args.requests} requests in {seconds:.0f} s")
        time.sleep(5)
        print(f"at the end {gigabytes(process):.2f} GB")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
