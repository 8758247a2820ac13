"""Training in several processes: who reads which row of a stream, kills and resumes, output by URL, validation."""

import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageColumn
from safetensors.torch import load_file, save_file
from torch import distributed

from fbinpaint.data.loader import BadPhotos, BatchLoader
from fbinpaint.data.photos import Batch, MixedBatches, PhotoCrops
from fbinpaint.data.rows import bytes_held
from fbinpaint.data.sources import stream_photos
from fbinpaint.data.streams import SHUFFLE_WINDOW, Mark, RowWindow, StreamedCrops, StreamReader, set_aside, share
from fbinpaint.errors import InputError
from fbinpaint.labels import CITYSCAPES
from fbinpaint.training.checkpoints import read_log
from fbinpaint.training.distribution_alignment import DistributionAlignment
from fbinpaint.training.validation import BATCH_SIZE

from .test_layouts import encoded_streets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 240  # seconds; a small shared machine is slow, not broken
SHARDS, ROWS = 8, 6
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.test_many_nodes"])


def write_shards(folder: Path, shards: int = SHARDS, rows: int = ROWS) -> str:
    """Labelled streets of 32x32 in parquet files; of each, `path` is a name of its own."""
    folder.mkdir(parents=True)
    photos, labels = encoded_streets(4, (32, 32))
    for shard in range(shards):
        columns = {"image": [], "semantic_map": []}
        for row in range(rows):
            kind = (shard + row) % 4
            columns["image"].append({"bytes": photos[kind], "path": f"{shard}-{row}.png"})
            columns["semantic_map"].append({"bytes": labels[kind], "path": None})
        table = Dataset.from_dict(columns, Features({"image": ImageColumn(), "semantic_map": ImageColumn()}))
        table.to_parquet(folder / f"train-{shard:05d}.parquet")
    return str(folder)


def own_names(names) -> list[str]:
    """The names that `write_shards` gave, of those that errors call the rows by."""
    return [re.search(r"\((\d+-\d+)\.png\)", name)[1] for name in names]


ALL = sorted(f"{shard}-{row}" for shard in range(SHARDS) for row in range(ROWS))


def open_stream(folder: str, held_out: int = 0) -> StreamedCrops:
    streams = stream_photos([folder], [], seed=0)
    validation, known = set_aside(streams, held_out, num_known=2)
    return StreamedCrops(streams, PhotoCrops(known, CITYSCAPES, 16), 0, validation["name"])


# ------------------------------------------------------------------------------------------------------ who reads what


@pytest.mark.parametrize("shards, readers", [(8, 4), (9, 4), (4, 4), (3, 4), (1, 4), (5, 16), (7, 1)])
def test_in_each_pass_each_row_is_one_readers(shards, readers):
    orders = []
    for number in range(3):
        read = []
        for reader in range(readers):
            mine, every, offset = share(shards, 7, number, reader, readers)
            assert every == 1 or shards < readers
            read += [(shard, row) for shard in mine for row in range(20) if row % every == offset]
        assert sorted(read) == list(itertools.product(range(shards), range(20)))
        orders.append(tuple(read))
    assert shards == 1 or len(set(orders)) > 1  # shared otherwise in each pass


class Numbers:
    """A stream of as many rows in each shard as it is told."""

    source = "numbers"

    def __init__(self, *sizes: int):
        self.sizes, self.num_shards = sizes, len(sizes)

    def rows(self, shard, start=0):
        for row in range(start, self.sizes[shard]):
            yield {"name": f"{shard}-{row}", "image": None, "semantic_map": None, "label_format": None}


def names_of(window: RowWindow, positions) -> list[str]:
    return [next(window.rows_from(position))["name"] for position in positions]


def test_reading_goes_on_from_marks_with_the_same_rows():
    """From whatever position, over the borders of blocks, shards and passes, with two streams that take turns."""
    streams = Numbers(300, 500, 0, 20, 650), Numbers(90, 31, 7)

    def window(marks, first=0):
        return RowWindow(
            [
                StreamReader(stream, 0, 1, 2, frozenset(["0-3"]), mark)
                for stream, mark in zip(streams, marks, strict=True)
            ],
            first,
        )

    whole = window([Mark()] * 2)
    expected = names_of(whole, range(4000))
    assert len(set(expected)) > 900
    generator = np.random.default_rng(0)
    for stop in (0, 1, 2 * SHUFFLE_WINDOW, *generator.integers(0, 3900, 20).tolist()):
        broken_off = window([Mark()] * 2)
        for position in range(stop):
            row = next(broken_off.rows_from(position))["name"]
            assert row == expected[position]
        marks = [Mark(*mark) for mark in json.loads(json.dumps(broken_off.marks(stop)))]
        assert names_of(window(marks, stop), range(stop, stop + 100)) == expected[stop : stop + 100]
        # No more is read again than the block that was broken off.
        for stream, mark in enumerate(marks):
            assert (stop + 1 - stream) // 2 - mark.position <= SHUFFLE_WINDOW


def test_rows_are_shuffled_within_a_window_and_otherwise_in_each_pass():
    reader = StreamReader(Numbers(1000), 0, 0, 1, frozenset())
    rows = [int(row["name"].split("-")[1]) for row in itertools.islice(reader, 2000)]
    first, second = rows[:1000], rows[1000:]
    assert sorted(first) == sorted(second) == list(range(1000)) and first != second
    assert max(abs(row - place) for place, row in enumerate(first)) < SHUFFLE_WINDOW
    assert sorted(first[:SHUFFLE_WINDOW]) == list(range(SHUFFLE_WINDOW)) != first[:SHUFFLE_WINDOW]


def test_what_is_held_out_is_the_same_everywhere_and_never_trained_on(tmp_path):
    folder = write_shards(tmp_path / "data")
    streams = stream_photos([folder], [], seed=0)
    held_out, known = set_aside(streams, 7, num_known=3)  # more than the first shard has
    assert own_names(held_out["name"]) == [*(f"0-{row}" for row in range(6)), "1-0"]
    assert own_names(known["name"]) == ["1-1", "1-2", "1-3"]
    trained = set()
    for reader in range(4):
        rows = StreamReader(streams[0][0], 5, reader, 4, frozenset(held_out["name"]))
        trained.update(own_names(row["name"] for row in itertools.islice(rows, 3 * 12)))
    assert trained == set(ALL) - set(own_names(held_out["name"]))


def test_nothing_left_to_train_on_is_one_line():
    stream = Numbers(2, 1)
    with pytest.raises(InputError, match=r"^numbers: no photo is left .* reader 1 of 1 [^\n]*--num_validation_images"):
        next(iter(StreamReader(stream, 0, 0, 1, frozenset(["0-0", "0-1", "1-0"]))))


def test_fewer_files_than_readers_are_said_to_cost(tmp_path):
    crops = open_stream(write_shards(tmp_path / "data", shards=3, rows=2))
    assert crops.cost_of_sharing(3) == []
    (line,) = crops.cost_of_sharing(8)
    assert "3 files for 8 readers" in line and "up to 3 of them, 2.7 times as many bytes" in line


def test_bytes_that_only_pass_by_count_too(tmp_path):
    """One file, two readers: each reads all of it."""
    folder = write_shards(tmp_path / "data", shards=1, rows=24)
    read = []
    for processes, workers in ((1, 0), (2, 0), (1, 2)):
        crops, total = open_stream(folder), 0
        for process in range(processes):
            batches = MixedBatches(crops.labelled, 3, 1.0, 0, 0, process, processes)
            loader = BatchLoader(crops, batches, workers, BadPhotos())
            before, count = loader.bytes_read, 8 // processes
            assert len(list(itertools.islice(loader, count))) == count
            total += loader.bytes_read - before
        read.append(total)
    stored = sum(map(bytes_held, crops.streams[0][0].rows(0)))
    assert read == [stored, 2 * stored, 2 * stored]


def test_batches_of_a_stream_that_goes_on_are_those_it_would_have_made(tmp_path):
    """The same crops of the same photos, by the seeds of their own steps."""
    folder = write_shards(tmp_path / "data")

    def batches_from(first: int, crops) -> Iterator[tuple[Batch, dict]]:
        loader = BatchLoader(crops, MixedBatches(crops.labelled, 3, 1.0, 0, first), 0, BadPhotos())
        for batch in itertools.islice(loader, 6 - first):
            yield batch, loader.state()

    whole = list(batches_from(0, open_stream(folder)))
    resumed = open_stream(folder)
    assert resumed.go_on(whole[2][1], MixedBatches(resumed.labelled, 3, 1.0, 0, 3), 1)
    for (expected, _), (batch, _) in zip(whole[3:], batches_from(3, resumed), strict=True):
        assert batch.names == expected.names
        assert torch.equal(batch.image, expected.image) and torch.equal(batch.mask, expected.mask)


def read_share(folder: str, process: int, count: int, out: Path, state: dict | None, pause: float = 0) -> None:
    """In a process of its own, which is one of two with two workers each: a line for each batch, with the state."""
    torch.set_num_threads(1)
    crops = open_stream(folder)
    first = 0
    if state:
        first = state["batch"]
        assert crops.go_on(state, MixedBatches(crops.labelled, 3, 1.0, 0, first, process, 2), 2)
    loader = BatchLoader(crops, MixedBatches(crops.labelled, 3, 1.0, 0, first, process, 2), 2, BadPhotos())
    with out.open("a") as file:
        for batch in itertools.islice(loader, count - first):
            file.write(json.dumps({"names": batch.names, "state": loader.state()}) + "\n")
            file.flush()
            time.sleep(pause)


def lines_of(path: Path) -> list[dict]:
    """Those that are whole."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_of_two_workers_read_each_row_once_also_when_killed(tmp_path):
    """A pass is eight batches of three for each process. One of both is killed after its fifth and goes on from what
    it knew after its third, where the run had its checkpoint."""
    folder = write_shards(tmp_path / "data")
    out = [tmp_path / f"{process}.jsonl" for process in range(2)]
    running = [FORKS.Process(target=read_share, args=(folder, 0, 8, out[0], None))]
    running.append(FORKS.Process(target=read_share, args=(folder, 1, 9**9, out[1], None, 0.1)))
    for process in running:
        process.start()
    try:
        wait_until(lambda: len(lines_of(out[1])) >= 5)
        workers = psutil.Process(running[1].pid).children(recursive=True)
        running[1].kill()
        running[1].join(PATIENCE)
        assert running[1].exitcode == -signal.SIGKILL
        kept = lines_of(out[1])[:3]
        out[1].write_text("".join(json.dumps(line) + "\n" for line in kept))
        running[1] = FORKS.Process(target=read_share, args=(folder, 1, 8, out[1], kept[-1]["state"]))
        running[1].start()
        for process in running:
            process.join(PATIENCE)
            assert process.exitcode == 0
        assert len(workers) >= 2 and not psutil.wait_procs(workers, timeout=60)[1]  # they end with who started them
    finally:
        for process in running:
            process.kill()
    read = [own_names(itertools.chain.from_iterable(line["names"] for line in lines_of(path))) for path in out]
    assert sorted(read[0] + read[1]) == ALL


# ------------------------------------------------------------------------------------------------------ training itself


@pytest.fixture(scope="module")
def options(tiny_pipeline_dir, vgg_file) -> list[str]:
    return (
        f"--label_space cityscapes --pretrained_model {tiny_pipeline_dir} --perceptual_weights {vgg_file} "
        "--resolution 32 --perceptual_crop 16 --train_batch_size 2 --lr_warmup_steps 0 --num_exemplars 2 "
        f"--num_validation_images {BATCH_SIZE + 1} --streaming"
    ).split()


# The script, which also notes what its networks are shown: a line with the names of the photos for each batch.
NOTING = """
import json, os, sys
import torch
import train_accelerate
from fbinpaint.training.step import TrainingModule

def note(module, inputs):
    if isinstance(module, TrainingModule):
        with open(os.path.join(sys.argv[1], os.environ["RANK"]), "a") as file:
            file.write(json.dumps(inputs[0].names) + "\\n")

torch.nn.modules.module.register_module_forward_pre_hook(note)
sys.exit(train_accelerate.main(sys.argv[2:]))
"""


def launch(*command: str, processes: int = 2, **environment: str) -> subprocess.Popen:
    """So many processes on the CPU."""
    own = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    own |= {"ACCELERATE_USE_CPU": "true", "TMPDIR": os.environ.get("TMPDIR", "/tmp")} | environment
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*run, *command], cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(run: subprocess.Popen) -> str:
    """What it said, once it has ended well."""
    try:
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        kill(run)
    assert run.returncode == 0, said
    return said


def kill(run: subprocess.Popen) -> None:
    """With all that it started, which are process groups of their own, at once, as where a machine goes."""
    if run.poll() is None:
        started = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        for process in started:
            process.kill()
        assert not psutil.wait_procs(started, timeout=60)[1]
    run.wait()


def test_a_run_by_url_of_two_processes_is_killed_and_goes_on_with_the_rows_that_are_left(options, tmp_path):
    """Checkpoints and pipelines lie at a URL; each process has two workers, and each row is trained on once in a
    pass. Of 72 rows nine are held out, and eight batches of two for each process take 32."""
    data, script = write_shards(tmp_path / "data", rows=9), tmp_path / "noting.py"
    script.write_text(NOTING)
    (tmp_path / "seen").mkdir()
    url = f"local://{tmp_path}/runs/one"
    run = [str(script), str(tmp_path / "seen"), *options, "--train_data_dir", data, "--output_dir", url]
    run += ["--dataloader_num_workers", "2", "--checkpointing_steps", "3", "--validation_steps", "99"]
    run += ["--resume_from_checkpoint", "latest"]
    killed = launch(*run, "--max_train_steps", "300")
    try:
        wait_until(lambda: (tmp_path / "runs/one/checkpoint-000003/version.json").exists() or killed.poll() is not None)
        assert killed.poll() is None
    finally:
        kill(killed)
    last = max(int(path.parent.name[-6:]) for path in (tmp_path / "runs/one").glob("*/version.json"))
    seen = [[json.loads(line) for line in (tmp_path / "seen" / rank).read_text().splitlines()] for rank in "01"]
    before = [batches[:last] for batches in seen]
    for rank in "01":
        (tmp_path / "seen" / rank).unlink()
    steps = max(8, last + 2)
    said = end(launch(*run, "--max_train_steps", str(steps)))
    assert "steps waited for data" in said and f"saved {url}/pipeline" in said
    after = [[json.loads(line) for line in (tmp_path / "seen" / rank).read_text().splitlines()] for rank in "01"]
    assert [len(batches) for batches in after] == [steps - last] * 2

    crops = open_stream(data, held_out=BATCH_SIZE + 1)
    for process in range(2):
        plan = MixedBatches(crops.labelled, 2, 0.25, 0, 0, process, 2)
        expected = [batch.names for batch in itertools.islice(BatchLoader(crops, plan, 2, BadPhotos()), steps)]
        assert [tuple(names) for names in before[process] + after[process]] == expected
    rows = own_names(itertools.chain.from_iterable(before[0] + after[0] + before[1] + after[1]))
    if steps == 8:  # nobody has begun another pass yet
        assert len(rows) == len(set(rows)) == 32
    output = tmp_path / "runs" / "one"
    assert (output / "pipeline/model_index.json").exists() and (output / "best/model_index.json").exists()
    row = read_log(output)[-1]
    assert row["step"] == steps and row["bytes_read"] > 0 and 0 <= row["waited"] <= 1
    assert [path.name for path in sorted(output.glob("checkpoint-*"))][-1] == f"checkpoint-{steps:06d}"


# The figures of a validation, by however many processes it is done.
VALIDATING = """
import json, sys
import torch
from accelerate import Accelerator
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.sources import load_photos
from fbinpaint.labels import CITYSCAPES
from fbinpaint.training.validation import Validator

torch.set_num_threads(1)
data, model, out, grid = sys.argv[1:]
own = Accelerator()
networks = FeedbackInpaintPipeline.from_pretrained(model).networks.eval()
photos = load_photos([data])
validator = Validator(photos, CITYSCAPES, 48, process=own.process_index, processes=own.num_processes)
scores = validator(networks, grid if own.is_main_process else None)
with open(f"{out}-{own.num_processes}-{own.process_index}", "w") as file:
    json.dump({"scores": scores, "photos": len(validator.indices)}, file)
"""


@pytest.mark.parametrize("photos, processes, shares", [(17, 2, [9, 8])])
def test_processes_validate_together_what_one_would_find(photos, processes, shares, tiny_pipeline_dir, tmp_path):
    """They share whole batches of eight."""
    data, script = write_shards(tmp_path / "data", 1, photos), tmp_path / "validating.py"
    script.write_text(VALIDATING)
    for number in (1, processes):
        end(
            launch(
                str(script), data, str(tiny_pipeline_dir), str(tmp_path / "scores"), str(tmp_path / f"{number}.png"),
                processes=number,
            )
        )  # fmt: skip
    alone = json.loads((tmp_path / "scores-1-0").read_text())
    shared = [json.loads((tmp_path / f"scores-{processes}-{rank}").read_text()) for rank in range(processes)]
    assert all(np.isfinite(value) for value in alone["scores"].values()) and "miou_hole/2" in alone["scores"]
    assert all(found["scores"] == alone["scores"] for found in shared)
    assert [found["photos"] for found in shared] == shares and alone["photos"] == photos
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / f"{processes}.png").read_bytes()


def aligned(process: int, folder: Path) -> None:
    """Of two processes, only the first has an unlabelled photo in its batch."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=process, world_size=2, timeout=timedelta(seconds=60)
    )  # fmt: skip
    floor = DistributionAlignment(torch.tensor([False, True]))
    if process == 0:
        labels = torch.zeros(2, 64, 64, dtype=torch.int64)
        labels[0, :4], labels[1] = 1, 255
        photos = torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
        floor.count(torch.tensor([0.9, 0.1]).view(1, 2, 1, 1).expand(2, 2, 16, 16),
                    Batch(*photos, labels, torch.tensor([True, False]), ("a", "b")))  # fmt: skip
    floor.move()
    save_file(floor.state_dict(), folder / f"{process}.safetensors")
    distributed.destroy_process_group()


def test_a_process_without_unlabelled_photos_does_not_keep_the_others_waiting(tmp_path):
    torch.multiprocessing.spawn(aligned, (tmp_path,), nprocs=2)
    first, second = (load_file(tmp_path / f"{process}.safetensors") for process in range(2))
    assert first["offset"][1] > 0 and all(torch.equal(first[name], second[name]) for name in first)

