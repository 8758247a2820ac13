"""What exemplars of one's own cost: to add one, and to consult them.

    python -m benchmarks.exemplar_costs --model checkpoints/streets --exemplars facades/train

Milliseconds, medians over turns on a quiet machine: to segment a photo as an exemplar is (in two sizes, as it is and
with a hole, both in one batch), to make an exemplar of it (which segments it so, too), and of a call without rounds,
without exemplars and with as many of one's own as `--exemplars` holds, at most a hundred. What is compared is timed in
turns.
"""

import argparse
import copy
from pathlib import Path
from statistics import median

import torch

from benchmarks.exemplars import NUMBERS, SEED, read_labelled
from benchmarks.latency import call, seconds
from benchmarks.reports import print_report
from fbinpaint.arguments import HelpWithDefaults, positive
from fbinpaint.cli import load_pipeline
from fbinpaint.evaluation.controls import control_pipelines
from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.pipeline.exemplars import SCALES, resized


@torch.inference_mode()
def measure(model: str, folder: Path, turns: int) -> dict[str, float]:
    """Raises InputError for a folder without labelled photos."""
    pipe = load_pipeline(model)
    labelled = read_labelled([folder], pipe, None, pipe.config.sample_size)[: NUMBERS[-1]]
    (bare,), adapted = control_pipelines(pipe, ["no-exemplars"], SEED).values(), copy.deepcopy(pipe)
    adapted.set_exemplars(*zip(*labelled, strict=True))
    photos, maps = zip(*labelled, strict=True)
    looked_at = [resized(photo, map_, scale)[0] for photo, map_ in labelled for scale in SCALES]
    images = [pad_to_multiple(to_tensor(photo), 16).to(pipe.device) for photo in looked_at]
    looks = [torch.cat([image, image]) for image in images]  # with a hole, too
    works = {
        "segment a photo": lambda: [pipe.segmenter(image, torch.zeros_like(image[:, :1])) for image in looks],
        "add an exemplar": lambda: pipe.set_exemplars(photos, maps),
        "call, K=0, without exemplars": call(bare, 0, pipe.config.sample_size),
        "call, K=0": call(adapted, 0, pipe.config.sample_size),
    }
    for work in works.values():
        work()
    rounds = [{name: 1e3 * seconds(work) for name, work in works.items()} for _ in range(turns)]
    found = {name: median(turn[name] for turn in rounds) for name in works}
    beyond = median(turn["add an exemplar"] - turn["segment a photo"] for turn in rounds) / len(photos)
    found |= {name: found[name] / len(photos) for name in ("segment a photo", "add an exemplar")}
    found |= {"add an exemplar, beyond that": beyond}
    consulted = median(turn["call, K=0"] / turn["call, K=0, without exemplars"] for turn in rounds)
    return found | {"exemplars": len(labelled), "call with over without": consulted}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Time what it takes to add exemplars to a model, and to consult them.",
        epilog="example: python -m benchmarks.exemplar_costs --model checkpoints/streets --exemplars facades/train",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument("--exemplars", type=Path, required=True, metavar="DIR", help="labelled photos")
    parser.add_argument("--turns", type=positive, default=5, help="that each is timed in")
    parser.add_argument("--output", type=Path, metavar="report.json", help="default: it is only printed")
    args = parser.parse_args()
    return print_report(lambda: measure(args.model, args.exemplars, args.turns), args.output)


if __name__ == "__main__":
    raise SystemExit(main())
