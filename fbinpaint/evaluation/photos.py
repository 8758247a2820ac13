"""The photos of a protocol, each with its hole and, where there is one, its label, as they are scored."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fbinpaint.errors import InputError, first_of
from fbinpaint.evaluation import metrics
from fbinpaint.images.convert import check_hole, read_map, to_mask, to_rgb, upright
from fbinpaint.images.crops import resize_image, shorter_side
from fbinpaint.images.folders import Pair, files_by_stem, naming, pair_by_stem, tell_no_photos, visible_files
from fbinpaint.images.io import PHOTO_SUFFIXES, fetched, load_image
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import MASK_KINDS, evaluation_mask
from fbinpaint.system.processes import print_note

PAIRINGS = ("stem", "cycle")
SPLITS = ("val", "test")


@dataclass(frozen=True)
class Sample:
    """One photo at the resolution of the protocol.

    photo: (H,W,3) uint8
    hole:  (H,W) bool, at least one pixel
    truth: (H,W) uint8 ids, 255 = unknown; None = no pixel of the photo is labelled
    """

    stem: str
    photo: np.ndarray
    hole: np.ndarray
    truth: np.ndarray | None


def load_sample(
    pair: Pair,
    label: Path | dict | None,
    index: int,
    resolution: int,
    seed: int,
    label_space: LabelSpace | None,
    mask_kind: str = "irregular",
    any_shape: bool = False,
) -> Sample:
    """Reads and resizes one photo with its mask (the evaluation mask `index` where the pair has none) and label.

    label:     index image, or row of an official data set (`fbinpaint.data.rows`)
    any_shape: whether the mask may have another shape than the photo, which then stretches it

    Raises InputError, naming the file, for what cannot be read, a hole of no pixel, and ids that are no class.
    """
    with naming(pair.image):
        original = load_image(fetched(pair.image))
        photo = to_rgb(original)
    size = shorter_side((photo.shape[1], photo.shape[0]), resolution)  # (width, height)
    photo = resize_image(photo, size)

    if pair.mask is None:
        hole = evaluation_mask(mask_kind, size[1], size[0], index, seed)
    else:
        with naming(pair.mask):
            mask = load_image(fetched(pair.mask))
            if any_shape:
                hole = to_mask(mask, upright(mask, "mask").size).astype(np.uint8)
                hole = cv2.resize(hole, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
            else:
                hole = to_mask(mask, size, photo=original)
            if not hole.any():
                raise InputError(f"no hole at {size[0]}x{size[1]}, so nothing to score; draw one in white")
            check_hole(hole, str(pair.mask))

    truth = None
    if label is not None and label_space is not None:
        ids = _read_label(label, label_space)  # whose errors name the file
        with naming(label if isinstance(label, Path) else pair.image):
            truth = read_map(ids, size, label_space)
        truth = truth if (truth != IGNORE).any() else None
    return Sample(pair.stem, photo, hole, truth)


def _read_label(label: Path | dict, label_space: LabelSpace) -> Image.Image | np.ndarray:
    """The ids at their own size, as `read_map` takes them."""
    if isinstance(label, Path):
        image = load_image(label)
        if image.format not in (None, "PNG"):
            raise InputError(f"{label}: is a {image.format} file whatever its name; labels are PNG files of class ids")
        return image
    from fbinpaint.data.photos import read_labels  # training's readers, which take a second to import

    return read_labels(label, label_space)


class Photos:
    """What is scored: the photos of a folder or a split, in the order of their names, each with its hole. Arguments and
    errors as of `evaluate`.

    pairs: one for each photo; index: stem -> its number, from which a mask is made
    """

    def __init__(
        self,
        data: Path,
        masks: Path | None = None,
        resolution: int = 256,
        limit: int | None = None,
        seed: int = 0,
        split: str | None = None,
        pairing: str = "stem",
        mask_kind: str | None = None,
    ):
        if resolution < metrics.LPIPS_MIN_SIDE:
            raise InputError(f"resolution {resolution} is too low: LPIPS needs {metrics.LPIPS_MIN_SIDE} pixels or more")
        if split not in (None, *SPLITS):
            raise InputError(f"unknown split {split!r}: use {', '.join(SPLITS)}")
        if pairing not in PAIRINGS:
            raise InputError(f"unknown pairing {pairing!r}: use {', '.join(PAIRINGS)}")
        if mask_kind not in (None, *MASK_KINDS):
            raise InputError(f"unknown mask kind {mask_kind!r}: use {', '.join(MASK_KINDS)}")
        if masks is not None and mask_kind:
            raise InputError("masks are either made, by --mask-kind, or those of --masks: leave one of them out")
        if masks is None and pairing != "stem":
            raise InputError(f"--pairing {pairing} is for the masks of a folder: name it with --masks")
        self.data, self.masks, self.resolution, self.seed = data, masks, resolution, seed
        self.split, self.pairing, self.mask_kind = split, pairing, mask_kind or "irregular"
        self.rows: dict[str, dict] = {}
        by_stem = None if pairing == "cycle" else masks
        if split is None:
            self.pairs = _protocol_pairs(data, by_stem, limit)
        else:
            from fbinpaint.data.splits import load_split  # training's readers, which take a second to import

            self.rows = dict(itertools.islice(load_split(data, split).items(), limit))
            self.pairs = _pairs({stem: [Path(row["name"])] for stem, row in self.rows.items()}, by_stem)
        if pairing == "cycle" and masks is not None:
            self.pairs = _in_turn(self.pairs, masks)
        self.index = {pair.stem: i for i, pair in enumerate(self.pairs)}

    def labels(self) -> Mapping[str, Path | dict]:
        """Stem -> label, of the labelled ones."""
        if self.split is None:
            return _labels(self.data, self.pairs)
        return {stem: row for stem, row in self.rows.items() if row["semantic_map"] is not None}

    def sample(self, pair: Pair, label: Path | dict | None, label_space: LabelSpace | None) -> Sample:
        """As `load_sample`; label_space: None = without a label."""
        return load_sample(
            pair, label, self.index[pair.stem], self.resolution, self.seed, label_space,
            mask_kind=self.mask_kind, any_shape=self.pairing == "cycle",
        )  # fmt: skip

    def description(self, labelled_shares: Sequence[float]) -> dict:
        """As `_describe_inputs`."""
        masks = _describe_masks(self.masks, self.pairing, self.mask_kind, self.seed)
        inputs = _describe_inputs(self.data, masks, len(self.pairs), labelled_shares, self.resolution, self.seed)
        return inputs | {
            "split": self.split,
            "pairing": None if self.masks is None else self.pairing,
            "mask_kind": self.mask_kind if self.masks is None else None,
        }


def _labels(data: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Stem -> label of the photos that have one.

    Raises InputError for two of a stem, for another format than PNG (it may have changed the ids), and for labels none
    of which is of a photo.
    """
    if not os.path.isdir(data / "labels"):
        return {}
    found = files_by_stem(data / "labels")
    labels = {}
    for pair in pairs:
        paths = found.get(pair.stem, [])
        names = ", ".join(map(str, paths))
        if len(paths) > 1:
            raise InputError(f"{names}: labels of the same stem cannot be told apart; keep one")
        if paths and paths[0].suffix.lower() != ".png":
            raise InputError(f"{names}: labels are PNG files of class ids; save it as one, or move it away")
        if paths:
            labels[pair.stem] = paths[0]
    photos = files_by_stem(data / "images")
    if not found and (others := visible_files(data / "labels")):
        raise InputError(f"{others[0]}: labels are PNG files of class ids; save it as one, or move labels/ away")
    if found and found.keys().isdisjoint(photos):
        raise InputError(f"{data / 'labels'}: none of its files has the name of a photo in images/; rename them")
    unused = sorted(found.keys() - photos.keys())
    print_note([f"{found[name][0]}: has the name of no photo in images/, not used" for name in unused])
    return labels


def _protocol_pairs(data: Path, masks: Path | None, limit: int | None) -> list[Pair]:
    images = data / "images"
    if not os.path.isdir(images):
        from fbinpaint.data.splits import LAYOUTS

        if official := [name for name in LAYOUTS if os.path.isdir(data / name)]:
            raise InputError(f"{data}: holds {official[0]}; say with --split {'|'.join(SPLITS)} which part is scored")
        raise InputError(f"{data}: has no folder images/; put the photos there (and index maps in labels/, if any)")
    photos = dict(itertools.islice(files_by_stem(images).items(), limit))
    if not photos:
        raise InputError(f"{images}: holds no photo; use {' '.join(PHOTO_SUFFIXES)}")
    tell_no_photos(visible_files(images))
    return _pairs(photos, masks)


def _pairs(photos: dict[str, list[Path]], masks: Path | None) -> list[Pair]:
    """By stem. Raises InputError for what cannot be paired."""
    pairs, problems = pair_by_stem(photos, None if masks is None else files_by_stem(masks))
    if problems:
        raise InputError(first_of(problems))
    return pairs


def _in_turn(pairs: Sequence[Pair], masks: Path) -> list[Pair]:
    """The pairs with the masks of a folder, by name, over and over."""
    files = [path for paths in files_by_stem(masks).values() for path in paths]
    if not files:
        raise InputError(f"{masks}: holds no mask; use {' '.join(PHOTO_SUFFIXES)}")
    return [replace(pair, mask=files[i % len(files)]) for i, pair in enumerate(pairs)]


def knows_a_pixel(label: Path | dict, label_space: LabelSpace, resolution: int) -> bool:
    """At the size at which photos are scored. Raises InputError for a label that cannot be read."""
    ids = _read_label(label, label_space)
    with naming(label if isinstance(label, Path) else label["name"]):
        own = ids.shape[1::-1] if isinstance(ids, np.ndarray) else upright(ids, "label").size
        return bool((read_map(ids, own, label_space, shorter_side(own, resolution)) != IGNORE).any())


def _describe_masks(masks: Path | None, pairing: str, kind: str, seed: int) -> str:
    if masks:
        name = folder_name(masks)
        return name if pairing == "stem" else f"{name}, in turn by name, stretched to each photo"
    if kind == "irregular":
        return f"protocol masks of fbinpaint, seed {seed}, numbered as the photos are"
    if kind == "centre":
        return "centre: a box of half the sides"
    return f"{kind} masks after LaMa's at 256, scaled with the shorter side, seed {seed}, numbered as the photos are"


def _describe_inputs(
    data: Path, masks: str, n: int, labelled_shares: Sequence[float], resolution: int, seed: int
) -> dict:
    """What was scored. labelled_shares: of each photo with a label, the share of its pixels that are labelled."""
    return {
        "data": folder_name(data),
        "n": n,
        "n_with_labels": len(labelled_shares),
        "labelled_share": float(np.mean(labelled_shares)) if labelled_shares else None,
        "masks": masks,
        "mask_ratio": "share of hole pixels at the scored resolution; bins are [low, high)",
        "resolution": resolution,
        "resize": "before inpainting, shorter side to the resolution, aspect kept: photos by area averages (bicubic if "
        "they grow), masks and labels by nearest; worked on at the resolution, or at sample_size where that is less",
        "seed": seed,
    }


def folder_name(folder: Path) -> str:
    """The folder and the one it lies in: enough to tell data apart, and the same on every machine."""
    return "/".join(folder.resolve().parts[-2:])
