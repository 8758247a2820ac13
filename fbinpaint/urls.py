"""Places that are named by URL (s3://, gs://, hf://, ...), through fsspec; what its file systems raise is one line.

Who asks and where the store is, fsspec's own settings say: the environment variables of each store's tools, and
FSSPEC_<PROTOCOL>_<OPTION>, such as FSSPEC_S3_ENDPOINT_URL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from fbinpaint.errors import InputError, one_line

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(place: object) -> bool:
    """Whether it names something by URL, and not by a path on this machine."""
    return isinstance(place, str) and SCHEME.match(place) is not None


def without_file_scheme(place: str) -> str:
    """file:///data as /data, anything else as it is."""
    return place.removeprefix("file://")


@contextmanager
def one_line_errors(url: str, problem: str = "cannot be read") -> Iterator[None]:
    """Whatever goes wrong with a store becomes an InputError: each of them has exceptions of its own."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file or folder; check the address") from error
    except ImportError as error:
        raise InputError(f"{url}: its kind of store needs one more package ({one_line(error)})") from error
    except Exception as error:
        reason = one_line(error)[:200]
        raise InputError(f"{url}: {problem} ({reason}); check the address and who may use it") from error


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system that a URL is of, and the path in it. Raises InputError."""
    with one_line_errors(url):
        files, path = url_to_fs(url)
        return files, path.rstrip("/")


def read_url(url: str) -> bytes:
    """A whole file. Raises InputError."""
    files, path = open_url(url)
    with one_line_errors(url):
        return files.cat_file(path)
