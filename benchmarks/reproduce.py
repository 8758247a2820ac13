"""The paper's comparison on the paper's data: trains from configs/, scores the official splits, writes the tables.

    python -m benchmarks.reproduce --celebamask-hq CelebAMask-HQ --cityscapes cityscapes
    make reproduce CELEBA=CelebAMask-HQ CITYSCAPES=cityscapes

Each data set is as its owners distribute it, CelebAMask-HQ with CelebA's list_eval_partition.txt beside it. Of every
variant a model is trained, by the same script for the same steps; a run that was cut short goes on where it was. What
that takes is in docs/recipes.md.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, names
from fbinpaint.errors import InputError
from fbinpaint.evaluation.report import COLUMNS, change, markdown_table, sizes, table
from fbinpaint.system.files import read_json, whole_file

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 2  # the pipeline's own number
SHOWN = ("lpips_alex", "psnr", "ssim")


@dataclass(frozen=True)
class Comparison:
    """A data set of the paper. split: the one that is scored; claims: metric -> how much better than others' methods
    the paper says it is (Ye et al., Sensors 2025), as a relative change."""

    title: str
    split: str
    claims: dict[str, float]


COMPARISONS = {  # by the names of configs/*.yaml
    "celebamask-hq": Comparison("CelebA-HQ", "test", {"lpips_alex": -0.0589, "psnr": 0.0052}),
    "cityscapes": Comparison("Cityscapes", "val", {"lpips_alex": -0.0615, "ssim": 0.0158}),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Train on the official data sets, score their splits, write the paper's tables.",
        epilog="example: python -m benchmarks.reproduce --cityscapes cityscapes --variants feedback",
        formatter_class=HelpWithDefaults,
    )
    add = parser.add_argument
    add("--celebamask-hq", type=Path, metavar="DIR", help="default: left out")
    add("--cityscapes", type=Path, metavar="DIR", help="default: left out")
    add("--output", type=Path, default=Path("runs/reproduce"), metavar="DIR", help="runs, reports and tables.md")
    add("--variants", type=names, default="unidirectional,feedback", metavar="NAME,...", help="of train_accelerate.py")
    add("--configs", type=Path, default=ROOT / "configs", metavar="DIR", help="celebamask-hq.yaml, cityscapes.yaml")
    add("--launch", type=shlex.split, default="", metavar="OPTIONS", help="of accelerate launch; default: none")
    add("--train", type=shlex.split, default="", metavar="OPTIONS", help="of train_accelerate.py; default: none")
    add("--evaluate", type=shlex.split, default="", metavar="OPTIONS", help="of fbinpaint evaluate; default: none")
    args = parser.parse_args()
    data = {name: getattr(args, name.replace("-", "_")) for name in COMPARISONS}
    data = {name: folder.resolve() for name, folder in data.items() if folder is not None}
    output, configs = args.output.resolve(), args.configs.resolve()
    options = args.launch, args.train, args.evaluate
    return exit_code(lambda: reproduce(data, output, args.variants, configs, *options))


def reproduce(
    data: dict[str, Path],
    output: Path,
    variants: Sequence[str],
    configs: Path,
    launch: Sequence[str],
    train: Sequence[str],
    evaluate: Sequence[str],
) -> None:
    """Everything, of the data sets at hand (name -> folder). Raises InputError where one of them is not as its owners
    have it, before any training, and where a command fails."""
    from fbinpaint.data.sources import load_photos
    from fbinpaint.data.splits import load_split
    from fbinpaint.loop import VARIANTS

    if not data:
        raise InputError("no data: give --celebamask-hq or --cityscapes (of make: CELEBA=DIR, CITYSCAPES=DIR)")
    if odd := set(variants) - set(VARIANTS):
        raise InputError(f"--variants: {', '.join(sorted(odd))}: no variant; use {', '.join(VARIANTS)}")
    for name, folder in data.items():
        load_photos([str(folder)])  # the split train
        load_split(folder, COMPARISONS[name].split)
    for name, folder in data.items():
        # Later ones are compared with those before them: what the claim is of comes last.
        ordered = sorted(variants, key=lambda variant: variant == "feedback")
        models = {variant: output / name / variant for variant in ordered}
        for variant, place in models.items():
            if (place / "pipeline" / "model_index.json").is_file():
                print(f"{place / 'pipeline'}: is there, not trained again; remove {place} to do so")
            else:
                call(training(configs / f"{name}.yaml", folder, variant, place, launch, train))
        call(scoring(name, folder, models, output / f"{name}.json", evaluate))
    text = "\n\n".join(section(name, read_json(output / f"{name}.json")) for name in data)
    with whole_file(output / "tables.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    print(f"tables: {output / 'tables.md'}")


def training(
    config: Path, folder: Path, variant: str, place: Path, launch: Sequence[str], options: Sequence[str]
) -> list[str]:
    """The command that trains one model; `options` overrule those of the config."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, str(ROOT / "train_accelerate.py")]
    command += ["--config", str(config), "--train_data_dir", str(folder), "--variant", variant]
    return [*command, "--output_dir", str(place), "--resume_from_checkpoint", "latest", *options]


def scoring(name: str, folder: Path, models: dict[str, Path], report: Path, options: Sequence[str]) -> list[str]:
    """The command that scores the models of a data set on its split."""
    command = [sys.executable, "-m", "fbinpaint", "evaluate", "--data", str(folder), "--output", str(report)]
    command += ["--split", COMPARISONS[name].split, "--rounds", f"0,{ROUNDS}"]
    command += ["--baselines", "telea,navier-stokes,biharmonic", *options]
    return [*command, "--compare", *(f"{variant}={place / 'pipeline'}" for variant, place in models.items())]


def call(command: list[str]) -> None:
    print(shlex.join(command), flush=True)
    if code := subprocess.run(command, cwd=ROOT).returncode:
        raise InputError(f"{shlex.join(command)}: ended with exit code {code}; what it printed last says why")


def section(name: str, report: dict) -> str:
    """Of one data set: all scores, each metric by the share of the photo that is hole, and what we gain on others."""
    compared, protocol = COMPARISONS[name], report["protocol"]
    data = f"{protocol['data']}, {protocol['split']}"
    parts = [
        f"## {compared.title}",
        f"{data}: {protocol['n']} photos, {sizes(protocol)}, masks {protocol['masks']}.",
        table(report),
    ]
    for metric in SHOWN:
        parts += [f"{COLUMNS[metric][0]} by the share of the photo that is hole:", by_ratio(report, metric)]
    best = [model for model in protocol["model"] if model == "feedback"] or list(protocol["model"])
    ours = f"{best[0]}: rounds={ROUNDS}"
    rows = [["against", *(COLUMNS[metric][0] for metric in SHOWN)], ["---"] * (1 + len(SHOWN))]
    for pair, changes in report["paired"].items():
        a, b = pair.split(" vs ")
        if a == ours:
            rows.append([b, *(change(changes[metric]) or "-" for metric in SHOWN)])
    claims = [f"{compared.claims[metric]:+.2%}" if metric in compared.claims else "-" for metric in SHOWN]
    rows.append(["the paper says of its own, against others' methods", *claims])
    parts.append(f"By how much `{ours}` differs, 95 % intervals of a paired bootstrap over photos:")
    return "\n\n".join([*parts, markdown_table(rows)])


def by_ratio(report: dict, metric: str) -> str:
    """A row for each variant, a column for each bin."""
    variants = {name: variant["by_mask_ratio"] for name, variant in report["variants"].items()}
    bins = sorted({bin_ for found in variants.values() for bin_ in found}, key=lambda text: int(text.split("-")[0]))
    rows = [["variant", *bins], ["---"] * (1 + len(bins))]
    form = COLUMNS[metric][1]
    for name, found in variants.items():
        rows.append([name, *(form.format(found[bin_][metric]) if bin_ in found else "-" for bin_ in bins)])
    return markdown_table(rows)


if __name__ == "__main__":
    raise SystemExit(main())
