"""What a run leaves in its output folder, complete or absent: checkpoints, pipelines, the log."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub.saved import FORMAT_VERSION, check_version
from fbinpaint.system.files import read_json, told_unwritten, whole_file
from fbinpaint.system.urls import is_url

from .output import CHECKPOINT, VERSION_FILE, OutputFolder, step_of

STREAM_FILE = "stream.json"  # of one that was trained on streams: where its readers were


def read_log(folder: Path) -> list[dict]:
    """The rows of `log.jsonl`: losses and validation scores, each with its step; none where there is no log."""
    path = folder / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError:  # of the last one, which a full disk or a loss of power has cut off
        return [json.loads(line) for line in lines[:-1]]


def forget_later_rows(folder: Path, step: int) -> None:
    """Drop the rows of `log.jsonl` past the step that a run goes on from: it writes them again."""
    if rows := read_log(folder):
        with whole_file(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))


def find_checkpoint(output: OutputFolder, wanted: str | None) -> Path | None:
    """The checkpoint to resume from; `latest` is none where there is none yet, as for a scheduler's first start.

    Raises InputError where one was named and is not there, and where this run would mix with what an earlier one left
    in the output folder.
    """
    own = output.checkpoints()
    if wanted is None:
        if own or read_log(output.folder):
            raise InputError(
                f"--output_dir {output.place}: holds an earlier run; add --resume_from_checkpoint latest, or name "
                "another"
            )
        return None
    if wanted == "latest":
        return output.fetch(own[-1]) if own else None
    if not is_url(wanted) and (not os.path.isdir(wanted) or not CHECKPOINT.fullmatch(Path(wanted).name)):
        raise InputError(f"--resume_from_checkpoint {wanted}: no such folder, or not named checkpoint-<step>")
    name = wanted.rstrip("/").rpartition("/")[2]
    if own and CHECKPOINT.fullmatch(name) and step_of(own[-1]) < step_of(name):
        raise InputError(
            f"--output_dir {output.place}: holds an earlier run up to {own[-1]}, and {wanted} is of another; name "
            "another --output_dir"
        )
    checkpoint = output.fetch(wanted) if is_url(wanted) else Path(wanted)
    if own and step_of(own[-1]) > step_of(checkpoint.name):
        raise InputError(
            f"{output.place}/{own[-1]}: is later than {checkpoint.name}; move it away, or name another --output_dir"
        )
    return checkpoint


def load_checkpoint(accelerator: Accelerator, checkpoint: Path, classes: Sequence[str]) -> int:
    """Its step. Raises InputError where it is not whole, of an earlier version, or of classes, networks or processes
    that are not these."""
    path = checkpoint / VERSION_FILE
    version = read_json(path) if path.is_file() else {}
    if any(checkpoint.iterdir()):
        check_version(version.get("format_version", 0), checkpoint)
    if version.get("classes", list(classes)) != list(classes):
        raise InputError(f"{checkpoint}: has learnt other classes than those of --label_space; name theirs")
    try:
        accelerator.load_state(str(checkpoint))
    except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
        reason = one_line(error)[:200]
        raise InputError(f"{checkpoint}: does not fit this run, or is damaged ({reason}); resume another") from error
    accelerator.step = 0  # of batches: a step begins, also where those before took another number of them
    return step_of(checkpoint.name)


def stream_state(checkpoint: Path) -> dict | None:
    """Where the readers of streams were, for `StreamedCrops.go_on`; None where it does not say."""
    path = checkpoint / STREAM_FILE
    return read_json(path) if path.is_file() else None


def save_checkpoint(
    output: OutputFolder, step: int, keep: int, classes: Sequence[str], of_stream: dict | None
) -> None:
    """`checkpoint-<step>`, and no more than `keep` of them.

    classes: that the networks learn, in order: in the weights they are numbers
    of_stream: of this process, as of `BatchLoader.state`

    Raises InputError where it cannot be written; then nothing is left of it.
    """
    accelerator, partial, name = output.accelerator, output.begin_checkpoint(), f"checkpoint-{step:06d}"
    states = gather_object([of_stream])
    try:
        with told_unwritten(output.folder / name, RuntimeError):  # as torch calls a full disk
            accelerator.save_state(str(partial))
            if accelerator.is_main_process:
                if of_stream is not None:
                    marks = {reader: marks for state in states for reader, marks in state["marks"].items()}
                    (partial / STREAM_FILE).write_text(json.dumps(of_stream | {"marks": marks}) + "\n")
                version = {"format_version": FORMAT_VERSION, "classes": list(classes)}
                (partial / VERSION_FILE).write_text(json.dumps(version) + "\n")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    output.keep_checkpoint(name, keep)
