"""Losses: small pure functions. Images (B,3,H,W) in [-1,1], mask (B,1,H,W) with 1 = hole, labels (B,h,w) int64."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Mean of x under a weight of a shape that broadcasts to it; 0 where the weight is all zero."""
    weight = weight.expand_as(x)
    return (x * weight).sum() / weight.sum().clamp_min(1e-6)


def reconstruction_loss(prediction: Tensor, target: Tensor, mask: Tensor, hole_weight: float = 6.0) -> Tensor:
    """1 * L1(known) + hole_weight * L1(hole), each a mean over its own pixels."""
    difference = (prediction - target).abs().mean(1, keepdim=True)
    return weighted_mean(difference, 1 - mask) + hole_weight * weighted_mean(difference, mask)


def class_colours(image: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The mean colour of each class, (B,C,3), 0 for one without a pixel, and its pixels, (B,C).

    image (B,3,h,w), classes (B,C,h,w) in {0,1}.
    """
    count = classes.sum((2, 3))
    return torch.einsum("bchw,bkhw->bck", classes, image) / count.clamp_min(1)[..., None], count


def colour_loss(cells: Tensor, classes: Tensor, colours: Tensor) -> Tensor:
    """L1 between a fill and the colours of its classes, in the means of squares of 4x4 cells: texture is left alone.

    cells (B,3,h,w), the fill's; classes (B,C,h,w) in {0,1}, all zero where nothing is wished; colours (B,C,3).
    """
    share = classes.sum(1, keepdim=True)
    wished = torch.einsum("bchw,bck->bkhw", classes, colours)
    difference = F.avg_pool2d((cells - wished) * share, 4).abs().mean(1, keepdim=True)
    return difference.sum() / F.avg_pool2d(share, 4).sum().clamp_min(1e-6)


def recognition_loss(segmenter: Callable, fill: Tensor, classes: Tensor, hole: Tensor) -> Tensor:
    """Cross-entropy of what a frozen segmenter sees in a fill, taken for an intact photo, with what it should show.

    So that what the map says is painted: the segmenter is a judge that knows classes better than a discriminator does.
    fill (B,3,H,W), composited; classes (B,h,w) int64, 255 = unknown; hole (B,h,w) in {0,1}.
    """
    logits = segmenter(fill, torch.zeros_like(fill[:, :1])).logits  # (B, C, h, w)
    loss = F.cross_entropy(logits.float(), classes, ignore_index=IGNORE, reduction="none")
    return weighted_mean(loss, hole * (classes != IGNORE))


class PerceptualLoss(nn.Module):
    """Distance of unit-length VGG16 features (relu1_2, 2_2, 3_3, 4_3), squared and summed over channels.

    The form of LPIPS (Zhang et al., CVPR 2018, eq. 1) without its learned weights, on another backbone than the metric.

    Args:
        weights: safetensors file with torchvision's VGG16 `features.*` ("0.weight", ...); None = torchvision's own,
            downloaded or cached.

    Raises:
        InputError: the file is missing or is not VGG16, or it cannot be fetched.
    """

    TAPS = (3, 8, 15, 22)
    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path | None = None):
        super().__init__()
        from torchvision.models.vgg import VGG16_Weights, cfgs, make_layers, vgg16

        if weights is None:
            try:
                self.features = vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
            except OSError as error:
                raise InputError(f"VGG16 cannot be fetched ({error}); give it as --perceptual_weights") from error
        else:
            self.features = make_layers(cfgs["D"])[: self.TAPS[-1] + 1]  # whatever lies above is of no use here
            if not Path(weights).is_file():
                raise InputError(f"perceptual weights {weights}: no such file; give VGG16 features as safetensors")
            try:
                known = self.features.state_dict()
                self.features.load_state_dict({k: v.float() for k, v in load_file(weights).items() if k in known})
            except (SafetensorError, RuntimeError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"perceptual weights {weights}: not VGG16 features ({reason})") from error
        self.features = self.features[: self.TAPS[-1] + 1].requires_grad_(False)
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the taps are kept
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1) * 2 - 1, persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1) * 2, persistent=False)

    def taps(self, image: Tensor) -> list[Tensor]:
        h, taps = (image - self.mean) / self.std, []
        for index, layer in enumerate(self.features):
            h = layer(h)
            if index in self.TAPS:
                taps.append(F.normalize(h, dim=1))
        return taps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.taps(target)
        pairs = zip(self.taps(prediction), wanted, strict=True)
        return reduce(torch.add, (((a - b) ** 2).sum(1).mean() for a, b in pairs))


def rejection_hinge_loss(scores: Tensor, where: Tensor) -> Tensor:
    """Hinge loss of scores that should be low where, (B,1,h,w) in [0,1], the image is not what it should be."""
    return weighted_mean(F.relu(1 + scores), where)


def discriminator_hinge_loss(real: Tensor, fake: Tensor, hole: Tensor) -> Tensor:
    """Hinge loss (Lim & Ye 2017): all of the real photo is real, only the hole of a restored one is fake.

    hole (B,1,h,w) in [0,1] is the share of each score's patch that was filled.
    """
    return F.relu(1 - real).mean() + rejection_hinge_loss(fake, hole)


def generator_hinge_loss(fake: Tensor, hole: Tensor) -> Tensor:
    return -weighted_mean(fake, hole)


def feature_matching_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Mean L1 between the discriminator's features of the photo and of its restoration (Wang et al., CVPR 2018)."""
    return reduce(torch.add, (F.l1_loss(f, r.detach()) for r, f in zip(real, fake, strict=True))) / len(real)


def r1_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """Squared gradient of the scores at real photos (Mescheder et al., ICML 2018). `real` must require grad."""
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def semantic_loss(log_probabilities: Tensor, target: Tensor, weight: Tensor, trust: Tensor, labelled: Tensor) -> Tensor:
    """Cross-entropy with the class distributions target (B,C,h,w), mean under weight (B,h,w).

    log_probabilities (B,C,h,w). A cell whose target is all zero (label 255) does not count. Labelled cells, (B,h,w)
    bool, and the others, whose targets are pseudo-labels, are averaged apart and added up (FixMatch), lest many of the
    one kind drown the few of the other; but no cell with a pseudo-label weighs more than one with a label, or the few
    that a label leaves unknown would drown all it knows. trust (B,h,w) in [0,1] scales the loss of a pseudo-label but
    not its share in the mean (CISC-R, L_u): a teacher who is sure of little teaches little.
    """
    loss = -(target * log_probabilities).sum(1)
    weight = weight * target.sum(1)
    known, guessed = weight * labelled, weight * ~labelled
    share = (guessed.sum() / known.sum().clamp_min(1e-6)).clamp_max(1)
    return weighted_mean(loss, known) + share * weighted_mean(trust * loss, guessed)


def class_balance(counts: Tensor) -> Tensor:
    """Class weights (C,) from pixel counts (C,): frequency ** -0.25, at most 5.

    Plain cross-entropy gives an unsure pixel to the surroundings; the fourth root gives poles, signs and people a
    hearing without letting them take over (with the square root, corrections cost a point of accuracy). The mean weight
    of a pixel is 1 before the cap.
    """
    frequency = counts / counts.sum().clamp_min(1)
    weights = frequency.clamp_min(1e-6).pow(-0.25)
    weights = weights / (weights * frequency).sum()
    return weights.clamp_max(5.0)


def cisc_weight(consistency: Tensor, labels: Tensor, shared: Tensor) -> Tensor:
    """w(x) = S_yhat(x)(x) (after CISC-R, Wu et al., TPAMI 2023; there it is a mean over all shared classes, which is
    near 1 for any label where the maps are distributions).

    consistency (B,C,h,w) in [0,1], labels (B,h,w), shared (C,) bool -> (B,h,w) in [0,1]; 1 where a class is not shared.
    """
    agreed = consistency.gather(1, labels[:, None])[:, 0]
    return torch.where(shared[labels], agreed, 1.0)
