"""Peers of the field beside the project's own networks; docs/peers.md tells what is compared.

    python -m benchmarks.peers train --peer lama-fourier --train_data_dir DIR --label_space SPACE --output_dir runs/lama
    python -m benchmarks.peers evaluate --model PIPELINE --peers lama=runs/lama/pipeline --data DIR --output peers.json
    python -m benchmarks.peers runs [NAME ...]      trains what benchmarks/peers/runs.txt lists, one after the other
"""

import signal
import sys

import datasets

from benchmarks.reports import exit_code
from fbinpaint.system.memory import keep_freed_memory
from fbinpaint.training.command import train as run_training

from . import evaluation, runs, training

COMMANDS = ("train", "evaluate", "runs")


def train(argv: list[str]) -> int:
    """0; 128 + SIGTERM where that stopped it, after a checkpoint; 1 after an InputError."""
    datasets.disable_progress_bars()
    args, finished = training.parse_args(argv), []
    code = exit_code(lambda: finished.append(run_training(args, training.PeerTrainer)))
    return code or (0 if finished == [True] else 128 + signal.SIGTERM)


def main() -> int:
    command, *argv = sys.argv[1:] or [""]
    if command not in COMMANDS:
        print(__doc__.strip(), file=sys.stderr if command not in ("-h", "--help") else sys.stdout)
        return 0 if command in ("-h", "--help") else 2
    keep_freed_memory()
    if command == "train":
        return train(argv)
    if command == "evaluate":
        return exit_code(lambda: evaluation.run(argv))
    return exit_code(lambda: runs.run(argv))


if __name__ == "__main__":
    raise SystemExit(main())
