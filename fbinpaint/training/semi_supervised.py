"""What an unlabelled pixel teaches: strategies that turn a teacher's map of the INTACT photo into supervision.

Only the hole is synthetic, so the teacher (the weight average of the student) sees what the student must guess.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur, rgb_to_grayscale

from fbinpaint.data.photos import Batch
from fbinpaint.loop import Networks
from fbinpaint.models.layers import downsample_labels, one_hot
from fbinpaint.training.losses import cisc_weight

from .distribution_alignment import DistributionAlignment

# A teacher's pixel below this confidence teaches nothing; with a fresh teacher that is nearly every pixel.
CISC_CONFIDENCE = 0.7
FIXMATCH_CONFIDENCE = 0.95
# Below 1 the teacher is taken for surer than it says (MixMatch, Berthelot et al., NeurIPS 2019).
TEMPERATURE = 0.7
MAX_RECOLOURING, GREY_ODDS = 0.5, 0.2
MAX_HUE = 0.2 * math.pi
BLUR_ODDS, BLUR_KERNEL, BLUR_SIGMA = 0.5, [5, 5], [1.5, 1.5]

# (teacher, batch, floor) -> class distributions (B,C,h,w) to learn from, and the trust in them, (B,h,w) in [0,1].
# Whatever it says of labelled cells is not used.
PseudoLabels = Callable[[Networks, Batch, DistributionAlignment], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Strategy:
    """pseudo_labels supervise every map of the loop; with strong_view the student also segments a mixture of intact
    photos (CutMix, Yun et al., ICCV 2019: the hole of a photo with few labels or none shows another one of the batch),
    labelled accordingly, which `recoloured` shows in other colours."""

    pseudo_labels: PseudoLabels
    strong_view: bool = False
    recoloured: bool = False


def partners(photos: Tensor) -> Tensor:
    """(B,...) -> of each photo of a batch the one that its holes show in a mixture: a quarter of a batch away, so that
    some unlabelled photos have a labelled one, which come first, and others have not."""
    return photos.roll(max(1, len(photos) // 4), 0)


def draw_recolouring(photos: int, generator: torch.Generator) -> Tensor:
    """(B,5) for `recolour`: factors of brightness, contrast and saturation, of which one photo in five has none, an
    angle by which hues turn, and the share of a blurred picture, which half of the photos have."""
    draws = torch.rand(photos, 7, generator=generator)
    factors = 1 + MAX_RECOLOURING * (2 * draws[:, :3] - 1)
    factors[:, 2] *= draws[:, 3] >= GREY_ODDS
    angle, blur = MAX_HUE * (2 * draws[:, 4] - 1), draws[:, 5] * (draws[:, 6] < BLUR_ODDS)
    return torch.cat([factors, angle[:, None], blur[:, None]], 1)


def recolour(image: Tensor, recolouring: Tensor) -> Tensor:
    """image (B,3,H,W) in [-1,1], recoloured and blurred as `draw_recolouring` says, each photo in its own way."""
    with torch.autocast(image.device.type, enabled=False):  # a blur would come back in bfloat16
        recolouring = recolouring.to(image, non_blocking=True)
        brightness, contrast, saturation, angle, blur = recolouring[:, :, None, None, None].unbind(1)
        levels = (image + 1) / 2 * brightness
        # Hues turn about the axis of greys.
        mean = levels.mean(1, keepdim=True)
        across = (levels.roll(1, 1) - levels.roll(-1, 1)) / 3**0.5
        levels = mean + (levels - mean) * angle.cos() + across * angle.sin()
        grey = rgb_to_grayscale(levels)
        levels = grey + (levels - grey) * saturation
        middle = grey.mean((2, 3), keepdim=True)
        levels = middle + (levels - middle) * contrast
        return torch.lerp(levels, gaussian_blur(levels, BLUR_KERNEL, BLUR_SIGMA), blur).clamp(0, 1) * 2 - 1


def intact_view(teacher: Networks, batch: Batch, floor: DistributionAlignment):
    """The teacher's segmentation of the photos without holes, and its class probabilities (B,C,h,w), raised by the
    floor."""
    segmented = teacher.segmenter(batch.image, torch.zeros_like(batch.mask))
    probabilities = segmented.logits.softmax(1)
    floor.count(probabilities, batch)
    return segmented, floor(probabilities)


@torch.no_grad()
def supervised(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Unlabelled pixels teach the inpainters only."""
    labels = downsample_labels(batch.labels)
    classes = teacher.segmenter.config.num_classes
    return one_hot(torch.full_like(labels, 255), classes), torch.zeros(labels.shape, device=labels.device)


@torch.no_grad()
def cisc(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Cross-image semantic consistency (CISC-R, Wu et al., TPAMI 2023): trust a pseudo-label as far as the labelled
    exemplars agree with it."""
    segmented, probabilities = intact_view(teacher, batch, floor)
    confidence, labels = probabilities.max(1)
    consistency = teacher.recorrector.recognise(segmented.pyramid, probabilities)
    shared = teacher.recorrector.bank.counts > 0
    trust = cisc_weight(consistency, labels, shared) * (confidence >= CISC_CONFIDENCE)
    return one_hot(labels, probabilities.shape[1]), trust


@torch.no_grad()
def fixmatch(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """FixMatch (Sohn et al., NeurIPS 2020): what the teacher is nearly sure of, at full trust."""
    _, probabilities = intact_view(teacher, batch, floor)
    confidence, labels = probabilities.max(1)
    return one_hot(labels, probabilities.shape[1]), (confidence >= FIXMATCH_CONFIDENCE).float()


@torch.no_grad()
def mean_teacher(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """Mean Teacher (Tarvainen & Valpola, NeurIPS 2017): the teacher's whole distribution, of every pixel."""
    _, probabilities = intact_view(teacher, batch, floor)
    return probabilities, torch.ones_like(probabilities[:, 0])


@torch.no_grad()
def cutmix(teacher: Networks, batch: Batch, floor: DistributionAlignment) -> tuple[Tensor, Tensor]:
    """CutMix with a mean teacher (French et al., BMVC 2020): all of the teacher's distribution, a little sharpened. The
    likeliest class alone would settle what the teacher is not sure of, and rare classes would go."""
    _, probabilities = intact_view(teacher, batch, floor)
    sharpened = (probabilities.log() / TEMPERATURE).softmax(1)
    return sharpened, torch.ones_like(sharpened[:, 0])


STRATEGIES: dict[str, Strategy] = {
    "supervised": Strategy(supervised),
    "cisc": Strategy(cisc),
    "fixmatch": Strategy(fixmatch, strong_view=True),
    "mean_teacher": Strategy(mean_teacher),
    "cutmix": Strategy(cutmix, strong_view=True, recoloured=True),
}
