"""Whether the loop as ONNX does what it does in torch, and how long a photo takes on a processor, beside torch.compile.

    python -m benchmarks.export [--model checkpoints/streets checkpoints/faces] [--rounds 0 1 2] [--repeats 10]

Agreement: procedural scenes with random holes, by the exported graph in ONNX Runtime and by the networks in torch; the
largest difference of a fill in [-1,1], and how many pixels of the maps show another class. Times: of the first model
with the highest number of rounds, a centred square of a quarter missing, fp32, timed in turns; ratios are taken within
a turn, then the median. It is worth something on a quiet machine only. "eager" paints around the hole alone, as the
pipeline does; the other two are graphs, which know no hole when they are made, and paint the whole picture.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from benchmarks.latency import seconds
from benchmarks.reports import exit_code
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, count, positive
from fbinpaint.data.scenes import SCENES
from fbinpaint.export import WholeLoop, export_onnx
from fbinpaint.images.tensors import mask_to_tensor, to_tensor
from fbinpaint.loop import Networks, Round, feedback_rounds
from fbinpaint.masks import centre_mask, free_form_mask
from fbinpaint.system.memory import keep_freed_memory

AGREEMENT_BATCHES, TIMED_BATCHES = (1, 3), (1, 4)


def scenes_with_holes(label_space: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Photos (B,3,size,size) in [-1,1] and masks (B,1,size,size)."""
    generators = [np.random.default_rng(seed) for seed in range(count)]
    photos = [to_tensor(np.array(SCENES[label_space]((size, size), generator)[0])) for generator in generators]
    holes = [mask_to_tensor(free_form_mask(size, size, generator)) for generator in generators]
    return torch.cat(photos), torch.cat(holes)


@torch.inference_mode()
def disagreement(
    networks: Networks, session: onnxruntime.InferenceSession, num_rounds: int, image: Tensor, mask: Tensor
) -> tuple[float, int, int]:
    """The largest difference of the fills, and pixels whose class differs before and after feedback."""
    rounds = list(feedback_rounds(networks, image, mask, num_rounds))
    fill, before, after = session.run(None, {"image": image.numpy(), "mask": mask.numpy()})
    other = [(ids != round_.labels().numpy()).sum() for ids, round_ in ((before, rounds[0]), (after, rounds[-1]))]
    return float(np.abs(fill - rounds[-1].image.numpy()).max()), int(other[0]), int(other[1])


def start_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def in_turns(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Seconds of each, and as a ratio to the first: medians over turns."""
    turns = []
    for turn in range(repeats + 2):
        names = list(works)
        order = names[turn % len(names) :] + names[: turn % len(names)]  # whoever comes first finds cold caches
        turns.append({name: seconds(works[name]) for name in order})
    turns = turns[2:]  # the first ones allocate
    first = next(iter(works))
    return {
        name: (median(turn[name] for turn in turns), median(turn[name] / turn[first] for turn in turns))
        for name in works
    }


@torch.no_grad()
def compiled(networks: Networks, num_rounds: int, image: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor], tuple]:
    """The same graph as goes to ONNX, for batches of this size, made by torch.compile."""
    graph = torch.export.export(WholeLoop(networks, num_rounds).eval(), (image, mask)).module()
    work = torch.compile(graph, dynamic=False)
    work(image, mask)
    return work


@torch.no_grad()
def all_rounds(networks: Networks, image: Tensor, mask: Tensor, num_rounds: int) -> list[Round]:
    return list(feedback_rounds(networks, image, mask, num_rounds))


def print_times(
    networks: Networks,
    session: onnxruntime.InferenceSession,
    num_rounds: int,
    size: int,
    repeats: int,
) -> None:
    print(f"\n| ms a photo, K={num_rounds}, {size}x{size} | eager | torch.compile | ONNX Runtime | ratio to eager |")
    print("|---|---|---|---|---|")
    notes = []
    for batch in TIMED_BATCHES:
        image = torch.rand(batch, 3, size, size) * 2 - 1
        mask = torch.from_numpy(centre_mask(size, size)).float().repeat(batch, 1, 1, 1)
        began = time.perf_counter()
        graph = compiled(networks, num_rounds, image, mask)
        took = time.perf_counter() - began
        expected = list(feedback_rounds(networks, image, mask, num_rounds))[-1].image
        apart = (graph(image, mask)[0] - expected).abs().max().item()
        inputs = {"image": image.numpy(), "mask": mask.numpy()}
        works: dict[str, Callable[[], object]] = {
            "eager": partial(all_rounds, networks, image, mask, num_rounds),
            "torch.compile": partial(graph, image, mask),
            "ONNX Runtime": partial(session.run, None, inputs),
        }
        found = in_turns(works, repeats)
        times = " | ".join(f"{1000 * time / batch:.0f}" for time, _ in found.values())
        ratios = ", ".join(f"{ratio:.2f}" for _, ratio in list(found.values())[1:])
        print(f"| batch {batch} | {times} | {ratios} |", flush=True)
        notes.append(f"batch {batch} was compiled in {took:.0f} s, its fill differs by {apart:.1e} at most")
    print(f"\ntorch.compile: {'; '.join(notes)}.")


def compare(models: Sequence[str], rounds: Sequence[int], size: int, threads: int, repeats: int) -> None:
    versions = f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"{platform.machine()}, {threads} threads, {versions}, fp32\n")
    print("| model | K | batch | fill, largest difference | other class before | other class after | of pixels |")
    print("|---|---|---|---|---|---|---|")
    timed: Any = None
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            pipe = FeedbackInpaintPipeline.from_pretrained(model)
            for num_rounds in rounds:
                target = Path(folder, f"{len(list(Path(folder).iterdir()))}")
                (path,) = export_onnx(pipe, target, [size], num_rounds)
                session = start_session(path, threads)
                for batch in AGREEMENT_BATCHES:
                    image, mask = scenes_with_holes(pipe.label_space.name, batch, size)
                    fill, *other = disagreement(pipe.networks, session, num_rounds, image, mask)
                    cells = (Path(model).name, num_rounds, batch, f"{fill:.1e}", *other, f"{mask.numel():,}")
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)
                if model == models[0] and num_rounds == max(rounds):
                    timed = pipe.networks, session
    networks, session = timed
    print_times(networks, session, max(rounds), size, repeats)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the loop as ONNX with the one in torch: what it gives, and its time.",
        epilog="example: python -m benchmarks.export --model checkpoints/streets --rounds 2",
        formatter_class=HelpWithDefaults,
    )
    models = ["checkpoints/streets", "checkpoints/faces"]
    parser.add_argument("--model", nargs="+", default=models, help="pipeline folders of the built-in label spaces")
    parser.add_argument("--rounds", type=count, nargs="+", default=[0, 1, 2], help="to export")
    parser.add_argument("--size", type=positive, default=256, help="pixels a side")
    parser.add_argument("--threads", type=positive, default=2, help="of each")
    parser.add_argument("--repeats", type=positive, default=10, help="turns")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    return exit_code(lambda: compare(args.model, args.rounds, args.size, args.threads, args.repeats))


if __name__ == "__main__":
    raise SystemExit(main())
