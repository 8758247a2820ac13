"""Training a peer as the project's own networks are trained: the same crops, masks, sizes, optimizers, rates, clock,
perceptual loss, discriminator, average of the weights, checkpoints and validation, by the same code. Only what is
trained, and its pictures' losses, are the peer's.
"""

import argparse
import copy
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

import train_accelerate
from fbinpaint.arguments import HelpWithDefaults
from fbinpaint.data.loader import BadPhotos
from fbinpaint.data.photos import Batch
from fbinpaint.evaluation.metrics import psnr
from fbinpaint.hub.origin import named_origin, write_origin
from fbinpaint.images.tensors import to_uint8
from fbinpaint.labels import load_label_space
from fbinpaint.loop import composite
from fbinpaint.models.layers import downsample_labels
from fbinpaint.system.files import save_folder
from fbinpaint.training.adversary import Adversary
from fbinpaint.training.losses import PerceptualLoss, reconstruction_loss
from fbinpaint.training.optimizers import WeightAverage, build_optimizers
from fbinpaint.training.output import OutputFolder
from fbinpaint.training.schedule import Progress
from fbinpaint.training.setup import build_data, build_networks
from fbinpaint.training.step import LossWeights, StepOutput
from fbinpaint.training.trainer import ROUND_ODDS, Trainer
from fbinpaint.training.validation import GRID_PHOTOS, BatchScores, Validator

from .generator import MIN_SIDE, Generator, masked_input
from .registry import PEERS, make_peer

# By whose weights the losses are added up. LaMa's (section 2.2.3; the L1 of the known pixels is in its code): 10
# adversarial, 30 perceptual, 100 feature matching, and no L1 in the hole. The losses themselves are the project's in
# both: a hinge for its softplus, VGG16 for its dilated ResNet50.
SETTINGS: dict[str, dict[str, float]] = {
    "ours": {},  # the options', or their defaults
    "lama": {"reconstruction": 10, "perceptual": 30, "adversarial": 10, "feature_matching": 100},
}
HOLE_WEIGHT = {"ours": 6.0, "lama": 0.0}  # of L1 in the hole, where that of the known pixels is 1
# Options of the project's own networks, which would change nothing here.
FOREIGN = (
    "variant", "semi_supervised", "initial_steps", "distilled_model", "frozen", "num_exemplars", "semantic_weight",
    "colour_weight", "recognition_weight", "gradient_checkpointing", "compile", "push_to_hub", "hub_model_id",
)  # fmt: skip


def parse_args(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers train",
        description="Train a peer. All other options are those of train_accelerate.py.",
        epilog="example: python -m benchmarks.peers train --peer lama-fourier --losses lama --train_data_dir "
        "examples/streets --label_space cityscapes --num_validation_images 1 --output_dir runs/lama",
        formatter_class=HelpWithDefaults,
        allow_abbrev=False,
    )
    parser.add_argument("--peer", choices=PEERS, required=True, help="what is trained")
    parser.add_argument("--losses", choices=SETTINGS, default="ours", help="whose weights of the losses")
    own, rest = parser.parse_known_args(argv)
    weights = {f"{name}_weight": value for name, value in SETTINGS[own.losses].items()}
    args = train_accelerate.parse_args([*(f"--{name}={value}" for name, value in weights.items()), *rest])
    usual = train_accelerate.parse_args(["--train_data_dir", "-", "--label_space", args.label_space])
    for name in FOREIGN:
        if getattr(args, name) != getattr(usual, name):
            parser.error(f"--{name}: is of no use to a peer; leave it out")
    for name, value in weights.items():
        if getattr(args, name) != value:
            parser.error(f"--{name}: is {value:g} by --losses {own.losses}; leave one of the two out")
    if own.peer == "one-way-spade" and not args.pretrained_model:
        parser.error("--peer one-way-spade: its segmenter is frozen; name a pipeline with one as --pretrained_model")
    if min(args.resolution) < MIN_SIDE:
        parser.error(f"--resolution {min(args.resolution)}: peers take {MIN_SIDE} or more")
    args.peer, args.losses = own.peer, own.losses
    return args


class TrainingModule(nn.Module):
    """The differentiable part of a step before the losses of VGG and discriminator, so that DDP sees one module."""

    def __init__(self, networks: Generator, hole_weight: float):
        super().__init__()
        self.networks, self.hole_weight = networks, hole_weight

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The fill, composited, and the losses of L1, by their names in `LossWeights`."""
        *coarse, last = self.networks.stages(masked_input(batch.image, batch.mask))

        def loss(picture: Tensor) -> Tensor:
            return reconstruction_loss(picture, batch.image, batch.mask, self.hole_weight)

        losses = {"reconstruction": loss(last)}
        if coarse:
            losses["initial"] = loss(*coarse)
        return composite(last, batch.image, batch.mask), losses


@dataclass
class Painted:
    """All of a round that the losses of its fill ask for."""

    image: Tensor


class PeerAverage(WeightAverage):
    """Also of buffers: peers have batch norms, whose statistics belong to the weights."""

    @torch.no_grad()
    def update(self, networks: nn.Module) -> None:
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, buffer in zip(self.module.buffers(), networks.buffers(), strict=True):
            if buffer.is_floating_point():
                average.lerp_(buffer, weight)
        super().update(networks)


class PeerValidator(Validator):
    """The same photos and masks, of a network without rounds or maps."""

    def __init__(self, of_ours: Validator):
        vars(self).update(vars(of_ours), num_rounds=0)

    def _validate(self, generator: Any, where: slice) -> BatchScores:
        photos, masks = self.images[where], self.masks[where]
        truth = torch.from_numpy(photos).permute(0, 3, 1, 2).float()
        image, hole = truth / 127.5 - 1, torch.from_numpy(masks)[:, None].float()
        fill = fill_tensors(generator, image.to(generator.device), hole.to(generator.device)).cpu()
        result = torch.from_numpy(to_uint8(fill)).permute(0, 3, 1, 2).float()
        no_map = np.zeros((self.label_space.num_classes,) * 2, int)
        scores = BatchScores(int(self.indices[where][0]), no_map, holes=[no_map])
        scores.lpips.append(self.lpips(result / 127.5 - 1, image))
        scores.psnr.append(psnr(result, truth))
        for i in np.flatnonzero(self.indices[where] < GRID_PHOTOS):
            masked = np.where(masks[i, ..., None], 255, photos[i]).astype(np.uint8)
            scores.pictures.append(np.concatenate([masked, to_uint8(fill[i : i + 1])[0], photos[i]], axis=1))
        return scores


@torch.no_grad()
def fill_tensors(generator: Generator, image: Tensor, mask: Tensor) -> Tensor:
    """image (B,3,H,W) in [-1,1], mask (B,1,H,W), H and W multiples of 16 -> (B,3,H,W), composited."""
    return composite(generator(masked_input(image, mask)).float(), image, mask)


class PeerTrainer(Trainer):
    """What a step touches, with a peer in place of the project's networks."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator, output: OutputFolder):
        self.args, self.accelerator, self.output = args, accelerator, output
        self.folder, self.label_space = output.folder, load_label_space(args.label_space)
        self.bad_photos = BadPhotos()
        self.skip = self.bad_photos.add if args.skip_bad_images else None
        self.crops, validator = build_data(
            args, self.label_space, self.skip, accelerator.process_index, accelerator.num_processes
        )
        self.validator = PeerValidator(validator)
        self.bases = [named_origin(args.pretrained_model)] if args.pretrained_model else []
        # Its encoder is what the discriminator sees through, and its segmenter that of the one-way pipeline.
        segmenter = build_networks(args, self.label_space, accelerator.print).segmenter
        generator = make_peer(args.peer, segmenter).train()
        generator.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # diffusers wraps `to`
        self.weights = LossWeights(**{f.name: getattr(args, f"{f.name}_weight") for f in fields(LossWeights)})
        self.paint_learns = True
        if self.weights.perceptual:
            self.perceptual = PerceptualLoss(args.perceptual_weights).to(accelerator.device)
            self.perceptual.to(memory_format=torch.channels_last)
        self.ema = PeerAverage(generator.to(accelerator.device), args.ema_decay)
        optimizers = build_optimizers(generator, args.learning_rate, args.encoder_learning_rate)
        self.peak_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.progress = Progress(accelerator, args.max_train_steps, args.max_train_minutes, args.lr_warmup_steps)
        learner = TrainingModule(generator, HOLE_WEIGHT[args.losses])
        self.learner, *self.optimizers = accelerator.prepare(learner, *optimizers)
        encoder = copy.deepcopy(segmenter.encoder)
        self.adversary = Adversary(accelerator, encoder, self.label_space.num_classes, args.discr_learning_rate)
        accelerator.register_for_checkpointing(self.ema, self.progress)
        self.began = time.time()

    def train_step(self, batch: Batch, step: int, number: int, done: float) -> dict[str, Tensor]:
        """As of `Trainer`."""
        args = self.args
        of_step, of_batch = (
            torch.Generator().manual_seed(args.seed * 1_000_003 + n) for n in (2 * step, 2 * number + 1)
        )
        # In vain, but so that every step is of the size that it is in a run of the project's own networks.
        torch.multinomial(torch.tensor(ROUND_ODDS), 1, generator=of_step)
        torch.rand((), generator=of_step)
        batch = batch.resized(args.resolution[int(torch.randint(len(args.resolution), (), generator=of_step))])
        self.set_learning_rates(step, done)
        fill, log = self.learner(batch)
        labels = downsample_labels(batch.labels)  # (B, H/4, W/4); nothing was drawn: the fill should be the photo
        nowhere = torch.zeros_like(batch.mask, dtype=torch.bool)
        outcome = StepOutput(Painted(fill), labels, labels, nowhere, batch.image)
        adversarial = self.weights.adversarial > 0 and done >= args.adversarial_start
        of_fill, features = self.losses_of_fill(batch, outcome, adversarial, of_batch)
        log |= of_fill
        self.accelerator.backward(self.weights.total(log))
        self.take_step(log)
        if adversarial:
            mismatched = torch.zeros(0, dtype=torch.long, device=batch.image.device)
            log["discriminator"] = self.adversary.learn(batch, outcome, features, mismatched, step)
        return {name: value.detach() for name, value in log.items()}

    def refresh_bank(self) -> None:
        """A peer has no exemplars."""

    def save_pipeline(self, name: str) -> Path:
        """The averaged generator as `<output_dir>/<name>`, in `--save_dtype`."""
        generator: Any = copy.deepcopy(self.ema.module).to(getattr(torch, self.args.save_dtype))

        def write(folder: Path) -> None:
            generator.save_pretrained(folder)
            write_origin(folder, self.origin())

        save_folder(self.folder / name, write)
        return self.folder / name
