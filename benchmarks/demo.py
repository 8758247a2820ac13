"""What the demo costs a visitor and its host: start, memory, click to result, many clients at once.

    python -m benchmarks.demo [--visits 10] [--clients 8] [--requests 5]

Starts `app.py` with the bundled models in a process of its own and visits it with headless Chromium (on the PATH) and
`gradio_client`, as people and programs do. Times are worth something on a quiet machine only.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from tqdm import tqdm

from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.data.scenes import street_scene
from fbinpaint.masks import protocol_mask

ROOT = Path(__file__).resolve().parent.parent
PORT = 7873
URL = f"http://127.0.0.1:{PORT}"
SIDE = 256


def gigabytes(process: subprocess.Popen, of: str = "VmRSS") -> float:
    """What a process holds now, or (VmHWM) held at its peak."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split(f"{of}:")[1].split()[0]) / 2**20


def start(port: int = PORT) -> tuple[subprocess.Popen, float]:
    """The demo, once it answers, and how many seconds that took."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "app.py"), "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}", timeout=1).close()
            return process, time.perf_counter() - began
        except (URLError, TimeoutError):
            if process.poll() is not None:
                raise SystemExit("app.py ended before it served a page") from None
            time.sleep(0.1)


def write_task(folder: Path, seed: int) -> tuple[Path, Path]:
    """A photo of SIDE x SIDE pixels and a mask."""
    photo, mask = folder / f"photo{seed}.png", folder / f"mask{seed}.png"
    street_scene((SIDE, SIDE), np.random.default_rng(seed))[0].save(photo)
    Image.fromarray(protocol_mask(SIDE, SIDE, seed)).save(mask)
    return photo, mask


def wait_until(page: Page, condition: str) -> float:
    """Seconds until the page meets a condition, looked at every few milliseconds."""
    return page.evaluate(
        """condition => new Promise(done => {
            const began = performance.now(), met = new Function("return " + condition);
            const look = () => met() ? done((performance.now() - began) / 1000) : setTimeout(look, 5);
            look();
        })""",
        condition,
    )


def own_photo(page: Page, photo: Path, share: float) -> tuple[float, float, float]:
    """Seconds until a photo of one's own is shown with its map, then from the click on Restore to the first fill and to
    the result. What is marked is a line across so much of the photo."""
    page.goto(URL)
    page.locator(".choose").wait_for(state="attached")
    page.locator(".choose").set_input_files(photo)
    opened = wait_until(page, "document.querySelector('#map img').naturalWidth > 1")
    wait_until(page, "document.querySelector('.editor').ariaBusy !== 'true'")
    box = page.locator("#photo").bounding_box()
    assert box is not None, "it is on the page"
    x, y, reach = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.6, share * box["width"] / 2
    page.mouse.move(x - reach, y)
    page.mouse.down()
    page.mouse.move(x + reach, y, steps=8)
    page.mouse.up()
    page.evaluate("window.photoBefore = document.querySelector('#photo img').src")
    page.evaluate("document.querySelector('#restore').click()")
    first = wait_until(page, "document.querySelector('#photo img').src !== window.photoBefore")
    rest = wait_until(page, "/^Restored/.test(document.querySelector('#status').textContent)")
    return opened, first, first + rest


def own_photos(browser: Browser, size: tuple[int, int], visits: int, folder: Path) -> str:
    """A line of medians over so many visits with a photo of (width, height), after one to warm up; each of a new
    visitor, for a page that is loaded anew goes on where it was."""
    turns = []
    for number in tqdm(range(visits + 1), desc=f"{size[0]}x{size[1]}", unit="visit"):
        photo = folder / f"own{number}.jpg"
        scene, _ = street_scene((480, 360), np.random.default_rng(number))
        scene.resize(size, Image.Resampling.BICUBIC).save(photo, quality=95)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        turns.append(own_photo(page, photo, share=0.3))
        page.close()
    opened, first, last = map(statistics.median, zip(*turns[1:], strict=True))
    return (
        f"own photo of {size[0]}x{size[1]}: its map {opened:.2f} s after it was chosen; from Restore to the first fill "
        f"{first:.2f} s, to the result {last:.2f} s (medians of {visits}, K=2)"
    )


def visit(folder: Path, requests: int, visitor: int) -> int:
    """How many of the visitor's requests came back as its own: equal to its photo outside the mask, not inside."""
    client = Client(URL, verbose=False, download_files=folder)
    right = 0
    for request in range(requests):
        photo, mask = write_task(folder, 1000 + 100 * visitor + request)
        restored = client.predict(handle_file(photo), handle_file(mask), "streets", 2, api_name="/inpaint")[0]
        restored, pixels, hole = (np.asarray(Image.open(path)) for path in (restored, photo, mask))
        right += np.array_equal(restored[~hole], pixels[~hole]) and not np.array_equal(restored[hole], pixels[hole])
    return right


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the demo.",
        epilog="example: python -m benchmarks.demo --visits 10",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--visits", type=positive, default=10, help="photos restored in the browser, of each size")
    parser.add_argument("--clients", type=positive, default=8, help="programs at once")
    parser.add_argument("--requests", type=positive, default=5, help="of each of them")
    args = parser.parse_args()
    if (chromium := shutil.which("chromium")) is None:
        parser.error("chromium is not on the PATH (Debian: apt-get install chromium)")
    process, seconds = start()
    try:
        print(f"answers after {seconds:.1f} s, then holds {gigabytes(process):.2f} GB")
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for size, visits in (((480, 360), args.visits), ((4000, 3000), max(1, args.visits // 3))):
                print(own_photos(browser, size, visits, Path(folder)))
                print(f"holds {gigabytes(process):.2f} GB")
            browser.close()
        for repetition in range(2):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.clients) as pool:
                visits = [pool.submit(visit, Path(folder), args.requests, visitor) for visitor in range(args.clients)]
                right = sum(visited.result() for visited in visits)
            print(
                f"{args.clients} clients x {args.requests} requests, run {repetition + 1}: {right} right of "
                f"{args.clients * args.requests} in {time.perf_counter() - began:.1f} s; "
                f"holds {gigabytes(process):.2f} GB"
            )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
