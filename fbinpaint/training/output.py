"""Where a run leaves what it makes: a folder, or a URL to which each checkpoint goes up whole, the rest with it.

accelerate writes to local folders only, so a run by URL works in one of the system's temporary folder. Over there a
checkpoint is whole once it holds its VERSION_FILE, and a pipeline once it holds its model_index.json: these go up last,
and first when something is removed or replaced.
"""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from fbinpaint.errors import InputError
from fbinpaint.system.files import remove_folder, replace_folder, try_folder
from fbinpaint.system.urls import check_writable, is_url, one_line_errors, open_url
from fbinpaint.system.urls import place as as_place

VERSION_FILE = "version.json"  # of a checkpoint: that of the pipelines it leads to, and what their classes are
LAST = (VERSION_FILE, "model_index.json")  # without these a folder is nothing that could be loaded
CHECKPOINT = re.compile(r"checkpoint-\d+")  # what else lies there, such as somebody's copy, is none of a run
PARTIAL = "checkpoint-partial"  # until it is whole
PROBE = ".writable"


def local_folder(place: str) -> Path:
    """Where a run of this --output_dir writes on this machine; all of its processes name the same folder."""
    if not is_url(place):
        return Path(place)
    user = os.getuid() if hasattr(os, "getuid") else 0
    name = hashlib.sha256(f"{user} {place}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fbinpaint-{name}"


def step_of(checkpoint: str) -> int:
    """Of its name, checkpoint-<step>, which from a million steps on has more digits."""
    return int(checkpoint.rsplit("-", 1)[1])


def in_order(names: Iterable[str]) -> list[str]:
    """Those that checkpoints are called, the earliest first."""
    return sorted(filter(CHECKPOINT.fullmatch, names), key=step_of)


class OutputFolder:
    """`folder` is where to write; what the methods do is done in all processes together.

    Args:
        place: a path or a URL.
    """

    def __init__(self, place: str, accelerator: Accelerator):
        self.place, self.accelerator, self.folder = place, accelerator, local_folder(place)
        self.files: Any = None  # of fsspec, where the place is a URL
        self.root = ""
        if is_url(place):
            check_writable(as_place(place))
            self.files, self.root = open_url(place)
        self.sent: dict[Path, tuple[int, int]] = {}  # what has gone up: size and time of change
        if self.files is not None and accelerator.is_local_main_process:
            self._begin()
        accelerator.wait_for_everyone()  # before the first of them writes there

    def _begin(self) -> None:
        """An empty folder but for the log and the names of the trackers' runs, which are gone on with."""
        if self.folder.is_symlink() or (self.folder.exists() and not os.access(self.folder, os.W_OK)):
            raise InputError(f"{self.folder}: belongs to somebody else; set TMPDIR to a folder of your own")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        with one_line_errors(self.place):
            self.files.invalidate_cache()
            for path in self.files.ls(self.root, detail=False) if self.files.isdir(self.root) else ():
                name = path.rstrip("/").rsplit("/", 1)[-1]
                if name == "log.jsonl" or name.endswith("_run"):
                    self.files.get_file(path, str(self.folder / name))
        if self.accelerator.is_main_process:
            # A store that takes nothing is to be told before the work, not at the first checkpoint.
            with one_line_errors(self.place, "written"):
                self.files.makedirs(self.root, exist_ok=True)
                self.files.pipe_file(f"{self.root}/{PROBE}", b"")
                self.files.rm_file(f"{self.root}/{PROBE}")

    def make(self) -> None:
        """The folder, unless it is there. Raises InputError where it cannot be, or not be written to, or something else
        is."""
        try:
            try_folder(self.folder)
        except OSError as error:
            raise InputError(
                f"--output_dir {self.place}: cannot be made or written to ({error.strerror}); name another"
            ) from error

    @property
    def keeps_folder(self) -> bool:
        """Whether this process tends the folder, which each node has one of where the output is a URL."""
        if self.files is None:
            return self.accelerator.is_main_process
        return self.accelerator.is_local_main_process

    def checkpoints(self) -> list[str]:
        """The names of those that are whole, the earliest first."""
        if self.files is None:
            return self._in_folder()
        with one_line_errors(self.place):
            self.files.invalidate_cache()
            whole = self.files.glob(f"{self.root}/checkpoint-*/{VERSION_FILE}")
            return in_order(path.split("/")[-2] for path in whole)

    def _in_folder(self) -> list[str]:
        return in_order(path.name for path in self.folder.glob("checkpoint-*") if path.is_dir())

    def fetch(self, checkpoint: str) -> Path:
        """A checkpoint as a local folder, given its name, path or URL. Raises InputError where it is none."""
        if self.files is None and not is_url(checkpoint):
            return self.folder / checkpoint
        url = checkpoint if is_url(checkpoint) else f"{self.place.rstrip('/')}/{checkpoint}"
        local, partial = self.folder / url.rstrip("/").rsplit("/", 1)[-1], self.folder / PARTIAL
        if self.keeps_folder:
            files, root = open_url(url)
            with one_line_errors(url):
                if not CHECKPOINT.fullmatch(local.name) or not files.exists(f"{root}/{VERSION_FILE}"):
                    raise InputError(f"--resume_from_checkpoint {url}: no whole checkpoint-<step> is there")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                for path in files.find(root):
                    files.get_file(path, str(partial / path.rsplit("/", 1)[-1]))
            replace_folder(partial, local)
        self.accelerator.wait_for_everyone()
        return local

    def begin_checkpoint(self) -> Path:
        """The folder that all processes write it to."""
        if self.keeps_folder:
            shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        return self.folder / PARTIAL

    def keep_checkpoint(self, name: str, limit: int) -> None:
        """What was written becomes the checkpoint `name`, and no more than `limit` are left."""
        self.accelerator.wait_for_everyone()
        if self.keeps_folder:
            replace_folder(self.folder / PARTIAL, self.folder / name)
            for old in self._in_folder()[: -limit if self.files is None else -1]:
                remove_folder(self.folder / old)
        if self.files is None:
            return
        if self.accelerator.is_local_main_process:  # with the random states of its own node
            self._send([path for path in (self.folder / name).iterdir() if path.name != VERSION_FILE])
        self.push()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._send([self.folder / name / VERSION_FILE])
            for old in self.checkpoints()[:-limit]:
                self._remove(f"{self.root}/{old}")

    def push(self) -> None:
        """All that is new in the folder, checkpoints excepted, goes up."""
        if self.files is None or not self.accelerator.is_main_process:
            return
        new = [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and not path.relative_to(self.folder).parts[0].startswith("checkpoint-")
            and self.sent.get(path) != _state(path)
        ]
        with one_line_errors(self.place, "written"):
            for path in new:
                if path.name in LAST and self.files.exists(self._url(path)):
                    self.files.rm_file(self._url(path))
        self._send(new)

    def _send(self, paths: list[Path]) -> None:
        with one_line_errors(self.place, "written"):
            for path in sorted(paths, key=lambda path: (path.name in LAST, path)):
                state = _state(path)
                self.files.makedirs(self._url(path.parent), exist_ok=True)
                self.files.put_file(str(path), self._url(path))
                self.sent[path] = state

    def _url(self, path: Path) -> str:
        return f"{self.root}/{path.relative_to(self.folder).as_posix()}".removesuffix("/.")

    def _remove(self, root: str) -> None:
        with one_line_errors(self.place, "written"):
            self.files.rm_file(f"{root}/{VERSION_FILE}")
            self.files.rm(root, recursive=True)


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
