"""The exemplar bank of a trained model: prototypes of its labelled photos, as its own segmenter sees them."""

import numpy as np
import torch
from datasets import Dataset

from ..data.photos import read_photo
from ..images import pad_to_multiple, to_tensor
from ..labels import LabelSpace
from ..loop import Networks
from ..models.exemplar_bank import Exemplars


@torch.no_grad()
def build_bank(
    networks: Networks, photos: Dataset, label_space: LabelSpace, resolution: int, size: int
) -> Exemplars:
    """Prototypes of at most `size` photos, evenly spaced over `photos` (all labelled), shorter side `resolution`."""
    device = networks.segmenter.device
    banks = []
    for index in np.unique(np.linspace(0, len(photos) - 1, min(size, len(photos))).round().astype(int)):
        photo, semantic_map = read_photo(photos, int(index), resolution, label_space)
        image = pad_to_multiple(to_tensor(photo), 16).to(device)
        labels = torch.from_numpy(semantic_map)[None, None].float()
        labels = pad_to_multiple(labels, 16).long()[:, 0, 2::4, 2::4].to(device)
        features = networks.segmenter(image, torch.zeros_like(image[:, :1])).features
        banks.append(networks.recorrector.make_exemplars(features, labels))
    return Exemplars(*(torch.cat([getattr(b, name) for b in banks]) for name in ("prototypes", "present", "keys")))
