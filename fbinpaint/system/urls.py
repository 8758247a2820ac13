"""Files and folders by URL, beside those of this machine: s3://, gs://, hf://, http:// and whatever else fsspec knows.

`place` makes a path or a `Url` of a text, and the functions beside it ask either the same questions. Drivers are
imported when there is a URL to open, not before.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from textwrap import shorten
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from fbinpaint.errors import InputError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters or more: one is a drive of Windows
SAME = {"s3a": "s3", "gcs": "gs", "local": "file"}  # other names of schemes
WEB = ("http", "https")
# What they are given is there whole or not at all. Others are written under another name, which is changed.
WHOLE = ("s3", "gs", "hf", "az", "abfs", "abfss", "adl", "oci", "oss", "tos", "memory")
CONNECT, ANSWER = 10, 60  # seconds, after which a store that says nothing is an error
ACCESS = {  # what to do about a store that refuses
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or run `gcloud auth application-default login`",
    "hf": "set HF_TOKEN, or run `hf auth login`",
}
REFUSED = re.compile(r"denied|forbidden|unauthori[sz]ed|credential|access.?(key|token)|signature|\b40[13]\b", re.I)


@dataclass(frozen=True, order=True)
class Url:
    """A file or folder by URL, with what is needed of pathlib's interface. It is no `os.PathLike`, so that nothing
    takes it for a file of this machine."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, below: str | PurePath) -> "Url":
        below = PurePath(below).as_posix() if isinstance(below, PurePath) else below
        return self if below == "." else Url(f"{self.text}/{below}")

    @property
    def scheme(self) -> str:
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part; of web addresses without a query."""
        text = urlsplit(self.text).path if self.scheme in WEB else self.text.partition("://")[2]
        return text.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "Url":
        return Url(self.text.rpartition("/")[0])

    def with_name(self, name: str) -> "Url":
        return Url(f"{self.text.rpartition('/')[0]}/{name}")

    def relative_to(self, folder: "Url") -> PurePosixPath:
        return PurePosixPath(self.text.removeprefix(folder.text).lstrip("/"))

    def kind(self) -> str | None:
        """"file", "directory", or None where there is nothing; of web addresses "file", before they are opened.

        Raises InputError where that cannot be told.
        """
        if self.scheme in WEB:
            return "file"
        with one_line_errors(self):
            files, path = _opened(self)
            try:
                return files.info(path)["type"]
            except FileNotFoundError:
                return None

    def listed(self) -> tuple[list[str], list[str]]:
        """The names of the folders and of the files in a folder, sorted; none where there is no such folder.

        Raises InputError where it cannot be listed.
        """
        with one_line_errors(self):
            files, path = _opened(self)
            names: dict[bool, set[str]] = {True: set(), False: set()}
            try:
                found = files.ls(path, detail=True)
            except FileNotFoundError:
                return [], []
            for entry in found:
                is_folder = entry["type"] == "directory"
                # A file whose name ends in "/" only marks a folder; so may one of the listed folder's own name.
                if (is_folder or not entry["name"].endswith("/")) and entry["name"].strip("/") != path.strip("/"):
                    names[is_folder].add(entry["name"].rstrip("/").rpartition("/")[2])
            return sorted(names[True]), sorted(names[False])

    def read_bytes(self) -> bytes:
        """Raises InputError for what cannot be read."""
        with one_line_errors(self):
            files, path = _opened(self)
            return files.cat_file(path)

    @contextmanager
    def open(self) -> "Iterator[BinaryIO]":
        """For what is read in parts. Raises InputError, also for what goes wrong within."""
        with one_line_errors(self):
            files, path = _opened(self)
            with files.open(path, "rb") as file:
                yield file

    def write_bytes(self, data: bytes) -> None:
        """Whole or not at all, in a folder that is made where it is missing. Raises InputError where that fails."""
        check_writable(self)
        with one_line_errors(self, "written"):
            files, path = _opened(self)
            if self.scheme in WHOLE:
                files.pipe_file(path, data)
                return
            folder = path.rpartition("/")[0]
            temporary = f"{folder}/.{uuid4().hex}.tmp"
            files.makedirs(folder, exist_ok=True)
            try:
                files.pipe_file(temporary, data)
                files.mv(temporary, path)
            except BaseException:
                with suppress(Exception):
                    files.rm_file(temporary)
                raise


Place = Path | Url


def place(text: str | os.PathLike) -> Place:
    """The path or the URL that a text stands for; file:// is a path, %20 a space in it. Raises InputError for no text,
    and for a URL that names nothing."""
    text = os.fspath(text) if isinstance(text, os.PathLike) else text
    if not text:
        raise InputError("an empty text is no path; name a file or a folder, . for the one that you are in")
    if not SCHEME.match(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    scheme = SAME.get(scheme.lower(), scheme.lower())
    if scheme == "file":
        if not rest.startswith("/"):
            raise InputError(f"{text}: names another machine; write file:///, and the path from the root on")
        return Path(unquote(rest))
    if scheme not in WEB:
        rest = rest.rstrip("/")
    if not rest.strip("/"):
        raise InputError(f"{text}: names no file or folder; add its path")
    if "::" in rest or {".", ".."} & set(rest.split("/")):
        raise InputError(f"{text}: is not a plain URL; write the path in full, without '::', '.' and '..'")
    return Url(f"{scheme}://{rest}")


def check_writable(where: Place) -> None:
    """Raises InputError for what results never go to."""
    if not isinstance(where, Url):
        return
    if where.scheme in WEB:
        raise InputError(f"{where}: a web address cannot be written to; name a folder, or one of a store (s3://...)")
    if where.scheme == "hf" and not where.text.startswith("hf://buckets/"):
        raise InputError(
            f"{where}: in a repository each file would be a commit; name a bucket (hf://buckets/USER/NAME), or a "
            "folder, and upload that with `hf upload`"
        )


# ---------------------------------------------------------------------------------- questions to paths and URLs


def exists(where: Place) -> bool:
    # Not Path.exists: it raises on names that are too long, and so on.
    return where.kind() is not None if isinstance(where, Url) else os.path.exists(where)


def is_folder(where: Place) -> bool:
    return where.kind() == "directory" if isinstance(where, Url) else os.path.isdir(where)


def is_file(where: Place) -> bool:
    return where.kind() == "file" if isinstance(where, Url) else os.path.isfile(where)


def below(where: Place, folder: Place) -> PurePath:
    """Where something lies in a folder, which is a URL, too, if that is one."""
    return PurePath(where.relative_to(folder))  # type: ignore[arg-type]  # both are of one kind


def real(where: Place) -> str:
    """What two names of one file or folder have in common: of paths the one without links, of URLs the URL."""
    # Not Path.resolve: before Python 3.13 it raises on links that go round in circles.
    return str(where) if isinstance(where, Url) else os.path.realpath(where)


def lies_in(path: str, folder: str) -> bool:
    """Whether something that `real` names is a folder, or in it."""
    separator = "/" if SCHEME.match(folder) else os.sep
    return path == folder or path.startswith(folder.rstrip(separator) + separator)


# ---------------------------------------------------------------------------------- drivers


def _opened(url: Url) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL, and what the URL is called in it."""
    from fsspec.core import url_to_fs
    from fsspec.registry import get_filesystem_class

    rest = url.text.partition("://")[2]
    try:
        get_filesystem_class(url.scheme)
    except ImportError:
        if url.scheme in ("s3", "gs"):
            return _of_pyarrow(url.scheme, rest.partition("/")[0]), rest
        raise
    # Listings are asked for once each, and may be of millions of files.
    return url_to_fs(url.text, use_listings_cache=False, **_options(url.scheme))


def _options(scheme: str) -> dict[str, Any]:
    """Time limits, where a driver has none of its own."""
    if scheme in WEB:
        from aiohttp import ClientTimeout

        return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=CONNECT, sock_read=ANSWER)}}
    return {}


@lru_cache
def _of_pyarrow(scheme: str, bucket: str) -> "AbstractFileSystem":
    """pyarrow brings its own drivers of two stores, so that these take no package more."""
    from datetime import timedelta

    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    if scheme == "gs":
        return ArrowFSWrapper(fs.GcsFileSystem(retry_time_limit=timedelta(seconds=CONNECT)))
    settings = os.environ
    endpoint = settings.get("AWS_ENDPOINT_URL_S3") or settings.get("AWS_ENDPOINT_URL")
    region = settings.get("AWS_REGION") or settings.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    store = fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=CONNECT,
        request_timeout=ANSWER,
        allow_delayed_open=True,  # a small file takes one request, not three
    )
    return ArrowFSWrapper(store)


@contextmanager
def one_line_errors(url: "Url | str", done: str = "read") -> Iterator[None]:
    """What a driver raises becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{url}: has no driver here ({one_line(error)}); install that") from error
    except FileNotFoundError as error:
        raise InputError(f"{url}: no such file or folder; check the URL") from error
    except Exception as error:  # each driver has kinds of its own
        reason = shorten(str(error), 300, placeholder=" ...") or type(error).__name__  # some are pages long
        scheme = str(url).partition("://")[0]
        if "not known" in reason and isinstance(error, ValueError):
            raise InputError(f"{url}: {scheme}:// is no kind of URL that fsspec knows; check it") from error
        refused = isinstance(error, PermissionError) or REFUSED.search(f"{type(error).__name__} {reason}")
        advice = ACCESS.get(scheme, "ask for access") if refused else "check the URL and the network"
        raise InputError(f"{url}: cannot be {done} ({reason}); {advice}") from error


# ---------------------------------------------------------------------------------- texts, where no path is wanted


def is_url(text: object) -> bool:
    """Whether it names something by URL, and not by a path on this machine."""
    return isinstance(text, str) and SCHEME.match(text) is not None


def without_secrets(text: Any) -> Any:
    """A URL without its user, password and query, which may open what it names; anything else as it is."""
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def without_file_scheme(text: str) -> str:
    """file:///my%20data as /my data, anything else as it is."""
    return unquote(text.removeprefix("file://")) if text.startswith("file://") else text


def open_url(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system that a URL is of, and the path in it. Raises InputError."""
    with one_line_errors(url):
        files, path = _opened(Url(url))
        return files, path.rstrip("/")


def read_url(url: str) -> bytes:
    """A whole file. Raises InputError."""
    return Url(url).read_bytes()
