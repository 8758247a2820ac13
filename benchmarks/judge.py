"""A judge for `benchmarks.removal`: a segmenter that has learnt from intact photos alone.

    python -m benchmarks.judge --train_data_dir streets/train --label_space cityscapes --output judges/streets

It shares neither weights nor fills with the model that it is to judge: it starts from the ImageNet encoder, and what it
has seen are photos, never what a network painted. What it leaves is a folder with `segmenter/` in it.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.reports import exit_code
from fbinpaint.arguments import HelpWithDefaults, positive, seed
from fbinpaint.data.photos import PhotoCrops, collate
from fbinpaint.data.rows import labelled_rows
from fbinpaint.data.sources import load_photos
from fbinpaint.errors import InputError
from fbinpaint.labels import IGNORE, load_label_space
from fbinpaint.models import Segmenter
from fbinpaint.models.layers import downsample_labels
from fbinpaint.system.files import check_output, save_folder
from fbinpaint.training.optimizers import WeightAverage, build_optimizers

BATCH_SIZE, RESOLUTION = 4, 256
LEARNING_RATE, ENCODER_LEARNING_RATE = 2e-3, 2e-4
WARMUP_STEPS, MAX_GRADIENT, DECAY = 50, 5.0, 0.998


def train(crops: PhotoCrops, segmenter: Segmenter, steps: int, first_seed: int) -> Segmenter:
    """The averaged segmenter after so many steps."""
    generator = torch.Generator().manual_seed(first_seed)
    parts = nn.ModuleDict({"segmenter": segmenter}).train().to(memory_format=torch.channels_last)
    optimizers = build_optimizers(parts, LEARNING_RATE, ENCODER_LEARNING_RATE)
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    average = WeightAverage(segmenter, DECAY)
    with tqdm(range(steps), desc="judge", unit="step") as progress:
        for step in progress:
            for group, peak in peaks:  # a rise, then a straight line down to 0
                group["lr"] = peak * min(1.0, (step + 1) / WARMUP_STEPS) * (1 - step / steps)
            indices = torch.randint(len(crops), (BATCH_SIZE,), generator=generator).tolist()
            batch = collate([crops[index, first_seed + step * BATCH_SIZE + i] for i, index in enumerate(indices)])
            logits = segmenter(batch.image, torch.zeros_like(batch.mask)).logits
            loss = F.cross_entropy(logits, downsample_labels(batch.labels), ignore_index=IGNORE)
            if loss.isfinite():  # not a number where no crop of the batch has a label
                loss.backward()
                nn.utils.clip_grad_norm_(segmenter.parameters(), MAX_GRADIENT)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                average.update(segmenter)
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return average.module


def make_judge(
    folders: list[str], label_space: str, encoder_weights: str | None, output: Path, steps: int, first_seed: int
) -> None:
    """Raises InputError for photos, classes and weights that cannot be used, and an output that is there already or
    cannot be written."""
    if output.exists():
        raise InputError(f"{output}: is there already; move it away, or name another --output")
    check_output(output)
    space = load_label_space(label_space)
    photos = labelled_rows(load_photos(folders))
    if not len(photos):
        raise InputError(f"{' '.join(folders)}: no labelled photo; name folders with labels/")
    crops = PhotoCrops(photos, space, RESOLUTION)
    if not crops.class_counts()[0].any():
        raise InputError(f"{' '.join(folders)}: no pixel of the labels is known (all are 255); check them")
    torch.manual_seed(first_seed)
    segmenter = Segmenter(num_classes=space.num_classes, label_space=space.to_config())
    segmenter.load_encoder(encoder_weights)
    judge = train(crops, segmenter, steps, first_seed)
    save_folder(output, lambda folder: judge.save_pretrained(folder / "segmenter"))
    print(f"{output}: learnt from {len(photos)} photos in {steps} steps of {BATCH_SIZE}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Train a segmenter on intact labelled photos, to judge what models paint.",
        epilog="example: python -m benchmarks.judge --train_data_dir streets/train --label_space cityscapes "
        "--output judges/streets",
        formatter_class=HelpWithDefaults,
    )
    parser.add_argument("--train_data_dir", nargs="+", required=True, metavar="DIR", help="folders, as for training")
    parser.add_argument("--label_space", required=True, metavar="NAME|classes.json", help="the classes")
    parser.add_argument("--encoder_weights", help="safetensors of timm's encoder; default: from the Hub")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=positive, default=3600, help="half an hour on a core")
    parser.add_argument("--seed", type=seed, default=1, help="of weights and crops")
    args = parser.parse_args()
    return exit_code(
        lambda: make_judge(
            args.train_data_dir, args.label_space, args.encoder_weights, args.output, args.steps, args.seed
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
