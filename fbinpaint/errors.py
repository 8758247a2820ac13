"""The exception and the warning whose messages are meant for the person at the keyboard; how they are printed."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

_unwanted = ContextVar("unwanted warnings", default=False)  # of this thread, as `warnings.catch_warnings` is of all


class InputError(ValueError):
    """Bad input from outside: the message is one line that says what is wrong, which file, and what to do.

    The command line prints it and exits with 1, the demo shows it in a toast; anything else is a bug and may raise.
    """


class InputWarning(UserWarning):
    """Input that is used, though it may not mean what its owner thinks; the message is a line as that of InputError.

    Python shows it as any warning, the command line on a line of stderr, the demo in a toast.
    """


def warn_user(text: str) -> None:
    if not _unwanted.get():
        warnings.warn(text, InputWarning, stacklevel=3)


@contextmanager
def not_warned() -> Iterator[None]:
    """No InputWarnings from what this thread does: whoever calls has told of it."""
    token = _unwanted.set(True)
    try:
        yield
    finally:
        _unwanted.reset(token)


def printable(text: str) -> str:
    """The text on one line: what a terminal would not show, such as a line break in a file name, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_of(lines: Sequence[str]) -> str:
    """The first of lines that are alike, and how many more there are."""
    return lines[0] + (f" (and {len(lines) - 1} more like it)" if lines[1:] else "")


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def check_whole(name: str, number: object, low: int, high: int | None = None) -> None:
    """Raises InputError, naming the argument, for what is no whole number from `low` on, and at most `high`."""
    whole = int(number) if isinstance(number, Integral) and not isinstance(number, bool) else None
    if whole is None or whole < low or (high is not None and whole > high):
        wanted = f"{low} or more" if high is None else f"from {low} to {high}"
        raise InputError(f"{name} {number!r}: must be a whole number, {wanted}")
