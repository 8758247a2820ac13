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
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm

from fbinpaint.errors import InputError
from fbinpaint.evaluation import metrics
from fbinpaint.evaluation.controls import control_pipelines
from fbinpaint.evaluation.exchange import check_results, write_protocol
from fbinpaint.evaluation.fid import load_inception
from fbinpaint.evaluation.methods import (
    BASELINES,
    BIHARMONIC,
    Filler,
    Methods,
    check_biharmonic,
    describe_baseline,
    other_methods,
)
from fbinpaint.evaluation.photos import Photos, Sample, folder_name, knows_a_pixel
from fbinpaint.evaluation.scoring import PhotoScore, load_lpips
from fbinpaint.evaluation.summaries import (
    PAIRED,
    comparison,
    comparisons,
    describe_metrics,
    intact_summary,
    miou,
    plain,
    summaries,
)
from fbinpaint.hub.origin import read_origin
from fbinpaint.images.folders import equal_size_batches
from fbinpaint.images.io import load_image
from fbinpaint.labels import IGNORE
from fbinpaint.system.files import whole_file
from fbinpaint.system.processes import check_processes

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipeline

BATCH_SIZE = 8
LIBRARIES = ("torch", "torchvision", "diffusers", "lpips", "torchmetrics", "opencv-python-headless", "pillow", "numpy")


@dataclass(frozen=True)
class Evaluation:
    """report: what report.json holds. scores: method -> one score for each of its photos, in their order. intact: stem
    of a labelled photo -> confusion (C,C) of its map without a hole; empty after `compare`."""

    report: dict
    scores: dict[str, list[PhotoScore]]
    intact: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the report (strict JSON) and, beside it with the suffix .csv, the scores; each whole or not at all."""
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        columns = [field.name for field in fields(PhotoScore) if field.name not in ("before", "after", "inception")]
        rows = [
            [getattr(score, name) for name in columns] + [miou([score.before]), miou([score.after])]
            for score in itertools.chain.from_iterable(self.scores.values())
        ]
        with whole_file(path.with_suffix(".csv")) as temporary:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow([*columns, "miou_hole_before", "miou_hole_after"])
                writer.writerows([[plain(value) for value in row] for row in rows])


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
    fillers: Mapping[str, Filler] | None = None,
    batch_size: int = BATCH_SIZE,
) -> Evaluation:
    """Scores `pipe` after each number of `rounds`, the `baselines` and the `controls`, on the photos of a folder.

    data:       holds images/ and, optionally, labels/ (index PNG of the pipeline's label space, same stem); with a
                `split`, CelebAMask-HQ or Cityscapes as their owners distribute them
    masks:      folder of masks, white = hole; None = those of `mask_kind`, made from `seed`
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
    methods = Methods(pipe, rounds, controls, other_methods(baselines, results, fillers or {}), seed)
    photos = Photos(data, masks, resolution, limit, seed, split, pairing, mask_kind)
    labels = photos.labels()
    check_protocol(pipe, photos, labels, methods.controls)
    check_results(results, photos.pairs, photos.resolution)
    if BIHARMONIC in baselines:
        check_biharmonic(photos.pairs, photos.resolution)
    found = score_photos(methods, photos, labels, batch_size)
    variants = summaries(found.scores, pipe.label_space)
    libraries = [*LIBRARIES, *(["scikit-image"] if BIHARMONIC in baselines else [])]
    libraries += ["torch-fidelity"] if any(variant["fid"] is not None for variant in variants.values()) else []
    protocol = photos.description(found.labelled_shares) | {
        "model": str(pipe.name_or_path),
        "label_space": pipe.label_space.name,
        "sample_size": pipe.config.sample_size,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "batch_size": batch_size,
        "rounds": list(rounds),
        "controls": list(controls),
        "baselines": {name: describe_baseline(name) for name in baselines},
        "results": {name: folder_name(folder) for name, folder in results.items()},
        "metrics": describe_metrics(),
        "paired": PAIRED,
        "versions": {name: version(name) for name in libraries},
    }
    report = {
        "protocol": protocol,
        "variants": variants,
        "paired": comparisons(rounds, methods.compared, found.scores, seed),
        "intact": intact_summary(list(found.intact.values()), pipe.label_space),
    }
    return Evaluation(plain(report), found.scores, found.intact)


def compare(pipes: dict[str, "FeedbackInpaintPipeline"], data: Path, **settings) -> Evaluation:
    """`evaluate` for several models on the same photos and holes, in one report.

    pipes:    name -> model; variants are called "name: rounds=2", and each model is compared with those before it
    settings: as of `evaluate`

    Raises InputError also for models of different label spaces, whose maps cannot be compared; before any is scored.
    """
    spaces = {pipe.label_space.classes: pipe.label_space.name for pipe in pipes.values()}
    if len(spaces) > 1:
        names = ", ".join(sorted(spaces.values()))
        raise InputError(f"models of different label spaces ({names}) cannot be compared")
    for pipe in pipes.values():  # what a later one cannot do is said before the first is scored
        control_pipelines(pipe, settings.get("controls", ()), settings.get("seed", 0))
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
            paired[f"{a} vs {b}"] = plain(comparison(scores[a], scores[b], protocol["seed"]))
    for name, k, other in itertools.product(list(pipes)[1:], protocol["rounds"], (*baselines, *results)):
        a = f"{name}: rounds={k}"
        paired[f"{a} vs {other}"] = plain(comparison(scores[a], scores[other], protocol["seed"]))
    return Evaluation({"protocol": protocol, "variants": variants, "paired": paired, "intact": intact}, scores)


def check_protocol(
    pipe: "FeedbackInpaintPipeline", photos: "Photos", labels: Mapping[str, Path | dict], controls: Collection[str]
) -> None:
    """Raises InputError where the photos or their labels are not what model and controls want."""
    if "shuffled-map" in controls and processes().num_processes > 1:
        raise InputError("the control shuffled-map takes maps from photo to photo; run it in one process")
    _check_label_format(labels, pipe, photos.data)
    known = (knows_a_pixel(label, pipe.label_space, photos.resolution) for label in labels.values())
    if "oracle" in controls and not any(known):
        raise InputError(f"{photos.data}: has no labelled pixel, which the control oracle needs; leave the control out")


def _check_label_format(labels: Mapping[str, Path | dict], pipe: "FeedbackInpaintPipeline", data: Path) -> None:
    rows = [label for label in labels.values() if isinstance(label, dict)]
    if rows and rows[0]["label_format"] != pipe.label_space.name:
        raise InputError(
            f"{data}: has labels of {rows[0]['label_format']}, but {pipe.name_or_path} knows the classes of "
            f"{pipe.label_space.name}; name a model of the same ones"
        )


@dataclass
class Found:
    """scores: of each method, a photo each; intact: stem -> confusion (C,C) of the map without a hole;
    labelled_shares: of each labelled photo, the share of pixels whose class is known."""

    scores: dict[str, list[PhotoScore]]
    intact: dict[str, np.ndarray] = field(default_factory=dict)
    labelled_shares: list[float] = field(default_factory=list)


def score_photos(
    methods: Methods, photos: "Photos", labels: Mapping[str, Path | dict], batch_size: int
) -> Found:
    """All photos, shared among the processes; each has what all of them found, in the order of the photos."""
    state, pairs, pipe = processes(), photos.pairs, methods.pipe
    lpips, inception = load_lpips(pipe.device), load_inception(len(pairs), pipe.device)
    # In no order: neighbours in a folder are often frames of one film, whose maps shuffled-map must not swap.
    order = np.random.default_rng(methods.seed).permutation(len(pairs))
    batches = equal_size_batches([pairs[i] for i in order], batch_size, photos.resolution)
    batches = batches[state.process_index :: state.num_processes]
    if "shuffled-map" in methods.controls and len(batches) > 1 and len(batches[0]) == 1:
        methods.spare_map = pipe.segment(load_image(batches[-1][0].image), output_type="np")
    found = Found({name: [] for name in methods.names})
    with tqdm(
        total=sum(map(len, batches)), desc="evaluate", unit="photo", disable=not state.is_main_process
    ) as progress:
        for batch in batches:
            samples = [photos.sample(pair, labels.get(pair.stem), pipe.label_space) for pair in batch]
            for name, of_batch in methods.score(samples, lpips, inception).items():
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


def processes() -> PartialState:
    """The processes that share an evaluation; the first call, which must come before CUDA is used, joins them."""
    state = PartialState(cpu=not torch.cuda.is_available())
    check_processes(state.num_processes)
    return state


def _training(model: Path) -> dict[str, str]:
    """What is on file beside a saved model about its training: command and time, where somebody noted them."""
    training = read_origin(model)
    return {key: training[key] for key in ("command", "time") if key in training}


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
