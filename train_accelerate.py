"""Train all networks of the feedback loop together, on labelled and unlabelled photos.

    accelerate launch train_accelerate.py --train_data_dir data/streets --label_space cityscapes \
        --encoder_weights lite0.safetensors --perceptual_weights vgg16.safetensors --output_dir runs/streets

A data folder holds `images/` and, for labelled photos, `labels/` (same stem, index PNG), or CelebAMask-HQ, Cityscapes,
parquet or WebDataset files as their owners distribute them (README.md, Data); give as many folders as you
like, labelled and unlabelled. Stop it whenever you want: `--resume_from_checkpoint latest` goes on as if it had never
stopped; on SIGTERM a checkpoint is written first. The result, `<output_dir>/pipeline`, and the best of the validated
ones, `<output_dir>/best`, load with `FeedbackInpaintPipeline.from_pretrained`.

A step takes `--gradient_accumulation_steps` batches on each process. Every batch is a world of its own (its labelled
photos are the exemplars of its other photos), so that one process with two batches a step learns what two with one do.

The first `--initial_steps` train the initial inpainter alone, which is fast. In the others the loop runs on a batch
with 0 to 2 rounds, every fill and every map is supervised; the last fill also meets VGG features and a discriminator.
What is saved, validated and used as teacher is the moving average of the weights.
"""

import argparse
import copy
import functools
import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from datasets import Dataset
from PIL import Image
from safetensors import SafetensorError
from timm.optim import Muon, muon
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.arguments import count, positive
from fbinpaint.data.loader import BadPhotos, BatchLoader
from fbinpaint.data.photos import Batch, MixedBatches, PhotoCrops
from fbinpaint.data.rows import evenly_spaced
from fbinpaint.data.sources import load_photos, stream_photos
from fbinpaint.data.streams import StreamedCrops, set_aside
from fbinpaint.files import whole_file
from fbinpaint.hub import publish
from fbinpaint.labels import LABEL_SPACES, get_label_space
from fbinpaint.loop import VARIANTS, Networks
from fbinpaint.losses import (
    PerceptualLoss,
    class_balance,
    discriminator_hinge_loss,
    feature_matching_loss,
    generator_hinge_loss,
    r1_penalty,
    rejection_hinge_loss,
)
from fbinpaint.memory import keep_freed_memory
from fbinpaint.models import Discriminator, GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.models.layers import in_pixels, one_hot
from fbinpaint.saved import COMPONENTS, FORMAT_VERSION, check_version, one_line, read_json
from fbinpaint.training.bank import build_bank
from fbinpaint.training.class_floor import small_and_common
from fbinpaint.training.edits import draw_edits
from fbinpaint.training.schedule import Progress
from fbinpaint.training.semi_supervised import STRATEGIES
from fbinpaint.training.step import Learner, LossWeights, Outcome, hole_windows
from fbinpaint.training.validation import Validator

ROUND_ODDS = (0.3, 0.2, 0.5)  # how often a step ends after round 0, 1, 2
REFINE_ODDS = 0.25  # how often it sharpens a fill that was enlarged twofold
R1_EVERY, R1_WEIGHT = 16, 1e-3
JUDGED_LEVELS = slice(1, 4)  # of the encoder, strides 4, 8 and 16: what the discriminator judges beside the pixels
LOG_EVERY = 10
VERSION_FILE = "version.json"  # of a checkpoint: that of the pipelines it leads to


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the feedback loop on labelled and unlabelled photos.",
        epilog="example: accelerate launch train_accelerate.py --train_data_dir examples/streets "
        "--label_space cityscapes --num_validation_images 1",
    )
    add = parser.add_argument
    add("--train_data_dir", nargs="+", default=[], help="folders: images/ (and labels/), or a layout README.md lists")
    add("--dataset_name", nargs="+", default=[], help="Hub data sets: columns image and, where labelled, semantic_map")
    add("--streaming", action="store_true", help="read parquet, WebDataset and Hub as they come, without a copy")
    add("--skip_bad_images", action="store_true", help="name, count and pass over photos that cannot be read")
    add("--label_space", choices=sorted(LABEL_SPACES), required=True)
    add("--variant", choices=VARIANTS, default="feedback", help="what guides the inpainter; the others are controls")
    add("--semi_supervised", choices=sorted(STRATEGIES), default="cisc", help="what unlabelled photos teach the maps")
    add("--label_fraction", type=float, default=1.0, help="share of the labels to use; the other photos lose theirs")
    add("--labelled_ratio", type=float, default=0.25, help="share of a batch drawn from labelled photos, if both exist")
    add("--output_dir", default="runs/model")
    add("--pretrained_model", help="a pipeline folder or Hub id to start from; default: ImageNet encoder, rest random")
    add("--encoder_weights", help="safetensors of timm's encoder; default: from the Hub")
    add("--perceptual_weights", help="safetensors of torchvision's VGG16 features; default: torchvision's own")
    add(
        "--resolution",
        type=positive,
        nargs="+",
        default=[256, 128],
        metavar="PIXELS",
        help="sides of the training crops, multiples of 16; several: each step has one of them",
    )
    add("--frozen", nargs="+", choices=COMPONENTS, default=[], help="networks that stay as --pretrained_model has them")
    add("--max_zoom", type=float, default=1.5, help="half of the crops are zoomed in, up to this")
    add("--labelled_zoom", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of labelled photos, if another")
    add("--train_batch_size", type=positive, default=8, help="photos per process and batch")
    add("--gradient_accumulation_steps", type=positive, default=1, help="batches per process and step")
    add("--gradient_checkpointing", action="store_true", help="less memory, a third more time")
    add("--mixed_precision", choices=("no", "bf16"), help="default: as configured for accelerate")
    add("--compile", action="store_true", help="torch.compile the networks")
    add("--max_train_steps", type=positive, help="default: 3000, or without end where --max_train_minutes is given")
    add("--max_train_minutes", type=float, help="by the clock, from the end of the first step on")
    add("--learning_rate", type=float, default=2e-3)
    add("--encoder_learning_rate", type=float, default=2e-4, help="of the pretrained encoder")
    add("--discr_learning_rate", type=float, default=2e-4)
    add("--lr_warmup_steps", type=count, default=100)
    add("--initial_steps", type=count, default=0, help="the first train the initial inpainter alone, at 5x the speed")
    add("--adversarial_start", type=float, default=0.3, help="share of the steps before the discriminator joins")
    for field in fields(LossWeights):
        add(f"--{field.name}_weight", type=float, default=field.default)
    add("--perceptual_crop", type=positive, default=48, help="side of the window in each hole that VGG sees")
    add("--ema_decay", type=float, default=0.998)
    add("--num_exemplars", type=positive, default=96, help="labelled photos kept as prototypes with the model")
    add("--num_validation_images", type=positive, default=20, help="photos held out of training")
    add("--validation_steps", type=positive, default=500)
    add("--checkpointing_steps", type=positive, default=500)
    add("--checkpoints_total_limit", type=positive, default=2)
    add("--resume_from_checkpoint", help="a checkpoint folder, or 'latest'")
    add("--dataloader_num_workers", type=count, default=1)
    add("--push_to_hub", action="store_true", help="publish the result as --hub_model_id, with a card")
    add("--hub_model_id", help="USER/NAME on the Hub")
    add("--report_to", help="a tracker that accelerate knows, such as tensorboard")
    add("--seed", type=count, default=0)
    args = parser.parse_args(argv)
    if not args.train_data_dir + args.dataset_name:
        parser.error("no data: give --train_data_dir or --dataset_name")
    if args.streaming and args.label_fraction < 1:
        parser.error("--label_fraction: a stream does not know how many labels it has; leave out --streaming")
    if odd := [side for side in args.resolution if side % 16]:
        parser.error(f"--resolution {odd[0]}: must be a multiple of 16")
    if args.frozen and not args.pretrained_model:
        parser.error("--frozen: needs --pretrained_model, or these networks stay random")
    if set(args.frozen) == set(COMPONENTS):
        parser.error("--frozen: names all networks; leave one to train")
    if args.max_train_minutes is not None and not args.max_train_minutes > 0:
        parser.error(f"--max_train_minutes {args.max_train_minutes:g}: must be above 0")
    if args.max_train_steps is None:
        args.max_train_steps = 3000 if args.max_train_minutes is None else 10**9
    if args.push_to_hub and not args.hub_model_id:
        parser.error("--push_to_hub: needs --hub_model_id USER/NAME")
    if not 0 < args.label_fraction <= 1:
        parser.error(f"--label_fraction {args.label_fraction}: must be above 0 and at most 1")
    if not 16 <= args.perceptual_crop <= min(args.resolution):
        parser.error(f"--perceptual_crop {args.perceptual_crop}: must lie between 16 and the smallest --resolution")
    return args


def build_data(
    args: argparse.Namespace, label_space, skip: Callable[[str, str], None] | None
) -> tuple[PhotoCrops | StreamedCrops, Validator]:
    def make_crops(photos: Dataset) -> PhotoCrops:
        return PhotoCrops(
            photos,
            label_space,
            max(args.resolution),
            args.max_zoom,
            args.labelled_zoom,
            args.label_fraction,
            skip_bad=args.skip_bad_images,
        )

    if args.streaming:
        streams = stream_photos(args.train_data_dir, args.dataset_name, args.seed)
        streams, validation, known = set_aside(streams, args.num_validation_images, args.num_exemplars)
        crops = StreamedCrops(streams, make_crops(known), args.seed)
    else:
        photos = load_photos(args.train_data_dir, args.dataset_name)
        if len(photos) <= args.num_validation_images:
            raise InputError(f"{len(photos)} photos, and all of them held out; lower --num_validation_images")
        held_out = evenly_spaced(len(photos), args.num_validation_images)
        crops = make_crops(photos.select(np.setdiff1d(np.arange(len(photos)), held_out)))
        validation = photos.select(held_out)
    if not len(crops.labelled_photos()):
        sources = " ".join(args.train_data_dir + args.dataset_name)
        raise InputError(f"{sources}: no labelled photo; one folder at least needs labels/ (or what its layout has)")
    return crops, Validator(validation, label_space, max(args.resolution), skip=skip)


def build_models(args: argparse.Namespace, label_space) -> tuple[Networks, Discriminator]:
    if args.pretrained_model:
        networks = FeedbackInpaintPipeline.from_pretrained(args.pretrained_model).networks
        networks.requires_grad_(True)
        networks.variant = args.variant
    else:
        segmenter = Segmenter(num_classes=label_space.num_classes)
        segmenter.load_encoder(args.encoder_weights)
        networks = Networks(
            initial_inpainter=InitialInpainter(),
            segmenter=segmenter,
            recorrector=Recorrector(num_classes=label_space.num_classes),
            guided_inpainter=GuidedInpainter(num_classes=label_space.num_classes),
            variant=args.variant,
        )
    widths = networks.segmenter.encoder.feature_info.channels()[JUDGED_LEVELS]
    return networks.train(), Discriminator(label_space.num_classes, feature_channels=tuple(widths))


def mean_over_judges(loss: Callable, mask: torch.Tensor, *scores) -> torch.Tensor:
    """A hinge loss of each judge's scores, (B,1,h,w), under the share of hole in what each score sees."""
    holes = (F.interpolate(mask, size=score.shape[-2:], mode="area") for score in scores[0])
    return sum(map(loss, *scores, holes)) / len(scores[0])


def ema_update(decay: float):
    """Weight averaging that forgets its random start: the decay rises with the updates n, (1 + n) / (10 + n)."""

    @torch.no_grad()
    def update(averaged: list[torch.Tensor], current: list[torch.Tensor], count) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update


class Trainer:
    """Everything a step touches; `state` of a run is what accelerate saves of it."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.label_space = get_label_space(args.label_space)
        self.bad_photos = BadPhotos()
        self.skip = self.bad_photos.add if args.skip_bad_images else None
        self.crops, self.validator = build_data(args, self.label_space, self.skip)
        networks, discriminator = (
            model.to(memory_format=torch.channels_last) for model in build_models(args, self.label_space)
        )
        self.weights = LossWeights(**{f.name: getattr(args, f"{f.name}_weight") for f in fields(LossWeights)})
        self.perceptual = PerceptualLoss(args.perceptual_weights).to(
            accelerator.device, memory_format=torch.channels_last
        )
        # The encoder as it is at the start, frozen: what the discriminator sees through must not move.
        self.eyes = copy.deepcopy(networks.segmenter.encoder).requires_grad_(False).eval().to(accelerator.device)
        self.ema = AveragedModel(networks, multi_avg_fn=ema_update(args.ema_decay)).to(accelerator.device)
        self.ema.requires_grad_(False).eval()

        for name in args.frozen:
            getattr(networks, name).requires_grad_(False)
        encoder, rest = [], []  # in their own order: a resumed optimizer finds its state by position
        for name, parameter in networks.named_parameters():
            if parameter.requires_grad:
                (encoder if name.startswith("segmenter.encoder.") else rest).append(parameter)
        if accelerator.device.type == "cpu":  # in bfloat16, timm's choice, most processors are ten times slower
            muon.zeropower_via_newtonschulz = functools.partial(muon.zeropower_via_newtonschulz, dtype=torch.float32)
        # Orthogonalised momentum for the convolutions learns in a third of AdamW's steps here (docs/experiments.md).
        # The pretrained encoder, norms and biases keep AdamW, which Muon falls back to.
        groups = [{"params": rest, "lr": args.learning_rate}]
        if encoder:
            groups.insert(0, {"params": encoder, "lr": args.encoder_learning_rate, "use_fallback": True})
        optimizer = Muon(groups, betas=(0.9, 0.99), weight_decay=1e-4)
        self.peak_rates = [group["lr"] for group in groups]
        critic = torch.optim.AdamW(discriminator.parameters(), lr=args.discr_learning_rate, betas=(0.0, 0.9))
        self.progress = Progress(accelerator, args.max_train_steps, args.max_train_minutes, args.lr_warmup_steps)
        if args.gradient_checkpointing:  # the average, a copy, keeps the plain networks
            for network in networks.children():
                network.forward = functools.partial(checkpoint, network.forward, use_reentrant=False)
        if args.compile:
            for network in networks.children():
                network.compile()
        pixels, share, presence = self.crops.class_counts(self.skip)
        if not pixels.any():
            sources = " ".join(args.train_data_dir + args.dataset_name)
            raise InputError(f"{sources}: there are labels, but no pixel of them is known (all are 255); check them")
        kept = small_and_common(share, presence)
        learner = Learner(networks, STRATEGIES[args.semi_supervised], class_balance(pixels), kept)
        self.learner, self.discriminator, self.optimizer, self.critic = accelerator.prepare(
            learner, discriminator, optimizer, critic
        )
        accelerator.register_for_checkpointing(self.ema, self.progress)
        self.began = time.time()

    def train_step(self, batch: Batch, step: int, number: int) -> dict[str, torch.Tensor]:
        """What one batch does for the networks and, once it has joined, for the discriminator.

        Both are updated with the last batch of a step. `number` is the batch's own in the whole run. Whatever is drawn
        is a function of the two: a resumed run draws the same, and so does one on more processes.
        """
        args = self.args
        of_step, of_batch = (torch.Generator().manual_seed(args.seed * 1_000_003 + n) for n in (step, number))
        num_rounds = int(torch.multinomial(torch.tensor(ROUND_ODDS), 1, generator=of_step))
        refine = bool(torch.rand((), generator=of_step) < REFINE_ODDS)
        size = args.resolution[int(torch.randint(len(args.resolution), (), generator=of_step))]
        batch = batch.resized(size)
        alone, done = step < args.initial_steps, self.progress.share(step)
        adversarial = not alone and self.weights.adversarial > 0 and done >= args.adversarial_start
        for group, rate in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = rate * self.progress.learning_rate_factor(step, done)
        edits = draw_edits(batch.mask, of_batch)
        outcome, losses = self.learner(batch, edits, self.ema.module, None if alone else num_rounds, refine)
        total = losses.total(self.weights)
        log = {field.name: getattr(losses, field.name) for field in fields(losses)}
        if not alone:
            fill, wanted = outcome.last.image, outcome.wanted(batch.image)
            window, truth = hole_windows(fill, wanted, batch.mask, args.perceptual_crop, of_batch)
            with self.accelerator.autocast():
                log["perceptual"] = self.perceptual(window, truth)
            total = total + self.weights.perceptual * log["perceptual"]
        if adversarial:
            seen = self.seen(fill)
            log["adversarial"], matching = self.judge(batch.mask, outcome, seen, wanted)
            total = total + self.weights.adversarial * log["adversarial"] + self.weights.feature_matching * matching
        self.accelerator.backward(total)
        if self.accelerator.sync_gradients:
            log["gradient"] = self.accelerator.clip_grad_norm_(self.learner.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if adversarial:
            log["critic"] = self.critic_step(batch, outcome, [level.detach() for level in seen], step)
        if self.accelerator.sync_gradients:
            self.ema.update_parameters(self.accelerator.unwrap_model(self.learner).networks)
        return {name: value.detach() for name, value in log.items()}

    def seen(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The levels of the frozen encoder that the discriminator judges."""
        with self.accelerator.autocast():
            return self.eyes(image)[JUDGED_LEVELS]

    def one_hot(self, classes: torch.Tensor) -> torch.Tensor:
        return one_hot(classes, self.label_space.num_classes)

    def judge(
        self, mask: torch.Tensor, outcome: Outcome, seen: list[torch.Tensor], wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the discriminator thinks of a fill: the generator's hinge loss, and the feature matching loss.

        seen: as in `Discriminator.forward`, of the fill; wanted: what its features should be those of.
        """
        discriminator = self.accelerator.unwrap_model(self.discriminator)  # it learns nothing here, nor synchronises
        discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            scores, features = discriminator(outcome.last.image, mask, seen, self.one_hot(outcome.told))
            real_features = discriminator.look(wanted, mask)
        discriminator.requires_grad_(True)
        adversarial = mean_over_judges(generator_hinge_loss, mask, scores)
        return adversarial, feature_matching_loss(real_features, features)

    def critic_step(self, batch: Batch, outcome: Outcome, seen: list[torch.Tensor], step: int) -> torch.Tensor:
        """What one batch does for the discriminator; seen: what the encoder saw of the fill, detached.

        Where other classes than the photo's were drawn, the photo itself, told these, is as wrong as a bad fill
        (matching-aware discriminator, Reed et al., ICML 2016): a fill must not only look real but be what was drawn.
        """
        penalised = step % R1_EVERY == 0
        real = batch.image.detach().requires_grad_(penalised)
        # An unlabelled photo may show what was drawn, where the teacher is not sure.
        mistold = outcome.astray & in_pixels(outcome.classes != 255)[:, None]  # (B,1,H,W)
        told = mistold.flatten(1).any(1)  # (B,)
        with torch.no_grad():
            real_levels = self.seen(batch.image)
            levels = [torch.cat([a, b, a[told]]) for a, b in zip(real_levels, seen, strict=True)]
        photos = torch.cat([real, outcome.last.image.detach(), batch.image[told]])
        masks = torch.cat([batch.mask, batch.mask, batch.mask[told]])
        classes = self.one_hot(torch.cat([outcome.classes, outcome.told, outcome.told[told]]))
        scores, _ = self.discriminator(photos, masks, levels, classes)
        count = len(real)
        real_scores, fake_scores, mistold_scores = zip(
            *(score.split((count, count, len(score) - 2 * count)) for score in scores), strict=True
        )
        loss = mean_over_judges(discriminator_hinge_loss, batch.mask, real_scores, fake_scores)
        loss = loss + mean_over_judges(rejection_hinge_loss, mistold[told].float(), mistold_scores)
        penalty = R1_EVERY * R1_WEIGHT * r1_penalty(real_scores[0], real) if penalised else 0.0  # of the pixels' judge
        self.accelerator.backward(loss + penalty)
        self.critic.step()
        self.critic.zero_grad(set_to_none=True)
        return loss

    def averaged_networks(self) -> Networks:
        """A copy of the averaged networks with their exemplar bank, ready to restore photos."""
        networks = copy.deepcopy(self.ema.module)
        labelled = self.crops.labelled_photos()
        # Exemplars at the size of objects that the networks were trained on.
        zoom = np.mean(self.args.labelled_zoom or (1.0, 1.0))
        resolution = round(max(self.args.resolution) * zoom)
        bank = build_bank(networks, labelled, self.label_space, resolution, self.args.num_exemplars, self.skip)
        networks.recorrector.set_bank(bank)
        return networks

    def validate(self, step: int) -> dict[str, float]:
        """The scores of the averaged networks; with the lowest LPIPS so far, they are saved as `best`."""
        folder, networks = Path(self.args.output_dir), self.averaged_networks()
        grid = folder / f"validation-{step:06d}.png"
        scores = self.validator(networks, grid)
        key = f"lpips_alex/{self.validator.num_rounds}"
        earlier = [row[key] for row in read_log(folder) if key in row and row["step"] < step]
        if scores[key] < min(earlier, default=math.inf):
            self.save_pipeline("best", networks)
        for tracker in self.accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"validation": np.asarray(Image.open(grid))[None]}, step=step, **layout)
        return scores

    def save_checkpoint(self, step: int) -> None:
        """`checkpoint-<step>`, complete or absent: it is written under another name first."""
        folder = Path(self.args.output_dir)
        partial = folder / "checkpoint-partial"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        (partial / VERSION_FILE).write_text(json.dumps({"format_version": FORMAT_VERSION}) + "\n")
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        partial.rename(folder / f"checkpoint-{step:06d}")
        for old in sorted(folder.glob("checkpoint-[0-9]*"))[: -self.args.checkpoints_total_limit]:
            shutil.rmtree(old)

    def save_pipeline(self, name: str, networks: Networks) -> Path:
        """`<output_dir>/<name>`, complete or absent."""
        folder = Path(self.args.output_dir) / name
        partial = folder.with_name(f"{name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        FeedbackInpaintPipeline.from_networks(networks, self.label_space.name).save_pretrained(partial)
        (partial / "training.json").write_text(json.dumps(self.origin(), indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        return folder

    def origin(self) -> dict:
        """What a model card says of the training (see `fbinpaint.card`)."""
        minutes, device = (time.time() - self.began) / 60, self.accelerator.device
        processor = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        sources = self.args.train_data_dir + self.args.dataset_name
        return {
            "data": [{"name": source, "licence": "not stated"} for source in sources],
            "command": "accelerate launch " + shlex.join(sys.argv),
            "time": f"{minutes:.0f} minutes on {self.accelerator.num_processes} x {processor}",
        }


def read_log(folder: Path) -> list[dict]:
    """The rows of `log.jsonl`: losses and validation scores, each with its step; none where there is no log."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint to resume from; `latest` is none where there is none yet, as for a scheduler's first start.

    Raises InputError where one was named and is not there, and where this run would mix with what an earlier one left
    in the output folder.
    """
    folder = Path(args.output_dir)
    own = sorted(folder.glob("checkpoint-[0-9]*"))
    if args.resume_from_checkpoint is None:
        if own or read_log(folder):
            raise InputError(
                f"--output_dir {folder}: holds an earlier run; add --resume_from_checkpoint latest, or name another"
            )
        return None
    if args.resume_from_checkpoint == "latest":
        return max(own, default=None)
    checkpoint = Path(args.resume_from_checkpoint)
    if not os.path.isdir(checkpoint) or not re.fullmatch(r"checkpoint-\d+", checkpoint.name):
        raise InputError(f"--resume_from_checkpoint {checkpoint}: no such folder, or not named checkpoint-<step>")
    if own and own[-1].name > checkpoint.name:
        raise InputError(f"{own[-1]}: is later than {checkpoint.name}; move it away, or name another --output_dir")
    return checkpoint


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> int:
    """Its step. Raises InputError where it is not whole, of an earlier version, or of networks or processes that are
    not these."""
    path = checkpoint / VERSION_FILE
    if any(checkpoint.iterdir()):
        check_version(read_json(path).get("format_version", 0) if path.is_file() else 0, checkpoint)
    try:
        accelerator.load_state(str(checkpoint))
    except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
        reason = one_line(error)[:200]
        raise InputError(f"{checkpoint}: does not fit this run, or is damaged ({reason}); resume another") from error
    return int(checkpoint.name.rsplit("-", 1)[1])


def forget_later_rows(folder: Path, step: int) -> None:
    """Drop the rows of `log.jsonl` past the step that a run goes on from: it writes them again."""
    if rows := read_log(folder):
        with whole_file(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))


def train(args: argparse.Namespace) -> bool:
    """The whole run. False: it was asked to stop (SIGTERM), and has left a checkpoint."""
    if args.report_to and args.report_to not in map(str, get_available_trackers()):
        raise InputError(f"--report_to {args.report_to}: no such tracker is installed; pip install it")
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        # Muon works on whole matrices, and six million parameters fit into any GPU many times over.
        raise InputError("FSDP: Muon cannot train sharded weights; use configs/accelerate/eight_gpus.yaml (DDP)")
    # A step that ends before the first correction leaves the recorrector without gradients.
    uneven = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=args.report_to,
        project_dir=args.output_dir,
        kwargs_handlers=[uneven],
    )
    torch.backends.cuda.matmul.allow_tf32 = True  # as convolutions do by default
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())
    set_seed(args.seed)
    folder = Path(args.output_dir)
    checkpoint_folder = find_checkpoint(args)
    accelerator.wait_for_everyone()  # before the first of them writes there
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(args, accelerator)
    if accelerator.is_main_process:
        (folder / "training_options.json").write_text(json.dumps(vars(args), indent=2) + "\n")
    if args.report_to:
        accelerator.init_trackers("fbinpaint")
    start = load_checkpoint(accelerator, checkpoint_folder) if checkpoint_folder else 0
    if accelerator.is_main_process:
        forget_later_rows(folder, start)
        if args.resume_from_checkpoint and not start:
            print(f"no checkpoint in {folder} yet: starting at step 0")

    accumulated = args.gradient_accumulation_steps
    process, processes = accelerator.process_index, accelerator.num_processes
    plan = MixedBatches(
        trainer.crops.labelled,
        args.train_batch_size,
        args.labelled_ratio,
        args.seed,
        start * accumulated,
        process,
        processes,
    )
    loader = BatchLoader(trainer.crops, plan, args.dataloader_num_workers, trainer.bad_photos)
    bar = tqdm(
        range(start, args.max_train_steps),
        initial=start,
        total=args.max_train_steps if args.max_train_minutes is None else None,
        mininterval=5,
        disable=not accelerator.is_main_process,
    )
    # The time of the steps before counts too.
    trainer.began -= max((row["seconds"] for row in read_log(folder) if row["step"] <= start), default=0)

    def record(scores: dict[str, float], step: int) -> None:
        if accelerator.is_main_process:
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps({"step": step, "seconds": round(time.time() - trainer.began, 1)} | scores) + "\n")
        accelerator.log(scores, step=step)

    done, stopping = start, False
    with closing(iter(loader)) as batches:  # whatever happens, its workers end: no exit waits for them
        for step in bar:
            for place in range(accumulated):
                number = (step * accumulated + place) * processes + process
                with accelerator.accumulate(trainer.learner, trainer.discriminator):
                    losses = trainer.train_step(next(batches).to(accelerator.device), step, number)
            done = step + 1
            trainer.progress.start_clock()
            over = trainer.progress.share(done) >= 1
            if done % LOG_EVERY == 0:
                scores = {name: round(float(value), 5) for name, value in losses.items()}
                bar.set_postfix({name: f"{value:.3f}" for name, value in scores.items()}, refresh=False)
                record(scores, done)
            if accelerator.is_main_process and (done % args.validation_steps == 0 or over):
                scores = trainer.validate(done)
                bar.write(f"step {done}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
                record(scores, done)
            stopping = accelerator.check_trigger()
            if stopping or over or done % args.checkpointing_steps == 0:
                trainer.save_checkpoint(done)
            if stopping or over:
                break
    finished = trainer.progress.share(done) >= 1
    if accelerator.is_main_process:
        if finished:
            pipeline = trainer.save_pipeline("pipeline", trainer.averaged_networks())
            print(f"saved {pipeline}")
            if args.push_to_hub:
                print(f"published {publish(pipeline, args.hub_model_id).commit_url}")
        else:
            print(f"stopped after step {done}; --resume_from_checkpoint latest goes on from there")
    if trainer.bad_photos:
        print(f"skipped {len(trainer.bad_photos)} bad photos")
    accelerator.end_training()
    return finished


def main(argv: list[str] | None = None) -> int:
    datasets.disable_progress_bars()
    keep_freed_memory()
    try:
        return 0 if train(parse_args(argv)) else 128 + signal.SIGTERM
    except InputError as error:
        print(f"error: {error}")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
