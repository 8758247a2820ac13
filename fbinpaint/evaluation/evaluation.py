"""The protocol of `python -m fbinpaint evaluate`: the same photos and holes for every variant, scored photo by photo.

    evaluation = evaluate(pipe, Path("val"), masks=Path("val/masks"), rounds=(0, 1, 2, 3))
    evaluation.report["variants"]["rounds=2"]["overall"]["lpips_alex"]
    evaluation.save(Path("report.json"))                    # and report.csv: one row for each photo and variant

A data folder holds images/ and, optionally, labels/ (index PNG, same stem; 255 = unknown, which is not scored); of
CelebAMask-HQ and Cityscapes as their owners have them a split is read (`fbinpaint.data.splits`). Under `accelerate
launch` the processes share the photos, and each returns the evaluation of all.
"""

import csv
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import control_pipelines, shuffled_maps, true_map
from fbinpaint.evaluation.exchange import check_results, read_result, write_protocol
from fbinpaint.hub.origin import read_origin
from fbinpaint.images.convert import check_hole, to_index_map, to_mask, to_rgb, upright
from fbinpaint.images.crops import composite, resize_image, shorter_side, working_size
from fbinpaint.images.folders import Pair, equal_size_batches, files_by_stem, naming, pair_by_stem, photo_size
from fbinpaint.images.io import PHOTO_SUFFIXES, fetched, load_image
from fbinpaint.labels import IGNORE, LabelSpace
from fbinpaint.masks import MASK_KINDS, evaluation_mask
from fbinpaint.system.files import whole_file
from fbinpaint.system.processes import check_processes

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

BATCH_SIZE = 8
RATIO_EDGES = (0, 10, 20, 30, 40, 50, 60, 100)  # per cent of the photo that is hole; bins are [low, high)
BASELINES = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
BASELINE_RADIUS = 3  # pixels
BIHARMONIC = "biharmonic"  # of scikit-image, where asked for
BIHARMONIC_PIXELS = 2**19  # of a photo as it is scored; at this size a hole of a quarter takes 3 seconds and 0.7 GB
PAIRINGS = ("stem", "cycle")
SPLITS = ("val", "test")
BOOTSTRAP_RESAMPLES = 2000
PAIRED = (
    "(mean a - mean b) / mean b over the n photos that both have scores of; ci95: percentile bootstrap, "
    f"{BOOTSTRAP_RESAMPLES} resamples of photos"
)
NO_FILLERS: Mapping[str, "Filler"] = MappingProxyType({})
IMAGE_METRICS = ("lpips_alex", "lpips_vgg", "psnr", "ssim", "psnr_hole")
LIBRARIES = ("torch", "torchvision", "diffusers", "lpips", "torchmetrics", "opencv-python-headless", "pillow", "numpy")


# ---------------------------------------------------------------------------------------------- one photo


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


@dataclass(frozen=True)
class Fill:
    """What one variant made of a sample: image (H,W,3) uint8, composited; semantic_map (H,W) ids or None."""

    image: np.ndarray
    semantic_map: np.ndarray = None  # type: ignore[assignment]  # of a baseline, whose map nobody looks at


Filler = Callable[[Sequence[Sample]], list[Fill]]  # of samples of one size

@dataclass(frozen=True)
class PhotoScore:
    """The scores of one variant on one photo; the names of the first fields are those of the report.

    before, after: (C,C) confusion in the hole of the map of round 0, and of the variant's own round; None = no map
                   (a baseline) or no label
    fixed, broken: pixels of the hole whose class is wrong before and right after, and the other way round
    """

    photo: str
    variant: str
    mask_ratio: float
    lpips_alex: float
    lpips_vgg: float | None
    psnr: float
    ssim: float
    psnr_hole: float
    before: np.ndarray | None
    after: np.ndarray | None
    fixed: int | None
    broken: int | None


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
            truth = to_index_map(ids, size, label_space.num_classes, label_space.ignored_ids)
        truth = truth if (truth != IGNORE).any() else None
    return Sample(pair.stem, photo, hole, truth)


def _read_label(label: Path | dict, label_space: LabelSpace) -> Image.Image | np.ndarray:
    """The ids at their own size, as `to_index_map` takes them."""
    if isinstance(label, Path):
        return load_image(label)
    from fbinpaint.data.photos import read_labels  # training's readers, which take a second to import

    return read_labels(label, label_space)


def fill_with_pipeline(
    pipe: "FeedbackInpaintPipeline",
    samples: Sequence[Sample],
    rounds: Sequence[int],
    seed: int,
    semantic_maps: list[np.ndarray] | None = None,
) -> dict[int, list[Fill]]:
    """Round -> fills.

    One call with the highest number holds all of them, unless photos are larger than the networks work at: only the
    last round of a call gets details then.
    """
    sizes = {sample.hole.shape for sample in samples}
    shrunk = any(working_size(width, height, pipe.config.sample_size) != (width, height) for height, width in sizes)
    calls = set(rounds) if shrunk else {max(rounds)}
    fills = {}
    for last in calls:
        out: Any = pipe(
            [Image.fromarray(sample.photo) for sample in samples],
            [sample.hole for sample in samples],
            num_feedback_rounds=last,
            semantic_map=semantic_maps,
            generator=torch.Generator().manual_seed(seed),
        )
        for k in {last} if len(calls) > 1 else rounds:
            fills[k] = [Fill(np.asarray(photo[k].image), np.asarray(photo[k].semantic_map)) for photo in out.rounds]
    return fills


def fill_with_baseline(name: str, sample: Sample) -> Fill:
    """The classical methods, which know nothing but the hole's border: "telea" and "navier-stokes" of OpenCV,
    "biharmonic" of scikit-image."""
    if name == BIHARMONIC:
        from skimage.restoration import inpaint_biharmonic  # for this row alone

        filled = inpaint_biharmonic(sample.photo, sample.hole, split_into_regions=True, channel_axis=-1)  # in [0,1]
        return Fill(composite(sample.photo, np.rint(255 * filled).astype(np.uint8), sample.hole))
    filled = cv2.inpaint(sample.photo, sample.hole.astype(np.uint8), BASELINE_RADIUS, BASELINES[name])
    return Fill(composite(sample.photo, filled, sample.hole))


class Scorer:
    """Scores any number of fills of the same samples, all of one size; what depends on the truth alone is done once."""

    def __init__(self, samples: Sequence[Sample], lpips: dict[str, metrics.LPIPS], num_classes: int):
        self.samples, self.lpips, self.num_classes = samples, lpips, num_classes
        self.truth = _levels([sample.photo for sample in samples])  # (B,3,H,W)
        self.truth_features = {net: scorer.features(self.truth / 127.5 - 1) for net, scorer in lpips.items()}
        self.holes = torch.from_numpy(np.stack([sample.hole for sample in samples]))[:, None]  # (B,1,H,W)

    def __call__(
        self,
        variant: str,
        fills: Sequence[Fill],
        before: Sequence[Fill] | None = None,
        only: Sequence[int] | None = None,
    ) -> list[PhotoScore]:
        """One score for each fill.

        before: the fills of round 0; None = a baseline, which has no maps
        only:   the places of the samples that the fills are of; None = all
        """
        # A slice, where all are meant: a list of places would copy every feature of the truth.
        places = slice(None) if only is None else list(only)
        samples = self.samples if only is None else [self.samples[i] for i in only]
        result, truth = _levels([fill.image for fill in fills]), self.truth[places]  # (B,3,H,W)
        columns: dict[str, Any] = {
            "psnr": metrics.psnr(result, truth),
            "ssim": metrics.ssim(result, truth),
            "psnr_hole": metrics.psnr_hole(result, truth, self.holes[places]),
        }
        for net, lpips in self.lpips.items():
            of_truth = [level[places] for level in self.truth_features[net]]
            columns[f"lpips_{net}"] = lpips.distance(lpips.features(result / 127.5 - 1), of_truth)
        nothing: list[np.ndarray | None] = [None] * len(fills)
        after = nothing if before is None else self._confusions(samples, fills)
        harm: list[tuple[int | None, int | None]] = [(None, None)] * len(fills)
        harm = harm if before is None else self._harm(samples, before, fills)
        before = nothing if before is None else self._confusions(samples, before)
        pictures: list[dict[str, Any]] = [
            {name: float(columns[name][i]) if name in columns else None for name in IMAGE_METRICS}
            for i in range(len(samples))
        ]
        return [
            PhotoScore(
                photo=sample.stem,
                variant=variant,
                mask_ratio=float(sample.hole.mean()),
                before=before[i],
                after=after[i],
                fixed=harm[i][0],
                broken=harm[i][1],
                **pictures[i],
            )
            for i, sample in enumerate(samples)
        ]

    def _confusions(self, samples: Sequence[Sample], fills: Sequence[Fill]) -> list[np.ndarray | None]:
        return [
            None
            if sample.truth is None
            else metrics.confusion_matrix(sample.truth, fill.semantic_map, sample.hole, self.num_classes)
            for sample, fill in zip(samples, fills, strict=True)
        ]

    @staticmethod
    def _harm(
        samples: Sequence[Sample], before: Sequence[Fill], after: Sequence[Fill]
    ) -> list[tuple[int | None, int | None]]:
        counts: list[tuple[int | None, int | None]] = []
        for sample, old, new in zip(samples, before, after, strict=True):
            if sample.truth is None:
                counts.append((None, None))
                continue
            was, is_ = (fill.semantic_map[sample.hole] == sample.truth[sample.hole] for fill in (old, new))
            known = sample.truth[sample.hole] != IGNORE
            counts.append((int((known & ~was & is_).sum()), int((known & was & ~is_).sum())))
        return counts


def _levels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """B images (H,W,3) uint8 -> (B,3,H,W) float in [0,255]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


# ---------------------------------------------------------------------------------------------- all photos


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


def _in_turn(pairs: Sequence[Pair], masks: Path) -> list[Pair]:
    """The pairs with the masks of a folder, by name, over and over."""
    files = [path for paths in files_by_stem(masks).values() for path in paths]
    if not files:
        raise InputError(f"{masks}: holds no mask; use {' '.join(PHOTO_SUFFIXES)}")
    return [replace(pair, mask=files[i % len(files)]) for i, pair in enumerate(pairs)]


def export_protocol(folder: Path, data: Path, **settings) -> int:
    """Writes the photos and masks exactly as `evaluate` scores them, for other tools to fill; returns how many.

    settings: as of `Photos`. Raises InputError as `evaluate`, and as `exchange.write_protocol`.
    """
    photos = Photos(data, **settings)

    def samples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for pair in tqdm(photos.pairs, desc="export", unit="photo"):
            sample = photos.sample(pair, None, None)
            yield sample.stem, sample.photo, sample.hole

    description = photos.description(())
    for key in ("n_with_labels", "labelled_share"):  # labels are not handed on
        description.pop(key)
    write_protocol(folder, samples(), description)
    return len(photos.pairs)


@dataclass(frozen=True)
class Evaluation:
    """report: what report.json holds. scores: method -> one score for each of its photos, in their order."""

    report: dict
    scores: dict[str, list[PhotoScore]]

    def save(self, path: Path) -> None:
        """Writes the report (strict JSON) and, beside it with the suffix .csv, the scores; each whole or not at all."""
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        columns = [field.name for field in fields(PhotoScore) if field.name not in ("before", "after")]
        rows = [
            [getattr(score, name) for name in columns] + [_miou([score.before]), _miou([score.after])]
            for score in itertools.chain.from_iterable(self.scores.values())
        ]
        with whole_file(path.with_suffix(".csv")) as temporary:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*columns, "miou_hole_before", "miou_hole_after"])
                writer.writerows([[_plain(value) for value in row] for row in rows])


def evaluate(
    pipe: "FeedbackInpaintPipeline",
    data: Path,
    masks: Path | None = None,
    resolution: int = 256,
    rounds: Sequence[int] = (0, 1, 2, 3),
    baselines: Sequence[str] = tuple(BASELINES),
    limit: int | None = None,
    seed: int = 0,
    controls: Sequence[str] = (),
    split: str | None = None,
    pairing: str = "stem",
    mask_kind: str | None = None,
    results: Mapping[str, Path] | None = None,
    fillers: Mapping[str, Filler] = NO_FILLERS,
    batch_size: int = BATCH_SIZE,
) -> Evaluation:
    """Scores `pipe` after each number of `rounds`, the `baselines` and the `controls`, on the photos of a folder.

    data:       holds images/ and, optionally, labels/ (index PNG of the pipeline's label space, same stem); with a
                `split`, CelebAMask-HQ or Cityscapes as their owners distribute them
    masks:      folder of masks, non-zero = hole; None = those of `mask_kind`, made from `seed`
    resolution: length of the shorter side, in pixels, at which photos are run and scored; they are worked on at this
                size if it is at most the pipeline's `sample_size`, else at that one
    limit:      only the first so many photos, by name; None = all
    seed:       of the protocol masks, of the pipeline's generator, of the bootstrap and of random exemplars
    controls:   of `fbinpaint.evaluation.controls`, run with the highest of `rounds`; wherever there is feedback,
                frozen-map is one
    split:      "val" or "test" of an official data set; None = all of images/
    pairing:    "stem" = the masks have the photos' names; "cycle" = they are of no photo and are used in turn, by name,
                stretched to each photo
    mask_kind:  one of `masks.MASK_KINDS`; None = "irregular", the protocol masks
    results:    name -> folder of what another tool made of the same photos and holes (see `export_protocol`)
    fillers:    name in the report -> what else fills the same samples, and is compared with `pipe` as baselines are
    batch_size: photos of one size that are filled and scored together, and whose maps shuffled-map swaps

    Raises InputError for a folder without photos, a photo without mask, and whatever cannot be read: a protocol that
    leaves photos out is another protocol.
    """
    if max(rounds) > 0 and pipe.config.variant == "feedback":
        controls = list(dict.fromkeys(["frozen-map", *controls]))
    results = dict(results or {})
    check_baselines(baselines)
    runner = Runner(pipe, rounds, baselines, controls, seed, results, fillers)
    photos = Photos(data, masks, resolution, limit, seed, split, pairing, mask_kind)
    labels = photos.labels()
    check_protocol(pipe, photos, labels, runner)
    found = score_photos(runner, photos, labels, batch_size)
    protocol = photos.description(found.labelled_shares) | {
        "model": str(pipe.name_or_path),
        "label_space": pipe.label_space.name,
        "sample_size": pipe.config.sample_size,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "batch_size": batch_size,
        "rounds": list(rounds),
        "controls": list(controls),
        "baselines": {name: _describe_baseline(name) for name in baselines},
        "results": {name: _name(folder) for name, folder in results.items()},
        "metrics": _describe_metrics(),
        "paired": PAIRED,
        "versions": {
            name: version(name) for name in (*LIBRARIES, *(["scikit-image"] if BIHARMONIC in baselines else []))
        },
    }
    report = {
        "protocol": protocol,
        "variants": _summaries(found.scores, pipe.label_space),
        "paired": _comparisons(rounds, runner.others, found.scores, seed),
        "intact": _intact_summary(list(found.intact.values()), pipe.label_space),
    }
    return Evaluation(_plain(report), found.scores)


def check_baselines(names: Sequence[str]) -> None:
    for name in names:
        if name not in (*BASELINES, BIHARMONIC):
            raise InputError(f"unknown baseline {name!r}: use {', '.join((*BASELINES, BIHARMONIC))}")


def check_protocol(
    pipe: "FeedbackInpaintPipeline", photos: "Photos", labels: Mapping[str, Path | dict], runner: "Runner"
) -> None:
    """Raises InputError where the photos, their labels, or other tools' results are not what is to be compared."""
    if "shuffled-map" in runner.controls and processes().num_processes > 1:
        raise InputError("the control shuffled-map takes maps from photo to photo; run it in one process")
    _check_label_format(labels, pipe, photos.data)
    check_results(runner.results, photos.pairs, photos.resolution)
    if BIHARMONIC in runner.baselines:
        _check_biharmonic(photos.pairs, photos.resolution)
    if "oracle" in runner.controls and not any(_knows_a_pixel(label, pipe.label_space) for label in labels.values()):
        raise InputError(f"{photos.data}: has no labelled pixel, which the control oracle needs; leave the control out")


@dataclass
class Found:
    """scores: of each method, a photo each; intact: stem -> confusion (C,C) of the map without a hole;
    labelled_shares: of each labelled photo, the share of pixels whose class is known."""

    scores: dict[str, list[PhotoScore]]
    intact: dict[str, np.ndarray] = field(default_factory=dict)
    labelled_shares: list[float] = field(default_factory=list)


def score_photos(
    runner: "Runner", photos: "Photos", labels: Mapping[str, Path | dict], batch_size: int
) -> Found:
    """All photos, shared among the processes; each has what all of them found, in the order of the photos."""
    state, pairs, pipe = processes(), photos.pairs, runner.pipe
    lpips = _lpips(pipe.device)
    # In no order: neighbours in a folder are often frames of one film, whose maps shuffled-map must not swap.
    order = np.random.default_rng(runner.seed).permutation(len(pairs))
    batches = equal_size_batches([pairs[i] for i in order], batch_size, photos.resolution)
    batches = batches[state.process_index :: state.num_processes]
    if "shuffled-map" in runner.controls and len(batches) > 1 and len(batches[0]) == 1:
        runner.spare_map = pipe.segment(load_image(batches[-1][0].image), output_type="np")
    found = Found({name: [] for name in runner.methods})
    with tqdm(
        total=sum(map(len, batches)), desc="evaluate", unit="photo", disable=not state.is_main_process
    ) as progress:
        for batch in batches:
            samples = [photos.sample(pair, labels.get(pair.stem), pipe.label_space) for pair in batch]
            for name, of_batch in runner.score(samples, lpips).items():
                found.scores[name] += of_batch
            found.intact |= intact_confusions(pipe, samples)
            found.labelled_shares += [float((s.truth != IGNORE).mean()) for s in samples if s.truth is not None]
            progress.update(len(batch))
    if state.num_processes > 1:
        found = joined(gather_object([found]))
    for of_method in found.scores.values():
        of_method.sort(key=lambda one: photos.index[one.photo])
    return found


def joined(shares: Sequence[Found]) -> Found:
    """What several processes found."""
    return Found(
        {name: [score for share in shares for score in share.scores[name]] for name in shares[0].scores},
        {stem: confusion for share in shares for stem, confusion in share.intact.items()},
        [labelled for share in shares for labelled in share.labelled_shares],
    )


class Runner:
    """Fills and scores batches with all that is compared: a pipeline after each number of rounds, controls, baselines,
    results of other tools, other fillers.

    methods: the names in the report, in its order; others: those of controls, baselines, other tools and fillers.

    Raises InputError for an unknown control, and for a tool that has the name of a method.
    """

    def __init__(
        self,
        pipe: "FeedbackInpaintPipeline",
        rounds: Sequence[int],
        baselines: Sequence[str],
        controls: Sequence[str],
        seed: int,
        results: Mapping[str, Path],
        fillers: Mapping[str, Filler] = NO_FILLERS,
    ):
        self.pipe, self.rounds, self.baselines, self.seed = pipe, rounds, baselines, seed
        self.fillers = fillers
        self.last = max(rounds)
        self.controls = control_pipelines(pipe, controls, seed)
        self.named = {control: f"rounds={self.last}, {control}" for control in self.controls}
        ours = [*(f"rounds={k}" for k in rounds), *self.named.values(), *baselines]
        if taken := results.keys() & set(ours):
            raise InputError(f"--results: {taken.pop()} is the name of a method of ours; choose another")
        self.results = results
        self.others = [*self.named.values(), *baselines, *results, *fillers]
        self.methods = [*ours, *results, *fillers]
        self.spare_map: np.ndarray | None = None  # one of another batch, for shuffled-map

    def score(self, samples: Sequence[Sample], lpips: dict[str, metrics.LPIPS]) -> dict[str, list[PhotoScore]]:
        """The scores of some photos of one size, by method."""
        scorer = Scorer(samples, lpips, self.pipe.label_space.num_classes)
        fills = fill_with_pipeline(self.pipe, samples, sorted({0, *self.rounds}), self.seed)
        scores = {f"rounds={k}": scorer(f"rounds={k}", fills[k], before=fills[0]) for k in self.rounds}
        for control, pipe in self.controls.items():
            only, some, before, maps = None, samples, fills[0], None
            if control == "oracle":  # of labelled photos alone
                only = [i for i, sample in enumerate(samples) if sample.truth is not None]
                some, before = [samples[i] for i in only], [before[i] for i in only]
                maps = [true_map(sample.truth, sample.hole) for sample in some if sample.truth is not None]
            elif control == "shuffled-map":
                maps = self._shuffled(samples, [fill.semantic_map for fill in fills[self.last]])
            name = self.named[control]
            scores[name] = []
            if some:
                filled = fill_with_pipeline(pipe, some, [self.last], self.seed, maps)[self.last]
                scores[name] = scorer(name, filled, before=before, only=only)
        for name in self.baselines:
            scores[name] = scorer(name, [fill_with_baseline(name, sample) for sample in samples])
        for name, folder in self.results.items():
            scores[name] = scorer(name, [Fill(read_result(folder, x.stem, x.photo, x.hole)) for x in samples])
        for name, fill in self.fillers.items():
            scores[name] = scorer(name, fill(samples))
        return scores

    def _shuffled(self, samples: Sequence[Sample], maps: list[np.ndarray]) -> list[np.ndarray]:
        stems, holes = [sample.stem for sample in samples], [sample.hole for sample in samples]
        shuffled = shuffled_maps(stems, holes, maps, self.spare_map)
        self.spare_map = maps[-1]
        return shuffled


def intact_confusions(pipe: "FeedbackInpaintPipeline", samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Photo -> (C,C) confusion of its map without a hole, of the labelled ones."""
    some = [sample for sample in samples if sample.truth is not None]
    maps = pipe.segment([sample.photo for sample in some], output_type="np")
    classes = pipe.label_space.num_classes
    return {
        sample.stem: metrics.confusion_matrix(sample.truth, found, np.ones_like(sample.hole), classes)
        for sample, found in zip(some, maps, strict=True)
        if sample.truth is not None
    }


def _lpips(device: torch.device) -> dict[str, metrics.LPIPS]:
    """The scorers for whose backbones there are weights; what is left out is said."""
    lpips = {"alex": metrics.LPIPS("alex", device=device)}
    if metrics.find_backbone("vgg"):
        lpips["vgg"] = metrics.LPIPS("vgg", device=device)
    else:
        print(f"lpips_vgg is left out: no {metrics.BACKBONE_FILES['vgg'][0]} in ${metrics.BACKBONES_VARIABLE}")
    return lpips


def processes() -> PartialState:
    """The processes that share an evaluation; the first call, which must come before CUDA is used, joins them."""
    state = PartialState(cpu=not torch.cuda.is_available())
    check_processes(state.num_processes)
    return state


def compare(pipes: dict[str, "FeedbackInpaintPipeline"], data: Path, **settings) -> Evaluation:
    """`evaluate` for several models on the same photos and holes, in one report.

    pipes:    name -> model; variants are called "name: rounds=2", and each model is compared with those before it
    settings: as of `evaluate`

    Raises InputError also for models of different label spaces, whose maps cannot be compared.
    """
    spaces = {pipe.label_space.classes: pipe.label_space.name for pipe in pipes.values()}
    if len(spaces) > 1:
        names = ", ".join(sorted(spaces.values()))
        raise InputError(f"models of different label spaces ({names}) cannot be compared")
    baselines = settings.pop("baselines", tuple(BASELINES))
    results = settings.pop("results", None) or {}
    variants: dict[str, Any] = {}
    paired: dict[str, Any] = {}
    scores: dict[str, Any] = {}
    intact, protocols = {}, {}
    for number, (name, pipe) in enumerate(pipes.items()):
        others = {} if number else {"baselines": baselines, "results": results}  # scored once
        found = evaluate(pipe, data, **{"baselines": ()} | others, **settings)

        def called(variant: str, name: str = name) -> str:
            return variant if variant in baselines or variant in results else f"{name}: {variant}"

        protocols[name], intact[name] = found.report["protocol"], found.report["intact"]
        variants |= {called(variant): scored for variant, scored in found.report["variants"].items()}
        scores |= {
            called(variant): [replace(one, variant=called(variant)) for one in of_variant]
            for variant, of_variant in found.scores.items()
        }
        paired |= {
            " vs ".join(map(called, pair.split(" vs "))): changes for pair, changes in found.report["paired"].items()
        }
    protocol = dict(protocols[next(iter(pipes))])
    for key in ("model", "sample_size", "controls"):
        protocol[key] = {name: of_model[key] for name, of_model in protocols.items()}
    protocol["training"] = {name: _training(Path(model)) for name, model in protocol["model"].items()}
    for earlier, later in itertools.combinations(pipes, 2):
        for k in protocol["rounds"]:
            a, b = f"{later}: rounds={k}", f"{earlier}: rounds={k}"
            paired[f"{a} vs {b}"] = _plain(_comparison(scores[a], scores[b], protocol["seed"]))
    for name, k, other in itertools.product(list(pipes)[1:], protocol["rounds"], (*baselines, *results)):
        a = f"{name}: rounds={k}"
        paired[f"{a} vs {other}"] = _plain(_comparison(scores[a], scores[other], protocol["seed"]))
    return Evaluation({"protocol": protocol, "variants": variants, "paired": paired, "intact": intact}, scores)


def _training(model: Path) -> dict[str, str]:
    """What is on file beside a saved model about its training: command and time, where somebody noted them."""
    training = read_origin(model)
    return {key: training[key] for key in ("command", "time") if key in training}


def _name(folder: Path) -> str:
    """The folder and the one it lies in: enough to tell data apart, and the same on every machine."""
    return "/".join(folder.resolve().parts[-2:])


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
    if found and found.keys().isdisjoint(photos):
        raise InputError(f"{data / 'labels'}: none of its files has the name of a photo in images/; rename them")
    for name in sorted(found.keys() - photos.keys()):
        print(f"note: {found[name][0]}: has the name of no photo in images/, not used")
    return labels


def _knows_a_pixel(label: Path | dict, label_space: LabelSpace) -> bool:
    return bool((np.asarray(_read_label(label, label_space)) != IGNORE).any())


def _check_label_format(labels: Mapping[str, Path | dict], pipe: "FeedbackInpaintPipeline", data: Path) -> None:
    rows = [label for label in labels.values() if isinstance(label, dict)]
    if rows and rows[0]["label_format"] != pipe.label_space.name:
        raise InputError(
            f"{data}: has labels of {rows[0]['label_format']}, but {pipe.name_or_path} knows the classes of "
            f"{pipe.label_space.name}; name a model of the same ones"
        )


def _check_biharmonic(pairs: Sequence[Pair], resolution: int) -> None:
    for pair in pairs:
        width, height = photo_size(pair.image, resolution)
        if width * height > BIHARMONIC_PIXELS:
            raise InputError(
                f"{pair.image}: is scored at {width}x{height}, but {BIHARMONIC}, which solves for a whole hole at "
                f"once, takes photos of up to {BIHARMONIC_PIXELS} pixels; leave it out, or lower --resolution"
            )


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
    return _pairs(photos, masks)


def _pairs(photos: dict[str, list[Path]], masks: Path | None) -> list[Pair]:
    """By stem. Raises InputError for what cannot be paired."""
    pairs, problems = pair_by_stem(photos, None if masks is None else files_by_stem(masks))
    if problems:
        more = f" (and {len(problems) - 1} more like it)" if problems[1:] else ""
        raise InputError(problems[0] + more)
    return pairs


def _describe_baseline(name: str) -> str:
    if name == BIHARMONIC:
        return "skimage.restoration.inpaint_biharmonic, each connected region alone"
    return f"cv2.inpaint, radius {BASELINE_RADIUS} px"


def _describe_masks(masks: Path | None, pairing: str, kind: str, seed: int) -> str:
    if masks:
        return _name(masks) if pairing == "stem" else f"{_name(masks)}, in turn by name, stretched to each photo"
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
        "data": _name(data),
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


def _describe_metrics() -> dict[str, str]:
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
        "intact": "the same of the segmenter's maps of the photos without holes",
    }


def _summaries(scores: dict[str, list[PhotoScore]], label_space: LabelSpace) -> dict[str, dict]:
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
        }
        for name, of_variant in scores.items()
    }


def _harm_summary(scores: list[PhotoScore]) -> dict | None:
    """Shares of the labelled hole pixels of all photos; None without maps, or where there are none."""
    known = [one for one in scores if one.after is not None]
    pixels = sum(int(one.after.sum()) for one in known if one.after is not None)
    if not pixels:
        return None
    return {name: sum(int(getattr(one, name)) for one in known) / pixels for name in ("fixed", "broken")}


def _summary(scores: list[PhotoScore], label_space: LabelSpace) -> dict:
    columns = {name: [getattr(one, name) for one in scores] for name in IMAGE_METRICS}
    after = [one.after for one in scores if one.after is not None]
    return {
        **{name: None if None in column else float(np.mean(column)) for name, column in columns.items()},
        "miou_hole_before": _miou([one.before for one in scores]),
        "miou_hole_after": _miou(after),
        "iou_hole_by_class": _iou_by_class(np.sum(after, axis=0), label_space) if after else None,
        "n": len(scores),
    }


def _iou_by_class(confusion: np.ndarray, label_space: LabelSpace) -> dict[str, float]:
    """By the names of the data set's owners, of the classes that the labels hold."""
    iou, labelled = metrics.iou_from_confusion(confusion)
    return {name: float(iou[i]) for i, name in enumerate(label_space.classes) if labelled[i]}


def _intact_summary(confusions: list[np.ndarray], label_space: LabelSpace) -> dict | None:
    if not confusions:
        return None
    by_class = _iou_by_class(np.sum(confusions, axis=0), label_space)
    return {"miou": _miou(confusions), "iou_by_class": by_class, "n": len(confusions)}


def _miou(confusions: Sequence[np.ndarray | None]) -> float | None:
    known = [confusion for confusion in confusions if confusion is not None]
    return float(metrics.miou_from_confusion(np.sum(known, axis=0))) if known else None


def _comparisons(
    rounds: Sequence[int], others: Sequence[str], scores: dict[str, list[PhotoScore]], seed: int
) -> dict[str, dict]:
    """Every number of rounds against none, and against each of the other variants."""
    against_none = [(f"rounds={k}", "rounds=0") for k in rounds if k > 0 and 0 in rounds]
    against_others = [(f"rounds={k}", name) for k in rounds for name in others]
    return {f"{a} vs {b}": _comparison(scores[a], scores[b], seed) for a, b in against_none + against_others}


def _comparison(a: list[PhotoScore], b: list[PhotoScore], seed: int) -> dict:
    """How `a` differs from `b` in each metric, on the n photos that both have scores of."""
    theirs = {one.photo: one for one in b}
    pairs = [(one, theirs[one.photo]) for one in a if one.photo in theirs]
    compared: dict[str, dict | None] = {}
    for name in IMAGE_METRICS:
        columns = [[getattr(one, name) for one in side] for side in zip(*pairs, strict=True)]
        known = all(None not in column for column in columns)
        compared[name] = _relative(metrics.paired_relative, columns, seed) if known else None
    maps = [(x.after, y.after) for x, y in pairs if x.after is not None and y.after is not None]
    columns = [np.stack(side) for side in zip(*maps, strict=True)]
    compared["miou_hole_after"] = _relative(metrics.paired_relative_miou, columns, seed) if maps else None
    return compared


def _relative(compare: Callable[..., dict], columns: Sequence, seed: int) -> dict:
    return compare(*columns, seed, BOOTSTRAP_RESAMPLES) | {"n": len(columns[0])}


def _plain(value):
    """The same with floats rounded to 6 places, and None for what strict JSON has no word for (nan, inf)."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
