"""Exemplars made of labelled photos, as a segmenter sees them: of training photos for a new model's bank, or of
somebody's own for an existing one's."""

from collections.abc import Iterable

import cv2
import numpy as np
import torch

from fbinpaint.images.tensors import pad_to_multiple, to_tensor
from fbinpaint.labels import LabelSpace
from fbinpaint.models import Segmenter
from fbinpaint.models.exemplar_bank import MAP_SIDE, Exemplars, Statistics
from fbinpaint.models.layers import downsample_labels


@torch.no_grad()
def make_exemplars(
    segmenter: Segmenter, label_space: LabelSpace, labelled: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Exemplars:
    """labelled: photos (H,W,3) uint8 at the size that the networks work at, and their maps (H,W) uint8, 255 = unknown.
    """
    statistics: Statistics | None = None
    maps = []
    for photo, semantic_map in labelled:
        image = pad_to_multiple(to_tensor(photo), 16).to(segmenter.device, segmenter.dtype)
        labels = pad_to_multiple(torch.from_numpy(semantic_map)[None, None].float(), 16)[:, 0].long()
        pyramid = segmenter(image, torch.zeros_like(image[:, :1])).pyramid
        if statistics is None:
            statistics = Statistics(segmenter.config.num_classes, sum(level.shape[1] for level in pyramid))
        statistics.add(pyramid, downsample_labels(labels))
        maps.append(cv2.resize(semantic_map, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_NEAREST_EXACT))
    if statistics is None:
        raise ValueError("no photo, so there is nothing to make exemplars of")
    mirror = torch.from_numpy(label_space.flip(np.arange(label_space.num_classes, dtype=np.uint8)))
    return statistics.exemplars(torch.from_numpy(np.stack(maps)), mirror)
