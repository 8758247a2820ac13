"""Where a model comes from: `training.json` beside its model_index.json, which goes with it wherever it is saved.

Every key is optional; what it does not say, a card calls "not stated":

    {"license": "other", "license_name": "...", "license_link": "...",     as in the metadata of a Hub card
     "data": [{"name": "...", "licence": "...", "link": "..."}],           of the models that it started from as well;
                                                                           link, of the terms, may be left out
     "base_model": "USER/NAME",                                            or the name that its folder had
     "command": "accelerate launch train_accelerate.py ...", "time": "51 minutes on two CPU cores",
     "co2_eq_emissions": {"emissions": 12.0, "source": "...", "hardware_used": "..."}}     grams; as in the metadata
"""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbinpaint.errors import InputError
from fbinpaint.hub.saved import fetch, pinned, split_revision
from fbinpaint.system.files import read_json, whole_file
from fbinpaint.system.urls import without_secrets

FILE = "training.json"
LICENCE = ("license", "license_name", "license_link")
NOT_STATED = "not stated"


def read_origin(folder: Path) -> dict:
    """What the file says, {} without one. Raises InputError if it is no JSON object."""
    return read_json(folder / FILE) if (folder / FILE).exists() else {}


def write_origin(folder: Path, origin: dict) -> None:
    with whole_file(folder / FILE) as temporary:
        temporary.write_text(json.dumps(origin, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def checked_origin(folder: Path) -> dict:
    """As `read_origin`. Raises InputError, too, where a key holds something else than it should."""
    origin, path = read_origin(folder), folder / FILE
    texts = [origin.get(key, "") for key in (*LICENCE, "base_model", "command", "time")]
    try:
        texts += [data[key] for data in origin.get("data", []) for key in ("name", "licence")]
        texts += [data.get("link", "") for data in origin.get("data", [])]
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f'{path}: "data" is not a list of {{"name": ..., "licence": ...}}; correct it') from error
    if "co2_eq_emissions" in origin:
        carbon = origin["co2_eq_emissions"]
        if not isinstance(carbon, dict) or not isinstance(carbon.get("emissions"), int | float):
            raise InputError(f'{path}: "co2_eq_emissions" is not {{"emissions": grams, "source": ...}}; correct it')
        texts.append(carbon.get("source"))
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{path}: licence, data, base model, command, time and source must be text; correct it")
    return origin


def named_origin(model: str) -> tuple[str, dict]:
    """The name to call a saved model by, given its folder or Hub id, and its origin. Raises InputError."""
    if os.path.isdir(model):
        return Path(os.path.abspath(model)).name, checked_origin(Path(model))
    return split_revision(model)[0], checked_origin(fetch(pinned(model), []))


def inherited(data: list[dict[str, str]], bases: Sequence[tuple[str, dict]]) -> dict:
    """Licence and data of a model that learnt from `data` and from these bases, each a name and an origin.

    Of a base that names no data, that much is said. Where the bases' licences differ, none of them is the model's.
    """
    for name, base in bases:
        data = data + (base.get("data") or [{"name": f"what {name} was trained on", "licence": NOT_STATED}])
    licences = [{key: base[key] for key in LICENCE if key in base} for _, base in bases]
    stated = [licence for i, licence in enumerate(licences) if licence and licence not in licences[:i]]
    if len(stated) > 1:
        stated = [{"license": "other", "license_name": "those-of-several-base-models"}]
    return dict(*stated) | {"data": [entry for i, entry in enumerate(data) if entry not in data[:i]]}


def for_others(text: str) -> str:
    """What all may read of a word of a command, also as --option=WORD: of a path on this machine its last name, of a
    URL what is not secret, anything else as it is."""
    option, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
    local = os.path.isabs(value) or value.startswith(("..", "~"))
    return option + equals + (Path(value).name or value if local else without_secrets(value))


def options_for_others(options: Mapping[str, Any]) -> dict[str, Any]:
    """A training's options, whose URLs open nothing."""

    def shown(value: Any) -> Any:
        return list(map(shown, value)) if isinstance(value, list) else without_secrets(value)

    return {name: shown(value) for name, value in options.items()}


def as_launched(command: Sequence[str], module: str | None = None) -> str:
    """A training's `sys.argv` as it is started anew, for others to read; module: its name, if `python -m` ran one."""
    script = Path(command[0]).name
    if module or not script.endswith(".py"):  # the other is the command that pip installs
        script = f"-m {(module or 'fbinpaint').removesuffix('.__main__')}"
    return f"accelerate launch {script} {shlex.join(map(for_others, command[1:]))}"
