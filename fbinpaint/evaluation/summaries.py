"""What scores of photos come to: means, bins of hole sizes, paired intervals."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.fid import MIN_PHOTOS, fid
from fbinpaint.evaluation.scoring import IMAGE_METRICS, PhotoScore
from fbinpaint.labels import LabelSpace
from fbinpaint.system.files import strict

RATIO_EDGES = (0, 10, 20, 30, 40, 50, 60, 100)  # per cent of the photo that is hole; bins are [low, high)
BOOTSTRAP_RESAMPLES = 2000
PAIRED = (
    "(mean a - mean b) / mean b over the n photos that both have scores of; ci95: percentile bootstrap, "
    f"{BOOTSTRAP_RESAMPLES} resamples of photos"
)


def summaries(scores: dict[str, list[PhotoScore]], label_space: LabelSpace) -> dict[str, dict]:
    names = [f"{low}-{high}%" for low, high in itertools.pairwise(RATIO_EDGES)]

    def bin_of(one: PhotoScore) -> str:
        position = int(np.searchsorted(RATIO_EDGES, 100 * one.mask_ratio, side="right")) - 1
        return names[min(position, len(names) - 1)]  # the last bin holds 100 % too

    def by_mask_ratio(of_variant: list[PhotoScore]) -> dict[str, dict]:
        bins = {name: [one for one in of_variant if bin_of(one) == name] for name in names}
        return {name: _summary(members, label_space) for name, members in bins.items() if members}

    return {
        name: {
            "overall": _summary(of_variant, label_space),
            "by_mask_ratio": by_mask_ratio(of_variant),
            "do_no_harm": _harm_summary(of_variant),
            "fid": _fid(of_variant),
        }
        for name, of_variant in scores.items()
    }


def _summary(scores: list[PhotoScore], label_space: LabelSpace) -> dict:
    columns = {name: [getattr(one, name) for one in scores] for name in IMAGE_METRICS}
    after = [one.after for one in scores if one.after is not None]
    return {
        **{name: None if None in column else float(np.mean(column)) for name, column in columns.items()},
        "miou_hole_before": miou([one.before for one in scores]),
        "miou_hole_after": miou(after),
        "iou_hole_by_class": _iou_by_class(np.sum(after, axis=0), label_space) if after else None,
        "n": len(scores),
    }


def _harm_summary(scores: list[PhotoScore]) -> dict | None:
    """Shares of the labelled hole pixels of all photos; None without maps, or where there are none."""
    known = [one for one in scores if one.after is not None]
    pixels = sum(int(one.after.sum()) for one in known if one.after is not None)
    if not pixels:
        return None
    return {name: sum(int(getattr(one, name)) for one in known) / pixels for name in ("fixed", "broken")}


def _fid(scores: list[PhotoScore]) -> float | None:
    features = [one.inception for one in scores if one.inception is not None]
    return fid(*map(np.stack, zip(*features, strict=True))) if features else None


def _iou_by_class(confusion: np.ndarray, label_space: LabelSpace) -> dict[str, float]:
    """By the names of the data set's owners, of the classes that the labels hold."""
    iou, labelled = metrics.iou_from_confusion(confusion)
    return {name: float(iou[i]) for i, name in enumerate(label_space.classes) if labelled[i]}


def intact_summary(confusions: list[np.ndarray], label_space: LabelSpace) -> dict | None:
    if not confusions:
        return None
    by_class = _iou_by_class(np.sum(confusions, axis=0), label_space)
    return {"miou": miou(confusions), "iou_by_class": by_class, "n": len(confusions)}


def miou(confusions: Sequence[np.ndarray | None]) -> float | None:
    known = [confusion for confusion in confusions if confusion is not None]
    return float(metrics.miou_from_confusion(np.sum(known, axis=0))) if known else None


def comparisons(
    rounds: Sequence[int], others: Sequence[str], scores: dict[str, list[PhotoScore]], seed: int
) -> dict[str, dict]:
    """Every number of rounds against none, and against each of the other variants."""
    against_none = [(f"rounds={k}", "rounds=0") for k in rounds if k > 0 and 0 in rounds]
    against_others = [(f"rounds={k}", name) for k in rounds for name in others]
    return {f"{a} vs {b}": comparison(scores[a], scores[b], seed) for a, b in against_none + against_others}


def comparison(a: list[PhotoScore], b: list[PhotoScore], seed: int) -> dict:
    """How `a` differs from `b` in each metric, on the n photos that both have scores of."""
    theirs = {one.photo: one for one in b}
    pairs = [(one, theirs[one.photo]) for one in a if one.photo in theirs]
    compared: dict[str, dict | None] = {}
    for name in IMAGE_METRICS:
        columns = [[getattr(one, name) for one in side] for side in zip(*pairs, strict=True)]
        known = bool(pairs) and all(None not in column for column in columns)
        compared[name] = _relative(metrics.paired_relative, columns, seed) if known else None
    # Photos whose holes hold labelled pixels: resamples of the others alone would have no mIoU.
    maps = [(x.after, y.after) for x, y in pairs if x.after is not None and y.after is not None and x.after.any()]
    columns = [np.stack(side) for side in zip(*maps, strict=True)]
    compared["miou_hole_after"] = _relative(metrics.paired_relative_miou, columns, seed) if maps else None
    return compared


def _relative(compare: Callable[..., dict], columns: Sequence, seed: int) -> dict:
    return compare(*columns, seed, BOOTSTRAP_RESAMPLES) | {"n": len(columns[0])}


def describe_metrics() -> dict[str, str]:
    whole = "mean over photos, whole composited uint8 image"
    lpips_text = f"LPIPS v{metrics.LPIPS_VERSION} of the lpips package, inputs in [-1,1], {whole}; lower is better"
    ceiling = f"capped at {metrics.PSNR_CEILING:g} dB"
    miou = "mean IoU over the classes that the labels hold, of the confusion in the hole summed over labelled photos; "
    miou += "pixels of label 255 do not count"
    return {
        "lpips_alex": f"AlexNet, {lpips_text}",
        "lpips_vgg": f"VGG16, {lpips_text}",
        "psnr": f"dB, RGB, data range 255, {whole}, {ceiling}",
        "ssim": f"RGB, Gaussian window {metrics.SSIM_WINDOW}, sigma {metrics.SSIM_SIGMA}, data range 255, {whole}",
        "psnr_hole": f"dB, RGB, data range 255, hole pixels only, mean over photos, {ceiling}",
        "miou_hole_before": f"{miou}; map of round 0",
        "miou_hole_after": f"{miou}; map of the variant's own round",
        "iou_hole_by_class": "the terms of miou_hole_after",
        "fid": "torchmetrics' Frechet distance, of 2,048 features of torch-fidelity's Inception v3, of the n whole "
        f"composited uint8 images and the photos, all together, {MIN_PHOTOS} or more; lower is better",
        "intact": "the same of the segmenter's maps of the photos without holes",
    }


def plain(value):
    """The same with floats rounded to 6 places, and None for what strict JSON has no word for."""
    return strict(value, 6)
