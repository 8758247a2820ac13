"""Models without strings, made by one command: small networks that have seen nothing but this package's own scenes.

    python -m benchmarks.small_models runs/small [--minutes 60]

The bundled models have learnt from photos that others own, and from networks that have: who may not use such finds here
how a pair is made that has not. Scenes are drawn (`fbinpaint.data.scenes`), and all networks, the segmenter's encoder
as well, start from random weights, a quarter as large as the bundled ones. Nothing judges the fills but the
discriminator that learns beside them: VGG16, of the perceptual loss, has seen photos. The pair is in OUT/faces and
OUT/streets, each trained for so many minutes on the cores that there are; a command that was cut short goes on where it
was. `checkpoints/small` holds one that is ready.
"""

import argparse
import shutil
from pathlib import Path

import torch

from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.arguments import HelpWithDefaults, amount
from fbinpaint.data.scenes import write_scenes
from fbinpaint.errors import InputError, printable
from fbinpaint.hub.origin import read_origin, write_origin
from fbinpaint.labels import get_label_space
from fbinpaint.loop import Networks
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.system.files import save_folder
from fbinpaint.training.command import main as train

SCENES = {"faces": ("celebamask-hq", 1500), "streets": ("cityscapes", 900)}  # model -> classes, how many are drawn
WATTS_A_CORE, GRAMS_A_KWH = 10, 480  # of a server, of the world's electricity (CO2)
SIZE, SIDE = (224, 168), 128  # pixels: of a scene, of a crop
ROOT = Path(__file__).resolve().parents[1]
OPTIONS = (
    "--perceptual_weight", 0, "--adversarial_weight", 0.1, "--learning_rate", 1e-3, "--encoder_learning_rate", 2e-3,
    "--resolution", SIDE, "--perceptual_crop", SIDE, "--train_batch_size", 8, "--labelled_ratio", 1,
    "--num_exemplars", 60, "--num_validation_images", 8, "--initial_steps", 400, "--validation_steps", 500,
)  # fmt: skip


def small_networks(label_space: str) -> Networks:
    """All four networks, with random weights."""
    classes = get_label_space(label_space)
    segmenter = Segmenter(classes.num_classes, channels=32, label_space=label_space)
    features = sum(segmenter.encoder.feature_info.channels()[1:]) + segmenter.config.channels
    return Networks(
        initial_inpainter=InitialInpainter(channels=(24, 40, 64, 96), bottleneck_dilations=(1, 2, 4, 1), depth8=1),
        segmenter=segmenter,
        recorrector=Recorrector(classes.num_classes, feature_channels=features),
        guided_inpainter=GuidedInpainter(
            classes.num_classes, channels=(24, 40, 64), context_channels=(40, 64), style_channels=32, guide_channels=32,
            depth8=1, attention_channels=32,
        ),
    )  # fmt: skip


def make(folder: Path, name: str, minutes: float) -> None:
    """`folder`/`name`, a pipeline; what it is made from lies beside it."""
    label_space, count = SCENES[name]
    scenes, start, run = (folder / kind / name for kind in ("scenes", "start", "runs"))
    write_scenes(scenes, label_space, count, SIZE, seed=0)
    if not start.exists():  # the discriminator of a run that goes on sees through the encoder that it began with
        pipe = FeedbackInpaintPipeline.from_networks(small_networks(label_space), label_space, SIDE)
        save_folder(start, pipe.save_pretrained)
    arguments = ["--train_data_dir", scenes, "--label_space", label_space, "--pretrained_model", start, *OPTIONS]
    arguments += ["--output_dir", run, "--max_train_minutes", minutes, "--resume_from_checkpoint", "latest"]
    if train([str(x) for x in arguments]):
        raise InputError(f"{run}: the training ended early; the same command goes on from its last checkpoint")
    pipe = FeedbackInpaintPipeline.from_pretrained(run / "pipeline", dtype=torch.float16)
    pipe.register_to_config(sample_size=SIDE)
    pipe.save_pretrained(folder / name)
    shutil.copyfile(ROOT / "LICENSE", folder / name / "LICENSE")
    data = [{"name": f"{count} procedural scenes ({label_space}) of fbinpaint.data.scenes", "licence": "Apache-2.0"}]
    command = f"python -m benchmarks.small_models {folder.name} --minutes {minutes:g} --models {name}"
    origin = {"license": "apache-2.0", "data": data, "command": command, "time": read_origin(run / "pipeline")["time"]}
    write_origin(folder / name, origin | {"co2_eq_emissions": emissions(minutes, torch.get_num_threads())})


def emissions(minutes: float, cores: int) -> dict:
    """In grams, as the Hub's cards have it."""
    return {
        "emissions": round(minutes / 60 * cores * WATTS_A_CORE / 1000 * GRAMS_A_KWH),
        "source": f"estimated: {minutes:g} minutes x {cores} x {WATTS_A_CORE} W for a server core, x {GRAMS_A_KWH} "
        "g/kWh, the world's mean",
        "hardware_used": f"CPU cores: {cores}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train small models on procedural scenes alone.",
        epilog="example: python -m benchmarks.small_models runs/small",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("folder", type=Path, help="for the models and what they are made from")
    parser.add_argument("--minutes", type=amount, default=60, help="of training, of each")
    parser.add_argument("--models", nargs="+", choices=SCENES, default=list(SCENES), help="which to make")
    args = parser.parse_args()
    if not args.minutes:
        parser.error("--minutes: must be above 0")
    try:
        for name in args.models:
            make(args.folder, name, args.minutes)
    except InputError as error:
        raise SystemExit(printable(f"error: {error}")) from None


if __name__ == "__main__":
    main()
