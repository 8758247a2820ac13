"""What visitors leave on the server's disk: how long it stays, and how much of it there may be.

The demo has a folder of its own, where Gradio puts uploads and pictures, and sessions their files. A thread looks
through it all the time; what nobody has used for an hour goes, and when it is full, what was not used the longest.
Gradio's own `delete_cache` (6.31) knows only some of the files, and none of those of a server that was killed.
"""

import atexit
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from fbinpaint.errors import InputError

from .session import FOLDER, FORGOTTEN, Session
from .session_files import size_of

KEEP = 3600  # seconds since a file or session was last used; the page promises it
SWEEP_EVERY = 60  # seconds
QUOTA = 4 * 10**9  # bytes
DISK_SHARE = 0.5  # of what the disk has left; the quota is never more
MAX_SESSIONS = 500
IN_USE = 120  # seconds since its last use in which nothing is deleted to make room
ARRIVES_IN = 10  # seconds for which what was announced has its room, beside what the folder has by then
MEASURED_FOR = 1.0  # seconds after which the folder's size is measured anew

NO_ROOM = "This server has no room for more pictures at the moment; try again in a few minutes."

PREFIX = "fbinpaint-demo-"
EXAMPLES = "examples"  # folder of pictures that are nobody's: the page shows them as long as it runs
in_folder: dict[Path, "Storage"] = {}
locks: dict[Path, FileLock] = {}  # of this process's own folders


def own_folder() -> Path:
    """The folder of this process's demos, which is made in Gradio's and takes its place: that one is shared with other
    programs of the user, whose files are not ours to delete. Folders that demos left behind that were killed go.

    It is Gradio's variable alone that says where its files are; so it is set anew here.
    """
    base = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    if base in locks:
        return base
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob(f"{PREFIX}*/"):
        remove_if_left(left)
    folder = base / f"{PREFIX}{secrets.token_hex(16)}"
    lock = FileLock(lock_file(folder))
    lock.acquire(timeout=0)  # before the folder is there: one without a lock that is held was left behind
    folder.mkdir(mode=0o700)
    locks[folder] = lock
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    atexit.register(remove_own, folder)
    return folder


def lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def remove_if_left(folder: Path) -> None:
    if folder.is_symlink() or not lock_file(folder).is_file():  # called like ours, but none
        return
    lock = FileLock(lock_file(folder))
    with suppress(Timeout, OSError):  # in use; of another user
        lock.acquire(timeout=0)
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        if not folder.exists():
            lock_file(folder).unlink(missing_ok=True)


def remove_own(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    locks.pop(folder).release()
    lock_file(folder).unlink(missing_ok=True)


@dataclass
class Storage:
    """A folder that is the demo's alone. keep: seconds; quota: bytes."""

    folder: Path
    keep: float = KEEP
    quota: float = QUOTA
    max_sessions: int = MAX_SESSIONS
    sessions: OrderedDict[str, Session] = field(default_factory=OrderedDict)  # by their last use
    lock: threading.RLock = field(default_factory=threading.RLock)
    size: int = 0
    coming: list[tuple[float, int]] = field(default_factory=list)
    measured: float = -MEASURED_FOR

    def __post_init__(self):
        in_folder[self.folder] = self

    def watch(self) -> None:
        """Sweeps from now on, in the background."""

        def watch() -> None:
            while True:
                self.sweep()
                time.sleep(min(SWEEP_EVERY, self.keep / 4))

        threading.Thread(target=watch, name="deletes old pictures", daemon=True).start()

    # ------------------------------------------------------------------------------------------ sessions

    def admit(self, session: Session) -> None:
        """A new session; where there are too many, the one that was not used the longest is forgotten."""
        with self.lock:
            self.sessions[session.id] = session
            while len(self.sessions) > self.max_sessions:
                self.forget(next(iter(self.sessions.values())))

    def use(self, session: Session | None) -> Session:
        """The session, which is not to be forgotten now. Raises InputError if it was."""
        with self.lock:
            if session is None or session.closed:
                raise InputError(FORGOTTEN if session is None else session.closed)
            session.last_used = time.time()
            if session.id in self.sessions:
                self.sessions.move_to_end(session.id)
            return session

    def forget(self, session: Session) -> None:
        """Its files go."""
        with self.lock:
            self.sessions.pop(session.id, None)
            session.close()

    # ------------------------------------------------------------------------------------------ age and size

    def sweep(self) -> None:
        """Deletes what nobody has used for as long as it is kept, or will have until the next sweep."""
        unused_since = time.time() - self.keep + min(SWEEP_EVERY, self.keep / 4)
        with self.lock:
            for session in list(self.sessions.values()):
                if session.last_used <= unused_since:
                    self.forget(session)
            for path, modified, _ in self.files():
                if modified <= unused_since:
                    path.unlink(missing_ok=True)
            self.remove_empty_folders()

    def make_room(self, coming: int = 0) -> None:
        """Room for so many bytes. Where there is none, what was not used the longest is deleted, as far as it is not in
        use. Raises InputError where that is not enough."""
        with self.lock:
            now = time.time()
            self.coming = [(since, size) for since, size in self.coming if 0 <= now - since < ARRIVES_IN]
            if not 0 <= now - self.measured < MEASURED_FOR:
                self.measure()
            limit = self.limit() - sum(size for _, size in self.coming) - coming
            if self.size > limit:
                self.measure()
                self.evict(self.size - limit)
            if self.size > limit:
                raise InputError(NO_ROOM)
            if coming:
                self.coming.append((now, coming))

    def measure(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # cleaners of /tmp take it where it is not used for days
        files = sum(size for *_, size in self.files())
        self.size = files + sum(size_of(folder) for folder in (self.folder / FOLDER).glob("*"))
        self.measured = time.time()

    def limit(self) -> float:
        return min(self.quota, self.size + DISK_SHARE * shutil.disk_usage(self.folder).free)

    def evict(self, too_much: float) -> None:
        """Deletes so many bytes, or all that is not in use."""
        unused_since = time.time() - min(IN_USE, self.keep)
        unused: list[tuple[float, int, Session | Path]] = [
            (session.last_used, size_of(session.folder), session) for session in self.sessions.values()
        ]
        unused += [(modified, size, path) for path, modified, size in self.files()]
        for last_used, size, what in sorted(unused, key=lambda entry: entry[0]):
            if too_much <= 0 or last_used > unused_since:
                return
            self.forget(what) if isinstance(what, Session) else what.unlink(missing_ok=True)
            self.size -= size
            too_much -= size

    def files(self) -> list[tuple[Path, float, int]]:
        """All files of visitors outside sessions, with the time they were last written and their sizes."""
        found = []
        for parent, folders, names in os.walk(self.folder):
            if Path(parent) == self.folder:
                folders[:] = {*folders} - {FOLDER, EXAMPLES}
            for name in names:
                path = Path(parent, name)
                with suppress(OSError):  # gone meanwhile
                    status = path.lstat()
                    found.append((path, status.st_mtime, size_of(path)))
        return found

    def remove_empty_folders(self) -> None:
        """But none that a file may just be put into."""
        for path in self.folder.glob("*/"):
            with suppress(OSError):  # not empty, or gone meanwhile
                if path.name != FOLDER and time.time() - path.stat().st_mtime > min(SWEEP_EVERY, self.keep):
                    path.rmdir()


def make_room(folder: str | Path, coming: int) -> None:
    """In a folder of files that are sent; see `Storage.make_room`."""
    if storage := in_folder.get(Path(folder).resolve()):
        storage.make_room(coming)
