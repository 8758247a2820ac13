"""Trackers that accelerate knows, without a network: options, scores and pictures arrive, and a resumed run goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import train_accelerate

from .test_scale import FORKS


def run_training(options: list[str], settings: dict[str, str], folder: Path) -> None:
    os.environ.update(settings)
    os.chdir(folder)
    sys.exit(train_accelerate.main(options))


@pytest.fixture
def track(street_folder, tiny_pipeline_dir, vgg_file, tmp_path):
    """Train one step with a tracker, then go on for another, each in a process of its own as users do."""

    def run(tracker: str, **settings: str) -> Path:
        options = (
            f"--train_data_dir {street_folder} --label_space cityscapes --pretrained_model {tiny_pipeline_dir} "
            f"--perceptual_weights {vgg_file} --output_dir {tmp_path}/run --resolution 48 --perceptual_crop 32 "
            "--train_batch_size 2 --validation_steps 1 --checkpointing_steps 1 --num_validation_images 2 "
            f"--num_exemplars 2 --dataloader_num_workers 0 --report_to {tracker} --resume_from_checkpoint latest"
        )
        for steps in ("1", "2"):
            process = FORKS.Process(
                target=run_training, args=([*options.split(), "--max_train_steps", steps], settings, tmp_path)
            )
            process.start()
            process.join(120)
            assert process.exitcode == 0
        return tmp_path

    return run


def test_wandb_offline(track):
    folder = track("wandb", WANDB_MODE="offline", WANDB_SILENT="true")
    runs = sorted((folder / "wandb").glob("offline-run-*"))
    name = (folder / "run/wandb_run").read_text().strip()
    assert len(runs) == 2 and all(run.name.endswith(f"-{name}") for run in runs)
    assert all(list(run.rglob("media/images/*.png")) for run in runs)
    assert any(b"perceptual_crop" in path.read_bytes() for path in runs[0].glob("*.wandb"))


def test_mlflow(track, monkeypatch):
    import mlflow

    files = {"MLFLOW_ALLOW_FILE_STORE": "true"}  # a database would need more than mlflow-skinny
    monkeypatch.setenv(*next(iter(files.items())))
    folder = track("mlflow", MLFLOW_TRACKING_URI="file:./mlruns", **files)
    client = mlflow.MlflowClient(f"file:{folder}/mlruns")
    (experiment,) = client.search_experiments(filter_string="name = 'fbinpaint'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["resolution"] == "48" and run.info.run_id == (folder / "run/mlflow_run").read_text().strip()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "psnr/0")] == [1, 2]


def test_trackio(track):
    folder = track("trackio", TRACKIO_DIR="trackio")
    found = subprocess.run(
        [sys.executable, "-c", "import json, trackio.sqlite_storage as s; S = s.SQLiteStorage; "
         "runs = S.get_runs('fbinpaint'); print(json.dumps([runs, S.get_logs('fbinpaint', runs[0])], default=str))"],
        env=os.environ | {"TRACKIO_DIR": str(folder / "trackio")}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    runs, rows = json.loads(found.stdout.splitlines()[-1])
    assert runs == [(folder / "run/trackio_run").read_text().strip()]
    assert [row["step"] for row in rows if "psnr/0" in row] == [1, 2]
