"""The Fréchet inception distance (Heusel et al., 2017): how far fills are, all together, from all of the photos.

The distance is torchmetrics', the features are those of torch-fidelity's Inception v3, which are TensorFlow's of the
paper. Its weights are looked for as LPIPS' are (`metrics.find_backbone`), and nothing downloads them.
"""

import io
from pathlib import Path

import numpy as np
import torch

from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.system.processes import print_note

NUM_FEATURES = 2048
MIN_PHOTOS = NUM_FEATURES + 1  # a covariance of fewer has directions without any spread


class Inception:
    """Raises InputError for a file that is not of this network."""

    def __init__(self, path: Path, device: torch.device | str = "cpu"):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # Its own reader runs whatever a file says, so it is given nothing but tensors, which were read by another.
        tensors = io.BytesIO()
        try:
            torch.save(metrics.read_weights(path), tensors)
            tensors.seek(0)
            network = FeatureExtractorInceptionV3("inception", [str(NUM_FEATURES)], tensors)
        except metrics.NOT_WEIGHTS as error:
            raise InputError(
                f"{path}: is not Inception v3 of torch-fidelity ({type(error).__name__}); replace the file"
            ) from error
        self.network = network.eval().to(device)  # which version 0.3 leaves as for training
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> np.ndarray:
        """(B,3,H,W) whole numbers in [0,255] -> (B,2048)."""
        (features,) = self.network(images.to(self.device, torch.uint8))
        return features.cpu().numpy()


def load_inception(photos: int, device: torch.device) -> Inception | None:
    """None for too few photos, and without weights; the latter is said."""
    if photos < MIN_PHOTOS:
        return None
    path = metrics.find_backbone("inception")
    if path is None:
        print_note([f"fid is left out: no {metrics.BACKBONE_FILES['inception'][0]} in ${metrics.BACKBONES_VARIABLE}"])
        return None
    return Inception(path, device)


class _Features(torch.nn.Identity):
    """What torchmetrics takes for a network, where it is given features."""

    def __init__(self, number: int):
        super().__init__()
        self.num_features = number


def fid(fills: np.ndarray, photos: np.ndarray) -> float | None:
    """Features (N,F) of each -> their distance, 0 or more, lower is better; None for too few."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    if len(photos) < MIN_PHOTOS:
        return None
    distance = FrechetInceptionDistance(_Features(photos.shape[1]))
    distance.update(torch.from_numpy(photos), real=True)
    distance.update(torch.from_numpy(fills), real=False)
    return float(distance.compute())
