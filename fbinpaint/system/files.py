"""Files and folders are written whole or not at all; JSON files are read, or refused in one line."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from fbinpaint.errors import InputError, one_line

MAX_JSON = 2**24  # bytes; the longest that is read, the index of a model in many shards, has some hundred thousand


@contextmanager
def told_unwritten(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Raises InputError, naming `path`, where what is done here cannot write it; `kinds` are errors that mean this
    beside OSError and those of safetensors."""
    from safetensors import SafetensorError

    unwritten: tuple[type[Exception], ...] = (OSError, SafetensorError, *kinds)
    try:
        yield
    except unwritten as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(f"{path}: could not be written ({reason}); check the folder and the disk") from error


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


def try_folder(folder: Path) -> None:
    """Makes it, unless it is there, and a file in it for a moment. Raises OSError where one of them cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{uuid4().hex}.tmp"
    probe.touch()
    probe.unlink()


def check_output(*paths: Path) -> None:
    """Makes the folders of what is going to be written. Raises InputError where it could not be: before the hours of
    work, not after."""
    for path in paths:
        if os.path.isdir(path):
            raise InputError(f"{path}: is a folder, where a file is to be written; move it away, or name another file")
        try:
            try_folder(path.parent)
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be written to ({error.strerror}); choose another") from error


def check_no_device(path: Path, advice: str) -> None:
    """Raises InputError for a pipe, a device or a socket, also behind a link: reading one may never end."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path}: is no file but a pipe or a device; {advice}")


def strict(value: Any, places: int | None = None) -> Any:
    """The same with None for what strict JSON has no word for (nan, inf), and floats rounded to so many places; None =
    as they are."""
    if isinstance(value, dict):
        return {key: strict(item, places) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item, places) for item in value]
    if isinstance(value, float):
        return None if not math.isfinite(value) else value if places is None else round(value, places)
    return value


def read_json(
    path: Path,
    missing: str = "check the folder",
    broken: str = "copy or save it again",
    encoding: str = "utf-8",
    **options: Any,
) -> dict[str, Any]:
    """The JSON object of a file of at most MAX_JSON bytes. Raises InputError if there is none.

    missing, broken: what to do about a file that cannot be read, or that holds something else
    options: of json.loads; what its hooks raise as ValueError makes the file broken
    """
    check_no_device(path, missing)
    try:
        if path.stat().st_size > MAX_JSON:
            raise InputError(f"{path}: is larger than {MAX_JSON >> 20} MiB, so it is not what it should be; {broken}")
        content = json.loads(path.read_text(encoding=encoding), **options)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {missing}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({one_line(error)}); {broken}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a JSON object; {broken}")
    return content


def save_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """`write` fills a folder of another name, which then takes the place of `folder`; where it fails, nothing is left.

    Raises InputError, naming `folder`, for one that cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")  # hidden: a name that nobody gives a folder of his own
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write(partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        cause = error.__cause__ if isinstance(error, InputError) else error  # of a file whose name nobody knows
        with told_unwritten(folder):
            if isinstance(cause, OSError):
                raise cause from None
            raise
    replace_folder(partial, folder)


def fill_folder(folder: Path, write: Callable[[Path], None], replaced: Sequence[str] = ()) -> None:
    """`write` fills a hidden folder, whose files then take their places in `folder`; where it fails, all is as it was.

    replaced: patterns of files that go, unless they are written anew; all others stay.

    Raises InputError, naming `folder`, for one that cannot be written.
    """
    partial = folder / f".{uuid4().hex}.tmp"
    try:
        with told_unwritten(folder):
            write(partial)
            new = {path.relative_to(partial) for path in partial.rglob("*") if path.is_file()}
            old = {path.relative_to(folder) for pattern in replaced for path in folder.glob(pattern)}
            for name in sorted(new):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / name, folder / name)
            for name in old - new:
                (folder / name).unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, old: Path) -> None:
    """`new` takes the place of `old`, which is one of the two whenever this is cut short, or one rename from it."""
    if old.exists():
        remove_folder(old)
    new.rename(old)


def remove_folder(folder: Path) -> None:
    """Under another name: what is cut short leaves nothing that looks whole."""
    doomed = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
