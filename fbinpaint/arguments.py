"""Kinds of numbers on the command lines: `type=` of an argparse option; what it refuses ends in one line."""

import argparse


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


def percent(text: str) -> int:
    """1 to 100."""
    if not 1 <= count(text) <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return int(text)


def seed(text: str) -> int:
    """What torch.Generator takes."""
    if count(text) >= 2**64:
        raise argparse.ArgumentTypeError("must be below 2**64")
    return int(text)
