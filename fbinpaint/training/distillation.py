"""One model teaches another: what it paints, with its own maps, is what the other should paint with other maps; and
what it sees in fills is what a segmenter that learns alone should go on seeing there.

After Hinton et al., "Distilling the Knowledge in a Neural Network", 2015. A teacher's fill is a function of what the
student sees, so that an L1 loss does not blur it as it does where only the photo is known: a painter can follow a new
segmenter, or become smaller, without the discriminator that once taught the details. A segmenter can learn more of
intact photos, while the painter that has grown used to its maps of fills gets them as before.
"""

import torch
from torch import Tensor

from fbinpaint.errors import InputError
from fbinpaint.hub.saved import pinned
from fbinpaint.labels import LabelSpace
from fbinpaint.loop import Networks, feedback_rounds
from fbinpaint.pipeline import FeedbackInpaintPipeline

NUM_ROUNDS = 2  # of the teacher's own maps


def load_teacher(model: str | None, label_space: LabelSpace, device: torch.device) -> Networks | None:
    """The frozen networks of a pipeline, a folder or a Hub id. Raises InputError where its classes are others."""
    if model is None:
        return None
    pipeline = FeedbackInpaintPipeline.from_pretrained(pinned(model))
    if pipeline.label_space.classes != label_space.classes:
        raise InputError(
            f"--distilled_model {model}: is of {pipeline.label_space.name}, not of {label_space.name}; name another"
        )
    return pipeline.networks.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)


@torch.no_grad()
def taught(networks: Networks, image: Tensor, mask: Tensor, semantic_map: Tensor) -> Tensor:
    """What the teacher paints.

    image (B,3,H,W) in [-1,1], mask (B,1,H,W), semantic_map (B,H,W) int64, what was drawn, 255 = nothing -> (B,3,H,W),
    the photo itself around the hole.
    """
    *_, last = feedback_rounds(networks, image, mask, NUM_ROUNDS, semantic_map)
    return last.image


@torch.no_grad()
def seen_by(networks: Networks, fill: Tensor, mask: Tensor) -> Tensor:
    """The teacher's own map of a fill (B,3,H,W) in [-1,1], mask (B,1,H,W): probabilities (B,C,H/4,W/4)."""
    return networks.segmenter(fill, mask).logits.softmax(1)
