"""The scores of `evaluate`: PSNR, SSIM, LPIPS, mIoU, and the paired bootstrap.

Everything here is per photo and pure. Images to score are float tensors (B,3,H,W) in [0,255], because results are
scored as the uint8 files a user gets; LPIPS alone wants [-1,1].

    psnr(a, b)                          -> (B,) dB over the whole image
    psnr_hole(a, b, hole)               -> (B,) dB over the hole pixels only
    ssim(a, b)                          -> (B,) Gaussian window 11, sigma 1.5
    LPIPS("alex")(a, b)                 -> (B,) perceptual distance, lower is better
    confusion_matrix(truth, map, where, C) -> (C,C) counts;  miou_from_confusion(counts) -> (...,)
    paired_relative(a, b), paired_relative_miou(a, b) -> {"relative": ..., "ci95": [lo, hi]}
"""

import os
import warnings
from pathlib import Path
from pickle import UnpicklingError  # which torch raises for a file that holds more than tensors

import lpips
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE

DATA_RANGE = 255.0
PSNR_CEILING = 100.0  # dB; identical images have an infinite PSNR, which no mean survives
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004
LPIPS_VERSION = "0.1"
LPIPS_MIN_SIDE = 32  # below 31 pixels AlexNet's second pooling has nothing left to pool

BACKBONES_VARIABLE = "FBINPAINT_BACKBONES"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"  # of torch-fidelity
BACKBONE_FILES = {  # names looked for, in this order, in a folder of backbones
    "alex": ("alexnet_features.safetensors",),
    "vgg": ("vgg16_features.safetensors", "vgg16_features_fp16.safetensors"),
    "inception": (INCEPTION_FILE,),
}
CACHED_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "inception": INCEPTION_FILE}
NOT_WEIGHTS = (OSError, SafetensorError, UnpicklingError, EOFError, KeyError, AttributeError, RuntimeError)


# ---------------------------------------------------------------------------------------------- images

def psnr(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image, in dB, at most `PSNR_CEILING`. (B,3,H,W) in [0,255] twice -> (B,)."""
    values = peak_signal_noise_ratio(result, truth, data_range=DATA_RANGE, dim=(1, 2, 3), reduction="none")
    return values.clamp(max=PSNR_CEILING)


def psnr_hole(result: torch.Tensor, truth: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """PSNR over the hole pixels only. (B,3,H,W) in [0,255] twice, bool hole (B,1,H,W) -> (B,); nan where no hole is."""
    return torch.stack([
        peak_signal_noise_ratio(a[:, h[0]], b[:, h[0]], data_range=DATA_RANGE).clamp(max=PSNR_CEILING)
        for a, b, h in zip(result, truth, hole, strict=True)
    ])


def ssim(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each image, mean over pixels and RGB. (B,3,H,W) in [0,255] twice -> (B,)."""
    of_each = structural_similarity_index_measure(
        result, truth, kernel_size=SSIM_WINDOW, sigma=SSIM_SIGMA, data_range=DATA_RANGE, reduction="none"
    )
    assert isinstance(of_each, torch.Tensor), "it is a tuple with `return_full_image` alone"
    return of_each.reshape(-1)


# ---------------------------------------------------------------------------------------------- LPIPS

class LPIPS:
    """The perceptual distance of Zhang et al. 2018 (`lpips` package, v0.1), on a backbone that was really loaded.

    `lpips` alone would download the backbone from pytorch.org, or silently score with a random one; here it comes from
    the first place of `find_backbone` that has it. Raises InputError if none has, or if the file is not that network.
    """

    def __init__(self, net: str = "alex", backbone: Path | None = None, device: torch.device | str = "cpu"):
        path = find_backbone(net) if backbone is None else Path(backbone)
        if path is None:
            raise InputError(
                f"no backbone for LPIPS-{net}: put {BACKBONE_FILES[net][0]} (torchvision's features.*, prefix removed) "
                f"in a folder and name the folder in ${BACKBONES_VARIABLE}"
            )
        # `lpips` draws random weights before ours replace them: the caller's random stream must not notice.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torchvision's, about an argument that lpips passes
            self.model = lpips.LPIPS(net=net, version=LPIPS_VERSION, pretrained=True, pnet_rand=True, verbose=False)
        _load_backbone(self.model.net, path)
        self.model.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)
        self.device = torch.device(device)

    def __call__(self, result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Images (B,3,H,W) in [-1,1], sides of `LPIPS_MIN_SIDE` or more -> distances (B,), on the CPU."""
        return self.distance(self.features(result), self.features(truth))

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images -> what `distance` compares: five maps (B,C,h,w), unit length along C.

        `lpips` computes them anew for each pair; they are most of its time, and a photo meets many variants of itself.
        """
        images = images.to(self.device, memory_format=torch.channels_last)
        return [lpips.normalize_tensor(level) for level in self.model.net(self.model.scaling_layer(images))]

    @torch.no_grad()
    def distance(self, result: list[torch.Tensor], truth: list[torch.Tensor]) -> torch.Tensor:
        """Equation 1 of the paper: squared differences, weighted by channel, mean over space, summed over levels."""
        levels = zip(self.model.lins, result, truth, strict=True)
        return sum(lpips.spatial_average(lin((a - b) ** 2)) for lin, a, b in levels).reshape(-1).cpu()


def find_backbone(net: str) -> Path | None:
    """The first file found for "alex", "vgg" or "inception": $FBINPAINT_BACKBONES, this package, then torch's cache."""
    folders = [Path(os.environ[BACKBONES_VARIABLE])] if os.environ.get(BACKBONES_VARIABLE) else []
    folders.append(Path(__file__).parents[1] / "weights")
    candidates = [folder / name for folder in folders for name in BACKBONE_FILES[net]]
    candidates.append(Path(torch.hub.get_dir()) / "checkpoints" / CACHED_FILES[net])
    return next((path for path in candidates if path.is_file()), None)


def _load_backbone(slices: torch.nn.Module, path: Path) -> None:
    """Fills lpips' `slice<n>.<i>.weight` from features `<i>.weight` (or torchvision's `features.<i>.weight`)."""
    try:
        features = {key.removeprefix("features."): value.float() for key, value in read_weights(path).items()}
        slices.load_state_dict({key: features[key.split(".", 1)[1]] for key in slices.state_dict()})
    except NOT_WEIGHTS as error:
        raise InputError(f"{path}: is no backbone LPIPS can use ({type(error).__name__}); replace the file") from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of one that torch saved. Raises one of `NOT_WEIGHTS` for another file."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


# ---------------------------------------------------------------------------------------------- semantics

def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, where: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (C,C) int64 of (true class, predicted class) over the pixels of `where` whose true class is known.

    Maps are (H,W) ids, `where` is (H,W) bool. Raises ValueError if an id (other than IGNORE in `truth`) is not a class.
    """
    counted = where & (truth != IGNORE)
    true_ids, predicted_ids = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    if true_ids.size and max(true_ids.max(), predicted_ids.max()) >= num_classes:
        raise ValueError(f"a map holds an id that is not one of the {num_classes} classes")
    cells = true_ids * num_classes + predicted_ids
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_from_confusion(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union of each class, counts (...,C,C) -> (...,C) in [0,1], 0 for a class in neither map;
    and (...,C) bool, whether the labels hold the class."""
    confusion = np.asarray(confusion, dtype=np.float64)
    intersection = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., C)
    in_labels = confusion.sum(-1)
    union = in_labels + confusion.sum(-2) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0), in_labels > 0


def miou_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Mean intersection over union of counts (...,C,C) -> (...,) in [0,1], over the classes that the labels hold.

    A class that is only predicted has no term of its own, but lowers those of the classes it is taken for. nan where
    nothing is labelled.
    """
    iou, labelled = iou_from_confusion(confusion)
    count = labelled.sum(-1)
    return np.divide((iou * labelled).sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)


# ---------------------------------------------------------------------------------------------- paired bootstrap

def paired_relative(a: np.ndarray, b: np.ndarray, seed: int = 0, resamples: int = 2000) -> dict:
    """How much the mean of `a` lies above that of `b`, as a share of the latter: (mean a - mean b) / mean b.

    `a` and `b` (N,) score the same photos in the same order. Returns {"relative": float, "ci95": [lo, hi]}, the
    percentile bootstrap over photos. The same seed draws the same photos, whatever the metric.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    drawn = _draw_photos(len(a), seed, resamples)
    return _relative(a.mean(), b.mean(), drawn @ a, drawn @ b)


def paired_relative_miou(a: np.ndarray, b: np.ndarray, seed: int = 0, resamples: int = 2000) -> dict:
    """`paired_relative` for the mIoU of summed confusions: `a` and `b` are (N,C,C), one confusion for each photo."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    drawn = _draw_photos(len(a), seed, resamples)

    def resampled(confusions: np.ndarray) -> np.ndarray:
        n, c, _ = confusions.shape
        return miou_from_confusion((drawn @ confusions.reshape(n, c * c)).reshape(-1, c, c))

    return _relative(miou_from_confusion(a.sum(0)), miou_from_confusion(b.sum(0)), resampled(a), resampled(b))


def _draw_photos(n: int, seed: int, resamples: int) -> np.ndarray:
    """(resamples, N): how large a share of each resample each photo has; drawing N photos with replacement."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n


def _relative(a: float | np.ndarray, b: float | np.ndarray, resampled_a: np.ndarray, resampled_b: np.ndarray) -> dict:
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing is relative to 0 (a perfect LPIPS): nan or inf
        relative = np.divide(np.subtract(a, b), b)
        low, high = np.quantile(np.divide(resampled_a - resampled_b, resampled_b), [0.025, 0.975])
    return {"relative": float(relative), "ci95": [float(low), float(high)]}
