"""Programs that run the loop keep the memory they free."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAULTS = """
import resource
import numpy as np

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [np.ones(2**21, np.uint8) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
usual = page_faults()
from fbinpaint.system.memory import keep_freed_memory
keep_freed_memory()
page_faults()
print(usual, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_freed_memory_is_used_again():
    run = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True)
    usual, kept = map(int, run.stdout.split())
    assert usual > 10_000 and kept < usual / 20, run.stdout


LITTER = """
import sys, threading, time
import numpy as np
from fbinpaint.system import memory

getattr(memory, sys.argv[1])()
kept, before = [], memory.resident_bytes()

def litter():  # 800 MB, of which every fortieth block stays in use
    blocks = [np.ones(2**18, np.uint8) for _ in range(3200)]
    kept.extend(blocks[::40])

def grown():
    return (memory.resident_bytes() - before) // 2**20

thread = threading.Thread(target=litter)
thread.start(), thread.join()
until = time.monotonic() + float(sys.argv[2])
while grown() > 300 and time.monotonic() < until:
    time.sleep(0.1)
print(grown())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_a_server_gives_back_what_is_free_between_blocks_in_use():
    def grown(setting: str, seconds: float) -> int:
        command = [sys.executable, "-c", LITTER, setting, str(seconds)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert grown("keep_freed_memory", 2) > 700  # MB
    assert grown("bound_freed_memory", 30) < 300


LARGE_MAP = """
import sys
from pathlib import Path
import numpy as np
from fbinpaint.labels import CITYSCAPES
from fbinpaint.pipeline.segmentation import segment_photos
from tests.conftest import make_tiny_networks

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

segmenter = make_tiny_networks().segmenter.eval()
photo = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
segment_photos(segmenter, [photo[:64, :64]], CITYSCAPES, 256, "cpu")
before = peak()
(found,) = segment_photos(segmenter, [photo], CITYSCAPES, 256, "cpu")
assert found.shape == photo.shape[:2]
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_the_map_of_a_large_photo_holds_one_class_at_a_time():
    """All 19 of them at 1024x768 pixels are 60 MB, and sums of them as much again."""
    run = subprocess.run([sys.executable, "-c", LARGE_MAP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 250, run.stdout  # 456 before; each thread adds some
