"""The trainer: who teaches whom, whose exemplars they are, how fast weights change, which pipeline is the best."""

import json
import shutil

import numpy as np
import pytest
import torch

from fbinpaint.data.photos import Batch, collate
from fbinpaint.errors import InputError
from fbinpaint.training.command import parse_args, record, start
from fbinpaint.training.output import OutputFolder
from fbinpaint.training.step import hole_windows
from fbinpaint.training.trainer import Trainer
from fbinpaint.training.validation import ignores_maps

from .conftest import full_disk


@pytest.fixture
def trainer(street_folder, unlabelled_folder, tiny_pipeline_dir, vgg_file, tmp_path) -> Trainer:
    """Of a run of a hundred steps, the first ten of which warm up; the discriminator has not joined."""
    args = parse_args(
        f"--train_data_dir {street_folder} {unlabelled_folder} --label_space cityscapes "
        f"--output_dir {tmp_path / 'run'} --pretrained_model {tiny_pipeline_dir} --perceptual_weights {vgg_file} "
        "--max_train_steps 100 --resolution 48 --perceptual_crop 32 --train_batch_size 4 --num_exemplars 5 "
        "--num_validation_images 2 --lr_warmup_steps 10 --adversarial_start 1 --dataloader_num_workers 0".split()
    )
    accelerator = start(args)
    output = OutputFolder(args.output_dir, accelerator)
    output.folder.mkdir(parents=True)
    return Trainer(args, accelerator, output)


def batch_for(trainer: Trainer) -> Batch:
    labelled, others = np.flatnonzero(trainer.crops.labelled)[:2], np.flatnonzero(~trainer.crops.labelled)[:2]
    batch = collate([trainer.crops[int(index), 7] for index in (*labelled, *others)])
    return batch.to(trainer.accelerator.device)


def test_a_step_follows_the_average_as_teacher_and_moves_it(trainer):
    """The teacher is the moving average of the weights, which no gradient changes; rates are those of the moment."""
    taught_by = []
    trainer.learner.register_forward_pre_hook(lambda _, inputs: taught_by.append(inputs[2]))
    learner = trainer.accelerator.unwrap_model(trainer.learner)
    before = {name: value.clone() for name, value in trainer.ema.module.named_parameters()}
    trainer.train_step(batch_for(trainer), step=5, number=5, done=0.5)
    (teacher,) = taught_by
    assert teacher is trainer.ema.module and teacher is not learner.networks
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    # Half of the warm-up, half of the cosine.
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
    expected = [[0.5 * 0.5 * rate for rate in of_optimizer] for of_optimizer in trainer.peak_rates]
    assert [pytest.approx(of_optimizer) for of_optimizer in expected] == rates
    # The first update takes nine tenths of what was learnt.
    student, moved = dict(learner.networks.named_parameters()), 0
    for name, value in trainer.ema.module.named_parameters():
        torch.testing.assert_close(value, torch.lerp(before[name], student[name].detach(), 0.9))
        moved += not torch.equal(value, before[name])
    assert moved > len(before) / 2


def test_exemplars_are_those_of_the_photos_they_are_named_after(trainer):
    learner = trainer.accelerator.unwrap_model(trainer.learner)
    bank, rows = learner.networks.recorrector.bank, {row["name"]: row for row in trainer.crops.labelled_photos()}
    assert len(bank) == len(learner.exemplar_names) == len(set(learner.exemplar_names)) == 5
    for name, semantic_map in zip(learner.exemplar_names, bank.maps, strict=True):
        _, labels = trainer.crops.read_photo(rows[name], 48)
        counts = np.bincount(labels.ravel(), minlength=19) / labels.size
        of_map = np.bincount(semantic_map.cpu().numpy().ravel(), minlength=19) / semantic_map.numel()
        assert np.abs(counts - of_map).max() < 0.05
    for name, value in vars(trainer.ema.module.recorrector.bank).items():  # the teacher's are the same
        assert torch.equal(value, getattr(bank, name))


def test_the_fill_is_compared_with_what_it_should_look_like(trainer):
    batch, seen = batch_for(trainer), []
    trainer.learner.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    usual = trainer.losses_of_fill
    trainer.losses_of_fill = lambda *arguments: seen.append(usual(*arguments)[0]) or (seen[-1], [])
    trainer.train_step(batch, step=20, number=20, done=0.2)
    outcome, losses = seen
    generator = torch.Generator().manual_seed(trainer.args.seed * 1_000_003 + 2 * 20 + 1)
    # What was drawn of the batch's stream before: the edits.
    torch.rand(5, 4, generator=generator), torch.randint(3, (4,), generator=generator)
    windows = hole_windows(outcome.last.image, outcome.target, batch.mask, 32, generator)
    assert not torch.allclose(*windows, atol=0.01)
    with torch.no_grad():
        torch.testing.assert_close(losses["perceptual"].detach(), trainer.perceptual(*windows))
    assert "adversarial" not in losses


def test_the_pipeline_of_the_lowest_lpips_is_the_best(trainer):
    key, best = f"lpips_alex/{trainer.validator.num_rounds}", trainer.folder / "best"

    def kept(*earlier: float) -> bool:
        """Whether the pipeline is kept as the best after these scores, the first of step 0."""
        shutil.rmtree(best, ignore_errors=True)
        rows = [{"step": step, "seconds": 0, key: score} for step, score in enumerate(earlier)]
        (trainer.folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        trainer.validate(5)
        return (best / "model_index.json").is_file()

    score = trainer.validate(5)[key]
    assert best.is_dir() and kept(score + 1, score + 0.1)
    assert not kept(score + 1, score - 0.1) and not kept(score - 0.1, score + 1)


@pytest.mark.parametrize("room", [500_000, 4_000_000])  # too little for weights, for an optimizer's state
def test_a_full_disk_is_told_and_leaves_what_is_whole(trainer, room):
    trainer.train_step(batch_for(trainer), step=3, number=3, done=1.0)  # the discriminator's is the largest
    trainer.save_checkpoint(4, None)
    record(trainer, {"initial": 0.1}, 4)
    before = {path: path.stat().st_size for path in trainer.folder.rglob("*")}
    with full_disk(room), pytest.raises(InputError, match="checkpoint-000005: could not be written"):
        trainer.save_checkpoint(5, None)
    with full_disk(200_000), pytest.raises(InputError, match="best: could not be written"):
        trainer.save_pipeline("best")
    with full_disk(10), pytest.raises(InputError, match=r"log\.jsonl: could not be written"):
        record(trainer, {"initial": 0.1}, 5)
    assert {path: path.stat().st_size for path in trainer.folder.rglob("*")} == before
    trainer.save_checkpoint(5, None)  # with room again, the same goes well


def test_a_painter_that_paints_nothing_is_noticed(trainer):
    assert not ignores_maps(trainer.validate(5))
    last_layer = trainer.ema.module.guided_inpainter.details.to_rgb
    for parameter in last_layer.parameters():
        parameter.zero_()
    assert ignores_maps(trainer.validate(6))
    assert not ignores_maps({"psnr/0": 20.0, "lpips_alex/0": 0.1})  # a peer, which has no rounds
