"""How fast a GPU restores photos: the loop at several precisions, sizes and batches.

    python -m benchmarks.gpu [--model checkpoints/streets] [--repeats 20]

The loop is K=2 with a hole of a quarter of the photo; its time includes the one moment at which it asks where the holes
are. Rates are medians over repeats on a GPU that has nothing else to do; the memory is the most that was ever in use.
"""

import argparse
from statistics import median

import torch

from benchmarks.reports import exit_code
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.masks import centre_mask

SIZES = (256, 512)
BATCHES = (1, 16)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
ROUNDS = 2


@torch.inference_mode()
def measure(networks: Networks, size: int, batch: int, repeats: int) -> tuple[float, float]:
    """Milliseconds of the loop on a batch, and MiB of GPU memory."""
    device, dtype = networks.segmenter.device, networks.segmenter.dtype
    image = torch.rand(batch, 3, size, size, device=device, dtype=dtype) * 2 - 1
    mask = torch.from_numpy(centre_mask(size, size)).to(device, dtype).repeat(batch, 1, 1, 1)
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats + 3):  # the first ones load kernels and allocate
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in feedback_rounds(networks, image, mask, ROUNDS):
            pass
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended))
    return median(times[3:]), torch.cuda.max_memory_allocated() / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time the loop on a GPU.",
        epilog="example: python -m benchmarks.gpu --repeats 50",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", default="checkpoints/streets", help="pipeline folder")
    parser.add_argument("--repeats", type=positive, default=20, help="loops timed")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "error: no GPU that torch can use; benchmarks.latency is for processors\n")
    return exit_code(lambda: print_times(args.model, args.repeats))


def print_times(model: str, repeats: int) -> None:
    networks = FeedbackInpaintPipeline.from_pretrained(model).networks
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, K={ROUNDS}")
    for dtype in DTYPES:
        networks.to("cuda", dtype)
        for size in SIZES:
            for batch in BATCHES:
                time, memory = measure(networks, size, batch, repeats)
                print(
                    f"{str(dtype).removeprefix('torch.')}, {size}x{size}, batch {batch}: {time:.1f} ms, "
                    f"{1000 * batch / time:.0f} photos/s, {memory:.0f} MiB"
                )


if __name__ == "__main__":
    raise SystemExit(main())
