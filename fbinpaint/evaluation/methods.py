"""What is compared: a pipeline after each number of rounds, controls, classical methods, results of other tools."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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


NO_FILLERS: Mapping[str, "Filler"] = MappingProxyType({})


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
