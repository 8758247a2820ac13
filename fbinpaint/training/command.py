"""The command that trains: its options and one loop over the steps; `train_accelerate.py` tells how it is used."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from tqdm.auto import tqdm

from fbinpaint.arguments import HelpWithDefaults, amount, count, positive
from fbinpaint.data.loader import BatchLoader
from fbinpaint.data.photos import MixedBatches
from fbinpaint.data.streams import StreamedCrops
from fbinpaint.errors import InputError
from fbinpaint.hub.origin import options_for_others
from fbinpaint.hub.publish import publish
from fbinpaint.hub.saved import COMPONENTS
from fbinpaint.labels import LABEL_SPACES
from fbinpaint.loop import VARIANTS
from fbinpaint.pipeline import FeedbackInpaintPipeline
from fbinpaint.system.files import told_unwritten, whole_file
from fbinpaint.system.memory import keep_freed_memory
from fbinpaint.system.processes import check_processes
from fbinpaint.system.urls import without_file_scheme

from .checkpoints import (
    find_checkpoint,
    forget_later_rows,
    load_checkpoint,
    read_log,
    stream_state,
)
from .config import with_config
from .cost import Cost
from .output import OutputFolder, local_folder
from .semi_supervised import STRATEGIES
from .step import LossWeights
from .trackers import check_tracker, start_tracker
from .trainer import Trainer
from .validation import ignores_maps

LOG_EVERY = 10
IGNORES_MAPS = (
    "warning: maps change from round to round, the fills do not: the guided inpainter paints nothing, and does not "
    "recover from that; start anew with a lower --learning_rate"
)
MIN_SCORED = 32  # pixels, of the sides of validation photos
ENDLESS = 10**9  # steps, where the clock ends a run


def parse_args(argv: list[str] | None = None, program: str = "train_accelerate.py") -> argparse.Namespace:
    """program: what the help calls it"""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Train the feedback loop on labelled and unlabelled photos.",
        epilog="example: accelerate launch train_accelerate.py --train_data_dir examples/streets "
        "--label_space cityscapes --num_validation_images 1",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument(
        "--config", metavar="FILE.yaml", help="options as keys, overruled by the command line; default: none"
    )
    add_data_options(parser.add_argument)
    add_method_options(parser.add_argument)
    add_optimization_options(parser.add_argument)
    add_run_options(parser.add_argument)
    args = parser.parse_args(with_config(parser, sys.argv[1:] if argv is None else argv))
    check_options(args, parser.error)
    return args


def add_data_options(add: Callable[..., Any]) -> None:
    add(
        "--train_data_dir",
        nargs="+",
        default=[],
        help="folders or URLs: images/ (and labels/), or a layout docs/training.md lists; default: none",
    )
    add(
        "--dataset_name",
        nargs="+",
        default=[],
        help="Hub data sets: columns image and, where labelled, semantic_map; default: none",
    )
    add("--dataset_config_name", help="of the data sets; default: the only one")
    add("--split", default="train", help="of the data sets")
    add("--revision", help="branch, tag or commit of the Hub data sets; default: the newest")
    add("--image_column", help="of parquet, WebDataset and Hub data; default: image")
    add("--label_column", help="of the index images; default: semantic_map")
    add("--label_map", metavar="ids.json", help="ids in index images -> classes, the rest unknown; default: none")
    add("--streaming", action="store_true", help="read parquet, WebDataset and Hub as they come, without a copy")
    add("--skip_bad_images", action="store_true", help="name, count and pass over photos that cannot be read")
    spaces = "|".join(sorted(LABEL_SPACES))
    add("--label_space", required=True, metavar=f"{spaces}|classes.json", help="the classes, built in or of a file")
    add(
        "--resolution",
        type=positive,
        nargs="+",
        default=[256, 128],
        metavar="PIXELS",
        help="sides of the training crops, multiples of 16; several: each step has one of them",
    )
    add("--max_zoom", type=amount, default=1.5, help="half of the crops are zoomed in, up to this")
    add("--labelled_zoom", type=amount, nargs=2, metavar=("LOW", "HIGH"), help="default: as photos without labels")


def add_method_options(add: Callable[..., Any]) -> None:
    add("--variant", choices=VARIANTS, default="feedback", help="what guides the inpainter; the others are controls")
    add("--semi_supervised", choices=sorted(STRATEGIES), default="cisc", help="what unlabelled photos teach the maps")
    add("--label_fraction", type=amount, default=1.0, help="share of the labels to use; the other photos lose theirs")
    add("--labelled_ratio", type=amount, default=0.25, help="share of a batch that has labels, if both exist")
    add("--pretrained_model", help="pipeline folder or Hub id to start from; default: ImageNet encoder, rest random")
    add("--encoder_weights", help="safetensors of timm's encoder; default: from the Hub")
    add("--perceptual_weights", help="safetensors of torchvision's VGG16 features; default: torchvision's own")
    add(
        "--distilled_model",
        help="a pipeline; fills should look as it paints them, with its own maps, and a segmenter that learns alone "
        "see in fills what it sees; default: none",
    )
    add(
        "--frozen",
        nargs="+",
        choices=COMPONENTS,
        default=[],
        help="networks that stay as --pretrained_model has them; with both inpainters frozen the maps learn, from "
        "labels alone, at several times the speed; with the recorrector too the segmenter learns alone, on first "
        "fills; default: none",
    )
    add("--num_exemplars", type=count, default=200, help="labelled photos kept, as small maps, with the model; 0 = "
        "feedback without exemplars, a control")  # fmt: skip


def add_optimization_options(add: Callable[..., Any]) -> None:
    add("--train_batch_size", type=positive, default=8, help="photos per process and batch")
    add("--gradient_accumulation_steps", type=positive, default=1, help="batches per process and step")
    add("--gradient_checkpointing", action="store_true", help="less memory, a third more time")
    add("--mixed_precision", choices=("no", "bf16"), help="default: as configured for accelerate")
    add("--compile", action="store_true", help="torch.compile the networks")
    add("--max_train_steps", type=positive, help="default: 3000, or without end where --max_train_minutes is given")
    add("--max_train_minutes", type=float, help="by the clock, from the end of the first step on; default: no limit")
    add("--learning_rate", type=amount, default=2e-3, help="at its peak")
    add("--encoder_learning_rate", type=amount, default=2e-4, help="of the pretrained encoder")
    add("--discr_learning_rate", type=amount, default=2e-4, help="of the discriminator")
    add("--lr_warmup_steps", type=count, default=100, help="in which the rates rise; anew after --initial_steps")
    add("--initial_steps", type=count, default=0, help="so many train the initial inpainter alone, a third of the work")
    add("--adversarial_start", type=amount, default=0.3, help="share of the run before the discriminator joins")
    for field in fields(LossWeights):
        no_vgg = "; 0 = VGG16 is not needed" if field.name == "perceptual" else ""
        add(f"--{field.name}_weight", type=amount, default=field.default, help=f"of the {field.name} loss{no_vgg}")
    add("--perceptual_crop", type=positive, default=48, help="side of the window in each hole that VGG sees")
    add("--ema_decay", type=amount, default=0.998, help="of the average of the weights, by step")


def add_run_options(add: Callable[..., Any]) -> None:
    add("--output_dir", default="runs/model", help="folder or URL of checkpoints, log and pipelines")
    add("--num_validation_images", type=positive, default=20, help="photos held out of training")
    add("--validation_steps", type=positive, default=500, help="from one validation to the next")
    add("--checkpointing_steps", type=positive, default=500, help="from one checkpoint to the next")
    add("--checkpoints_total_limit", type=positive, default=2, help="checkpoints kept, the latest")
    add("--resume_from_checkpoint", help="a checkpoint folder, or 'latest'; default: a new run")
    add("--dataloader_num_workers", type=count, default=1, help="processes that make crops")
    add("--push_to_hub", action="store_true", help="publish the result as --hub_model_id, with a card")
    add("--hub_model_id", help="USER/NAME on the Hub; default: none")
    add("--report_to", help="a tracker that accelerate knows, such as tensorboard; default: none")
    add("--save_dtype", choices=("float32", "float16"), default="float32", help="of the saved pipelines")
    add("--seed", type=count, default=0, help="of all that is drawn at random")


def check_options(args: argparse.Namespace, refuse: Callable[[str], NoReturn]) -> None:
    """Refuses options that do not fit each other."""
    if not args.train_data_dir + args.dataset_name:
        refuse("no data: give --train_data_dir or --dataset_name")
    if args.revision and not args.dataset_name:
        refuse("--revision: is of Hub data sets; give --dataset_name")
    if args.streaming and args.label_fraction < 1:
        refuse("--label_fraction: a stream does not know how many labels it has; leave out --streaming")
    if args.streaming and not args.num_exemplars:
        refuse("--num_exemplars 0: a stream's classes are counted in its exemplars; leave out --streaming")
    if odd := [side for side in args.resolution if side % 16]:
        refuse(f"--resolution {odd[0]}: must be a multiple of 16")
    if max(args.resolution) < MIN_SCORED:
        refuse(f"--resolution {max(args.resolution)}: the largest must be {MIN_SCORED} or more, as LPIPS takes no less")
    if args.frozen and not args.pretrained_model:
        refuse("--frozen: needs --pretrained_model, or these networks stay random")
    if set(args.frozen) == set(COMPONENTS):
        refuse("--frozen: names all networks; leave one to train")
    if args.initial_steps and "initial_inpainter" in args.frozen:
        refuse("--initial_steps: nothing learns in them, as --frozen names initial_inpainter")
    if args.variant != "feedback" and set(args.frozen) >= set(COMPONENTS) - {"recorrector"}:
        refuse(f"--variant {args.variant}: does not train the recorrector, and --frozen names all others")
    learning = set(COMPONENTS) - set(args.frozen)
    painter_learns = bool(learning & {"initial_inpainter", "guided_inpainter"})
    if args.distilled_model and not painter_learns and (learning != {"segmenter"} or args.variant != "feedback"):
        refuse("--distilled_model: teaches inpainters, or with --variant feedback a segmenter alone; see --frozen")
    if args.max_train_minutes is not None and not args.max_train_minutes > 0:
        refuse(f"--max_train_minutes {args.max_train_minutes:g}: must be above 0")
    if args.max_train_steps is None:
        args.max_train_steps = 3000 if args.max_train_minutes is None else ENDLESS
    args.train_data_dir = [without_file_scheme(source) for source in args.train_data_dir]
    args.output_dir = without_file_scheme(args.output_dir)
    if args.push_to_hub and not args.hub_model_id:
        refuse("--push_to_hub: needs --hub_model_id USER/NAME")
    if args.hub_model_id and not args.push_to_hub:
        refuse("--hub_model_id: nothing is published without --push_to_hub; add that")
    if not 0 < args.label_fraction <= 1:
        refuse(f"--label_fraction {args.label_fraction}: must be above 0 and at most 1")
    if not 0 < args.labelled_ratio <= 1:
        refuse(f"--labelled_ratio {args.labelled_ratio}: must be above 0 and at most 1")
    if not args.ema_decay <= 1:
        refuse(f"--ema_decay {args.ema_decay:g}: must be from 0 to 1")
    if not args.max_zoom >= 1:
        refuse(f"--max_zoom {args.max_zoom:g}: must be 1 or more, as crops of smaller photos would be too small")
    low, high = args.labelled_zoom or (1, 1)
    if not 1 <= low <= high:
        refuse(f"--labelled_zoom {low:g} {high:g}: must be 1 or more, the lower one first")
    if not 0 <= args.seed < 2**32:
        refuse(f"--seed {args.seed}: must be from 0 to {2**32 - 1}")
    if not 16 <= args.perceptual_crop <= min(args.resolution):
        refuse(f"--perceptual_crop {args.perceptual_crop}: must lie between 16 and the smallest --resolution")


def start(args: argparse.Namespace) -> Accelerator:
    """The accelerator, once it is clear that the run can begin."""
    check_tracker(args.report_to)
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        # Muon works on whole matrices, and sixteen million parameters fit into any GPU many times over.
        raise InputError("FSDP: Muon cannot train sharded weights; use configs/accelerate/eight_gpus.yaml (DDP)")
    precision = args.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # of its configuration
    if precision not in ("no", "bf16"):
        raise InputError(f"mixed precision {precision}: several optimizers would share one scale; use bf16, or no")
    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=args.report_to,
        project_dir=local_folder(args.output_dir),
        # A step that ends before the first correction leaves the recorrector without gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    check_processes(accelerator.num_processes)
    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions do by default
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())
    set_seed(args.seed)
    return accelerator


def resume(args: argparse.Namespace, trainer: Trainer, checkpoint: Path | None) -> int:
    """The step to go on from. Its output folder is then as it was when that one ended, and streams are read on."""
    classes = trainer.label_space.classes
    step = load_checkpoint(trainer.accelerator, checkpoint, classes) if checkpoint else 0
    if isinstance(trainer.crops, StreamedCrops):
        processes, workers = trainer.accelerator.num_processes, max(1, args.dataloader_num_workers)
        for line in trainer.crops.cost_of_sharing(processes * workers):
            trainer.accelerator.print(line)
        batches = plan_batches(args, trainer, step)
        known = checkpoint is not None and trainer.crops.go_on(stream_state(checkpoint), batches, workers)
        if checkpoint is not None and step and not known:
            trainer.accelerator.print(
                f"{checkpoint.name} is of other processes, workers, batches, seed or sources, or an earlier version's: "
                "streams are shared anew, and what was left of their last pass is not read"
            )
    if trainer.accelerator.is_main_process:
        options = options_for_others(vars(args))
        with whole_file(trainer.folder / "training_options.json") as temporary:
            temporary.write_text(json.dumps(options, indent=2) + "\n")
        forget_later_rows(trainer.folder, step)
        if args.resume_from_checkpoint and not step:
            print(f"no checkpoint in {args.output_dir} yet: starting at step 0")
    if args.report_to:
        start_tracker(trainer.accelerator, args.report_to, args, trainer.folder, resumed=step > 0)
    # The time of the steps before counts too.
    trainer.began -= max((row["seconds"] for row in read_log(trainer.folder) if row["step"] <= step), default=0)
    return step


def record(trainer: Trainer, scores: dict[str, float], step: int) -> None:
    if trainer.accelerator.is_main_process:
        path = trainer.folder / "log.jsonl"
        with told_unwritten(path), path.open("a") as log:
            log.write(json.dumps({"step": step, "seconds": round(time.time() - trainer.began, 1)} | scores) + "\n")
    trainer.accelerator.log(scores, step=step)


def plan_batches(args: argparse.Namespace, trainer: Trainer, first: int) -> MixedBatches:
    """What this process's batches are made of, from step `first` on."""
    return MixedBatches(
        trainer.crops.labelled,
        args.train_batch_size,
        args.labelled_ratio,
        args.seed,
        first * args.gradient_accumulation_steps,
        trainer.accelerator.process_index,
        trainer.accelerator.num_processes,
    )


def run_steps(args: argparse.Namespace, trainer: Trainer, first: int) -> bool:
    """All steps from number `first` on, validated and saved as often as the options say. False: stopped before the end
    (SIGTERM). Either way a checkpoint is left."""
    accelerator, accumulated = trainer.accelerator, args.gradient_accumulation_steps
    process, processes = accelerator.process_index, accelerator.num_processes
    plan = plan_batches(args, trainer, first)
    loader = BatchLoader(trainer.crops, plan, args.dataloader_num_workers, trainer.bad_photos)
    bar = tqdm(
        range(first, args.max_train_steps),
        initial=first,
        total=None if args.max_train_steps == ENDLESS else args.max_train_steps,
        mininterval=5,
        disable=not accelerator.is_main_process,
    )
    share, cost = trainer.progress.share(first), Cost(loader)
    over, stopping = share >= 1, False
    with closing(iter(loader)) as batches:  # whatever happens, its workers end: no exit waits for them
        for step in () if over else bar:
            for place in range(accumulated):
                number = (step * accumulated + place) * processes + process
                with accelerator.accumulate(trainer.learner, trainer.adversary.discriminator):
                    with cost.waiting():
                        batch = next(batches)
                    losses = trainer.train_step(batch.to(accelerator.device), step, number, share)
            done = step + 1
            trainer.progress.start_clock()
            share = trainer.progress.share(done)
            over, stopping = share >= 1, accelerator.check_trigger()
            logged = done % LOG_EVERY == 0
            validated = over or done % args.validation_steps == 0
            saved = over or stopping or done % args.checkpointing_steps == 0
            if logged or validated or saved:
                trainer.check_weights(done)
            if logged:
                scores = {name: round(float(value), 5) for name, value in losses.items()}
                bar.set_postfix({name: f"{value:.3f}" for name, value in scores.items()}, refresh=False)
                record(trainer, scores, done)
            if validated:
                with cost.left_out():
                    trainer.refresh_bank()
                    scores = trainer.validate(done)
                of_data = cost.of_all(accelerator)
                if accelerator.is_main_process:
                    bar.write(f"step {done}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
                    record(trainer, scores | of_data, done)
                    if done > args.initial_steps and ignores_maps(scores):
                        bar.write(IGNORES_MAPS)
            if saved:
                with cost.left_out():
                    trainer.save_checkpoint(done, loader.state())
            if over or stopping:
                break
        accelerator.print(cost.line(accelerator))
    if stopping and not over:
        accelerator.print(f"stopped after step {done}; --resume_from_checkpoint latest goes on from there")
    return over or not stopping


def train(args: argparse.Namespace, make_trainer: type[Trainer] = Trainer) -> bool:
    """The whole run. False: it was asked to stop (SIGTERM), and has left a checkpoint.

    make_trainer: another kind trains other networks on the same crops by the same clock, as `benchmarks.peers` does.
    """
    accelerator = start(args)
    output = OutputFolder(args.output_dir, accelerator)
    checkpoint = find_checkpoint(output, args.resume_from_checkpoint)
    accelerator.wait_for_everyone()  # before the first of them writes there
    output.make()
    trainer = make_trainer(args, accelerator, output)
    first = resume(args, trainer, checkpoint)
    finished = run_steps(args, trainer, first)
    if finished and accelerator.is_main_process:
        pipeline = trainer.save_pipeline("pipeline")
        output.push()
        print(f"saved {args.output_dir.rstrip('/')}/pipeline")
        if args.push_to_hub:
            pipe = FeedbackInpaintPipeline.from_pretrained(pipeline)
            print(f"published {publish(pipeline, args.hub_model_id, pipe).commit_url}")
    if trainer.bad_photos:
        print(f"skipped {len(trainer.bad_photos)} bad photos")
    accelerator.end_training()
    output.push()
    return finished


def main(argv: list[str] | None = None, program: str = "train_accelerate.py") -> int:
    datasets.disable_progress_bars()
    keep_freed_memory()
    try:
        return 0 if train(parse_args(argv, program)) else 128 + signal.SIGTERM
    except InputError as error:
        print(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        print("interrupted: what is saved is kept; --resume_from_checkpoint latest goes on from the last checkpoint")
        return 128 + signal.SIGINT
