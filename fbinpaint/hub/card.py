"""The card of a published model: what it is for, measured figures, and what is on file about its training.

Figures come from reports of `evaluate`, how it was trained from its `training.json` (see `fbinpaint.hub.origin`). What
nobody wrote down is "not stated".
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError
from fbinpaint.evaluation.report import COLUMNS, markdown, sizes
from fbinpaint.hub.example_picture import CAPTION, NAME, has_example
from fbinpaint.hub.origin import checked_origin
from fbinpaint.hub.saved import read_label_space, weight_files
from fbinpaint.system.files import read_json

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

MARK = "<!-- Written by fbinpaint and replaced when the model is published again; without this line it is kept. -->"
PEOPLE = """
People in photos have not agreed to be altered because their photo is public. Ask them. Of faces, this model has seen
mostly what its data shows, which is not how people look everywhere; it restores others worse, and may change what they
look like.
"""
OF_PEOPLE = ("person", "skin")  # classes of which one is enough for that
METRICS = {  # keys of a report -> types of metrics on the Hub
    "lpips_alex": "lpips", "lpips_vgg": "lpips", "psnr": "psnr", "ssim": "ssim", "psnr_hole": "psnr",
    "miou_hole_after": "mean_iou",
}  # fmt: skip

STATED = ("license", "license_name", "license_link", "base_model", "co2_eq_emissions", "model-index")  # of the metadata

TEXT = """
{mark}

# {name}

Restores missing parts of photos, guided by a semantic map that the restoration corrects, and takes out things by name.
A pipeline of fbinpaint for the label space `{label_space}`: four networks, {megabytes:.1f} MB, and a bank of
{exemplars} labelled exemplars. It works at a shorter side of {sample_size} pixels. Its classes are {classes}.
{picture}
## Use

The pipeline is no part of diffusers: install fbinpaint (Python 3.10 or newer) from a copy of its sources, with
`pip install path/to/fbinpaint`. `from fbinpaint import FeedbackInpaintPipeline` also lets
`DiffusionPipeline.from_pretrained(FOLDER)` load a copy of this repository.

```python
from fbinpaint import FeedbackInpaintPipeline

pipe = FeedbackInpaintPipeline.from_pretrained("{repo_id}")
out = pipe(image, mask, num_feedback_rounds=2)   # white in the mask = hole; pixels outside it stay as they are
out.images[0].save("restored.png")
```

    fbinpaint run --image photo.jpg --mask mask.png --output restored.png --model {repo_id}
    fbinpaint run --image photo.jpg --remove {last_class} --output emptied.png --model {repo_id}

Intended for research on inpainting and segmentation, and for trying the method.

What it can do: fill holes of up to about half of a photo so that they fit their surroundings, show the map that it went
by, follow a map that you edit, and keep named classes out of what it fills. What it cannot do: know what was there.
What it puts into a hole is made up.

Misuse: it is not to judge, identify or deceive people, to hide what a photo documents, or to remove the marks of its
author. Its results say in their XMP that a model painted a part of them; leave that in.
{people}
## Training data and licences

{data}

Licence of the model: {license}.

## Training

{base}Time: {time}. Carbon dioxide: {carbon}. Command: {command}

## Evaluation

{evaluation}

## Limits and bias

- Photos are worked on at a shorter side of at most {sample_size} pixels around each hole, so large fills in large
  photos are soft.
- Wide holes are filled plausibly at best in texture, rarely in objects.
- It restores best what its training photos show, and carries their bias: other scenes, people, faces and framings than
  theirs are restored worse.
"""


def model_card(folder: Path, repo_id: str, reports: Iterable[Path] = ()) -> "ModelCard":
    """The card of the pipeline saved in `folder`, to be published as `repo_id`, with the figures of these reports.

    Raises InputError for a file that cannot be read, or a report that is not of such a model.
    """
    from huggingface_hub import ModelCard, ModelCardData

    index = read_json(folder / "model_index.json")
    training = checked_origin(folder)
    read = [_read_report(report, index["label_space"]) for report in reports]
    name, base = repo_id.split("/")[-1], training.get("base_model", "")
    classes = read_label_space(folder).classes
    metadata = ModelCardData(
        license=training.get("license", "unknown"),
        license_name=training.get("license_name"),
        license_link=training.get("license_link"),
        library_name="fbinpaint",
        pipeline_tag="image-to-image",
        tags=["inpainting", "image-restoration", "object-removal", "semantic-segmentation", index["label_space"]],
        metrics=sorted({METRICS[key] for key in COLUMNS}) if read else None,
        model_name=name,
        base_model=base if "/" in base else None,  # others are no names on the Hub
        co2_eq_emissions=training.get("co2_eq_emissions"),
        eval_results=[result for report in read for result in _eval_results(report)] or None,
    )
    license = training.get("license_name") or training.get("license", "not stated")
    text = TEXT.format(
        mark=MARK,
        name=name,
        repo_id=repo_id,
        label_space=index["label_space"],
        classes=", ".join(classes),
        last_class=shlex.quote(classes[-1]),
        picture=f"\n![{CAPTION}]({NAME})\n" if has_example(index["label_space"]) else "",
        people=PEOPLE if set(OF_PEOPLE) & set(classes) else "",
        sample_size=index["sample_size"],
        megabytes=sum(file.stat().st_size for part in folder.iterdir() for file in weight_files(part)) / 1e6,
        exemplars=read_json(folder / "recorrector" / "config.json")["num_exemplars"],
        data="\n".join(map(_source, training.get("data", []))) or "Not stated.",
        license=f"[{license}]({training['license_link']})" if "license_link" in training else license,
        base=f"Base model: {base}. " if base else "",
        time=training.get("time", "not stated"),
        carbon="{emissions:g} g ({source})".format(**training["co2_eq_emissions"])
        if "co2_eq_emissions" in training
        else "not stated",
        command=f"\n\n```\n{training['command']}\n```" if "command" in training else "not stated.",
        evaluation="\n".join(markdown(report) for report in read) or "Not measured.",
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n{text}")


def _source(data: dict[str, str]) -> str:
    licence = f"[{data['licence']}]({data['link']})" if "link" in data else data["licence"]
    return f"- {data['name']}: {licence}"


def says_less(new: "ModelCard", old: "ModelCard") -> bool:
    """Whether a card leaves open what another one of ours states: figures, licence, data, base model, time."""

    def stated(card: "ModelCard") -> set[str]:
        metadata = card.data.to_dict()
        return {key for key in STATED if metadata.get(key, "unknown") != "unknown"}

    def left_open(card: "ModelCard") -> int:
        return card.text.lower().count("not stated") + card.text.count("Not measured")

    return not stated(old) <= stated(new) or left_open(new) > left_open(old)


def _read_report(path: Path, label_space: str) -> dict:
    report = read_json(path)
    try:
        protocol = report["protocol"]
        if isinstance(protocol["model"], dict):
            raise InputError(f"{path}: compares several models; name a report of this one alone")
        if protocol["label_space"] != label_space:
            raise InputError(f"{path}: is of a model for {protocol['label_space']}, not {label_space}; name another")
        _eval_results(report), markdown(report)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a report of `fbinpaint evaluate`; make one with it") from error
    return report


def _eval_results(report: dict) -> list["EvalResult"]:
    """The figures of the model's own rounds, as they stand in the report."""
    from huggingface_hub import EvalResult

    protocol = report["protocol"]
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Inpainting",
            dataset_type=protocol["data"],
            dataset_name=f"{protocol['data']}, {protocol['n']} photos, {sizes(protocol)}",
            metric_type=METRICS[key],
            metric_name=f"{title}, rounds={k}",
            metric_value=report["variants"][f"rounds={k}"]["overall"][key],
        )
        for k in protocol["rounds"]
        for key, (title, _) in COLUMNS.items()
        if report["variants"][f"rounds={k}"]["overall"][key] is not None
    ]
