"""Training and evaluation that survive what happens to long runs: kills, stops, other numbers of processes."""

import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline, cli
from fbinpaint.training.checkpoints import read_log

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
KILLS = 5
PATIENCE = 300  # seconds; a small shared machine is slow, not broken
# Children of a process that has done the imports, and no more: each starts at once, and can be killed.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["train_accelerate"])


@pytest.fixture(scope="module")
def options(street_folder, unlabelled_folder, tiny_pipeline_dir, vgg_file) -> list[str]:
    """Of a tiny run with the discriminator from the second step on."""
    return (
        f"--train_data_dir {street_folder} {unlabelled_folder} --label_space cityscapes --pretrained_model "
        f"{tiny_pipeline_dir} --perceptual_weights {vgg_file} --resolution 32 --perceptual_crop 16 "
        "--train_batch_size 4 --labelled_ratio 0.5 --lr_warmup_steps 0 --adversarial_start 0.2 --num_exemplars 3 "
        "--num_validation_images 2 --dataloader_num_workers 0"
    ).split()


def train(options: list[str], output: Path, steps: int, *more: str) -> None:
    """In a process of its own, to be run or killed; its exit code is the script's."""
    torch.set_num_threads(1)  # as those of `launch`: the sums are the same then
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    sys.exit(train_accelerate.main([*options, "--output_dir", str(output), "--max_train_steps", str(steps), *more]))


def evaluate(options: list[str]) -> None:
    torch.set_num_threads(1)
    sys.exit(cli.main(["evaluate", *options]))


def start(*args) -> multiprocessing.Process:
    process = FORKS.Process(target=train, args=args)
    process.start()
    return process


def end(process: multiprocessing.Process) -> int:
    """Its exit code, once it has ended; it does not outlive the test."""
    process.join(PATIENCE)
    process.kill()
    process.join()
    return process.exitcode


def finish(*args) -> int:
    return end(start(*args))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of all networks, in double precision."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{path.parent.name}/{k}": v.double() for path in files for k, v in load_file(path).items()}


def same(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def uninterrupted(options, tmp_path_factory) -> tuple[Path, float]:
    """A run of six steps, and the seconds it took once the imports were done."""
    imports = FORKS.Process(target=torch.get_num_threads)
    imports.start()
    assert end(imports) == 0
    output, began = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
    assert finish(options, output, 6, "--checkpointing_steps", "1") == 0
    return output, time.monotonic() - began


def test_a_killed_run_resumes_bit_for_bit(options, uninterrupted, tmp_path):
    whole, seconds = uninterrupted
    parts = {path.name for path in (whole / "checkpoint-000006").iterdir()}
    output, moments = tmp_path / "run", random.Random(0)
    resume = (options, output, 6, "--checkpointing_steps", "1", "--resume_from_checkpoint", "latest")
    killed = 0
    for _ in range(10 * KILLS):
        whole_run, began = not output.exists(), time.monotonic()
        process = start(*resume)
        process.join(moments.uniform(0.2, 0.8) * seconds)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        for folder in output.glob("checkpoint-[0-9]*"):
            assert {path.name for path in folder.iterdir()} == parts
        if killed == KILLS:
            break
        if process.exitcode == 0:  # it was quick: once more from the start
            if whole_run:  # the machine has less to do than when the time was taken
                seconds = time.monotonic() - began
            shutil.rmtree(output)
    assert killed == KILLS
    assert finish(*resume) == 0
    assert same(output / "pipeline", whole / "pipeline") and same(output / "best", whole / "best")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_leaves_a_checkpoint(options, uninterrupted, workers, tmp_path):
    """SIGTERM in the middle of a run, to all of its processes; what follows is what would have followed."""
    output = tmp_path / "run"
    process = start(options, output, 6, "--checkpointing_steps", "2", "--dataloader_num_workers", str(workers))
    wait_until(lambda: not process.is_alive() or any(output.glob("checkpoint-[0-9]*")))
    loaders = psutil.Process(process.pid).children()
    assert len(loaders) == workers
    for one in (*loaders, process):
        one.terminate()
    assert end(process) == 128 + signal.SIGTERM
    assert not psutil.wait_procs(loaders, timeout=60)[1]
    assert not (output / "pipeline").exists()
    assert max(output.glob("checkpoint-[0-9]*")).name in [f"checkpoint-{step:06}" for step in (3, 4, 5)]
    assert finish(options, output, 6, "--resume_from_checkpoint", "latest") == 0
    assert same(output / "pipeline", uninterrupted[0] / "pipeline")


def test_ctrl_c_is_no_error(options, tmp_path):
    """It reaches the workers as well."""
    output = tmp_path / "run"
    process = start(options, output, 10**6, "--checkpointing_steps", "2", "--dataloader_num_workers", "1")
    wait_until(lambda: not process.is_alive() or any(output.glob("checkpoint-[0-9]*")))
    for one in (*psutil.Process(process.pid).children(), psutil.Process(process.pid)):
        one.send_signal(signal.SIGINT)
    assert end(process) == 128 + signal.SIGINT
    assert not (output / "checkpoint-partial").exists()


def test_a_failed_run_ends_and_so_do_its_workers(options, tmp_path):
    (tmp_path / "log.jsonl").mkdir()  # the tenth step cannot be logged
    process = start(options, tmp_path, 12, "--dataloader_num_workers", "1")
    wait_until(lambda: not process.is_alive() or psutil.Process(process.pid).children())
    (worker,) = psutil.Process(process.pid).children()
    assert end(process) == 1 and not psutil.wait_procs([worker], timeout=60)[1]


def test_the_best_pipeline_is_kept(options, tmp_path):
    stride = ("--learning_rate", "1", "--lr_warmup_steps", "2")  # none in the first step, a huge one in the second
    assert finish(options, tmp_path, 2, "--validation_steps", "1", *stride) == 0
    scores = [row["lpips_alex/2"] for row in read_log(tmp_path) if "lpips_alex/2" in row]
    assert len(scores) == 2 and scores[0] < scores[1]  # which does harm
    assert not same(tmp_path / "best", tmp_path / "pipeline")
    assert FeedbackInpaintPipeline.from_pretrained(tmp_path / "best").config.variant == "feedback"


def launch(*command: str) -> str:
    """Two processes, as `accelerate launch` starts them on two GPUs, on the CPU; returns what they said on stderr."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command],
        cwd=ROOT, env=environment | {"ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stderr


def test_two_processes_learn_what_one_does_with_twice_the_photos(options, tiny_pipeline_dir, tmp_path):
    options = [*options, "--seed", "9"]  # of which the second step sharpens an enlarged fill
    launch("train_accelerate.py", *options, "--output_dir", str(tmp_path / "two"), "--max_train_steps", "3")
    assert finish(options, tmp_path / "one", 3, "--gradient_accumulation_steps", "2") == 0
    assert finish(options, tmp_path / "half", 3) == 0
    start, two, one, half = map(
        weights, (tiny_pipeline_dir, tmp_path / "two/pipeline", tmp_path / "one/pipeline", tmp_path / "half/pipeline")
    )

    def distance(a: dict, b: dict) -> float:
        return sum(float((a[key] - b[key]).square().sum()) for key in a if "bank" not in key) ** 0.5

    learned = distance(one, start)
    assert distance(two, one) < 1e-3 * learned < 1e-1 * learned < distance(half, one)


def test_two_processes_evaluate_to_the_same_report(street_folder, tiny_pipeline_dir, tmp_path):
    what = f"--model {tiny_pipeline_dir} --data {street_folder} --resolution 64 --rounds 0,1".split()
    assert "8/8" in launch("-m", "fbinpaint", "evaluate", *what, "--output", str(tmp_path / "two.json"))
    alone = FORKS.Process(target=evaluate, args=([*what, "--output", str(tmp_path / "one.json")],))
    alone.start()
    assert end(alone) == 0
    for suffix in (".json", ".csv"):
        assert (tmp_path / f"one{suffix}").read_text() == (tmp_path / f"two{suffix}").read_text()


def test_memory_and_precision_options(options, tmp_path):
    assert finish(options, tmp_path / "plain", 2) == 0
    assert finish(options, tmp_path / "checkpointed", 2, "--gradient_checkpointing") == 0
    plain, checkpointed = weights(tmp_path / "plain/pipeline"), weights(tmp_path / "checkpointed/pipeline")
    assert all(torch.allclose(plain[key], checkpointed[key], atol=1e-6) for key in plain)
    assert finish(options, tmp_path / "bf16", 2, "--mixed_precision", "bf16") == 0
    rounded = weights(tmp_path / "bf16/pipeline")
    assert all(value.isfinite().all() for value in rounded.values())
    assert not all(torch.equal(plain[key], rounded[key]) for key in plain)


def test_trackers(options, tmp_path):
    assert finish(options, tmp_path, 1, "--report_to", "tensorboard") == 0
    assert sum(path.stat().st_size for path in tmp_path.rglob("events.out.tfevents*")) > 10_000  # a picture among them


@pytest.mark.parametrize("path", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_understands_our_configurations(path):
    config = load_config_from_file(str(path))
    assert config.num_processes % config.num_machines == 0 and not config.use_cpu
