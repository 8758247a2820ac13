"""Peers beside a model of the project's own: scored as `fbinpaint evaluate` scores, with what each of them costs."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, count, positive
from fbinpaint.errors import InputError
from fbinpaint.evaluation.evaluation import Evaluation, evaluate, processes
from fbinpaint.evaluation.methods import BASELINES, Filler
from fbinpaint.evaluation.photos import Sample
from fbinpaint.evaluation.report import COLUMNS, markdown_table, sentence, sizes
from fbinpaint.evaluation.scoring import Fill
from fbinpaint.hub.origin import read_origin
from fbinpaint.images.crops import composite
from fbinpaint.images.tensors import pad_to_multiple, to_uint8
from fbinpaint.system.files import check_output, whole_file

from .cost import costs
from .generator import MIN_SIDE, MULTIPLE, Generator
from .registry import load_peer
from .training import fill_tensors

SHOWN = ("lpips_alex", "lpips_vgg", "psnr", "ssim", "psnr_hole")
ROUNDS = (0, 2)  # one-way, and the pipeline's own number


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers evaluate",
        description="Score peers and a model on the same photos and holes, and tell what each costs.",
        epilog="example: python -m benchmarks.peers evaluate --model checkpoints/streets --peers "
        "lama=runs/lama/pipeline --data examples/streets --output peers.json",
        formatter_class=HelpWithDefaults,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="DIR|HUB_ID", help="pipeline that the peers are compared with")
    add("--peers", nargs="+", required=True, type=named_folder, metavar="NAME=DIR", help="as `train` saved them")
    add("--data", type=Path, required=True, metavar="DIR", help="holds images/")
    add("--masks", type=Path, metavar="DIR", help="masks by name (default: made, from a fixed seed)")
    add("--output", type=Path, required=True, metavar="report.json", help="a .csv, .md and .png are put beside it")
    add("--resolution", type=count, default=256, metavar="N", help="shorter side, pixels; a multiple of 16")
    add("--limit", type=positive, metavar="N", help="only the first N photos (default: all)")
    add("--repeats", type=positive, default=10, help="of each timing")
    return parser.parse_args(argv)


def named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR")
    return name, Path(folder)


def run(argv: list[str]) -> None:
    args = parse_args(argv)
    folders = dict(args.peers)
    taken = {*BASELINES, *(f"rounds={k}" for k in ROUNDS)}
    if len(folders) < len(args.peers) or folders.keys() & taken:
        raise InputError(f"--peers: each needs a name of its own, none of {', '.join(sorted(taken))}")
    if args.output.suffix != ".json":
        raise InputError(f"{args.output}: the report must be a .json file; rename it")
    check_output(*(args.output.with_suffix(suffix) for suffix in (".json", ".csv", ".md", ".png")))
    if args.resolution % MULTIPLE or args.resolution < MIN_SIDE:
        raise InputError(f"--resolution {args.resolution}: must be a multiple of {MULTIPLE}, {MIN_SIDE} or more")
    state = processes()  # this chooses the GPU of each process
    pipe = FeedbackInpaintPipeline.from_pretrained(args.model).to(state.device)
    pipe.set_progress_bar_config(disable=True)
    peers = {name: load_peer(folder).to(state.device) for name, folder in folders.items()}
    evaluation = evaluate(
        pipe,
        args.data,
        masks=args.masks,
        resolution=args.resolution,
        rounds=ROUNDS,
        limit=args.limit,
        fillers={name: filler(peer) for name, peer in peers.items()},
    )
    if not state.is_main_process:
        return
    found = costs(pipe, list(ROUNDS), peers, list(BASELINES), args.resolution, args.repeats)
    report = evaluation.report
    report["protocol"] |= {
        "peers": {name: str(folder) for name, folder in folders.items()},
        "training": {"model": training(Path(args.model))} | {name: training(path) for name, path in folders.items()},
        "costs": f"networks alone, one photo of {args.resolution}x{args.resolution} with a quarter missing; cpu_ms: "
        f"median of {args.repeats} turns, {torch.get_num_threads()} threads, fp32",
    }
    report["costs"] = {name: asdict(cost) for name, cost in found.items()}
    print(table(report))  # before it is saved: it is seen where that fails, too
    save(evaluation, args.output)
    print("report:", *(args.output.with_suffix(suffix) for suffix in (".json", ".csv", ".md", ".png")))


def training(model: Path) -> str:
    """How long it was trained, as far as that is on file beside it."""
    return read_origin(model).get("time", "not stated")


def filler(generator: Generator) -> Filler:
    def fill(samples: Sequence[Sample]) -> list[Fill]:
        photos = torch.from_numpy(np.stack([sample.photo for sample in samples])).permute(0, 3, 1, 2)
        holes = torch.from_numpy(np.stack([sample.hole for sample in samples]))[:, None]
        height, width = holes.shape[-2:]
        image = pad_to_multiple(photos.float() / 127.5 - 1, MULTIPLE).to(generator.device)
        # Where the border is hidden, what goes on beyond it is hidden, too.
        mask = pad_to_multiple(holes.float(), MULTIPLE).to(generator.device)
        fills = to_uint8(fill_tensors(generator, image, mask))[:, :height, :width]
        return [
            Fill(composite(sample.photo, filled, sample.hole)) for sample, filled in zip(samples, fills, strict=True)
        ]

    return fill


def table(report: dict) -> str:
    """What each costs, and its overall scores."""
    titles = ["", "M parameters", "GFLOP", "CPU ms", *(COLUMNS[key][0] for key in SHOWN)]
    rows = [titles, ["---"] * len(titles)]
    for name, cost in report["costs"].items():
        scores = report["variants"][name]["overall"]
        millions = "-" if cost["parameters"] is None else f"{cost['parameters'] / 1e6:.1f}"
        gflop = "-" if cost["gflop"] is None else f"{cost['gflop']:.1f}"
        cells = ["-" if scores[key] is None else COLUMNS[key][1].format(scores[key]) for key in SHOWN]
        rows.append([name, millions, gflop, f"{cost['cpu_ms']:.0f}", *cells])
    return markdown_table(rows)


def markdown(report: dict) -> str:
    protocol = report["protocol"]
    trained = [f"- {name}: {time}" for name, time in protocol["training"].items()]
    parts = [
        f"{protocol['data']}: {protocol['n']} photos, {sizes(protocol)}, masks {protocol['masks']}. Costs: "
        f"{protocol['costs']}.",
        table(report),
        "Relative changes of the means, 95 % intervals of a paired bootstrap over photos:",
        "\n".join(f"- {sentence(report, pair)}" for pair in report["paired"]),
        "Training:",
        "\n".join(trained),
    ]
    return "\n\n".join(parts) + "\n"


def plot(report: dict, path: Path) -> None:
    """LPIPS and PSNR against CPU milliseconds, a point for each method. Written whole or not."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric in zip(axes, ("lpips_alex", "psnr"), strict=True):
        for name, cost in report["costs"].items():
            score = report["variants"][name]["overall"][metric]
            axis.scatter(cost["cpu_ms"], score, label=name)
        axis.set(xlabel="CPU milliseconds", ylabel=COLUMNS[metric][0], xscale="log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def save(evaluation: Evaluation, output: Path) -> None:
    """The report with its CSV, table and plot."""
    evaluation.save(output)
    with whole_file(output.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(evaluation.report), encoding="utf-8")
    plot(evaluation.report, output.with_suffix(".png"))
