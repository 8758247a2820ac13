"""The command line: `python -m fbinpaint run | evaluate | publish`.

Bad input ends in one line, `error: what is wrong, which file, what to do`, and exit code 1; a file is written whole or
not at all. torch and diffusers are imported by the commands, not here, so that --help is instant.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.arguments import count, positive, seed
from fbinpaint.errors import InputError, printable
from fbinpaint.files import whole_file
from fbinpaint.memory import keep_freed_memory

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "checkpoints" / "streets"
RUN_BATCH_SIZE = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 = something failed (said on stderr), 130 = interrupted."""
    args = _parser().parse_args(argv)
    keep_freed_memory()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a file that cannot be used is said in a line of our own
    try:
        return args.command(args)
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished files are kept", file=sys.stderr)
        return 130


# ---------------------------------------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fbinpaint", description="Fill holes in photos, guided by a semantic map that the fill corrects."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="run | evaluate | publish")

    run = _command(
        commands, run_command, "run",
        "Fill the holes of one photo, or of a folder of photos and one of masks of the same names.",
        "--image examples/street.png --mask examples/street_mask.png --output restored.png",
    )  # fmt: skip
    run.add_argument("--image", type=Path, required=True, metavar="FILE|DIR", help="photo, or folder of photos")
    run.add_argument("--mask", type=Path, required=True, metavar="FILE|DIR", help="white = hole; one FILE serves all")
    run.add_argument("--output", type=Path, required=True, metavar="FILE|DIR", help="folders are filled with PNG files")
    run.add_argument("--model", default=str(DEFAULT_MODEL), metavar="DIR|HUB_ID", help="default: checkpoints/streets")
    run.add_argument("--rounds", type=count, default=2, metavar="K", help="feedback rounds, 0 = none (default: 2)")
    run.add_argument("--save-semantics", action="store_true", help="write NAME_before.png, NAME_after.png (index maps)")
    run.add_argument("--resume", action="store_true", help="leave photos alone whose results are all there")
    run.add_argument("--seed", type=seed, metavar="N", help="default: none")

    evaluate = _command(
        commands, evaluate_command, "evaluate", "Score a model, round by round, against the classical methods.",
        "--model checkpoints/streets --data examples/streets --output report.json",
    )  # fmt: skip
    models = evaluate.add_mutually_exclusive_group(required=True)
    models.add_argument("--model", metavar="DIR|HUB_ID")
    models.add_argument(
        "--compare", nargs="+", type=_named_model, metavar="NAME=DIR",
        help="several models in one report; adds a table (.md) and curves (.png)",
    )  # fmt: skip
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/ and, if any, labels/")
    evaluate.add_argument("--masks", type=Path, metavar="DIR", help="masks by name (default: made, from a fixed seed)")
    evaluate.add_argument("--output", type=Path, required=True, metavar="report.json", help="a .csv is put beside it")
    evaluate.add_argument("--resolution", type=count, default=128, metavar="N", help="shorter side (default: 128)")
    evaluate.add_argument("--rounds", type=_counts, default=[0, 1, 2, 3], metavar="K,...", help="default: 0,1,2,3")
    evaluate.add_argument(
        "--baselines", type=_names, default=["telea", "navier-stokes"], metavar="NAME,...",
        help="default: telea,navier-stokes",
    )  # fmt: skip
    evaluate.add_argument(
        "--controls", type=_names, default=[], metavar="NAME,...",
        help="oracle, shuffled-map, random-exemplar (default: none)",
    )  # fmt: skip
    evaluate.add_argument("--limit", type=positive, metavar="N", help="only the first N photos")

    publish = _command(
        commands, publish_command, "publish", "Upload a saved pipeline folder to the Hugging Face Hub.",
        "--model checkpoints/streets --repo-id USER/NAME --private",
    )  # fmt: skip
    publish.add_argument("--model", type=Path, required=True, metavar="DIR")
    publish.add_argument("--repo-id", required=True, metavar="USER/NAME")
    publish.add_argument("--private", action="store_true", help="only you can see it")
    publish.add_argument("--dry-run", action="store_true", help="show the files and the card, upload nothing")
    publish.add_argument(
        "--report", nargs="+", type=Path, default=[], metavar="report.json", help="of evaluate: figures for the card"
    )
    return parser


def _command(commands, function, name: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=description, epilog=f"example:\n  python -m fbinpaint {name} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(command=function)
    return parser


def _counts(text: str) -> list[int]:
    return sorted({count(part.strip()) for part in text.split(",")})


def _named_model(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR")
    return name, model


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def load_pipeline(model: str) -> "FeedbackInpaintPipeline":
    """The pipeline of a folder or a Hub id, on the GPU if there is one. Raises InputError if it cannot be loaded."""
    import torch
    from diffusers.utils import logging

    from fbinpaint import FeedbackInpaintPipeline

    logging.disable_progress_bar()  # of loading; the commands have a bar of their own
    logging.set_verbosity_error()
    pipe = FeedbackInpaintPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


# ---------------------------------------------------------------------------------------------- run


@dataclass(frozen=True)
class Job:
    """One photo to restore: its files, and the file the result goes to."""

    image: Path
    mask: Path
    result: Path

    def targets(self, save_semantics: bool) -> list[Path]:
        """Every file the job writes: the result and, if wanted, the maps before and after feedback."""
        maps = [self.result.with_name(f"{self.result.stem}_{when}.png") for when in ("before", "after")]
        return [self.result, *(maps if save_semantics else [])]


def run_command(args: argparse.Namespace) -> int:
    """`run`: every photo that can be restored is; each that cannot is one line on stderr and makes the exit code 1."""
    from tqdm import tqdm

    from fbinpaint.folders import equal_size_batches

    jobs, problems, notes = plan_jobs(args.image, args.mask, args.output, args.save_semantics)
    if args.resume:
        to_do = [job for job in jobs if not all(os.path.isfile(target) for target in job.targets(args.save_semantics))]
        notes.append(f"{args.output}: {len(jobs) - len(to_do)} of {len(jobs)} photos are done already, left alone")
        jobs = to_do
    for line in [f"error: {problem}" for problem in problems] + [f"note: {note}" for note in notes]:
        print(printable(line), file=sys.stderr)
    failures = len(problems)
    if jobs:
        pipe = load_pipeline(args.model)
        with tqdm(total=len(jobs), desc="run", unit="photo") as progress:
            for batch in equal_size_batches(jobs, RUN_BATCH_SIZE):
                for problem in restore(pipe, batch, args.rounds, args.save_semantics, args.seed):
                    failures += 1
                    progress.write(printable(f"error: {problem}"), file=sys.stderr)
                progress.update(len(batch))
    return 1 if failures else 0


def plan_jobs(image: Path, mask: Path, output: Path, save_semantics: bool) -> tuple[list[Job], list[str], list[str]]:
    """What `run` has to do; one line for each photo that it cannot do; one for each file that no photo needs.

    A folder keeps its sub-folders in the output; nothing is read or written yet. Raises InputError where the arguments
    do not fit each other.
    """
    from fbinpaint.folders import files_by_stem, pair_by_stem, visible_files
    from fbinpaint.images import SAVE_FORMATS

    for path in (image, mask):
        if not os.path.exists(path):  # Path.exists raises on names that are too long, and so on
            raise InputError(f"{path}: no such file or folder; check the path")
    if not image.is_dir():
        if mask.is_dir():
            raise InputError(f"{mask}: is a folder, but {image} is one photo; name its mask")
        result = output / f"{image.stem}.png" if os.path.isdir(output) or not output.suffix else output
        if result.suffix.lower() not in SAVE_FORMATS:
            raise InputError(f"{output}: unknown suffix '{output.suffix}'; use one of {' '.join(SAVE_FORMATS)}")
        jobs, problems, notes = [Job(image, mask, result)], [], []
    else:
        if os.path.exists(output) and not output.is_dir():
            raise InputError(f"{output}: is a file, but {image} is a folder; name a folder for the results")
        if os.path.realpath(output) in (os.path.realpath(image), os.path.realpath(mask)):
            raise InputError(f"{output}: results would mix with the input; name another folder")
        photos = files_by_stem(image, leave_out=(mask, output))
        if not photos:
            raise InputError(f"{image}: holds no photo; use {' '.join(SAVE_FORMATS)}")
        masks = files_by_stem(mask, leave_out=(image, output)) if mask.is_dir() else {stem: [mask] for stem in photos}
        pairs, problems = pair_by_stem(photos, masks)
        jobs = [Job(pair.image, pair.mask, output / f"{pair.stem}.png") for pair in pairs]
        others = [path for path in visible_files(image, (mask, output)) if path.suffix.lower() not in SAVE_FORMATS]
        notes = [f"{path}: is not a photo, left alone" for path in others]
        notes += [f"{path}: has no photo, not used" for stem in masks if stem not in photos for path in masks[stem]]

    # Not Path.resolve: before Python 3.13 it raises on links that go round in circles.
    taken = {os.path.realpath(path) for job in jobs for path in (job.image, job.mask)}
    kept = []
    for job in jobs:
        targets = [os.path.realpath(path) for path in job.targets(save_semantics)]
        clash = next((path for path in targets if path in taken), None)
        if clash:
            problems.append(f"{job.image}: its result would overwrite {clash}; name another output")
        else:
            kept.append(job)
            taken.update(targets)
    return kept, problems, notes


def restore(
    pipe: "FeedbackInpaintPipeline", jobs: Sequence[Job], rounds: int, save_semantics: bool, seed: int | None
) -> Iterator[str]:
    """Restores and writes the photos of `jobs` as one batch; yields one line for each that failed."""
    import torch

    from fbinpaint.images import load_image, save_image

    ready, photos, masks = [], [], []
    for job in jobs:
        try:
            photo, mask = load_image(job.image), load_image(job.mask)
        except InputError as error:
            yield str(error)
            continue
        ready.append(job)
        photos.append(photo)
        masks.append(mask)
    if not ready:
        return

    try:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        out = pipe(photos, masks, num_feedback_rounds=rounds, generator=generator)
    except (InputError, RuntimeError, MemoryError) as error:  # RuntimeError: torch out of memory, above all
        if len(ready) == 1:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            yield reason if str(ready[0].image) in reason else f"{ready[0].image}: {reason}"
        else:  # one photo must not take the others with it
            for job in ready:
                yield from restore(pipe, [job], rounds, save_semantics, seed)
        return

    for job, photo, *results in zip(ready, photos, out.images, out.semantic_before, out.semantic_after, strict=True):
        if photo.mode in ("RGB", "RGBA"):  # the pixels are the photo's own, so they mean the same colours
            results[0].info["icc_profile"] = photo.info.get("icc_profile")
        try:
            job.result.parent.mkdir(parents=True, exist_ok=True)
            for target, result in zip(job.targets(save_semantics), results, strict=False):
                save_image(result, target)
        except InputError as error:
            yield str(error)
        except OSError as error:
            yield f"{job.result.parent}: folder cannot be made ({error.strerror}); choose another"


# ---------------------------------------------------------------------------------------------- evaluate


def evaluate_command(args: argparse.Namespace) -> int:
    """`evaluate`: writes the report and its CSV, and prints the overall scores; also under `accelerate launch`."""
    from fbinpaint.evaluation import compare, evaluate, processes
    from fbinpaint.report import markdown, plot

    state = processes()  # before the model is loaded: this chooses the GPU of each process

    if args.output.suffix != ".json" or os.path.isdir(args.output):
        raise InputError(f"{args.output}: the report must be a .json file (a .csv is put beside it); rename it")
    try:  # before the hours of work, not after
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{args.output.parent}: folder cannot be made ({error.strerror}); choose another") from error

    names = ("masks", "resolution", "rounds", "baselines", "limit", "controls")
    settings = {name: getattr(args, name) for name in names}
    if args.compare:
        if len(dict(args.compare)) < len(args.compare):
            raise InputError("--compare: two models have the same name; give each its own")
        evaluation = compare({name: load_pipeline(model) for name, model in args.compare}, args.data, **settings)
    else:
        evaluation = evaluate(load_pipeline(args.model), args.data, **settings)
    if not state.is_main_process:
        return 0
    evaluation.save(args.output)
    if args.compare:
        with whole_file(args.output.with_suffix(".md")) as temporary:
            temporary.write_text(markdown(evaluation.report), encoding="utf-8")
        plot(evaluation.report, args.output.with_suffix(".png"))
    for name, variant in evaluation.report["variants"].items():
        scores = variant["overall"]
        shown = ("lpips_alex", "psnr", "ssim", "miou_hole_after")
        print(f"{name:24}", *(f"{key} {scores[key]:.4f}" for key in shown if scores[key] is not None), sep="  ")
    beside = (".csv", ".md", ".png") if args.compare else (".csv",)
    print("report:", *(args.output.with_suffix(suffix) for suffix in (".json", *beside)))
    return 0


# ---------------------------------------------------------------------------------------------- publish


def publish_command(args: argparse.Namespace) -> int:
    """`publish`: uploads the folder and its card in one commit, or shows what would go."""
    from fbinpaint.card import model_card
    from fbinpaint.hub import files_of, publish
    from fbinpaint.saved import check_pipeline

    has_card = os.path.exists(args.model / "README.md")
    if has_card and args.report:
        raise InputError(f"{args.model / 'README.md'}: is published as it is; put the figures there, or move it away")
    if not args.dry_run:
        done = publish(args.model, args.repo_id, private=args.private, reports=args.report)
        print(f"published: {done.repo_url}")
        return 0
    check_pipeline(args.model)
    files = files_of(args.model)
    print(f"would go to {args.repo_id} ({'private' if args.private else 'public if new'}):")
    for path in files:
        print(f"{path.stat().st_size:12,}  {path.relative_to(args.model).as_posix()}")
    print(f"{sum(path.stat().st_size for path in files):12,}  bytes in {len(files)} files")
    if not has_card:
        print("with this card, unless the repository has a README.md that fbinpaint did not write:\n")
        print(model_card(args.model, args.repo_id, args.report))
    return 0
