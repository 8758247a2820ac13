"""What the command lines share: help that says the defaults, and kinds of numbers, `type=` of an argparse option; what
one refuses ends in one line."""

import argparse
import math

from fbinpaint.system.devices import FORM


class HelpWithDefaults(argparse.RawDescriptionHelpFormatter):
    """Ends the help of an option with its default, unless it says what happens without it, in words of its own."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26)  # so that most options begin their text on their own line

    def _get_help_string(self, action: argparse.Action) -> str | None:  # what argparse's own formatters override
        default = action.default
        if default is None or default is False or default in ([], argparse.SUPPRESS):
            return action.help
        if action.help is None or "default" in action.help:
            return action.help
        shown = " ".join(map(str, default)) if isinstance(default, list) else "%(default)s"
        return f"{action.help} (default: {shown})"


def count(text: str) -> int:
    """0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """1 or more."""
    if count(text) == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def amount(text: str) -> float:
    """0 or more, and no more than a number can be."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return number


def percent(text: str) -> int:
    """1 to 100."""
    if not 1 <= count(text) <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return int(text)


def names(text: str) -> list[str]:
    """Of "a, b", each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def pixels(text: str) -> int:
    """0 or more, and no longer than any photo."""
    if count(text) > 10**6:
        raise argparse.ArgumentTypeError("must be at most 1000000")
    return int(text)


def seed(text: str) -> int:
    """What torch.Generator takes."""
    if count(text) >= 2**64:
        raise argparse.ArgumentTypeError("must be below 2**64")
    return int(text)


def gpus(text: str) -> float:
    """0 or more; of one GPU also a part."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1000 or (number > 1 and number % 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs, as 0, 0.5, 1 or 2")
    return number


def device(text: str) -> str:
    """A name of one, whether it is there or not."""
    if not FORM.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a device, as auto, cpu, cuda, cuda:1 or mps")
    return text
