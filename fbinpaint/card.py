"""The card of a published model: what it is for, measured figures, and what is on file about its training.

Figures come from reports of `evaluate`. How it was trained comes from a `training.json` beside model_index.json, every
key of which is optional; what it does not say, the card calls "not stated":

    {"license": "other", "license_name": "...", "license_link": "...",     as in the metadata of a Hub card
     "data": [{"name": "...", "licence": "..."}],
     "command": "accelerate launch train_accelerate.py ...", "time": "51 minutes on two CPU cores",
     "co2_eq_emissions": {"emissions": 12.0, "source": "...", "hardware_used": "..."}}     grams; as in the metadata
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError
from fbinpaint.report import COLUMNS, markdown, sizes
from fbinpaint.saved import read_json, read_label_space, weight_files

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

MARK = "<!-- Written by fbinpaint and replaced when the model is published again; without this line it is kept. -->"
METRICS = {  # keys of a report -> types of metrics on the Hub
    "lpips_alex": "lpips", "lpips_vgg": "lpips", "psnr": "psnr", "ssim": "ssim", "psnr_hole": "psnr",
    "miou_hole_after": "mean_iou",
}  # fmt: skip

TEXT = """
{mark}

# {name}

Restores missing parts of photos, guided by a semantic map that the restoration corrects. A pipeline of fbinpaint for
the label space `{label_space}`: four networks, {megabytes:.1f} MB, and a bank of {exemplars} labelled exemplars. Its
classes are {classes}.

## Use

```python
from fbinpaint import FeedbackInpaintPipeline

pipe = FeedbackInpaintPipeline.from_pretrained("{repo_id}")
out = pipe(image, mask, num_feedback_rounds=2)   # white in the mask = hole; pixels outside it stay as they are
out.images[0].save("restored.png")
```

Intended for research on inpainting and segmentation, and for trying the method. Not intended for judging, identifying
or deceiving people: what it puts into a hole is made up.

## Training data and licences

{data}

Licence of the model: {license}.

## Training

Time: {time}. Carbon dioxide: {carbon}. Command: {command}

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
    training = _read_training(folder / "training.json")
    read = [_read_report(report, index["label_space"]) for report in reports]
    name = repo_id.split("/")[-1]
    metadata = ModelCardData(
        license=training.get("license", "unknown"),
        license_name=training.get("license_name"),
        license_link=training.get("license_link"),
        library_name="fbinpaint",
        pipeline_tag="image-to-image",
        tags=["inpainting", "semantic-segmentation", index["label_space"]],
        model_name=name,
        co2_eq_emissions=training.get("co2_eq_emissions"),
        eval_results=[result for report in read for result in _eval_results(report)] or None,
    )
    license = training.get("license_name") or training.get("license", "not stated")
    text = TEXT.format(
        mark=MARK,
        name=name,
        repo_id=repo_id,
        label_space=index["label_space"],
        classes=", ".join(read_label_space(folder).classes),
        sample_size=index["sample_size"],
        megabytes=sum(file.stat().st_size for part in folder.iterdir() for file in weight_files(part)) / 1e6,
        exemplars=read_json(folder / "recorrector" / "config.json")["num_exemplars"],
        data="\n".join(f"- {data['name']}: {data['licence']}" for data in training.get("data", [])) or "Not stated.",
        license=f"[{license}]({training['license_link']})" if "license_link" in training else license,
        time=training.get("time", "not stated"),
        carbon="{emissions:g} g ({source})".format(**training["co2_eq_emissions"])
        if "co2_eq_emissions" in training
        else "not stated",
        command=f"\n\n```\n{training['command']}\n```" if "command" in training else "not stated.",
        evaluation="\n".join(markdown(report) for report in read) or "Not measured.",
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n{text}")


def _read_training(path: Path) -> dict:
    training = read_json(path) if path.exists() else {}
    texts = [training.get(key, "") for key in ("license", "license_name", "license_link", "command", "time")]
    try:
        texts += [data[key] for data in training.get("data", []) for key in ("name", "licence")]
    except (KeyError, TypeError) as error:
        raise InputError(f'{path}: "data" is not a list of {{"name": ..., "licence": ...}}; correct it') from error
    if carbon := training.get("co2_eq_emissions"):
        if not isinstance(carbon, dict) or not isinstance(carbon.get("emissions"), int | float):
            raise InputError(f'{path}: "co2_eq_emissions" is not {{"emissions": grams, "source": ...}}; correct it')
        texts.append(carbon.get("source"))
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: licence, data, command, time and source must be text; correct it")
    return training


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
