"""The exemplar bank of a trained model: prototypes of its labelled photos, as its own segmenter sees them."""

import numpy as np
import torch
from datasets import Dataset

from ..images import pad_to_multiple, resize_image, shorter_side, to_rgb, to_tensor
from ..loop import Networks
from ..models.exemplar_bank import Exemplars


@torch.no_grad()
def build_bank(networks: Networks, photos: Dataset, resolution: int, size: int) -> Exemplars:
    """Prototypes of at most `size` photos, evenly spaced over `photos` (all labelled), shorter side `resolution`."""
    device = networks.segmenter.device
    banks = []
    for index in np.unique(np.linspace(0, len(photos) - 1, min(size, len(photos))).round().astype(int)):
        row = photos[int(index)]
        image = to_rgb(row["image"])
        width, height = shorter_side((image.shape[1], image.shape[0]), resolution)
        labels = torch.from_numpy(np.array(row["semantic_map"].resize((width, height), 0))).long()[None, None]
        image = pad_to_multiple(to_tensor(resize_image(image, (width, height))), 16).to(device)
        labels = pad_to_multiple(labels.float(), 16).long()[:, 0, 2::4, 2::4].to(device)
        features = networks.segmenter(image, torch.zeros_like(image[:, :1])).features
        banks.append(networks.recorrector.make_exemplars(features, labels))
    return Exemplars(*(torch.cat([getattr(b, name) for b in banks]) for name in ("prototypes", "present", "keys")))
