"""Options of a training in a YAML file: keys are the options' names, and the command line overrules them.

    resolution: [256, 128]
    train_batch_size: 8
    streaming: true
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fbinpaint.errors import InputError, one_line
from fbinpaint.system.files import MAX_JSON, check_no_device


def with_config(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """The command line with the options of its `--config` file, if it names one, in front, so that its own come last.

    Raises InputError for a file that cannot be read, and for keys and values that are no options of `parser`.
    """
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--config", type=Path)
    path = named.parse_known_args(argv)[0].config
    if path is None:
        return list(argv)
    options = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    content = read_options(path)
    if unknown := [str(key) for key in content if key not in options]:
        raise InputError(f"{path}: {', '.join(unknown)}: no option of this command; --help lists them, with _ in names")
    arguments = []
    for key, value in content.items():
        with_values = as_arguments(options[key], value)
        if with_values is None:
            raise InputError(f"{path}: {key}: {value!r:.80} does not fit; {advice(options[key], value)}")
        arguments += with_values
    return [*arguments, *argv]


def read_options(path: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds. Raises InputError where it holds none, or a key twice."""
    check_no_device(path, "name a YAML file")
    try:
        if path.stat().st_size > MAX_JSON:
            raise InputError(f"{path}: is larger than {MAX_JSON >> 20} MiB; name a YAML file of options")
        text = path.read_text(encoding="utf-8")
        node, content = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a YAML file of options") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such date
        raise InputError(f"{path}: is not YAML ({one_line(error)}); correct it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no options; write one a line, as train_batch_size: 8")
    keys = [key.value for key, _ in node.value]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InputError(f"{path}: {', '.join(twice)}: is there twice; keep one")
    return content


def as_arguments(option: argparse.Action, value: object) -> list[str] | None:
    """The value as the command line says it, null = as if it were not there; None where it is of another kind."""
    name = option.option_strings[0]
    if value is None:
        return []
    if option.nargs == 0:  # a flag
        return ([name] if value else []) if isinstance(value, bool) else None
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in values):
        return None
    if option.nargs is None:
        return [f"{name}={value}"] if value is values[0] else None
    return [name, *map(str, values)]


def advice(option: argparse.Action, value: object) -> str:
    if option.nargs == 0:
        return "write true or false"
    if isinstance(value, bool):
        return "a bare yes, no, on or off is a truth value in YAML: put it in quotes"
    return "write a number or a text" + (", or a list of them" if option.nargs else "")
