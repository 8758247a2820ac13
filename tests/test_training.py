"""The training script end to end on procedural streets and a miniature pipeline: it learns, stops, resumes exactly."""

import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

import train_accelerate
from fbinpaint import FeedbackInpaintPipeline
from fbinpaint.data.photos import Batch, read_photo
from fbinpaint.data.rows import evenly_spaced
from fbinpaint.data.sources import load_photos
from fbinpaint.hub.saved import COMPONENTS, FORMAT_VERSION
from fbinpaint.labels import get_label_space
from fbinpaint.loop import feedback_rounds
from fbinpaint.models.exemplar_bank import Exemplars
from fbinpaint.models.layers import one_hot, upsample_labels
from fbinpaint.pipeline.exemplars import make_exemplars
from fbinpaint.training.checkpoints import VERSION_FILE, forget_later_rows, read_log
from fbinpaint.training.distillation import taught
from fbinpaint.training.distribution_alignment import (
    MAX_OFFSET,
    SHARE_MOMENTUM,
    DistributionAlignment,
    small_and_common,
)
from fbinpaint.training.edits import LAYOUT, ONE_CLASS, RIGHT, Edits, class_colour_targets, draw_edits
from fbinpaint.training.optimizers import StackedMuon, is_matrix
from fbinpaint.training.output import OutputFolder
from fbinpaint.training.schedule import Progress
from fbinpaint.training.semi_supervised import STRATEGIES
from fbinpaint.training.setup import build_networks
from fbinpaint.training.step import TrainingModule, best_labelled, hole_windows

from .conftest import make_tiny_networks


@pytest.fixture
def mixed_data(street_folder, unlabelled_folder):
    return [str(street_folder), str(unlabelled_folder)]


def train(output, data, model, vgg, steps, *extra) -> int:
    return train_accelerate.main(
        ["--train_data_dir", *data, "--label_space", "cityscapes", "--output_dir", str(output)]
        + ["--pretrained_model", str(model), "--perceptual_weights", str(vgg), "--max_train_steps", str(steps)]
        + ["--resolution", "48", "--perceptual_crop", "32", "--train_batch_size", "4", "--labelled_ratio", "0.5"]
        + ["--adversarial_start", "0.25", "--checkpointing_steps", "2", "--validation_steps", "4"]
        + ["--num_validation_images", "3", "--num_exemplars", "5", "--dataloader_num_workers", "0", *extra]
    )


def batch_of(image: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> Batch:
    """Photos whose crops show all that their labels know, called 0, 1, ..."""
    return Batch(image, mask, labels, (labels != 255).flatten(1).any(1), tuple(map(str, range(len(image)))))


def weights(folder) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}/{key}": value
        for path in sorted(folder.rglob("*.safetensors"))
        for key, value in load_file(path).items()
    }


def exemplars_by_hand(pipe, data: list[str]) -> Exemplars:
    """Those of `train`: of five photos, evenly spaced among the labelled ones of which three are held out."""
    photos = load_photos(data, [])
    held_out = evenly_spaced(len(photos), 3)
    rest = [row for index, row in enumerate(photos) if index not in held_out and row["semantic_map"] is not None]
    chosen = [rest[index] for index in evenly_spaced(len(rest), 5)]
    return make_exemplars(pipe.segmenter, pipe.label_space, (read_photo(row, 48, pipe.label_space) for row in chosen))


def test_training_writes_a_pipeline_that_resumes_bit_for_bit(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(whole, mixed_data, tiny_pipeline_dir, vgg_file, 4) == 0
    before, after = weights(tiny_pipeline_dir), weights(whole / "pipeline")
    changed = {key.split("/")[0] for key in before if "bank" not in key and not torch.equal(before[key], after[key])}
    assert changed == {"initial_inpainter", "segmenter", "recorrector", "guided_inpainter"}
    pipe = FeedbackInpaintPipeline.from_pretrained(whole / "pipeline")
    made = exemplars_by_hand(pipe, mixed_data)
    assert len(made) == 5
    for name, value in vars(made).items():  # of the photos as the trained segmenter sees them, not those of the start
        torch.testing.assert_close(getattr(pipe.recorrector.bank, name), value, atol=1e-3, rtol=1e-3)
    assert np.isfinite(np.asarray(pipe(np.zeros((32, 32, 3), np.uint8), np.eye(32)).images[0])).all()

    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert {"lpips_alex/0", "psnr/2", "miou_hole/1", "miou_intact"} <= set(log[-1])
    assert (whole / "validation-000004.png").is_file() and (whole / "training_options.json").is_file()
    assert sorted(path.name for path in whole.glob("checkpoint-*")) == ["checkpoint-000002", "checkpoint-000004"]

    # As if it had been stopped after step 3: what was done past the last checkpoint is done again.
    shutil.copytree(whole / "checkpoint-000002", cut / "checkpoint-000002")
    assert train(cut, mixed_data, tiny_pipeline_dir, vgg_file, 4, "--resume_from_checkpoint", "latest") == 0
    resumed = weights(cut / "pipeline")
    assert resumed.keys() == after.keys() and all(torch.equal(after[key], resumed[key]) for key in after)


def test_every_strategy_teaches_the_maps_something_of_its_own(mixed_data, vgg_file, tmp_path):
    """From a teacher who is sure of some pixels: without one, all of them say as little as `supervised`."""
    sure_pipeline = FeedbackInpaintPipeline.from_networks(sure_teacher(0), "cityscapes", sample_size=96)
    sure_pipeline.save_pretrained(tmp_path / "sure")
    options = ("--validation_steps", "9", "--lr_warmup_steps", "1")
    before, after = weights(tmp_path / "sure"), {}
    for strategy in STRATEGIES:
        run = tmp_path / strategy
        assert train(run, mixed_data, tmp_path / "sure", vgg_file, 4, *options, "--semi_supervised", strategy) == 0
        after[strategy] = weights(run / "pipeline")
        assert all(torch.isfinite(value).all() for value in after[strategy].values())
        for name in ("segmenter/classify.weight", "recorrector/gather.weight", "guided_inpainter/up4.weight"):
            assert not torch.equal(after[strategy][name], before[name])
    for one, other in itertools.combinations(after.values(), 2):
        assert not torch.equal(one["segmenter/classify.weight"], other["segmenter/classify.weight"])


def test_feedback_trains_without_exemplars(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path):
    """One that shows nothing is saved; the other networks learn as ever."""
    options = ("--num_exemplars", "0", "--validation_steps", "2")
    assert train(tmp_path / "run", mixed_data, tiny_pipeline_dir, vgg_file, 2, *options) == 0
    bank = FeedbackInpaintPipeline.from_pretrained(tmp_path / "run" / "pipeline").recorrector.bank
    assert len(bank) == 1 and (bank.maps == 255).all() and not bank.counts.any()


def test_streams_need_exemplars(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    options = ("--num_exemplars", "0", "--streaming")
    with pytest.raises(SystemExit):
        train(tmp_path / "run", mixed_data, tiny_pipeline_dir, vgg_file, 2, *options)
    assert "error: --num_exemplars 0: a stream's classes" in capsys.readouterr().err


@pytest.mark.parametrize("variant", ["unguided", "unidirectional"])
def test_controls_train_and_remember_what_they_are(variant, mixed_data, tiny_pipeline_dir, vgg_file, tmp_path):
    options = ("--variant", variant, "--label_fraction", "0.5", "--validation_steps", "9")
    assert train(tmp_path / "run", mixed_data, tiny_pipeline_dir, vgg_file, 2, *options) == 0
    pipe = FeedbackInpaintPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipe.config.variant == pipe.networks.variant == variant
    before, after = weights(tiny_pipeline_dir), weights(tmp_path / "run" / "pipeline")
    assert not torch.equal(before["segmenter/classify.weight"], after["segmenter/classify.weight"])
    assert torch.equal(before["recorrector/gather.weight"], after["recorrector/gather.weight"])


def test_a_run_that_accumulates_other_numbers_of_batches_goes_on_with_whole_steps(
    mixed_data, tiny_pipeline_dir, vgg_file, tmp_path
):
    settings = (tmp_path / "run", mixed_data, tiny_pipeline_dir, vgg_file)
    options = ("--perceptual_weight", "0", "--validation_steps", "99", "--gradient_accumulation_steps")
    assert train(*settings, 1, *options, "3", "--initial_steps", "9") == 0
    resumed = ("--resume_from_checkpoint", "latest", "--initial_steps", "10", "--checkpointing_steps", "10")
    assert train(*settings, 10, *options, "2", *resumed) == 0
    (row,) = (row for row in read_log(tmp_path / "run") if "initial" in row)
    assert row["step"] == 10 and row["gradient"] > 0  # the weights change with the last batch of a step


def test_the_initial_inpainter_can_train_alone_first(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path):
    options = ("--initial_steps", "2", "--validation_steps", "9")
    assert train(tmp_path / "run", mixed_data, tiny_pipeline_dir, vgg_file, 2, *options) == 0
    before, after = weights(tiny_pipeline_dir), weights(tmp_path / "run" / "pipeline")
    changed = {key.split("/")[0] for key in before if "bank" not in key and not torch.equal(before[key], after[key])}
    assert changed == {"initial_inpainter"}


def test_strategies_weigh_what_the_teacher_says():
    teacher = make_tiny_networks().eval()
    with torch.no_grad():
        teacher.segmenter.classify.weight.mul_(60)  # sure of some pixels
    image, labels = torch.rand(4, 3, 64, 64) * 2 - 1, torch.randint(0, 19, (4, 64, 64))
    labels[2:] = 255
    batch = batch_of(image, torch.ones(4, 1, 64, 64), labels)
    floor = DistributionAlignment(torch.zeros(19) > 0)
    said = {name: strategy.pseudo_labels(teacher, batch, floor) for name, strategy in STRATEGIES.items()}
    assert not said["supervised"][1].any()
    confidence = said["mean_teacher"][0].amax(1)
    assert torch.equal(said["fixmatch"][1], (confidence >= 0.95).float()) and 0 < said["fixmatch"][1].mean() < 1
    # Of what it is sure of, CISC trusts each pixel as far as the exemplars vote for the same class.
    segmented = teacher.segmenter(image, torch.zeros(4, 1, 64, 64))
    votes = teacher.recorrector.recognise(segmented.pyramid, segmented.logits.softmax(1))
    agreed = votes.gather(1, segmented.logits.argmax(1, keepdim=True))[:, 0]
    unshown = (teacher.recorrector.bank.counts == 0)[segmented.logits.argmax(1)]
    wanted = torch.where(unshown, 1.0, agreed) * (confidence >= 0.7)
    torch.testing.assert_close(said["cisc"][1], wanted)
    assert len(wanted.unique()) > 3 and unshown.any()
    assert (said["mean_teacher"][1] == 1).all()
    sharpened = said["mean_teacher"][0] ** (1 / 0.7)
    torch.testing.assert_close(said["cutmix"][0], sharpened / sharpened.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)
    assert (said["cutmix"][1] == 1).all()
    for target, _ in (said["fixmatch"], said["cisc"]):
        assert torch.equal(target.argmax(1), said["mean_teacher"][0].argmax(1)) and target.amax() == 1


def test_a_small_class_that_the_teacher_never_names_is_named_as_often_as_labels_do():
    """Where a rare class is likeliest, it stays second to a common one: raised, it is named there, and only there."""
    shares, presence = torch.tensor([0.97, 0.005, 0.025, 0]), torch.tensor([1.0, 0.9, 0.9, 0])
    assert small_and_common(shares, presence).tolist() == [0, 1, 0, 0]
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[1] = 255
    labels[0, :8] = 1  # an eighth of the one labelled photo
    labels[0, 8:16] = 2
    batch = batch_of(torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64), labels)
    rare = torch.linspace(0, 0.3, 256).view(16, 16).expand(2, 1, 16, 16)
    teacher = torch.cat([1 - rare - 1e-3, rare, torch.full_like(rare, 1e-3)], dim=1)
    floor = DistributionAlignment(torch.tensor([False, True, False]))
    for _ in range(400):
        floor.count(teacher, batch)
        floor.move()
    named = floor(teacher)[1].argmax(0)
    assert (named == 1).float().mean() == pytest.approx(1 / 8, abs=0.03) and (named != 2).all()
    assert rare[1, 0][named == 1].min() > rare[1, 0][named == 0].max()
    before = floor.offset.clone()
    assert 0 < before[1] <= MAX_OFFSET and not before[[0, 2]].any()
    floor.move()  # of a batch that was not counted
    for photo in (0, 1):  # of one kind only: nothing to compare
        floor.count(teacher, batch_of(batch.image, batch.mask, labels[[photo, photo]]))
        floor.move()
    assert torch.equal(floor.offset, before)
    known = floor.labelled_share.clone()
    labels[0, 16:] = 255  # a partial label takes the same share of the photo
    floor.count(teacher, batch)
    floor.move()
    torch.testing.assert_close(floor.labelled_share[1:], known[1:])
    # A crop that misses what its photo's label knows is still one of a labelled photo: it shows none of the classes.
    labels[0] = 255
    floor.count(teacher, batch)
    floor.move()
    assert batch.has_label.tolist() == [True, False]
    torch.testing.assert_close(floor.labelled_share[1:], known[1:] * SHARE_MOMENTUM)


def test_where_nobody_labelled_a_photo_the_teacher_does():
    """What the discriminator is told and what users "draw" is the truth, else what the teacher is sure of."""
    networks, teacher = make_tiny_networks(), make_tiny_networks(seed=1).eval()
    with torch.no_grad():
        teacher.segmenter.classify.weight.mul_(60)
    image, labels = torch.rand(4, 3, 64, 64) * 2 - 1, torch.randint(0, 19, (4, 64, 64))
    labels[2:] = 255
    batch = batch_of(image, torch.ones(4, 1, 64, 64), labels)
    learner = TrainingModule(networks, STRATEGIES["fixmatch"], torch.ones(19), torch.zeros(19) > 0)
    edits = Edits(torch.ones(4, 64, 64, dtype=torch.bool), torch.full((4,), RIGHT))
    outcome, _ = learner(batch, edits, teacher, 1)
    last, classes = outcome.last, outcome.classes
    assert torch.equal(outcome.target_classes, classes) and not outcome.edited_mask.any()
    assert torch.equal(classes[:2], labels[:2, 2::4, 2::4])
    with torch.no_grad():
        confidence, said = teacher.segmenter(image, torch.zeros(4, 1, 64, 64)).logits.softmax(1).max(1)
    sure = confidence[2:] >= 0.95
    assert torch.equal(classes[2:] != 255, sure) and torch.equal(classes[2:][sure], said[2:][sure]) and sure.any()
    assert torch.equal(last.probabilities.argmax(1)[2:][sure], said[2:][sure])


def partly_labelled_batch() -> Batch:
    """Two photos labelled in their upper half alone, one all over, one nowhere."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (4, 64, 64), generator=generator)
    labels[:2, 32:], labels[3] = 255, 255
    return batch_of(torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1, torch.ones(4, 1, 64, 64), labels)


def sure_teacher(seed: int):
    teacher = make_tiny_networks(seed=seed).eval()
    with torch.no_grad():
        teacher.segmenter.classify.weight.mul_(60)
    return teacher


def learner_of(strategy: str) -> TrainingModule:
    return TrainingModule(make_tiny_networks(), STRATEGIES[strategy], torch.ones(19), torch.zeros(19) > 0)


NO_EDITS = Edits(torch.zeros(4, 64, 64, dtype=torch.bool), torch.full((4,), RIGHT))


@pytest.mark.parametrize("strategy", ["cisc", "cutmix", "fixmatch", "mean_teacher"])
def test_a_pixel_is_taught_by_its_label_or_else_by_the_teacher(strategy):
    batch, teacher, learner = partly_labelled_batch(), sure_teacher(1), learner_of(strategy)
    target = learner.target(batch, teacher)
    labels = batch.labels[:, 2::4, 2::4]
    known = labels != 255
    assert torch.equal(target.labelled, known) and known[:2, :8].all() and not known[:2, 8:].any()
    assert torch.equal(target.labels[known], labels[known]) and (target.trust[known] == 1).all()
    with torch.no_grad():
        said = teacher.segmenter(batch.image, torch.zeros(4, 1, 64, 64)).logits.softmax(1)
    assert torch.equal(target.labels[~known], said.argmax(1)[~known])
    taught = target.trust > 0
    assert (taught & ~known)[0].any() and (taught & ~known)[3].any()  # of a labelled photo as of an unlabelled one
    # What the teacher says where there is a label changes nothing, what it says elsewhere does.
    log_probabilities = torch.randn(4, 19, 16, 16).log_softmax(1).requires_grad_()
    target.loss(log_probabilities, torch.ones(4, 16, 16)).backward()
    gradient = -log_probabilities.grad
    assert torch.equal(gradient.argmax(1)[taught], target.labels[taught])
    assert not gradient[:, :, ~taught.any(0)].any()


def test_what_is_unknown_in_a_labelled_photo_teaches_nothing_under_supervised():
    batch, learner = partly_labelled_batch(), learner_of("supervised")
    losses = [learner(batch, NO_EDITS, sure_teacher(seed), 1)[1].semantic for seed in (1, 2)]
    assert torch.equal(*losses) and losses[0] > 0
    whole = batch.labels.clone()
    whole[whole == 255] = 3
    _, of_all = learner(batch_of(batch.image, batch.mask, whole), NO_EDITS, sure_teacher(1), 1)
    assert of_all.semantic != losses[0]


def test_the_teacher_is_not_asked_where_all_is_labelled():
    batch, learner = partly_labelled_batch(), learner_of("mean_teacher")
    whole = batch_of(batch.image, batch.mask, batch.labels.clamp_max(18))
    teachers = sure_teacher(1), sure_teacher(2)
    assert torch.equal(*(learner(whole, NO_EDITS, teacher, 1)[1].semantic for teacher in teachers))
    assert not torch.equal(*(learner(batch, NO_EDITS, teacher, 1)[1].semantic for teacher in teachers))


@pytest.mark.parametrize(("variant", "number"), [("feedback", 4), ("unidirectional", 6), ("unguided", 6)])
def test_segmenters_that_learn_from_intact_photos_alone_learn_from_all_of_them(variant, number):
    """Those of feedback also learn from every fill, so there a few are enough."""
    learner, intact = learner_of("supervised"), []
    learner.networks.variant = variant
    learner.networks.segmenter.register_forward_pre_hook(lambda _, x: None if x[1].any() else intact.append(len(x[0])))
    batch = batch_of(torch.rand(6, 3, 64, 64), torch.ones(6, 1, 64, 64), torch.randint(0, 19, (6, 64, 64)))
    edits = Edits(torch.zeros(6, 64, 64, dtype=torch.bool), torch.full((6,), RIGHT))
    learner(batch, edits, sure_teacher(1), 1)
    assert intact == [number]


def test_the_best_labelled_photos_are_segmented_intact():
    share = torch.zeros(7)
    assert best_labelled(share, 4).tolist() == [0]  # shows no class, but is one
    share[1], share[2:5], share[6:] = 0.01, 1, 1
    assert best_labelled(share, 4).tolist() == [2, 3, 4, 6]
    share[2:] = 0
    assert best_labelled(share, 4).tolist() == [1]
    learner = learner_of("cisc")
    batch = partly_labelled_batch()
    batch.labels[:] = 255
    _, losses = learner(batch, NO_EDITS, sure_teacher(1), 1)
    assert all(torch.isfinite(value) for value in vars(losses).values())


def test_a_photo_is_not_its_own_exemplar():
    """It would be no advice but the answer; and mirrored, as half of the crops are, it is itself as well."""
    learner = learner_of("supervised")
    bank = learner.networks.recorrector.bank
    labels = upsample_labels(bank.maps.long())
    image, mask = torch.zeros(5, 3, 256, 256), torch.zeros(5, 1, 256, 256)
    mask[..., 80:176, 80:176] = 1
    edits = Edits(torch.zeros(labels.shape, dtype=torch.bool), torch.full((5,), RIGHT))

    def layouts(names: list[str]) -> torch.Tensor:
        learner.exemplar_names = names
        outcome, _ = learner(batch_of(image, mask, labels), edits, learner.networks, 1)
        return outcome.last.layout.nearest

    own = torch.arange(5)[:, None]
    assert (layouts(list("abcde")) == own).any()
    assert not (layouts(list("01234")) == own).any()


def test_part_labels_and_full_labels_train_together(street_folder, tiny_pipeline_dir, vgg_file, tmp_path):
    """A folder whose labels know the road alone, beside one whose labels know all."""
    partial = tmp_path / "partial"
    shutil.copytree(street_folder, partial)
    for path in (partial / "labels").iterdir():
        ids = np.asarray(Image.open(path))
        Image.fromarray(np.where(ids == 0, 0, 255).astype(np.uint8)).save(path)
    data = [str(street_folder), str(partial)]
    assert train(tmp_path / "run", data, tiny_pipeline_dir, vgg_file, 3, "--validation_steps", "3") == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([value for row in log for value in row.values()]).all() and "miou_hole/2" in log[-1]
    assert len(load_file(tmp_path / "run/pipeline/recorrector/diffusion_pytorch_model.safetensors")["bank_maps"]) == 5


def test_labels_that_know_nothing_are_no_labels(street_folder, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    for path in (shutil.copytree(street_folder, tmp_path / "data") / "labels").iterdir():
        Image.new("L", (96, 64), 255).save(path)
    assert train(tmp_path / "run", [str(tmp_path / "data")], tiny_pipeline_dir, vgg_file, 1) == 1
    assert "no pixel of them is known" in capsys.readouterr().out


def test_bad_arguments_are_one_line(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path, capsys, monkeypatch):
    assert train(tmp_path / "a", [mixed_data[1]], tiny_pipeline_dir, vgg_file, 1) == 1
    assert train(tmp_path / "b", [str(tmp_path / "none")], tiny_pipeline_dir, vgg_file, 1) == 1
    assert train(tmp_path / "c", mixed_data, tiny_pipeline_dir, tmp_path / "no.safetensors", 1) == 1
    assert train(tmp_path / "d", mixed_data, tiny_pipeline_dir, vgg_file, 1, "--report_to", "comet_ml") == 1
    with monkeypatch.context() as sharded:
        sharded.setenv("ACCELERATE_USE_FSDP", "true")
        assert train(tmp_path / "e", mixed_data, tiny_pipeline_dir, vgg_file, 1) == 1
    assert train(tmp_path / "f", mixed_data, tiny_pipeline_dir, vgg_file, 1, "--num_validation_images", "1000") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert len(lines) == 6 and "labels/" in lines[0] and "no.safetensors" in lines[2]
    assert "comet_ml" in lines[3] and "eight_gpus.yaml" in lines[4] and "held out" in lines[5]


@pytest.mark.parametrize("streamed", [False, True])
def test_labels_all_of_which_are_held_out_are_told_as_such(
    streamed, street_folder, unlabelled_folder, tiny_pipeline_dir, vgg_file, tmp_path, capsys
):
    data = [str(shutil.copytree(street_folder, tmp_path / "data")), str(unlabelled_folder)]
    for path in sorted((tmp_path / "data/labels").iterdir())[1:]:
        path.unlink()  # the first photo is always held out
    options = ["--streaming"] if streamed else []
    assert train(tmp_path / "run", data, tiny_pipeline_dir, vgg_file, 1, *options) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert "no labelled photo is left to train on (held out: 1); lower --num_validation_images" in line


def test_an_earlier_run_is_not_mixed_with_another(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    run, other = tmp_path / "run", tmp_path / "other"
    settings = (mixed_data, tiny_pipeline_dir, vgg_file)
    assert train(run, *settings, 4) == 0
    (tmp_path / "checkpoint-000002").mkdir()
    (tmp_path / "last").mkdir()
    capsys.readouterr()
    assert train(run, *settings, 4) == 1
    assert train(run, *settings, 4, "--resume_from_checkpoint", str(run / "checkpoint-000002")) == 1
    for name in ("nowhere/checkpoint-000002", "checkpoint-000002", "last"):
        assert train(other, *settings, 4, "--resume_from_checkpoint", str(tmp_path / name)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    named = ("holds an earlier run", "checkpoint-000004: is later", "nowhere", "does not fit", "last: no such folder")
    assert len(lines) == 5 and all(name in line for name, line in zip(named, lines, strict=True))
    assert not (other / "log.jsonl").exists()
    # A checkpoint of another run starts one in a folder of its own, later than those that are there as it may be.
    elsewhere = shutil.copytree(run / "checkpoint-000004", tmp_path / "elsewhere" / "checkpoint-000006")
    assert train(run, *settings, 7, "--resume_from_checkpoint", str(elsewhere)) == 1
    assert f"holds an earlier run up to checkpoint-000004, and {elsewhere} is of another" in capsys.readouterr().out
    # Nor are as many other classes than it has learnt taken for these.
    faces = ("--resume_from_checkpoint", "latest", "--label_space", "celebamask-hq")
    assert train(run, *settings, 5, *faces) == 1
    assert "checkpoint-000004: has learnt other classes than those of --label_space" in capsys.readouterr().out
    # One of an earlier version is not gone on from: the classes that it learnt may mean something else by now.
    version = run / "checkpoint-000004" / VERSION_FILE
    assert json.loads(version.read_text())["format_version"] == FORMAT_VERSION
    version.unlink()
    assert train(run, *settings, 5, "--resume_from_checkpoint", "latest") == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert "checkpoint-000004" in line and "commit 82617c5" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--labelled_ratio 1.25", "--labelled_ratio 1.25: must be above 0 and at most 1"),
        ("--labelled_ratio 0", "above 0"),
        ("--resolution 16 --perceptual_crop 16", "--resolution 16: the largest must be 32 or more"),
        ("--learning_rate nan", "--learning_rate: 'nan' is not a number of 0 or more"),
        ("--discr_learning_rate -0.1", "--discr_learning_rate: '-0.1' is not a number of 0 or more"),
        ("--semantic_weight inf", "--semantic_weight: 'inf' is not a number of 0 or more"),
        ("--adversarial_start half", "--adversarial_start: 'half' is not a number of 0 or more"),
        ("--max_zoom inf", "--max_zoom: 'inf' is not a number of 0 or more"),
        ("--ema_decay 1.1", "--ema_decay 1.1: must be from 0 to 1"),
        ("--max_zoom 0.8", "--max_zoom 0.8: must be 1 or more"),
        ("--labelled_zoom 0.7 1.2", "--labelled_zoom 0.7 1.2: must be 1 or more"),
        ("--labelled_zoom 2 1.5", "the lower one first"),
        (f"--seed {2**32}", "must be from 0 to 4294967295"),
        ("--hub_model_id user/name", "--hub_model_id: nothing is published without --push_to_hub"),
    ],
)
def test_options_out_of_their_ranges_are_refused(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", ["data"], "model", "vgg", 1, *options.split())
    assert words in capsys.readouterr().err


def test_weights_that_are_no_numbers_any_more_end_the_run(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    """Before they are saved, or scored by the black that they become."""
    settings = (mixed_data, tiny_pipeline_dir, vgg_file, 9)
    assert train(tmp_path / "run", *settings, "--learning_rate", "1e20", "--perceptual_weight", "0") == 1
    assert "error: step 4: the weights are no numbers any more, and are not saved" in capsys.readouterr().out
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoint-000002", "training_options.json"}


def test_half_precision_by_accelerates_configuration_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert train(tmp_path / "run", ["data"], "model", "vgg", 1) == 1
    assert "mixed precision fp16" in capsys.readouterr().out


def test_a_row_that_was_cut_off_is_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"st')
    assert [row["step"] for row in read_log(tmp_path)] == [10, 20]


def test_checkpoints_follow_each_other_by_their_steps(tmp_path):
    for name in ("checkpoint-999500", "checkpoint-1000500", "checkpoint-000010"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-000010-backup", "checkpoint-2000000.old", "checkpoint-partial"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-3000000").touch()
    output = OutputFolder(str(tmp_path), Accelerator(cpu=True))
    assert output.checkpoints() == ["checkpoint-000010", "checkpoint-999500", "checkpoint-1000500"]
    output.keep_checkpoint("checkpoint-1000600", limit=1)  # what is not a checkpoint's own is left alone
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-1000600", "checkpoint-000010-backup", "checkpoint-2000000.old", "checkpoint-3000000"}


def test_rows_that_are_written_again_are_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 20, 30)))
    forget_later_rows(tmp_path, 20)
    assert [row["step"] for row in read_log(tmp_path)] == [10, 20]


@pytest.mark.parametrize(
    "option", ["validation_steps", "checkpointing_steps", "num_validation_images", "train_batch_size"]
)
def test_numbers_that_make_no_sense_are_refused(option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path, ["data"], "model", "vgg", 1, f"--{option}", "0")
    assert f"--{option}: must be 1 or more" in capsys.readouterr().err


def test_edits_lie_in_holes_whole_and_true_or_in_a_part():
    mask = (torch.rand(64, 1, 24, 32) > 0.5).float()
    edits = draw_edits(mask, torch.Generator().manual_seed(0))
    assert not edits.where[mask[:, 0] == 0].any()
    drawn, whole = edits.where.flatten(1).any(1), (edits.where == (mask[:, 0] > 0)).flatten(1).all(1)
    assert 22 <= whole.sum() <= 42 and 6 <= (drawn & ~whole).sum() <= 26 and 6 <= (~drawn).sum() <= 26
    assert (edits.kinds[whole | ~drawn] == RIGHT).all() and edits.kinds.unique().tolist() == [RIGHT, LAYOUT, ONE_CLASS]
    assert torch.equal(edits.wrong, (edits.kinds != RIGHT).nonzero()[:, 0])


def test_what_is_drawn_is_the_photos_own_or_anothers():
    truth = torch.randint(0, 19, (3, 8, 8))
    truth[1, 0, 0] = 255
    where = torch.zeros(3, 8, 8, dtype=torch.bool)
    where[:, :5, :3] = True
    drawn = Edits(where, torch.tensor([RIGHT, ONE_CLASS, LAYOUT])).draw(truth)
    assert (drawn[~where] == 255).all()
    assert torch.equal(drawn[0][where[0]], truth[0][where[0]])
    assert (drawn[1][where[1]] == truth[0, 2, 1]).all()  # of the photo before it, in the middle of the place
    assert torch.equal(drawn[2][where[2]], truth[1][where[2]])


def test_where_another_class_is_drawn_the_photo_is_no_truth():
    """A fill that was asked for something else is not pulled back to what the photo shows there."""
    networks, teacher = make_tiny_networks(), make_tiny_networks(seed=1).eval()
    labels = torch.arange(4)[:, None, None].expand(4, 64, 64).clone()
    batch = batch_of(torch.rand(4, 3, 64, 64) * 2 - 1, torch.ones(4, 1, 64, 64), labels)
    where = torch.zeros(4, 64, 64, dtype=torch.bool)
    where[:, 16:48, 16:48] = True
    learner = TrainingModule(networks, STRATEGIES["supervised"], torch.ones(19), torch.zeros(19) > 0)
    outcome, losses = learner(batch, Edits(where, torch.tensor([RIGHT, RIGHT, RIGHT, ONE_CLASS])), teacher, 0)
    assert torch.equal(outcome.edited_mask[:, 0], where & (torch.arange(4) == 3)[:, None, None])
    assert (outcome.target_classes[3, 4:12, 4:12] == 2).all()
    assert torch.equal(outcome.target_classes[:3], outcome.classes[:3])
    outcome.last.prediction.retain_grad()
    losses.reconstruction.backward(retain_graph=True)
    gradient = outcome.last.prediction.grad.abs().sum(1, keepdim=True)
    assert not gradient[outcome.edited_mask].any() and (gradient[~outcome.edited_mask] > 0).all()
    assert torch.equal(outcome.target[3, :, 20, 20], outcome.last.image[3, :, 20, 20])
    networks.variant = "unguided"
    assert not learner(batch, Edits(where, torch.full((4,), ONE_CLASS)), teacher, 0)[0].edited_mask.any()


def test_a_step_may_sharpen_an_enlarged_fill():
    """What is judged then is one more pass, and the rest of the step is what it was."""
    batch, networks = partly_labelled_batch(), make_tiny_networks()
    learner = TrainingModule(networks, STRATEGIES["supervised"], torch.ones(19), torch.zeros(19) > 0)
    plain, losses = learner(batch, NO_EDITS, sure_teacher(1), 1)
    sharpened, others = learner(batch, NO_EDITS, sure_teacher(1), 1, refine=True)
    assert not torch.equal(plain.last.image, sharpened.last.image)
    assert torch.equal(plain.last.probabilities, sharpened.last.probabilities)
    assert torch.equal(losses.initial, others.initial) and torch.equal(losses.semantic, others.semantic)
    assert torch.equal(sharpened.last.image * (1 - batch.mask), batch.image * (1 - batch.mask))
    others.reconstruction.backward()
    assert networks.guided_inpainter.details.to_rgb.weight.grad.any()
    assert networks.recorrector.gather.weight.grad is None  # the map is taken as it is


def test_what_a_teacher_paints_with_maps_of_its_own_is_what_a_painter_learns(
    mixed_data, tiny_pipeline_dir, vgg_file, tmp_path
):
    teacher, batch = make_tiny_networks(seed=5).eval(), partly_labelled_batch()
    batch.mask[..., :16] = 0
    drawn = torch.full_like(batch.labels, 255)
    goal = taught(teacher, batch.image, batch.mask, drawn)
    known = (batch.mask == 0).expand_as(goal)
    assert torch.equal(goal[known], batch.image[known])
    assert not torch.equal(goal, taught(teacher, batch.image, batch.mask, torch.full_like(drawn, 10)))
    batch.image[~known] = 0  # what lies in the hole is never read
    assert torch.equal(goal, taught(teacher, batch.image, batch.mask, drawn))
    outcome, losses = learner_of("supervised")(batch, NO_EDITS, sure_teacher(1), 0, distilled=teacher)
    assert torch.equal(outcome.target, goal)
    losses.reconstruction.backward()
    # The script takes a pipeline of the same classes.
    settings = (mixed_data, tiny_pipeline_dir, vgg_file)
    options = ("--validation_steps", "9", "--distilled_model")
    assert train(tmp_path / "run", *settings, 2, *options, str(tiny_pipeline_dir)) == 0


def test_a_drawn_class_should_look_as_it_does_in_the_photo_or_else_in_the_other():
    image, classes = torch.zeros(2, 3, 64, 64), torch.zeros(2, 16, 16, dtype=torch.long)
    hole = torch.zeros(2, 16, 16)
    classes[:, :8], hole[:, 8:] = 1, 1
    classes[1, :, 8:] = 2
    image[0], image[1, :, :, :32], image[1, :, :, 32:] = 0.1, 0.2, 0.3
    goal, certain = class_colour_targets(image, one_hot(classes, 19), hole)
    assert certain[:, :3].all() and not certain[:, 3:].any()
    # Class 0 is under the hole in both, and class 1, which both show, is darker in the first.
    torch.testing.assert_close(goal[0, :3, 0], torch.tensor([0.1, 0.1, 1.3 * 1.1 / 1.2 - 1]))
    torch.testing.assert_close(goal[1, :3, 0], torch.tensor([0.2, 0.2, 0.3]))
    classes[0, :8] = 3  # now they share none: nothing tells how their light differs
    goal, _ = class_colour_targets(image, one_hot(classes, 19), hole)
    torch.testing.assert_close(goal[0, :4, 0], torch.tensor([0.2, 0.2, 0.3, 0.1]))


def test_windows_show_the_hole():
    """Also one in the corner; both photos are cut alike."""
    a, mask = torch.rand(3, 3, 40, 56), torch.zeros(3, 1, 40, 56)
    mask[0, :, :2, :2], mask[1, :, 20:24, 30:34], mask[2, :, 39, 55] = 1, 1, 1
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        window, holes = hole_windows(a, mask.expand(3, 3, 40, 56), mask, 16, generator)
        assert window.shape == (3, 3, 16, 16) and (holes.amax((1, 2, 3)) == 1).all()
    same, again = hole_windows(a, a, mask, 16, generator)
    assert torch.equal(same, again)


@pytest.mark.parametrize("learning", [("segmenter", "recorrector"), ("recorrector",), ("segmenter",)])
def test_maps_learn_alone_without_losses_of_the_fill(mixed_data, tiny_pipeline_dir, tmp_path, learning):
    """Nor does that need VGG."""
    frozen = sorted(set(COMPONENTS) - set(learning))
    run = tmp_path / "run"
    assert train(run, mixed_data, tiny_pipeline_dir, tmp_path / "no.safetensors", 8, "--frozen", *frozen) == 0
    before, after = weights(tiny_pipeline_dir), weights(run / "pipeline")
    changed = {key.split("/")[0] for key in before if "bank" not in key and not torch.equal(before[key], after[key])}
    assert changed == set(learning)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert not any("perceptual" in row or "adversarial" in row for row in rows)


def test_a_perceptual_weight_of_0_needs_no_vgg16(mixed_data, tiny_pipeline_dir, tmp_path):
    """The fill learns from the other losses, the discriminator's among them."""
    run, missing = tmp_path / "run", tmp_path / "no.safetensors"
    assert train(run, mixed_data, tiny_pipeline_dir, missing, 10, "--perceptual_weight", "0") == 0
    before, after = weights(tiny_pipeline_dir), weights(run / "pipeline")
    changed = {key.split("/")[0] for key in before if "bank" not in key and not torch.equal(before[key], after[key])}
    assert changed == set(COMPONENTS)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any("adversarial" in row for row in rows) and not any("perceptual" in row for row in rows)


def test_several_sizes_and_frozen_networks(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path):
    """Each step has one of the sizes; the first network and the segmenter stay what they were, to the bit."""
    options = ("--frozen", "initial_inpainter", "segmenter", "--validation_steps", "9")
    run = tmp_path / "run"
    sizes = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: sizes.append(inputs[0].image.shape[-1]) if isinstance(module, TrainingModule) else None
    )
    try:
        resolutions = ("--resolution", "48", "64", "32")
        assert train(run, mixed_data, tiny_pipeline_dir, vgg_file, 8, *options, *resolutions) == 0
    finally:
        hook.remove()
    assert len(sizes) == 8 and set(sizes) == {32, 48, 64}
    before, after = weights(tiny_pipeline_dir), weights(run / "pipeline")
    changed = {key.split("/")[0] for key in before if "bank" not in key and not torch.equal(before[key], after[key])}
    assert changed == {"guided_inpainter", "recorrector"}
    again = ("--resume_from_checkpoint", "latest", "--save_dtype", "float16")  # there is nothing left to do but to save
    assert train(run, mixed_data, tiny_pipeline_dir, vgg_file, 8, *options, *resolutions, *again) == 0
    halved = weights(run / "pipeline")
    assert {value.dtype for value in halved.values()} == {torch.float16, torch.int64, torch.uint8}  # counts stay whole
    assert all(torch.equal(after[key].to(value.dtype), value) for key, value in halved.items())
    pipe = FeedbackInpaintPipeline.from_pretrained(run / "pipeline")
    assert pipe.segmenter.dtype == torch.float32
    others, but_segmenter = (sorted(set(COMPONENTS) - {name}) for name in ("recorrector", "segmenter"))
    for useless in (
        ("--frozen", *COMPONENTS),
        ("--frozen", "initial_inpainter", "--initial_steps", "1"),
        ("--variant", "unguided", "--frozen", *others),
        ("--distilled_model", str(tiny_pipeline_dir), "--frozen", "initial_inpainter", "guided_inpainter"),
        ("--distilled_model", str(tiny_pipeline_dir), "--variant", "unidirectional", "--frozen", *but_segmenter),
    ):
        with pytest.raises(SystemExit):
            train(run, mixed_data, tiny_pipeline_dir, vgg_file, 8, *useless)


def test_the_clock_ends_a_run_that_leaves_everything(mixed_data, tiny_pipeline_dir, vgg_file, tmp_path, capsys):
    """And what it had taken counts when the run is resumed: there is nothing left to do."""
    run = tmp_path / "run"
    arguments = (run, mixed_data, tiny_pipeline_dir, vgg_file, 10**6, "--max_train_minutes", "0.01")
    assert train(*arguments, "--checkpointing_steps", "1000", "--encoder_weights", "encoder.safetensors") == 0
    unused = f"--encoder_weights encoder.safetensors: not used, the encoder is that of {tiny_pipeline_dir}"
    assert unused in capsys.readouterr().out
    log = read_log(run)
    steps = log[-1]["step"]
    assert "lpips_alex/2" in log[-1] and (run / f"checkpoint-{steps:06d}").is_dir() and (run / "pipeline").is_dir()
    assert train(*arguments, "--resume_from_checkpoint", "latest") == 0
    assert read_log(run)[-1]["step"] == steps and (run / "pipeline").is_dir()


def test_rates_and_the_share_that_is_done(monkeypatch):
    accelerator = SimpleNamespace(num_processes=1)
    by_steps = Progress(accelerator, 100, None, 10)
    assert [by_steps.share(step) for step in (0, 50, 100)] == [0, 0.5, 1]
    assert [by_steps.learning_rate_factor(step, 0.0) for step in (0, 5, 10, 99)] == [0, 0.5, 1, 1]
    assert by_steps.learning_rate_factor(50, 0.5) == pytest.approx(0.5) and by_steps.learning_rate_factor(99, 1) == 0
    in_turn = Progress(accelerator, 100, None, 10, initial_steps=40)
    assert [in_turn.learning_rate_factor(step, 0.0) for step in (5, 10, 39, 40, 45, 50)] == [0.5, 1, 1, 0, 0.5, 1]
    now = 1000.0
    monkeypatch.setattr("fbinpaint.training.schedule.time.monotonic", lambda: now)
    by_clock = Progress(accelerator, 10**9, 2, 10)
    now += 500  # start-up
    assert by_clock.share(1) < 1e-6
    by_clock.start_clock()
    now += 30
    by_clock.start_clock()
    assert by_clock.share(7) == 0.25
    resumed = Progress(accelerator, 10**9, 2, 10)
    resumed.load_state_dict(by_clock.state_dict())
    now += 500
    resumed.start_clock()
    now += 60
    assert resumed.share(9) == 0.75 and resumed.share(10**9) == 1


def test_a_model_of_other_classes_is_a_start(street_folder, vgg_file, tmp_path, capsys):
    """What does not depend on the classes is kept; what starts anew is said, and is not to be frozen."""
    model = tmp_path / "faces"
    FeedbackInpaintPipeline.from_networks(make_tiny_networks("celebamask-hq"), "celebamask-hq").save_pretrained(model)
    args = SimpleNamespace(pretrained_model=str(model), variant="feedback", frozen=[], encoder_weights=None)
    said = []
    networks = build_networks(args, get_label_space("cityscapes"), said.append)
    start = FeedbackInpaintPipeline.from_pretrained(model).networks.state_dict()
    kept = {key for key, value in networks.state_dict().items() if value.equal(start[key])}
    anew = {name for name in start if f" {name}" in said[0].replace(",", "")}
    assert {"segmenter.classify.weight", "segmenter.classify.bias", "guided_inpainter.style_prior"} <= anew
    # The recorrector knows no classes: all that it has learnt is kept, its exemplars are not.
    of_recorrector = {name for name in start if name.startswith("recorrector.")}
    assert {name for name in of_recorrector if "bank" not in name} <= kept and not anew & of_recorrector
    assert not networks.recorrector.bank.counts.any()
    assert "guided_inpainter.details.to_rgb.weight" in kept and "initial_inpainter.stem.weight" in kept
    assert not anew & kept - {"guided_inpainter.style_prior"} and not [name for name in anew if "bank" in name]
    *_, last = feedback_rounds(networks, torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64), 1)
    assert torch.isfinite(last.image).all()
    settings = ([str(street_folder)], model, vgg_file, 1)
    assert train(tmp_path / "run", *settings, "--frozen", "segmenter") == 1
    assert "--frozen segmenter: what depends on the classes starts anew" in capsys.readouterr().out
    assert train(tmp_path / "run", *settings, "--distilled_model", str(model)) == 1
    assert "is of celebamask-hq, not of cityscapes" in capsys.readouterr().out


def test_matrices_of_one_shape_are_orthogonalised_together():
    """Stacked or one at a time, the step is the same; what is no matrix is left to AdamW."""
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (8, 4, 3, 3), (8, 36), (16, 8, 1, 1)]
    together = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in together]
    optimizers = [StackedMuon(together, lr=0.1), *(StackedMuon([p], lr=0.1) for p in alone)]
    for _ in range(3):
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert is_matrix(together[0]) and not is_matrix(torch.zeros(8)) and not is_matrix(torch.zeros(8, 1, 3, 3))
    assert not is_matrix(torch.zeros(3, 64, 3, 3))


def test_maps_that_nobody_trains_cost_no_losses():
    batch, networks = partly_labelled_batch(), make_tiny_networks()
    networks.segmenter.requires_grad_(False)
    assert networks.maps_learn  # the recorrector's
    networks.recorrector.requires_grad_(False)
    assert not networks.maps_learn
    learner = TrainingModule(networks, STRATEGIES["supervised"], torch.ones(19), torch.zeros(19) > 0)
    _, losses = learner(batch, NO_EDITS, sure_teacher(1), 1)
    assert losses.semantic == 0 and losses.reconstruction > 0
