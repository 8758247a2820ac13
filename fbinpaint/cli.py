"""The command line: `python -m fbinpaint run | segment | exemplars | evaluate | export | demo | train | publish`.

Bad input ends in one line, `error: what is wrong, which file, what to do`, and exit code 1; a file is written whole or
not at all. torch and diffusers are imported by the commands, not here, so that --help is instant.
"""

import argparse
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, TextIO

from fbinpaint.arguments import HelpWithDefaults, count, device, gpus, names, percent, pixels, positive, seed
from fbinpaint.errors import InputError, InputWarning, printable
from fbinpaint.hub.model_names import AUTO, DEFAULT_MODEL, bundled_models, candidates, load_pipeline
from fbinpaint.system.devices import AUTO_DEVICE, DTYPES, check_device, find_device
from fbinpaint.system.files import check_output, save_folder, whole_file
from fbinpaint.system.memory import keep_freed_memory
from fbinpaint.system.threads import openmp_settings
from fbinpaint.system.urls import Place, exists, is_folder, place
from fbinpaint.version import __version__

if TYPE_CHECKING:
    from fbinpaint.batch import chunks, on_ray
    from fbinpaint.batch.batch import Done, Task
    from fbinpaint.batch.chunks import Chunks
    from fbinpaint.batch.planning import Listing, Plan
    from fbinpaint.pipeline import FeedbackInpaintPipeline

PROGRAM = "python -m fbinpaint"
GPU_BATCH_SIZE = 16  # photos
# What commands need beside the core.
EXTRAS = {"exemplars": "train", "evaluate": "eval", "export": "onnx", "demo": "demo", "train": "train"}
OPTIONAL = ("datasets", "pyarrow")  # what others need for some inputs: tables


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 1 = something failed (said on stderr), 130 = interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if sys.stderr is None:  # it was closed before the start, as for some services
        sys.stderr = open(os.devnull, "w")
    try:
        return _run(argv)
    except ModuleNotFoundError as error:
        command, missing = argv[0] if argv else "", (error.name or "fbinpaint").split(".")[0]
        if missing == "fbinpaint" or (command not in EXTRAS and missing not in OPTIONAL):
            raise
        brings = f'"fbinpaint[{EXTRAS[command]}]"' if command in EXTRAS else missing
        what = f"{command} needs {error.name}, which is not installed"
        print(printable(f"error: {what}; `pip install {brings}` brings it"), file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    if argv[:1] == ["demo"]:
        from fbinpaint.demo import server

        return server.main(argv[1:], f"{PROGRAM} demo")
    if argv[:1] == ["train"]:
        from fbinpaint.training import command

        return command.main(argv[1:], f"{PROGRAM} train")
    args, unknown = _parser().parse_known_args(argv)
    if unknown:  # said beside the options of the command, not beside the list of commands
        args.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    keep_freed_memory()
    os.environ.update(openmp_settings())
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a file that cannot be used is said in a line of our own
    try:
        with warnings_in_lines():
            code = args.command(args)
            print(end="", flush=True)  # not left to the end of Python, which would fail in words of its own
            return code
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished files are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left, at the end of Python
        print("error: nobody reads what is printed any more; finished files are kept", file=sys.stderr)
        return 1


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Says every InputWarning on a line of stderr, above a progress bar, and the same only once."""
    said: set[str] = set()

    def show(message: Any, category: type[Warning], *where: Any) -> None:
        line = printable(f"warning: {message}")
        if not issubclass(category, InputWarning):
            usual(message, category, *where)
        elif line not in said:
            from tqdm import tqdm

            said.add(line)
            tqdm.write(line, file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        usual, warnings.showwarning = warnings.showwarning, show  # type: ignore[assignment]  # `*where` is the rest
        yield


# ---------------------------------------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Fill holes in photos, guided by a semantic map that the fill corrects."
    )
    parser.add_argument("--version", action="version", version=f"fbinpaint {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True,
        metavar="run | segment | exemplars | evaluate | export | demo | train | publish",
    )
    _add_run(commands)
    _add_segment(commands)
    _add_exemplars(commands)
    _add_evaluate(commands)
    _add_export(commands)
    # See `_run`.
    commands.add_parser("demo", help="The demo page; `demo --help` has its options.", add_help=False)
    commands.add_parser("train", help="What train_accelerate.py does; `train --help` has its options.", add_help=False)
    _add_publish(commands)
    return parser


def _add_run(commands: "argparse._SubParsersAction") -> None:
    run = _command(
        commands, run_command, "run", "Fill holes in photos, or take out things by name.",
        "--image examples/street.png --mask examples/street_mask.png --output restored.png",
    )  # fmt: skip
    run.add_argument("--image", type=_place, required=True, metavar="FILE|DIR", help="photo, folder, parquet, or URL")
    run.add_argument(
        "--mask", type=_mask, metavar="FILE|DIR|alpha",
        help="white = hole; a FILE for all photos; a DIR, also theirs, with NAME.png or NAME_mask.png of each; "
        "alpha = what is transparent in it (default: none)",
    )  # fmt: skip
    run.add_argument(
        "--remove", type=names, action="extend", metavar="CLASS,...",
        help="what is to go, by class: car,person (default: none)",
    )  # fmt: skip
    run.add_argument(
        "--grow", type=pixels, metavar="PIXELS", help="so far around it (default: 3 %% of the shorter side)"
    )  # fmt: skip
    run.add_argument("--shadow", action="store_true", default=None, help="with its shadows")
    run.add_argument("--retries", type=count, metavar="N", help="times to fill again what is still seen (default: 0)")
    run.add_argument("--output", type=_place, required=True, metavar="FILE|DIR", help="a file's suffix says its format")
    run.add_argument("--model", default=AUTO, metavar="DIR|HUB_ID", help="default: auto, a bundled one by the photo")
    run.add_argument("--rounds", type=count, default=2, metavar="K", help="feedback rounds, 0 = none")
    run.add_argument("--save-semantics", action="store_true", help="write maps: NAME_before.png, NAME_after.png")
    run.add_argument("--save-masks", action="store_true", help="write NAME_mask.png, white = what was filled")
    run.add_argument("--resume", action="store_true", help="leave photos alone whose results are there")
    run.add_argument(
        "--format", choices=("png", "keep"), default="png",
        help="png = lossless (default), keep = as the photo",
    )  # fmt: skip
    run.add_argument(
        "--quality", type=percent, metavar="1..100", help="of JPEG, AVIF, WebP (default: 95, lossless)"
    )  # fmt: skip
    run.add_argument(
        "--no-provenance", action="store_true", help="no word in the XMP that a model painted"
    )  # fmt: skip
    run.add_argument("--seed", type=seed, metavar="N", help="default: none")
    _batch_size(run)
    _runtime(run)
    run.add_argument(
        "--ray", nargs="?", const="", metavar="HOST:PORT",
        help="on a Ray cluster; a new one unless one runs (default: no)",
    )  # fmt: skip
    run.add_argument(
        "--gpus-per-worker", type=gpus, metavar="N", help="0.5 = two share one (default: 1 if there are any)"
    )  # fmt: skip


def _add_segment(commands: "argparse._SubParsersAction") -> None:
    segment = _command(
        commands, segment_command, "segment",
        "Write the semantic map of an intact photo, or of each in a folder: a PNG whose values are class ids.",
        "--image examples/street.png --output street_map.png",
    )  # fmt: skip
    segment.add_argument("--image", type=_place, required=True, metavar="FILE|DIR", help="photo, or folder; or URL")
    segment.add_argument("--output", type=_place, required=True, metavar="FILE|DIR", help="folders: NAME.png of each")
    segment.add_argument(
        "--model", default=AUTO, metavar="DIR|HUB_ID", help="default: auto, a bundled one by the photo"
    )  # fmt: skip
    segment.add_argument("--colour", action="store_true", help="write NAME_colour.png too, the map as an RGB picture")
    _batch_size(segment)
    _runtime(segment)


def _add_exemplars(commands: "argparse._SubParsersAction") -> None:
    exemplars = _command(
        commands, exemplars_command, "exemplars",
        "Adapt a model to your own kind of photos in seconds: a copy of it that consults your labelled ones.",
        "--model checkpoints/streets --data examples/streets --output my-streets",
    )  # fmt: skip
    exemplars.add_argument("--model", default=str(DEFAULT_MODEL), metavar="DIR|HUB_ID", help="default: streets")
    exemplars.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/ and labels/")
    exemplars.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the new model")


def _add_evaluate(commands: "argparse._SubParsersAction") -> None:
    evaluate = _command(
        commands, evaluate_command, "evaluate", "Score a model, round by round, against the classical methods.",
        "--model checkpoints/streets --data examples/streets --output report.json",
    )  # fmt: skip
    models = evaluate.add_mutually_exclusive_group()
    models.add_argument("--model", metavar="DIR|HUB_ID", help="default: none, with --compare or --export-protocol")
    models.add_argument(
        "--compare", nargs="+", type=_named_model, metavar="NAME=DIR",
        help="several models in one report; adds a table (.md) and curves (.png) (default: none)",
    )  # fmt: skip
    evaluate.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="holds images/ and, if any, labels/, or see --split",
    )  # fmt: skip
    evaluate.add_argument(
        "--split", choices=("val", "test"), metavar="val|test",
        help="of CelebAMask-HQ or Cityscapes as their owners have them (default: none)",
    )  # fmt: skip
    evaluate.add_argument("--masks", type=Path, metavar="DIR", help="masks by name (default: made, from a fixed seed)")
    evaluate.add_argument(
        "--pairing", choices=("stem", "cycle"), default="stem", metavar="stem|cycle",
        help="of --masks: by name, or in turn",
    )  # fmt: skip
    evaluate.add_argument(
        "--mask-kind", choices=("irregular", "centre", "thin", "medium", "thick"), metavar="KIND",
        help="of made masks: centre, LaMa's thin, medium or thick (default: irregular)",
    )  # fmt: skip
    evaluate.add_argument(
        "--output", type=Path, metavar="report.json",
        help="with a .csv (default: none, with --export-protocol)",
    )  # fmt: skip
    evaluate.add_argument(
        "--export-protocol", type=Path, metavar="DIR",
        help="photos and masks as scored, for other tools (default: none)",
    )  # fmt: skip
    evaluate.add_argument(
        "--results", nargs="+", type=_named_model, default=[], metavar="NAME=DIR",
        help="other tools' fills, scored beside the model (default: none)",
    )  # fmt: skip
    evaluate.add_argument("--resolution", type=count, default=256, metavar="N", help="shorter side, pixels")
    evaluate.add_argument("--rounds", type=_counts, default=[0, 1, 2, 3], metavar="K,...", help="default: 0,1,2,3")
    evaluate.add_argument(
        "--baselines", type=names, default=["telea", "navier-stokes"], metavar="NAME,...",
        help="also biharmonic (default: telea,navier-stokes)",
    )  # fmt: skip
    evaluate.add_argument(
        "--controls", type=names, default=[], metavar="NAME,...",
        help="frozen-map (the default, always there), resegmented (two rows), oracle, shuffled-map, random-exemplar, "
        "no-exemplars; run with the highest number of rounds",
    )  # fmt: skip
    evaluate.add_argument("--limit", type=positive, metavar="N", help="only the first N photos (default: all)")
    evaluate.add_argument("--batch-size", type=positive, default=8, metavar="N", help="photos of one size at once")
    _runtime(evaluate)


def _add_export(commands: "argparse._SubParsersAction") -> None:
    export = _command(
        commands, export_command, "export",
        "Write the whole loop as ONNX graphs, which run without torch: see docs/onnx.md.",
        "--model checkpoints/streets --format onnx --output streets-onnx",
    )  # fmt: skip
    export.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    export.add_argument("--format", choices=("onnx",), default="onnx", help="of the graphs")
    export.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of graphs and inpaint.json")
    export.add_argument(
        "--resolution", type=count, nargs="+", default=[256, 512], metavar="N", help="a graph for each, pixels a side"
    )  # fmt: skip
    export.add_argument("--rounds", type=count, default=2, metavar="K", help="feedback rounds of the graphs, 0 = none")


def _add_publish(commands: "argparse._SubParsersAction") -> None:
    publish = _command(
        commands, publish_command, "publish", "Upload a saved pipeline folder, or the page, to the Hugging Face Hub.",
        "--model checkpoints/streets --repo-id USER/NAME --private",
    )  # fmt: skip
    publish.add_argument("--model", type=Path, metavar="DIR", help="default: none, with --space")
    publish.add_argument("--repo-id", metavar="USER/NAME", help="what the model becomes; default: none, with --space")
    publish.add_argument(
        "--handler", action="store_true", help="with a handler.py, by which Inference Endpoints serve the model"
    )  # fmt: skip
    publish.add_argument("--space", metavar="USER/NAME", help="make a Space of the page instead (default: none)")
    publish.add_argument(
        "--models", nargs="+", default=[], metavar="USER/NAME[@REVISION]", help="of the Space (default: none)"
    )  # fmt: skip
    publish.add_argument("--hardware", metavar="NAME", help="of the Space, such as zero-a10g (default: as it is)")
    publish.add_argument("--private", action="store_true", help="only you can see it")
    publish.add_argument("--dry-run", action="store_true", help="show the files and the card, upload nothing")
    publish.add_argument(
        "--report", nargs="+", type=Path, default=[], metavar="report.json",
        help="of evaluate: figures for the card (default: none)",
    )  # fmt: skip


def _command(commands, function, name: str, description: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=description, epilog=f"example:\n  {PROGRAM} {name} {example}",
        formatter_class=HelpWithDefaults, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(command=function, name=name, refuse=parser.error)
    return parser


def _batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=positive, metavar="N",
        help="photos at once (default: 1, on a GPU 16; of several, a pixel in a million may differ by a level)",
    )  # fmt: skip


def _runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", type=device, default=AUTO_DEVICE, metavar="NAME", help="auto, cpu, cuda, cuda:1, mps"
    )  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], metavar="NAME", help=", ".join(DTYPES))
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks: minutes at the start")


def _place(text: str) -> Place:
    try:
        return place(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _mask(text: str) -> Place | str:
    return text if text == "alpha" else _place(text)


def _counts(text: str) -> list[int]:
    return sorted({count(part.strip()) for part in text.split(",")})


def _named_model(text: str) -> tuple[str, str]:
    name, equals, model = text.partition("=")
    if not (name and equals and model) or " vs " in name:  # a report calls its comparisons "a vs b"
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR")
    return name, model


# ---------------------------------------------------------------------------------------------- run, segment


def run_command(args: argparse.Namespace) -> int:
    """`run`: every photo that can be restored is; each that cannot is one line on stderr and makes the exit code 1."""
    from fbinpaint.batch.batch import Removing, Restoration
    from fbinpaint.batch.planning import plan_restorations
    from fbinpaint.batch.tables import is_table
    from fbinpaint.images.xmp import model_name

    args.table = is_table(args.image)
    removal = removal_options(args)
    if args.ray is None and args.gpus_per_worker is not None:
        raise InputError("--gpus-per-worker: only for workers of Ray; add --ray")
    if args.ray is not None and args.device != AUTO_DEVICE:
        raise InputError(f"--device {args.device}: with --ray the cluster gives each worker its device; leave it out")
    check_device(args.device)
    models = candidates(args.model, args.remove)
    if args.ray is not None or args.table:
        return _run_in_chunks(args, models)
    plan = plan_restorations(*plan_arguments(args))
    painters = {name: None if args.no_provenance else model_name(model) for name, model in models.items()}

    def task(pipes: "dict[str, FeedbackInpaintPipeline]") -> "Task":
        from fbinpaint.pipeline.inputs import check_rounds

        check_rounds(args.rounds)  # once, not for each photo
        if removal is None:
            return Restoration(pipes, args.rounds, args.seed, painters, args.quality)
        return Removing(pipes, args.seed, painters, args.quality, **removal)

    return _process(args, models, plan, task)


def plan_arguments(args: argparse.Namespace) -> tuple[Any, ...]:
    """Of `plan_restorations`."""
    return (
        args.image, args.mask, args.output, args.save_semantics, args.format == "keep", args.save_masks, args.resume,
        args.quality,
    )  # fmt: skip


def removal_options(args: argparse.Namespace) -> dict[str, Any] | None:
    """What `run` passes on to `fbinpaint.removal.remove`; None = only masks are to be filled.

    Raises InputError for options that do not fit each other.
    """
    if args.remove is None:
        given = [f"--{name}" for name in ("grow", "shadow", "retries") if getattr(args, name) is not None]
        if given:
            raise InputError(f"{', '.join(given)}: only for what --remove takes out; name its classes: --remove car")
        if args.mask is None and not args.table:
            raise InputError("nothing says what to fill; give --mask, or name what is to go: --remove car,person")
        return None
    if not args.remove:
        raise InputError("--remove: names no class; name one or more, with commas between: --remove car,person")
    return {
        "classes": args.remove,
        "num_feedback_rounds": args.rounds,
        "grow": args.grow,
        "shadow": bool(args.shadow),
        "retries": args.retries or 0,
    }


def restorer_options(args: argparse.Namespace, batch_size: int) -> dict[str, Any]:
    """Of `Restorer`."""
    extras = [*(("before", "after") if args.save_semantics else ()), *(("mask",) if args.save_masks else ())]
    return {
        # Workers run in folders of their own. `auto` is no folder, even where one is called so.
        "model": os.path.abspath(args.model) if args.model != AUTO and os.path.isdir(args.model) else args.model,
        "rounds": args.rounds,
        "remove": args.remove,
        "grow": args.grow,
        "shadow": bool(args.shadow),
        "retries": args.retries or 0,
        "seed": args.seed,
        "extras": extras,
        "quality": args.quality,
        "provenance": not args.no_provenance,
        "batch_size": batch_size,
        **runtime_options(args),
    }


def runtime_options(args: argparse.Namespace) -> dict[str, Any]:
    """Of `load_pipeline`: where the networks run, and how."""
    return {name: getattr(args, name) for name in ("device", "dtype", "compile")}


def segment_command(args: argparse.Namespace) -> int:
    """`segment`: as `run`, for the maps of intact photos."""
    from fbinpaint.batch.batch import Segmentation
    from fbinpaint.batch.planning import plan_maps

    check_device(args.device)
    return _process(args, candidates(args.model, None), plan_maps(args.image, args.output, args.colour), Segmentation)


def exemplars_command(args: argparse.Namespace) -> int:
    """`exemplars`: all of the model is copied as it is, but for the recorrector, which holds the bank."""
    import shutil

    from safetensors.torch import load_file
    from tqdm import tqdm

    from fbinpaint.data.photos import read_photo
    from fbinpaint.data.rows import labelled_rows
    from fbinpaint.data.sources import load_photos
    from fbinpaint.hub.origin import write_origin
    from fbinpaint.hub.publish import model_files
    from fbinpaint.hub.saved import pinned, weight_files
    from fbinpaint.models.safe_loading import file_of
    from fbinpaint.pipeline import FeedbackInpaintPipeline

    if os.path.lexists(args.output):
        raise InputError(f"{args.output}: is there already; move it away, or name another --output")
    pipe = load_pipeline(args.model)
    photos = labelled_rows(load_photos([str(args.data)]))
    if not len(photos):
        raise InputError(f"{args.data}: holds no labelled photo; put maps of the photos' names into labels/")
    check_output(args.output)
    size = pipe.config.sample_size
    with tqdm(photos, desc="exemplars", unit="photo") as progress:  # closed, before the line about one that is refused
        read = [read_photo(row, size, pipe.label_space, enlarge=False) for row in progress]
    pipe.set_exemplars(*zip(*read, strict=True))
    model = pinned(args.model)
    folder = Path(model) if os.path.isdir(model) else Path(FeedbackInpaintPipeline.download(model))
    stored = load_file(file_of("gather.weight", weight_files(folder / "recorrector")))["gather.weight"].dtype

    def write(target: Path) -> None:
        for path in model_files(folder):
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        recorrector = pipe.recorrector.to(dtype=stored)  # type: ignore[call-arg]  # diffusers wraps `to`
        recorrector.save_pretrained(target / "recorrector")
        write_origin(target, pipe.origin)

    save_folder(args.output, write)
    seen, filled = pipe.recorrector.config.exemplar_weights
    print(f"{args.output}: {args.model} with {len(photos)} exemplars, "
          f"whose weight in its maps is {seen:g}, and {filled:g} in holes")  # fmt: skip
    return 0


def _process(
    args: argparse.Namespace,
    models: dict[str, str],
    plan: "Plan",
    task: "Callable[[dict[str, FeedbackInpaintPipeline]], Task]",
) -> int:
    """Works on all jobs of a plan, with a progress bar; the exit code.

    models: those that the photos are shared among, folders or Hub ids by name, as `candidates` has them
    task: is given the pipelines by name
    """
    from fbinpaint.batch.batch import run
    from fbinpaint.batch.planning import Listing

    lines = Lines()
    listing = Listing(plan, lines.of_plan)
    if listing.is_empty():
        return lines.exit_code
    pipes = {name: load_pipeline(model, **runtime_options(args)) for name, model in models.items()}
    _tell_model(args, models, lines)
    return _tell(args, lines, listing, run(task(pipes), listing, batch_size(args)))


def _run_in_chunks(args: argparse.Namespace, models: dict[str, str]) -> int:
    """`run` on a Ray cluster, or over a table. The lines about photos that failed are in a file as well."""
    from contextlib import closing

    from fbinpaint.batch import chunks, on_ray

    args.image, args.output = absolute(args.image), absolute(args.output)  # workers run in other folders
    args.mask = absolute(args.mask)
    plan = chunks_of(args)
    if args.ray is None:
        size = batch_size(args)
        with Lines.in_file(errors_of(args.output)) as lines:
            _tell_model(args, models, lines)
            run = chunks.Run(plan(size), restorer_options(args, size), lines.of_plan)
            return _tell(args, lines, run, run)
    with on_ray.connected(args.ray), Lines.in_file(errors_of(args.output)) as lines:
        gpus = float(on_ray.has_gpus()) if args.gpus_per_worker is None else args.gpus_per_worker
        workers = on_ray.count_workers(gpus)
        lines.say("note", f"--ray: room for {workers} workers, of {f'{gpus:g} GPUs' if gpus else '1 CPU'} each")
        _tell_model(args, models, lines)
        size = args.batch_size or (GPU_BATCH_SIZE if gpus else 1)
        run = on_ray.Run(plan(size), restorer_options(args, size), workers, gpus, lines.of_plan)
        with closing(iter(run)) as outcomes:
            return _tell(args, lines, run, outcomes)


def chunks_of(args: argparse.Namespace) -> "Callable[[int], Callable[[], Chunks]]":
    """What finds the chunks of a run, by its batch size. Raises InputError for options that do not fit each other."""
    from functools import partial

    from fbinpaint.batch.chunks import in_chunks
    from fbinpaint.batch.planning import plan_restorations
    from fbinpaint.batch.tables import check_table_options, plan_table

    if args.table:
        check_table_options(args.output, args.mask, args.format == "keep", args.quality)
        extras = restorer_options(args, 1)["extras"]
        given = args.image, args.output, extras, args.remove is not None, args.mask, args.resume
        plan = partial(plan_table, *given, base=os.getcwd())
        return lambda batch_size: plan
    plan = partial(plan_restorations, *plan_arguments(args))
    plan()  # what is wrong is said before anything is started
    return lambda batch_size: partial(in_chunks, plan, batch_size)


def absolute(place: Place | str | None) -> Place | str | None:
    """Of a path; all else stays as it is."""
    return Path(os.path.abspath(place)) if isinstance(place, Path) else place


def errors_of(output: Place) -> Place:
    """The file of lines about photos that failed, beside the results; in the folder, where that is the root of a disk,
    a bucket or a repository, beside which nothing can be, or lies in a folder that cannot be written to."""
    if isinstance(output, Path):
        is_root = os.path.ismount(output) or (output.is_dir() and not os.access(output.parent, os.W_OK))
    else:
        depth = 3 if output.scheme == "hf" else 1  # hf://datasets/USER/NAME
        is_root = len(output.text.partition("://")[2].rstrip("/").split("/")) <= depth
    return output / "errors.txt" if is_root else output.with_name(f"{output.name}.errors.txt")


class Lines:
    """Lines of a run, on stderr, above its progress bar.

    errors: file that errors go to as well, one a line
    said: how many, by their kind
    """

    def __init__(self, errors: TextIO | None = None):
        self.errors = errors
        self.said: Counter[str] = Counter()

    @classmethod
    @contextmanager
    def in_file(cls, place: Place) -> "Iterator[Lines]":
        """Errors are in a file as well, which is there once the run is over; also with that which ends it, unless
        nothing was there to tell before."""
        from fbinpaint.batch.batch import Files
        from fbinpaint.images.io import ImageBytes

        def write() -> None:
            errors.seek(0)
            Files().copy(ImageBytes("errors", errors.read().encode(errors="replace")), place)

        with TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as errors:
            try:
                yield cls(errors)
            except InputError as error:
                if errors.tell() or exists(place):
                    print(printable(str(error)), file=errors)
                    write()
                raise
            write()

    def say(self, kind: str, line: str) -> None:
        from tqdm import tqdm

        self.said[kind] += 1
        tqdm.write(printable(f"{kind}: {line}"), file=sys.stderr)
        if kind == "error" and self.errors:
            print(printable(line), file=self.errors)

    def of_plan(self, line: str) -> None:
        from fbinpaint.batch.planning import Note

        self.say("note" if isinstance(line, Note) else "error", line)

    @property
    def exit_code(self) -> int:
        return 1 if self.said["error"] else 0


def _tell_model(args: argparse.Namespace, models: dict[str, str], lines: Lines) -> None:
    if args.model == AUTO and len(models) == 1:
        reason = f"that knows {', '.join(args.remove)}" if len(bundled_models()) > 1 else "under checkpoints/"
        lines.say("note", f"model {next(iter(models))}, the only one {reason}")


def _tell(
    args: argparse.Namespace, lines: Lines, listing: "Listing | chunks.Run | on_ray.Run", outcomes: "Iterable[Done]"
) -> int:
    """Says what becomes of photos as they are done, with a progress bar; the exit code.

    listing: knows their total, sooner or later
    """
    from tqdm import tqdm

    from fbinpaint.batch.batch import Found

    photos: Counter[str] = Counter()  # by model, of those that a choice was made for
    found = Found()
    warned: set[str] = set()
    many = is_folder(args.image)
    with tqdm(desc=args.name, unit="photo") as progress:
        for done in outcomes:
            progress.total = listing.total  # once it is known
            progress.update()
            if done.model and done.choice:
                photos[done.model] += 1
                if not many:
                    suits = f"model {done.model} suits it best ({done.choice})"
                    lines.say("note", f"{args.image}: {suits}; --model takes another")
            for line in done.warnings:
                if line not in warned:
                    lines.say("warning", line)
                    warned.add(line)
            for line in done.notes:
                lines.say("note", line)
            if done.error:
                lines.say("error", done.error)
            if done.found:
                found += done.found
        if many:
            for name, number in photos.items():
                lines.say("note", f"model {name} suits {number} of {listing.total} photos best; --model takes another")
    if found.photos:
        print(found)
    return lines.exit_code


def batch_size(args: argparse.Namespace) -> int:
    """Photos that are worked on together. On CPUs more than one take as long, and round otherwise."""
    return args.batch_size or (1 if find_device(args.device).type == "cpu" else GPU_BATCH_SIZE)


# ---------------------------------------------------------------------------------------------- evaluate


def evaluate_command(args: argparse.Namespace) -> int:
    """`evaluate`: writes the report and its CSV, and prints the overall scores; also under `accelerate launch`."""
    check_device(args.device)
    from fbinpaint.evaluation.evaluation import compare, evaluate, export_protocol, processes
    from fbinpaint.evaluation.report import markdown, plain_table, plot, sentence

    scored = args.model or args.compare
    if not args.export_protocol and not (scored and args.output):
        raise InputError("give --model (or --compare) and --output for a report, or --export-protocol, or both")
    if bool(scored) != bool(args.output):
        raise InputError("a report takes both --model (or --compare) and --output: give both, or neither")
    results = dict(args.results)
    if results and not scored:
        raise InputError("--results: are scored beside a model: give --model (or --compare) and --output, too")
    if len(results) < len(args.results):
        raise InputError("--results: two tools have the same name; give each its own")
    if args.compare and len(dict(args.compare)) < len(args.compare):
        raise InputError("--compare: two models have the same name; give each its own")
    state = processes()  # before the model is loaded: this chooses the GPU of each process
    files, pipes = [], {}
    if scored:
        if args.output.suffix != ".json":
            raise InputError(f"{args.output}: the report must be a .json file (a .csv is put beside it); rename it")
        suffixes = (".json", ".csv", ".md", ".png") if args.compare else (".json", ".csv")
        files = [args.output.with_suffix(suffix) for suffix in suffixes]
        check_output(*files)
        models = dict(args.compare) if args.compare else {"": args.model}
        pipes = {name: load_pipeline(model, **runtime_options(args)) for name, model in models.items()}

    inputs = {key: getattr(args, key) for key in ("masks", "resolution", "limit", "split", "pairing", "mask_kind")}
    if args.export_protocol and state.is_main_process:  # last: what is there already is not written again
        number = export_protocol(args.export_protocol, args.data, **inputs)
        print(f"{args.export_protocol}: {number} photos and masks; save what it makes of images/NAME.png as NAME.png")
    if not scored:
        return 0

    settings = inputs | {name: getattr(args, name) for name in ("rounds", "baselines", "controls", "batch_size")}
    settings["results"] = {name: Path(folder) for name, folder in results.items()}
    if args.compare:
        evaluation = compare(pipes, args.data, **settings)
    else:
        evaluation = evaluate(pipes[""], args.data, **settings)
    if not state.is_main_process:
        return 0
    try:  # before it is saved: it is seen where that fails; and saved where nobody reads it, as behind `| head`
        print(plain_table(evaluation.report))
        for pair in evaluation.report["paired"]:
            ours, theirs = pair.split(" vs ")
            if theirs == f"{ours}, frozen-map":  # what feedback is worth
                print(sentence(evaluation.report, pair))
    finally:
        evaluation.save(args.output)
        if args.compare:
            with whole_file(args.output.with_suffix(".md")) as temporary:
                temporary.write_text(markdown(evaluation.report), encoding="utf-8")
            plot(evaluation.report, args.output.with_suffix(".png"))
    print("report:", *files)
    return 0


# ---------------------------------------------------------------------------------------------- export


def export_command(args: argparse.Namespace) -> int:
    """`export`: the graphs and what they take and give; prints the files."""
    from fbinpaint.export import check_export, export_onnx

    check_export(args.output, args.resolution, args.rounds)
    for path in export_onnx(load_pipeline(args.model), args.output, args.resolution, args.rounds):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


# ---------------------------------------------------------------------------------------------- publish


def publish_command(args: argparse.Namespace) -> int:
    """`publish`: uploads the folder and its card in one commit, or shows what would go."""
    from fbinpaint.hub.card import model_card
    from fbinpaint.hub.publish import files_of, made_files, other_files, publish
    from fbinpaint.hub.saved import check_pipeline

    if args.space:
        return publish_space_command(args)
    if args.models or args.hardware:
        raise InputError("--models, --hardware: are of a page; name it with --space")
    if args.model is None or args.repo_id is None:
        raise InputError("nothing says what goes where; give --model and --repo-id, or --space and --models")
    has_card = os.path.exists(args.model / "README.md")
    if has_card and args.report:
        raise InputError(f"{args.model / 'README.md'}: is published as it is; put the figures there, or move it away")
    check_pipeline(args.model)
    pipe = load_pipeline(str(args.model))
    if not args.dry_run:
        done = publish(
            args.model, args.repo_id, pipe, private=args.private, reports=args.report, handler=args.handler
        )  # fmt: skip
        print(f"published: {done.repo_url}")
        return 0
    others = other_files(args.model)
    files = {path.relative_to(args.model).as_posix(): path.stat().st_size for path in files_of(args.model)}
    files |= {name: len(data) for name, data in made_files(args.model, pipe, args.handler).items()}
    print_files(args.repo_id, args.private, files)
    if others:
        print(f"{others:12,}  other files in the folder are none of the model's, and stay here")
    if not has_card:
        print("with this card, unless the repository has one that fbinpaint did not write, or that states more:\n")
        print(model_card(args.model, args.repo_id, args.report))
    return 0


def publish_space_command(args: argparse.Namespace) -> int:
    from fbinpaint.hub.space import ZERO, publish_space, space_files

    if args.model or args.repo_id or args.report or args.handler:
        raise InputError("--model, --repo-id, --report, --handler: are of a model, --space makes a page; publish each")
    if not args.models:
        raise InputError("--space: the page has no model; name some with --models USER/NAME")
    if args.dry_run:
        files = space_files(args.space, args.models, zero=args.hardware == ZERO)
        print_files(args.space, args.private, {name: len(data) for name, data in files.items()})
        return 0
    publish_space(args.space, args.models, private=args.private, hardware=args.hardware)
    print(f"published: https://huggingface.co/spaces/{args.space}")
    if args.hardware == ZERO:
        print("note: ZeroGPU has other versions of Python and PyTorch than this machine; requirements.txt names them")
    return 0


def print_files(repo_id: str, private: bool, sizes: dict[str, int]) -> None:
    print(f"would go to {repo_id} ({'private' if private else 'public if new'}):")
    for name, size in sorted(sizes.items()):
        print(f"{size:12,}  {name}")
    print(f"{sum(sizes.values()):12,}  bytes in {len(sizes)} files")
