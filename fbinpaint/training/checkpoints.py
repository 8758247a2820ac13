"""What a run leaves in its output folder, complete or absent: checkpoints, pipelines, the log."""

import json
import os
import re
import shutil
from pathlib import Path
from pickle import UnpicklingError

from accelerate import Accelerator
from safetensors import SafetensorError

from ..errors import InputError, one_line
from ..files import read_json, remove_folder, replace_folder, whole_file
from ..saved import FORMAT_VERSION, check_version

VERSION_FILE = "version.json"  # of a checkpoint: that of the pipelines it leads to


def read_log(folder: Path) -> list[dict]:
    """The rows of `log.jsonl`: losses and validation scores, each with its step; none where there is no log."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def forget_later_rows(folder: Path, step: int) -> None:
    """Drop the rows of `log.jsonl` past the step that a run goes on from: it writes them again."""
    if rows := read_log(folder):
        with whole_file(folder / "log.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))


def find_checkpoint(folder: Path, wanted: str | None) -> Path | None:
    """The checkpoint to resume from; `latest` is none where there is none yet, as for a scheduler's first start.

    Raises InputError where one was named and is not there, and where this run would mix with what an earlier one left
    in the output folder.
    """
    own = sorted(folder.glob("checkpoint-[0-9]*"))
    if wanted is None:
        if own or read_log(folder):
            raise InputError(
                f"--output_dir {folder}: holds an earlier run; add --resume_from_checkpoint latest, or name another"
            )
        return None
    if wanted == "latest":
        return max(own, default=None)
    checkpoint = Path(wanted)
    if not os.path.isdir(checkpoint) or not re.fullmatch(r"checkpoint-\d+", checkpoint.name):
        raise InputError(f"--resume_from_checkpoint {checkpoint}: no such folder, or not named checkpoint-<step>")
    if own and own[-1].name > checkpoint.name:
        raise InputError(f"{own[-1]}: is later than {checkpoint.name}; move it away, or name another --output_dir")
    return checkpoint


def load_checkpoint(accelerator: Accelerator, checkpoint: Path) -> int:
    """Its step. Raises InputError where it is not whole, of an earlier version, or of networks or processes that are
    not these."""
    path = checkpoint / VERSION_FILE
    if any(checkpoint.iterdir()):
        check_version(read_json(path).get("format_version", 0) if path.is_file() else 0, checkpoint)
    try:
        accelerator.load_state(str(checkpoint))
    except (EOFError, LookupError, OSError, RuntimeError, SafetensorError, UnpicklingError, ValueError) as error:
        reason = one_line(error)[:200]
        raise InputError(f"{checkpoint}: does not fit this run, or is damaged ({reason}); resume another") from error
    return int(checkpoint.name.rsplit("-", 1)[1])


def save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int) -> None:
    """`checkpoint-<step>`, and no more than `keep` of them."""
    partial = folder / "checkpoint-partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    (partial / VERSION_FILE).write_text(json.dumps({"format_version": FORMAT_VERSION}) + "\n")
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    replace_folder(partial, folder / f"checkpoint-{step:06d}")
    for old in sorted(folder.glob("checkpoint-[0-9]*"))[:-keep]:
        remove_folder(old)
