"""The discriminator with all that belongs to it: the frozen encoder it sees through, its optimizer, both its losses."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from fbinpaint.data.photos import Batch
from fbinpaint.models import Discriminator
from fbinpaint.models.layers import one_hot, upsample_labels
from fbinpaint.training.losses import (
    discriminator_hinge_loss,
    feature_matching_loss,
    generator_hinge_loss,
    r1_penalty,
    rejection_hinge_loss,
)

from .step import StepOutput

R1_EVERY, R1_WEIGHT = 16, 1e-3
JUDGED_LEVELS = slice(1, 4)  # of the encoder, strides 4, 8 and 16: what the discriminator judges beside the pixels


class Adversary:
    """Tells fills from photos, and fills that show what the map says from those that do not.

    Args:
        encoder: a copy of the segmenter's as it is at the start: what the discriminator sees through must not move.
    """

    def __init__(self, accelerator: Accelerator, encoder: Any, num_classes: int, learning_rate: float):
        self.accelerator, self.num_classes = accelerator, num_classes
        self.encoder = encoder.requires_grad_(False).eval().to(accelerator.device)
        widths = tuple(encoder.feature_info.channels()[JUDGED_LEVELS])
        discriminator = Discriminator(num_classes, feature_channels=widths).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(discriminator.parameters(), lr=learning_rate, betas=(0.0, 0.9), fused=True)
        self.discriminator, self.optimizer = accelerator.prepare(discriminator, optimizer)

    def encoder_features(self, image: Tensor) -> list[Tensor]:
        with self.accelerator.autocast():
            return self.encoder(image)[JUDGED_LEVELS]

    def generator_losses(
        self, mask: Tensor, outcome: StepOutput, features: list[Tensor], wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of a fill: the hinge loss, and the feature matching loss.

        features: `encoder_features` of the fill; wanted (B,3,H,W): what its features should be those of.
        """
        discriminator = self.accelerator.unwrap_model(self.discriminator)  # it learns nothing here, nor synchronises
        discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            target_classes = one_hot(outcome.target_classes, self.num_classes)
            scores, seen = discriminator(outcome.last.image, mask, features, target_classes)
            real_seen = discriminator.look(wanted, mask)
        discriminator.requires_grad_(True)
        return mean_over_judges(generator_hinge_loss, mask, scores), feature_matching_loss(real_seen, seen)

    def learn(self, batch: Batch, outcome: StepOutput, features: list[Tensor], mismatched: Tensor, step: int) -> Tensor:
        """What one batch does for the discriminator; returns its loss.

        Where other classes than the photo's were drawn, the photo itself, told these, is as wrong as a bad fill
        (matching-aware discriminator, Reed et al., ICML 2016): a fill must not only look real but be what was drawn.

        features: `encoder_features` of the fill; mismatched (N,) int64, the photos that this may be true of.
        """
        penalised = step % R1_EVERY == 0
        real, fake = batch.image.detach().requires_grad_(penalised), outcome.last.image.detach()
        # An unlabelled photo may show what was drawn, where the teacher is not sure.
        known = upsample_labels(outcome.classes != 255)[:, None]
        wrong = (outcome.edited_mask & known)[mismatched].float()  # (N,1,H,W)
        with torch.no_grad():
            real_features = self.encoder_features(batch.image)
            levels = [
                torch.cat([a, b.detach(), a[mismatched]]) for a, b in zip(real_features, features, strict=True)
            ]
        photos = torch.cat([real, fake, batch.image[mismatched]])
        masks = torch.cat([batch.mask, batch.mask, batch.mask[mismatched]])
        classes = torch.cat([outcome.classes, outcome.target_classes, outcome.target_classes[mismatched]])
        scores, _ = self.discriminator(photos, masks, levels, one_hot(classes, self.num_classes))
        sizes = len(real), len(fake), len(mismatched)
        real_scores, fake_scores, mismatched_scores = zip(*(score.split(sizes) for score in scores), strict=True)
        loss = mean_over_judges(discriminator_hinge_loss, batch.mask, real_scores, fake_scores)
        loss = loss + mean_over_judges(rejection_hinge_loss, wrong, mismatched_scores)
        penalty = R1_EVERY * R1_WEIGHT * r1_penalty(real_scores[0], real) if penalised else 0.0  # of the pixels' judge
        self.accelerator.backward(loss + penalty)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss


def mean_over_judges(loss: Callable, mask: Tensor, *scores) -> Tensor:
    """A hinge loss of each judge's scores, (B,1,h,w), under the share of hole in what each score sees."""
    holes = (F.interpolate(mask, size=score.shape[-2:], mode="area") for score in scores[0])
    return sum(map(loss, *scores, holes)) / len(scores[0])
