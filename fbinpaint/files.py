"""Files are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from fbinpaint.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields another name in the same folder to write to; without an error that file becomes `path`, else it vanishes.

    Raises InputError, naming `path`, for what cannot be written.
    """
    # Not tempfile: its files are private (0600), and os.replace would hand that mode on to the result.
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, ValueError) as error:  # ValueError: PIL's for sides beyond what a format can hold
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: could not be written ({reason}); check the folder and the format") from error
    finally:
        with suppress(OSError):  # a read-only disk refuses even where there is nothing to remove
            temporary.unlink()
