"""The trainer: everything a step touches, and what is made of the networks between steps."""

import argparse
import copy
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.profiler import record_function

from fbinpaint.data.loader import BadPhotos
from fbinpaint.data.photos import Batch
from fbinpaint.data.rows import evenly_spaced, read_first, rows_from
from fbinpaint.errors import InputError
from fbinpaint.hub.origin import NOT_STATED, as_launched, for_others, inherited, named_origin, write_origin
from fbinpaint.hub.saved import COMPONENTS
from fbinpaint.labels import load_label_space
from fbinpaint.loop import Networks
from fbinpaint.models.exemplar_bank import no_exemplars
from fbinpaint.pipeline import FeedbackInpaintPipeline
from fbinpaint.pipeline.exemplars import make_exemplars
from fbinpaint.system.files import save_folder
from fbinpaint.training.losses import PerceptualLoss, class_balance

from .adversary import Adversary
from .checkpoints import read_log, save_checkpoint
from .distillation import load_teacher
from .distribution_alignment import small_and_common
from .edits import draw_edits
from .optimizers import WeightAverage, build_optimizers
from .output import OutputFolder
from .schedule import Progress
from .semi_supervised import STRATEGIES, draw_recolouring
from .setup import build_data, build_networks
from .step import LossWeights, StepOutput, TrainingModule, hole_windows
from .trackers import track_picture

ROUND_ODDS = (0.3, 0.2, 0.5)  # how often a step ends after round 0, 1, 2
REFINE_ODDS = 0.2  # how often it sharpens a fill that was enlarged twofold
MAX_GRADIENT = 5.0  # its norm


class Trainer:
    """Everything a step touches; accelerate saves what is prepared and registered here."""

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator, output: OutputFolder):
        self.args, self.accelerator, self.output = args, accelerator, output
        self.folder, self.label_space = output.folder, load_label_space(args.label_space)
        self.bad_photos = BadPhotos()
        self.skip = self.bad_photos.add if args.skip_bad_images else None
        self.strategy = STRATEGIES[args.semi_supervised]
        self.crops, self.validator = build_data(
            args, self.label_space, self.skip, accelerator.process_index, accelerator.num_processes
        )
        self.bases = [named_origin(model) for model in (args.pretrained_model, args.distilled_model) if model]
        networks = build_networks(args, self.label_space, accelerator.print)
        self.weights = LossWeights(**{f.name: getattr(args, f"{f.name}_weight") for f in fields(LossWeights)})
        self.paint_learns = networks.paint_learns
        if self.paint_learns and self.weights.perceptual:
            self.perceptual = PerceptualLoss(args.perceptual_weights).to(accelerator.device)
            self.perceptual.to(memory_format=torch.channels_last)
        self.distilled = load_teacher(args.distilled_model, self.label_space, accelerator.device)
        encoder = copy.deepcopy(networks.segmenter.encoder)
        self.ema = WeightAverage(networks.to(accelerator.device), args.ema_decay)
        optimizers = build_optimizers(networks, args.learning_rate, args.encoder_learning_rate)
        self.peak_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        self.progress = Progress(
            accelerator, args.max_train_steps, args.max_train_minutes, args.lr_warmup_steps, args.initial_steps
        )
        if args.gradient_checkpointing:  # the average, a copy, keeps the plain networks
            for network in (getattr(networks, name) for name in COMPONENTS):
                network.enable_gradient_checkpointing()
        if args.compile:
            for network in networks.children():
                network.compile()
        learner = self.build_learner(networks)
        self.learner, *self.optimizers = accelerator.prepare(learner, *optimizers)
        self.refresh_bank()
        self.adversary = Adversary(accelerator, encoder, self.label_space.num_classes, args.discr_learning_rate)
        accelerator.register_for_checkpointing(self.ema, self.progress)
        self.part: Callable[[str], AbstractContextManager] = record_function  # names the parts of a step to a profiler
        self.began = time.time()

    def build_learner(self, networks: Networks) -> TrainingModule:
        pixels, share, presence = self.crops.class_counts(self.skip)
        if not pixels.any():
            sources = " ".join(self.args.train_data_dir + self.args.dataset_name)
            raise InputError(f"{sources}: there are labels, but no pixel of them is known (all are 255); check them")
        kept = small_and_common(share, presence)
        return TrainingModule(networks, self.strategy, class_balance(pixels), kept)

    def train_step(self, batch: Batch, step: int, number: int, done: float) -> dict[str, Tensor]:
        """What one batch does for the networks and, once it has joined, for the discriminator.

        All are updated with the last batch of a step. `number` is the batch's own in the whole run, `done` the share of
        the run before the step. Whatever is drawn is a function of the first two: a resumed run draws the same, and so
        does one on more processes.
        """
        args = self.args
        of_step, of_batch = (
            torch.Generator().manual_seed(args.seed * 1_000_003 + n) for n in (2 * step, 2 * number + 1)
        )
        num_rounds = int(torch.multinomial(torch.tensor(ROUND_ODDS), 1, generator=of_step))
        if set(args.frozen) >= set(COMPONENTS) - {"recorrector"}:
            num_rounds = max(1, num_rounds)  # without a correction there is nothing to learn
        refine = bool(torch.rand((), generator=of_step) < REFINE_ODDS) and self.paint_learns
        distilled = None if refine else self.distilled
        size = int(torch.randint(len(args.resolution), (), generator=of_step))
        batch = batch.resized(args.resolution[size])
        edits = draw_edits(batch.mask, of_batch)
        recolouring = draw_recolouring(len(batch.mask), of_batch) if self.strategy.recoloured else None
        alone = step < args.initial_steps
        self.set_learning_rates(step, done)
        with self.part("forward"):
            num_rounds = None if alone else num_rounds
            outcome, losses = self.learner(batch, edits, self.ema.module, num_rounds, refine, distilled, recolouring)
        log = {field.name: getattr(losses, field.name) for field in fields(losses)}
        judged = self.paint_learns and not alone
        adversarial = judged and self.weights.adversarial > 0 and done >= args.adversarial_start
        if judged:
            with self.part("losses of the fill"):
                of_fill, features = self.losses_of_fill(batch, outcome, adversarial, of_batch)
            log |= of_fill
        with self.part("backward"):
            self.accelerator.backward(self.weights.total(log))
        with self.part("optimizer"):
            self.take_step(log)
        if adversarial:
            with self.part("discriminator"):
                log["discriminator"] = self.adversary.learn(batch, outcome, features, edits.wrong, step)
        return {name: value.detach() for name, value in log.items()}

    def take_step(self, log: dict[str, Tensor]) -> None:
        """Changes the weights by their gradients, and the average of the weights; `log` gets the gradients' norm."""
        if self.accelerator.sync_gradients:
            log["gradient"] = self.accelerator.clip_grad_norm_(self.learner.parameters(), MAX_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.accelerator.sync_gradients:
            self.ema.update(self.accelerator.unwrap_model(self.learner).networks)

    def set_learning_rates(self, step: int, done: float) -> None:
        factor = self.progress.learning_rate_factor(step, done)
        for optimizer, rates in zip(self.optimizers, self.peak_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def losses_of_fill(
        self, batch: Batch, outcome: StepOutput, adversarial: bool, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What VGG and, if it has joined, the discriminator think of the last fill; and the encoder's features of it,
        which the discriminator learns from as well."""
        fill, wanted = outcome.last.image, outcome.target
        losses, features = {}, []
        if self.weights.perceptual:
            window, truth = hole_windows(fill, wanted, batch.mask, self.args.perceptual_crop, generator)
            with self.accelerator.autocast():
                losses["perceptual"] = self.perceptual(window, truth)
        if adversarial:
            features = self.adversary.encoder_features(fill)
            losses["adversarial"], losses["feature_matching"] = self.adversary.generator_losses(
                batch.mask, outcome, features, wanted
            )
        return losses, features

    def refresh_bank(self) -> None:
        """Exemplars anew, as the averaged segmenter sees them now, for the trained networks and the averaged ones: at
        most `--num_exemplars` labelled photos, evenly spaced."""
        labelled = self.crops.labelled_photos()
        # At the size of objects that the networks were trained on.
        zoom = np.mean(self.args.labelled_zoom or (1.0, 1.0))
        resolution = round(max(self.args.resolution) * zoom)

        names = []

        def read(row: dict) -> tuple[np.ndarray, np.ndarray]:
            photo, semantic_map = self.crops.read_photo(row, resolution)
            names.append(row["name"])
            return photo, semantic_map

        places = evenly_spaced(len(labelled), self.args.num_exemplars)
        photos = (read_first(rows_from(labelled, place), read, self.skip) for place in places)
        if places:
            bank = make_exemplars(self.ema.module.segmenter, self.label_space, photos)
        else:
            bank, names = no_exemplars(self.ema.module.recorrector.bank), [""]
        learner = self.accelerator.unwrap_model(self.learner)
        learner.exemplar_names = names
        for networks in (learner.networks, self.ema.module):
            networks.recorrector.set_bank(bank)

    def check_weights(self, step: int) -> None:
        """Raises InputError where they are no finite numbers any more. Nothing that they learn mends that, and what
        they paint, rounded to colours, looks like any bad fill to those who score it."""
        networks = self.ema.module, self.adversary.discriminator
        norms = torch._foreach_norm([weight for network in networks for weight in network.parameters()])
        if not torch.stack(norms).isfinite().all():
            raise InputError(
                f"step {step}: the weights are no numbers any more, and are not saved; at a lower --learning_rate "
                "--resume_from_checkpoint goes on from an earlier checkpoint, or start anew"
            )

    def validate(self, step: int) -> dict[str, float]:
        """The scores of the averaged networks, which all processes find together; with the lowest LPIPS so far, they
        are saved as `best`."""
        networks, grid = self.ema.module, self.folder / f"validation-{step:06d}.png"
        if not self.accelerator.is_main_process:
            return self.validator(networks)
        scores = self.validator(networks, grid)
        key = f"lpips_alex/{self.validator.num_rounds}"
        earlier = [row[key] for row in read_log(self.folder) if key in row and row["step"] < step]
        if scores[key] < min(earlier, default=math.inf):
            self.save_pipeline("best")
        track_picture(self.accelerator, grid, step)
        return scores

    def save_checkpoint(self, step: int, of_stream: dict | None) -> None:
        save_checkpoint(self.output, step, self.args.checkpoints_total_limit, self.label_space.classes, of_stream)

    def save_pipeline(self, name: str) -> Path:
        """The averaged networks as `<output_dir>/<name>`, in `--save_dtype`."""
        networks = copy.deepcopy(self.ema.module).to(getattr(torch, self.args.save_dtype))
        pipeline = FeedbackInpaintPipeline.from_networks(networks, self.label_space)

        def write(folder: Path) -> None:
            pipeline.save_pretrained(folder)
            write_origin(folder, self.origin())

        save_folder(self.folder / name, write)
        return self.folder / name

    def origin(self) -> dict:
        """Where the model comes from (see `fbinpaint.hub.origin`): this run, and the models that it learns from."""
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        minutes, device = (time.time() - self.began) / 60, self.accelerator.device
        processor = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        sources = self.args.train_data_dir + self.args.dataset_name
        data = [{"name": for_others(source), "licence": NOT_STATED} for source in sources]
        base = {"base_model": self.bases[0][0]} if self.args.pretrained_model else {}
        return inherited(data, self.bases) | base | {
            "command": as_launched(sys.argv, spec and spec.name),
            "time": f"{minutes:.0f} minutes on {self.accelerator.num_processes} x {processor}",
        }
