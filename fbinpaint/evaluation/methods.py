"""What is compared: a pipeline after each number of rounds, controls, classical methods, results of other tools."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from PIL import Image

from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import control_pipelines, shuffled_maps, true_map
from fbinpaint.evaluation.exchange import read_result
from fbinpaint.evaluation.fid import Inception
from fbinpaint.evaluation.photos import Sample
from fbinpaint.evaluation.scoring import Fill, PhotoScore, Scorer
from fbinpaint.images.crops import composite, working_size
from fbinpaint.images.folders import Pair, photo_size

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

BASELINES = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
BASELINE_RADIUS = 3  # pixels
BIHARMONIC = "biharmonic"  # of scikit-image, where asked for
BIHARMONIC_PIXELS = 2**19  # of a photo as it is scored; at this size a hole of a quarter takes 3 seconds and 0.7 GB


Filler = Callable[[Sequence[Sample]], list[Fill]]  # of samples of one size


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


def other_methods(
    baselines: Sequence[str], results: Mapping[str, Path], fillers: Mapping[str, Filler]
) -> dict[str, Filler]:
    """All that a pipeline is compared with, by name.

    Raises InputError for an unknown baseline, and for results that have the name of another method.
    """
    check_baselines(baselines)
    methods: dict[str, Filler] = {name: partial(_fill_with_baseline, name) for name in baselines}
    for name, folder in results.items():
        if name in methods or name in fillers:
            raise InputError(f"--results: {name} is the name of a method of ours; choose another")
        methods[name] = partial(_read_results, folder)
    return methods | dict(fillers)


def _fill_with_baseline(name: str, samples: Sequence[Sample]) -> list[Fill]:
    return [fill_with_baseline(name, sample) for sample in samples]


def _read_results(folder: Path, samples: Sequence[Sample]) -> list[Fill]:
    return [Fill(read_result(folder, sample.stem, sample.photo, sample.hole)) for sample in samples]


def check_baselines(names: Sequence[str]) -> None:
    for name in names:
        if name not in (*BASELINES, BIHARMONIC):
            raise InputError(f"unknown baseline {name!r}: use {', '.join((*BASELINES, BIHARMONIC))}")


def check_biharmonic(pairs: Sequence[Pair], resolution: int) -> None:
    for pair in pairs:
        width, height = photo_size(pair.image, resolution)
        if width * height > BIHARMONIC_PIXELS:
            raise InputError(
                f"{pair.image}: is scored at {width}x{height}, but {BIHARMONIC}, which solves for a whole hole at "
                f"once, takes photos of up to {BIHARMONIC_PIXELS} pixels; leave it out, or lower --resolution"
            )


def describe_baseline(name: str) -> str:
    if name == BIHARMONIC:
        return "skimage.restoration.inpaint_biharmonic, each connected region alone"
    return f"cv2.inpaint, radius {BASELINE_RADIUS} px"


class Methods:
    """Fills and scores batches with all that is compared: a pipeline after each number of rounds, controls, others.

    names: those in the report, in its order; compared: those of controls and others.

    Raises InputError for an unknown control, and for another method that has the name of one of these.
    """

    def __init__(
        self,
        pipe: "FeedbackInpaintPipeline",
        rounds: Sequence[int],
        controls: Sequence[str],
        others: Mapping[str, Filler],
        seed: int,
    ):
        self.pipe, self.rounds, self.others, self.seed = pipe, rounds, others, seed
        self.last = max(rounds)
        self.controls = control_pipelines(pipe, controls, seed)
        self.named = {control: f"rounds={self.last}, {control}" for control in self.controls}
        ours = [*(f"rounds={k}" for k in rounds), *self.named.values()]
        if taken := others.keys() & set(ours):
            raise InputError(f"--results: {taken.pop()} is the name of a method of ours; choose another")
        self.names = [*ours, *others]
        self.compared = [*self.named.values(), *others]
        self.spare_map: np.ndarray | None = None  # one of another batch, for shuffled-map

    def score(
        self, samples: Sequence[Sample], lpips: dict[str, metrics.LPIPS], inception: Inception | None
    ) -> dict[str, list[PhotoScore]]:
        """The scores of some photos of one size, by method."""
        scorer = Scorer(samples, lpips, self.pipe.label_space.num_classes, inception)
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
        for name, fill in self.others.items():
            scores[name] = scorer(name, fill(samples))
        return scores

    def _shuffled(self, samples: Sequence[Sample], maps: list[np.ndarray]) -> list[np.ndarray]:
        stems, holes = [sample.stem for sample in samples], [sample.hole for sample in samples]
        shuffled = shuffled_maps(stems, holes, maps, self.spare_map)
        self.spare_map = maps[-1]
        return shuffled
