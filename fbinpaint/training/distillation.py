"""Several passes in one: a painter that sharpens its own fill again and again teaches another to do so at once.

After Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022. What the teacher
paints is a function of what the student sees, so that an L1 loss does not blur it, as it does where only the photo is
known.
"""

import torch
from torch import Tensor

from ..errors import InputError
from ..labels import LabelSpace
from ..loop import Networks, composite
from ..pipeline import FeedbackInpaintPipeline

PASSES = 3
# So many of the steps have the teacher's fill for a target instead of the photo.
ODDS = 0.75


def load_teacher(model: str | None, label_space: LabelSpace, device: torch.device) -> Networks | None:
    """The frozen networks of a pipeline, a folder or a Hub id. Raises InputError where its classes are others."""
    if model is None:
        return None
    pipeline = FeedbackInpaintPipeline.from_pretrained(model)
    if pipeline.label_space.classes != label_space.classes:
        raise InputError(
            f"--distilled_model {model}: is of {pipeline.label_space.name}, not of {label_space.name}; name another"
        )
    return pipeline.networks.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


@torch.no_grad()
def repainted(networks: Networks, image: Tensor, mask: Tensor, probabilities: Tensor) -> Tensor:
    """PASSES of the guided inpainter, each over the fill of the one before, all guided by the same map.

    image (B,3,H,W) in [-1,1], mask (B,1,H,W), probabilities (B,C,H/4,W/4) -> (B,3,H,W), the photo itself around the
    hole.
    """
    context = networks.initial_inpainter(image * (1 - mask), mask)
    fill = composite(context.image, image, mask)
    for _ in range(PASSES):
        conditioning = networks.guided_inpainter.prepare(fill, mask, context.context4, context.context8, probabilities)
        fill = composite(networks.guided_inpainter(probabilities, conditioning).image, image, mask)
    return fill
