"""What the demo costs a visitor and its host: start, memory, click to result, many clients at once.

    python -m benchmarks.demo [--clicks 10] [--clients 8] [--requests 5]

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
from playwright.sync_api import Page, sync_playwright
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


def restore(page: Page) -> tuple[float | None, float]:
    """Seconds from the click on Restore to the first map, None if it is the one that was there, and to the result."""
    times = page.evaluate(
        """() => new Promise(done => {
            const status = document.querySelector("#status"), began = performance.now();
            let first = null, busy = false;
            const map = () => document.querySelector("#map-before img")?.src, old = map();
            new MutationObserver((_, observer) => {
                if (first === null && map() && map() !== old) first = performance.now() - began;
                busy ||= /Round/.test(status.textContent);  // what stood there was of the click before
                if (busy && /Restored/.test(status.textContent)) {
                    observer.disconnect(); done([first, performance.now() - began]);
                }
            }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
            document.querySelector("#restore").click();
        })"""
    )
    first, last = (time and time / 1000 for time in times)
    return first, last


def click_to_result(page: Page, clicks: int, folder: Path) -> list[tuple[float, float, float]]:
    """Of so many photos (K=2): seconds from the click on Restore to the first map and to the result, and from a second
    click on the same photo, with the map in its editor, to the result."""
    page.goto(URL)
    page.locator("#editor canvas").first.wait_for()
    page.locator("#model label", has_text="streets").click()
    page.locator("#hole button").first.click()
    turns = []
    for number in tqdm(range(clicks + 1), desc="clicks", unit="photo"):
        photo, mask = write_task(folder, number)
        page.locator("#editor input[type=file]").first.set_input_files(photo)
        page.locator("#mask input[type=file]").set_input_files(mask)
        page.locator("#mask img").wait_for()
        page.wait_for_timeout(1500)  # until the editor has taken the photo
        first, last = restore(page)
        page.wait_for_timeout(3000)  # until the page has drawn everything
        _, again = restore(page)
        if number:  # the first click also loads the model
            turns.append((first, last, again))
        page.locator("#editor").get_by_role("button", name="Clear canvas").click()
        page.wait_for_timeout(500)
    return turns


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
        epilog="example: python -m benchmarks.demo --clicks 10",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--clicks", type=positive, default=10, help="restorations timed in the browser")
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
            turns = click_to_result(browser.new_page(), args.clicks, Path(folder))
            browser.close()
        first, last, again = map(statistics.median, zip(*turns, strict=True))
        print(
            f"click to first map {first:.2f} s, to result {last:.2f} s, restored again {again:.2f} s "
            f"(medians of {args.clicks}, {SIDE}x{SIDE}, K=2); holds {gigabytes(process):.2f} GB"
        )
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
