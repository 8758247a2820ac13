"""The one exception whose message is meant for the person at the keyboard."""


class InputError(ValueError):
    """Bad input from outside: the message is one line that says what is wrong, which file, and what to do.

    The command line prints it and exits with 1, the demo shows it in a toast; anything else is a bug and may raise.
    """
