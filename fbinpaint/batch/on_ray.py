"""Runs on a Ray cluster. Ray Data does the scheduling, repeats what a lost worker or node had begun, and holds the next
chunks back until they are wanted. Only names of files and lines about photos go through it, no pixels.

Photos are found by one task, on the driver's machine, and worked on by actors, one a CPU or so many GPUs.
"""

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fbinpaint.batch.chunks import Chunks
from fbinpaint.batch.planning import Note
from fbinpaint.errors import InputError, one_line

if TYPE_CHECKING:
    import numpy as np

    from fbinpaint.batch.batch import Done

CONNECTING = 10  # seconds
# Ray writes the file when it first starts a cluster by itself; from then on `ray start` asks for the token in it.
TOKENS = "check the cluster, and where there is a token (~/.ray/auth_token) set RAY_AUTH_MODE=token"
QUIET = 60  # seconds without a result after which a line says so
RETRIES = 3  # of a chunk whose worker died: a photo that kills every worker must not do so for ever
STORE = 2**28  # bytes of the object store of a cluster of our own, which holds no pixels


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within, this process is connected to a Ray cluster.

    address: HOST:PORT of its head node; "" = the one of RAY_ADDRESS, else one that runs on this machine, else a new
        one on this machine, which ends afterwards
    Raises InputError where Ray is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of what is written between our lines; to stderr
    try:
        import ray
        import ray.data
        from ray._private import worker as ray_worker
    except ImportError as error:
        raise InputError(f"--ray: Ray is not installed ({error}); run pip install 'fbinpaint[ray]'") from error
    # Whenever a worker ends Ray prints some twenty lines, whatever log_to_driver says; they are in its logs as well.
    ray_worker._worker_logs_enabled = False
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto"):
        address = "auto" if runs_here() else "local"  # of "auto" Ray also finds the token
    else:
        check_reachable(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE}
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        ray.init(address, **options)
    except Exception as error:  # of many kinds: other versions, tokens, what is no cluster at all
        raise InputError(f"--ray {address}: no connection ({one_line(error)}); {TOKENS}") from error
    try:
        yield
    finally:
        ray.shutdown()


def runs_here() -> bool:
    """Whether a cluster answers that was started on this machine, as `ray.init` finds it. Of one that was killed Ray
    keeps the address, which it would try for minutes."""
    from ray._private.services import get_ray_address_from_environment

    try:
        check_reachable(get_ray_address_from_environment("auto", None))
    except (ConnectionError, InputError):
        return False
    return True


def check_reachable(address: str) -> None:
    """Raises InputError where nobody answers, which `ray.init` would wait for."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdecimal():
        raise InputError(f"--ray {address}: is not of the form HOST:PORT; name the head node, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECTING).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--ray {address}: no answer ({one_line(error)}); start the cluster with `ray start --head`, or check the "
            "address"
        ) from error


def count_workers(gpus: float) -> int:
    """The workers that the cluster has room for, of one CPU and so many GPUs each. Raises InputError for none."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = [int(node.get("CPU", 0)) for node in nodes]
    if gpus:
        room = [min(cpus, int(node.get("GPU", 0) / gpus)) for cpus, node in zip(room, nodes, strict=True)]
    if workers := sum(room):
        return workers
    total = ray.cluster_resources()
    wanted = "1 CPU" + (f" and {gpus:g} GPUs" if gpus else "")
    fewer = ", add nodes, or lower --gpus-per-worker" if gpus else "; add nodes"
    raise InputError(
        f"--ray: no node of the cluster has the {wanted} of a worker (all of its {len(nodes)} nodes together have "
        f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs){fewer}"
    )


def has_gpus() -> bool:
    import ray

    return ray.cluster_resources().get("GPU", 0) > 0


@dataclass(frozen=True)
class Sent:
    """What goes through Ray Data, which would make columns of plain types of anything that looks like one, and a line
    of any Note.

    item: a chunk, what became of its photos, a line, the number of all photos, or an InputError that ends the run
    """

    item: Any


class Worker:
    """An actor of Ray Data: chunks in; what became of their photos, and the lines that were among them, out."""

    def __init__(self, options: Mapping[str, Any]):
        import torch

        from fbinpaint.restorer import Restorer

        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # a worker has one CPU; with other numbers sums are rounded otherwise
        try:
            self.restorer, self.error = Restorer(**options), None
        except InputError as error:  # raised here it would be tried again, and arrive as a traceback
            self.error = error

    def __call__(self, rows: "dict[str, np.ndarray]") -> dict[str, list]:
        return {"sent": [Sent(self._of(sent.item)) for sent in rows["sent"]]}

    def _of(self, item: Any) -> Any:
        if isinstance(item, str | int | InputError):
            return item
        return self.error or list(item.work(self.restorer))


class Run:
    """A run on the cluster that this process is connected to, see `connected`. To be iterated over, once: what became
    of each photo, as they are done.

    chunks: finds the photos; is called on another process of this machine
    options: of `fbinpaint.Restorer`
    workers: at most; gpus: of each
    say: is told each line of the listing
    total: number of photos, once all are known; None before
    """

    def __init__(
        self,
        chunks: Callable[[], Chunks],
        options: Mapping[str, Any],
        workers: int,
        gpus: float,
        say: Callable[[str], None],
    ):
        self.chunks, self.options, self.workers, self.gpus, self.say = chunks, options, workers, gpus, say
        self.total: int | None = None

    def __iter__(self) -> "Generator[Done, None, None]":
        from ray.exceptions import RayError

        done = 0
        try:
            with self._heard_of() as heard:
                for row in self._dataset().iter_rows():
                    heard()
                    item = row["sent"].item
                    if isinstance(item, str):
                        self.say(item)
                    elif isinstance(item, int):
                        self.total = item
                    elif isinstance(item, InputError):
                        raise item
                    else:
                        done += len(item)
                        yield from item
        except RayError as error:
            raise InputError(
                f"--ray: the run broke off ({last_line(error)}); fbinpaint must be installed on every node, and "
                "--resume goes on where it stopped"
            ) from error
        if self.total is None:
            raise InputError("--ray: the search for photos broke off; --resume goes on where it stopped")
        if done < self.total:
            self.say(
                f"{self.total - done} of {self.total} photos have no result, as workers ended {RETRIES + 1} times at "
                "them or their neighbours; see Ray's logs, and try these again with --resume"
            )

    def _dataset(self):
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Every chunk is a block: results are heard of as soon as they are there, and chunks go to whoever is free.
        context.target_max_block_size = context.target_min_block_size = 1
        context.max_errored_blocks = -1  # one chunk that kills its workers must not end the run
        context.max_consecutive_actor_init_deaths = RETRIES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of arguments that this version has no others for
            # The task that finds photos takes no CPU, so that workers can hold them all. It is not repeated: the second
            # time other results were there.
            found = ray.data.read_datasource(
                photos(self.chunks), num_cpus=0, override_num_blocks=1, ray_remote_args={"max_retries": 0}
            )
            return found.map_batches(
                Worker, fn_constructor_args=[self.options], batch_size=1, num_cpus=1, num_gpus=self.gpus or None,
                # Not of a fixed size: without one of its nodes a run goes on with fewer.
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.workers, initial_size=self.workers),
                max_task_retries=RETRIES,
            )  # fmt: skip

    @contextmanager
    def _heard_of(self) -> Iterator[Callable[[], None]]:
        """Yields what is to be called with each result; says so when there is none for long."""
        import ray

        ended, last = threading.Event(), time.monotonic()

        def watch() -> None:
            nonlocal last
            while not ended.wait(1):
                if time.monotonic() - last > QUIET:
                    free, all_ = (of().get("CPU", 0) for of in (ray.available_resources, ray.cluster_resources))
                    self.say(Note(f"--ray: no result for {QUIET} s; {free:g} of {all_:g} CPUs of the cluster are free"))
                    last = time.monotonic()

        def heard() -> None:
            nonlocal last
            last = time.monotonic()

        watcher = threading.Thread(target=watch, name="watches the run", daemon=True)
        watcher.start()
        try:
            yield heard
        finally:
            ended.set()
            watcher.join()


def photos(chunks: Callable[[], Chunks]):
    """A source of Ray Data: one row for each chunk and each line, then one with the number of photos, each in a block
    of its own as soon as it is known; an InputError is a row, too."""
    import pandas as pd
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def blocks() -> Iterator[pd.DataFrame]:
        total = 0
        try:
            for item in chunks():
                total += 0 if isinstance(item, str) else len(item)
                yield block(item)
            yield block(total)
        except InputError as error:
            yield block(error)

    def block(item: Any) -> pd.DataFrame:
        return pd.DataFrame({"sent": pd.Series([Sent(item)], dtype=object)})

    class Photos(Datasource):
        supports_distributed_reads = False  # where the driver is, files are listed; without it, there is no run

        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, *_, **__) -> list[ReadTask]:
            return [ReadTask(blocks, BlockMetadata(None, None, None, None))]

    return Photos()


def last_line(error: Exception) -> str:
    """Of a message that ends in a traceback of another process: what was raised there."""
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].strip()
