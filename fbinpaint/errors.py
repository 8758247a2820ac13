"""The one exception whose message is meant for the person at the keyboard, and how such lines are printed."""


class InputError(ValueError):
    """Bad input from outside: the message is one line that says what is wrong, which file, and what to do.

    The command line prints it and exits with 1, the demo shows it in a toast; anything else is a bug and may raise.
    """


def printable(text: str) -> str:
    """The text on one line: what a terminal would not show, such as a line break in a file name, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
