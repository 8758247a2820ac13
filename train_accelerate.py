"""Train all networks of the feedback loop together, on labelled and unlabelled photos.

    accelerate launch train_accelerate.py --train_data_dir data/streets --label_space cityscapes \
        --encoder_weights lite0.safetensors --perceptual_weights vgg16.safetensors --output_dir runs/streets

The label space is one of those built in, or a JSON file with classes of your own. A data folder holds `images/` and,
for labelled photos, `labels/` (same stem, index PNG), or CelebAMask-HQ, Cityscapes, parquet or WebDataset files as
their owners distribute them (docs/training.md); give as many folders as you like, labelled and unlabelled. Stop it
whenever you want: `--resume_from_checkpoint latest` goes on as if it had never stopped; on SIGTERM a checkpoint is
written first. The result, `<output_dir>/pipeline`, and the best of the validated ones, `<output_dir>/best`, load with
`FeedbackInpaintPipeline.from_pretrained`.

A step takes `--gradient_accumulation_steps` batches on each process. The exemplars are made anew, by the averaged
segmenter, at the start and at each validation.

The first `--initial_steps` train the initial inpainter alone, which is fast. In the others the loop runs on a batch
with 0 to 2 rounds: every map is supervised, and the first and the last fill; the last one also meets VGG features and a
discriminator. What is saved, validated and used as teacher is the moving average of the weights.
"""

from fbinpaint.training.command import main, parse_args

__all__ = ["main", "parse_args"]

if __name__ == "__main__":
    raise SystemExit(main())
