"""Peers of the field: as large as their papers say, trained and scored as the project's own networks are."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_accelerate
from benchmarks.peers import evaluation, runs, training
from benchmarks.peers.__main__ import main
from benchmarks.peers.deepfill import contextual_attention
from benchmarks.peers.generator import masked_input
from benchmarks.peers.lama import FourierUnit, LamaFourier
from benchmarks.peers.registry import PEERS, load_peer, make_peer
from fbinpaint.data.photos import Batch
from fbinpaint.evaluation.photos import Sample
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter

from .test_help import help_of, silent_options

# Millions of parameters. LaMa's table 1 has 27 for LaMa-Fourier and 15 for AOT-GAN, section 4 of DeepFill v2's paper
# 4.1.
PAPERS = {"lama-fourier": 27, "aot-gan": 15, "deepfill-v2": 4.1}
SMALLEST = "deepfill-v2"


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["peers", *map(str, arguments)])
    return main()


def options(output, data, model, vgg, steps, *extra) -> list[str]:
    return [
        *("--train_data_dir", data, "--label_space", "cityscapes", "--output_dir", output),
        *("--pretrained_model", model, "--perceptual_weights", vgg, "--max_train_steps", steps),
        *("--perceptual_crop", 32, "--train_batch_size", 2, "--adversarial_start", 0, "--lr_warmup_steps", 1),
        *("--num_validation_images", 3, "--dataloader_num_workers", 0, *extra),
    ]


def million_parameters(*networks: torch.nn.Module) -> float:
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter()


@pytest.mark.parametrize("name", PAPERS)
def test_a_peer_is_as_large_as_its_paper_says(name, segmenter):
    assert million_parameters(make_peer(name, segmenter)) == pytest.approx(PAPERS[name], rel=0.03)


def test_the_one_way_pipeline_is_as_large_as_ours_and_its_segmenter_frozen(segmenter):
    ours = million_parameters(segmenter, InitialInpainter(), Recorrector(), GuidedInpainter())
    peer = make_peer("one-way-spade", segmenter)
    assert million_parameters(peer) == pytest.approx(ours, rel=0.03)
    assert not any(p.requires_grad for p in peer.segmenter.parameters())
    assert all(p.requires_grad for n, p in peer.named_parameters() if not n.startswith("segmenter."))
    for key, value in segmenter.state_dict().items():
        assert torch.equal(peer.segmenter.state_dict()[key], value)


@pytest.mark.parametrize("name", PEERS)
def test_every_weight_of_a_peer_learns_and_the_hole_is_never_read(name, segmenter):
    torch.manual_seed(0)
    peer = make_peer(name, segmenter)
    image, mask = torch.rand(1, 3, 48, 64) * 2 - 1, torch.zeros(1, 1, 48, 64)
    mask[..., 16:40, 16:40] = 1
    changed = torch.where(mask > 0, torch.rand(1, 3, 48, 64), image)
    stages = peer.stages(masked_input(image, mask))
    assert all(picture.shape == image.shape for picture in stages)
    sum((picture * torch.rand_like(picture)).sum() for picture in stages).backward()
    assert [n for n, p in peer.named_parameters() if p.requires_grad and p.grad is None] == []
    with torch.no_grad():
        a, b = (peer.eval()(masked_input(x, mask)) for x in (image, changed))
    assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_trains_and_is_scored_beside_ours(
    name, street_folder, tiny_pipeline_dir, vgg_file, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "run"
    arguments = options(output, street_folder, tiny_pipeline_dir, vgg_file, 2, "--resolution", 64)
    assert run(monkeypatch, "train", "--peer", name, *arguments, "--save_dtype", "float16") == 0
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert np.isfinite([log[-1]["lpips_alex/0"], log[-1]["psnr/0"]]).all()
    assert (output / "validation-000002.png").is_file() and (output / "best").is_dir()
    for checkpoint in output.glob("checkpoint-*"):  # hundreds of megabytes
        shutil.rmtree(checkpoint)
    peer = load_peer(output / "pipeline")
    assert type(peer) is PEERS[name] and all(torch.isfinite(value).all() for value in peer.state_dict().values())

    report = tmp_path / "peers.json"
    where = ["--model", tiny_pipeline_dir, "--peers", f"it={output}/pipeline", "--data", street_folder]
    small = ["--resolution", 64, "--limit", 3, "--repeats", 1]
    assert run(monkeypatch, "evaluate", *where, "--output", report, *small) == 0
    found = json.loads(report.read_text())
    scores, cost = found["variants"]["it"]["overall"], found["costs"]["it"]
    assert scores["n"] == 3 and scores["miou_hole_after"] is None
    assert all(np.isfinite(scores[key]) for key in ("lpips_alex", "psnr", "ssim", "psnr_hole"))
    assert len(found["paired"]["rounds=2 vs it"]["lpips_alex"]["ci95"]) == 2
    assert cost["parameters"] == sum(p.numel() for p in peer.parameters()) and min(cost["gflop"], cost["cpu_ms"]) > 0
    assert found["costs"]["telea"]["parameters"] is None
    assert "minutes on 1 x cpu" in found["protocol"]["training"]["it"]
    printed = capsys.readouterr().out
    rows = [line for line in report.with_suffix(".md").read_text().splitlines() if line.startswith("| ")]
    methods = [row.split(" | ")[0] for row in rows[2:]]
    assert methods == ["| rounds=0", "| rounds=2", "| it", "| telea", "| navier-stokes"]
    assert all(row in printed for row in rows) and Image.open(report.with_suffix(".png")).width > 500


def test_a_peer_resumes_bit_for_bit(street_folder, tiny_pipeline_dir, vgg_file, tmp_path, monkeypatch):
    def train(output, *extra) -> dict[str, torch.Tensor]:
        arguments = options(output, street_folder, tiny_pipeline_dir, vgg_file, 3, "--resolution", 48)
        more = ["--checkpointing_steps", 2, "--validation_steps", 9, *extra]
        assert run(monkeypatch, "train", "--peer", SMALLEST, *arguments, *more) == 0
        return load_file(next((output / "pipeline").glob("*.safetensors")))

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    after = train(whole)
    shutil.copytree(whole / "checkpoint-000002", cut / "checkpoint-000002")
    resumed = train(cut, "--resume_from_checkpoint", "latest")
    assert resumed.keys() == after.keys() and all(torch.equal(after[key], resumed[key]) for key in after)


def test_a_peer_meets_the_photos_of_ours_in_the_same_sizes(
    street_folder, tiny_pipeline_dir, vgg_file, tmp_path, monkeypatch
):
    """By name, and by the pixels of crops and masks."""
    met, resized = [], Batch.resized

    def noted(batch: Batch, side: int) -> Batch:
        smaller = resized(batch, side)
        met.append((batch.names, side, float(smaller.image.sum()), float(smaller.mask.sum())))
        return smaller

    monkeypatch.setattr(Batch, "resized", noted)
    arguments = options("", street_folder, tiny_pipeline_dir, vgg_file, 4, "--resolution", 64, 48)
    arguments = list(map(str, arguments))
    place = arguments.index("--output_dir") + 1
    arguments[place] = str(tmp_path / "ours")
    assert train_accelerate.main(arguments) == 0
    ours = met.copy()
    met.clear()
    arguments[place] = str(tmp_path / "peer")
    assert run(monkeypatch, "train", "--peer", SMALLEST, *arguments) == 0
    assert met == ours and {side for _, side, *_ in ours} == {64, 48}


def test_the_average_of_a_peer_has_the_statistics_of_its_norms():
    torch.manual_seed(0)
    peer = LamaFourier(channels=8, num_blocks=1)
    average = training.PeerAverage(peer, decay=0.5)
    peer.train()(torch.rand(2, 4, 64, 64))
    average.update(peer)  # the first counts for nine tenths: (1 + n) / (10 + n) of the start is kept
    for key in ("encode.1.running_mean", "blocks.0.conv1.norm_global.running_var"):
        start = float("var" in key)
        expected = start + 0.9 * (peer.state_dict()[key] - start)
        torch.testing.assert_close(average.module.state_dict()[key], expected)


def test_losses_of_lama_leave_the_hole_to_the_others(tmp_path):
    args = training.parse_args(["--peer", SMALLEST, "--losses", "lama", "--train_data_dir", "x"]
                               + ["--label_space", "cityscapes"])  # fmt: skip
    assert (args.adversarial_weight, args.perceptual_weight, args.feature_matching_weight) == (10, 30, 100)
    image, mask = torch.zeros(1, 3, 48, 48), torch.zeros(1, 1, 48, 48)
    mask[..., :24] = 1

    class HalfWrong(torch.nn.Module):
        def stages(self, x):
            return [x[:, 3:].expand(-1, 3, -1, -1)]  # wrong by 1 in the hole alone

    batch = Batch(image, mask, torch.full((1, 48, 48), 255), torch.tensor([False]), ("a",))
    for losses, expected in (("lama", 0), ("ours", 6)):
        _, found = training.TrainingModule(HalfWrong(), training.HOLE_WEIGHT[losses])(batch)
        assert found["reconstruction"].item() == expected and "initial" not in found


def test_a_peer_fills_the_hole_alone_whatever_the_photo_measures(segmenter):
    photo = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    hole = np.zeros((50, 75), bool)
    hole[10:30, 20:75] = True
    peer = evaluation.filler(make_peer(SMALLEST, segmenter).eval())
    (fill,) = peer([Sample("a", photo, hole, None)])
    (other,) = peer([Sample("a", np.where(hole[..., None], 255 - photo, photo), hole, None)])
    assert (other.image == fill.image).all()  # what is hidden is not seen, not even beyond the border
    assert fill.image.shape == photo.shape and fill.semantic_map is None
    assert (fill.image[~hole] == photo[~hole]).all() and (fill.image[hole] != photo[hole]).any()


def test_fourier_unit_sees_the_whole_picture():
    torch.manual_seed(0)
    unit, x = FourierUnit(4).eval(), torch.randn(1, 4, 8, 12, requires_grad=True)
    unit(x)[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # which has no transform of its own
        torch.testing.assert_close(unit(x.bfloat16()).float(), unit(x), atol=0.05, rtol=0.05)


def test_contextual_attention_takes_known_patches_alone():
    x, mask = torch.zeros(1, 2, 16, 24), torch.zeros(1, 1, 64, 96)
    x[:, 0, :, :8], x[:, 1, :, 8:] = 1, 1
    mask[..., 72:] = 1  # what should be more of the second kind
    x[:, 1, :, 18:] = 5
    filled = contextual_attention(x, mask)
    assert filled.shape == x.shape and filled.max() <= 1 + 1e-5
    assert (filled.sum(1) > 0.9).all()  # at the border as well, but for what patches of the border lack
    assert (filled[0, 1, :, 20] > 5 * filled[0, 0, :, 20]).all()


def test_fourier_transforms_are_counted():
    from benchmarks.cost import flop_counter

    x = torch.zeros(3, 2, 64, 32)
    expected = 6 * 2.5 * 64 * 32 * 11
    with flop_counter() as counter:
        spectrum = torch.fft.rfft2(x)
    assert counter.get_total_flops() == expected
    with flop_counter() as counter:
        torch.fft.irfft2(spectrum, s=x.shape[-2:])
    assert counter.get_total_flops() == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train --peer lama", "invalid choice: 'lama'"),
        ("train --peer aot-gan --train_data_dir x --label_space cityscapes --frozen segmenter", "needs --pretrained"),
        ("train --peer aot-gan --train_data_dir x --label_space cityscapes --variant unguided", "--variant: is of no"),
        ("train --peer aot-gan --train_data_dir x --label_space cityscapes --initial_steps 9", "--initial_steps: is"),
        ("train --peer aot-gan --train_data_dir x --label_space cityscapes --resolution 48 32 --perceptual_crop 16",
         "--resolution 32: peers take 48"),
        ("train --peer aot-gan --train_data_dir x --label_space cityscapes --losses lama --perceptual_weight 1",
         "--perceptual_weight: is 30 by --losses lama"),
        ("train --peer one-way-spade --train_data_dir x --label_space cityscapes", "its segmenter is frozen"),
        ("train --peer aot-gan --train_data_dir nowhere --label_space cityscapes --output_dir {tmp}/run", "nowhere"),
        ("evaluate --model {model} --peers x --data {data} --output {tmp}/r.json", "'x' is not of the form NAME=DIR"),
        ("evaluate --model {model} --peers telea=x --data {data} --output {tmp}/r.json", "a name of its own"),
        ("evaluate --model {model} --peers a=x a=y --data {data} --output {tmp}/r.json", "a name of its own"),
        ("evaluate --model {model} --peers a=nowhere --data {data} --output {tmp}/r.json", "nowhere/config.json"),
        ("evaluate --model {model} --peers a={model}/segmenter --data {data} --output {tmp}/r.json", "none of these"),
        ("evaluate --model {model} --peers a=x --data {data} --output {tmp}/r.txt", "must be a .json file"),
        ("evaluate --model {model} --peers a=x --data {data} --output {tmp}/r.json --resolution 50", "multiple of 16"),
        ("evaluate --model {model} --peers a=x --data {data} --output {tmp}/r.json --resolution 32", "48 or more"),
        ("runs nobody", "has no run nobody"),
        ("runs --file {tmp}/none.txt", "none.txt: cannot be read"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(arguments, said, street_folder, tiny_pipeline_dir, tmp_path, monkeypatch, capsys):
    filled = arguments.format(tmp=tmp_path, model=tiny_pipeline_dir, data=street_folder)
    try:
        code = run(monkeypatch, *filled.split())
    except SystemExit as error:  # argparse's own
        code = error.code
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.replace("\r", "\n").splitlines() if "error: " in line]
    assert code and said in line and "Traceback" not in printed.err + printed.out


@pytest.mark.parametrize("arguments", ["", "paint", "--help"])
def test_without_a_command_the_commands_are_told(arguments, monkeypatch, capsys):
    assert run(monkeypatch, *arguments.split()) == (0 if "help" in arguments else 2)
    said = "".join(capsys.readouterr())
    assert all(f"python -m benchmarks.peers {name}" in said for name in ("train", "evaluate", "runs"))


@pytest.mark.parametrize("command", ["train", "evaluate", "runs"])
def test_help_says_defaults(command, capsys, monkeypatch):
    text = help_of(main, [command], capsys, monkeypatch)
    assert silent_options(text) == [] and f"example: python -m benchmarks.peers {command}" in text


# ---------------------------------------------------------------------------------------------- the file of runs


def listed() -> list[runs.Run]:
    return runs.read_runs(runs.FILE)


@pytest.mark.parametrize("one", listed(), ids=lambda one: one.name)
def test_every_listed_run_parses(one, tmp_path):
    command = one.command(tmp_path)
    if command[0] == "train_accelerate.py":
        args = train_accelerate.parse_args([*command[1:], "--resume_from_checkpoint", "latest"])
    else:
        assert command[:3] == ["-m", "benchmarks.peers", "train"]
        args = training.parse_args([*command[3:], "--resume_from_checkpoint", "latest"])
    assert args.output_dir == str(tmp_path / one.name) and args.max_train_minutes == one.minutes
    earlier = [other.name for other in listed()[: listed().index(one)]]
    assert args.pretrained_model is None or args.pretrained_model.split("/")[-2] in earlier


def test_commands_of_the_page_parse():
    page = (Path(runs.__file__).parents[2] / "docs/peers.md").read_text()
    commands = [line.split()[3:] for line in page.splitlines() if line.startswith("    python -m benchmarks.peers ")]
    parsers = {"train": training.parse_args, "evaluate": evaluation.parse_args, "runs": runs.parse_args}
    assert {name for name, *_ in commands} == parsers.keys()
    for name, *arguments in commands:
        parsers[name](arguments)


def test_all_that_is_compared_is_listed():
    names = {one.name for one in listed()}
    for data in ("faces", "streets"):
        peers = {f"{peer}-{data}" for peer in (*PEERS, "ours", "lama-fourier-own-losses")}
        ablations = ("unguided", "unidirectional", "feedback", "feedback-exemplars", "eighth-supervised", "eighth-cisc")
        assert names >= peers | {f"{name}-{data}-{seed}" for name in ablations for seed in range(3)}
    assert names >= {f"{peer}-faces-128" for peer in (*PEERS, "ours", "lama-fourier-own-losses")}


def test_runs_follow_each_other_and_finished_ones_are_left_alone(tmp_path, monkeypatch, capfd):
    file = tmp_path / "runs.txt"
    make = """-c 'from pathlib import Path; Path("@out/pipeline").mkdir(parents=True); print("made @out, @min")'"""
    file.write_text(f"# three\n@make = {make}\na | @make | 9\nb | -c 'raise SystemExit(3)' | 1\nc | @make | .5 #\n")
    output = tmp_path / "all"
    arguments = ["runs", "--file", file, "--output", output]
    assert run(monkeypatch, *arguments, "--list") == 0 and not output.exists()
    assert [line.split(": ")[1] for line in capfd.readouterr().out.splitlines() if " min): " in line] == ["waiting"] * 3
    assert run(monkeypatch, *arguments) == 1
    said = capfd.readouterr()
    assert f"made {output}/a, 9" in said.out and f"made {output}/c, 0.5" in said.out
    assert "error: these runs failed, with these exit codes: b (3)" in said.err
    assert run(monkeypatch, *arguments, "a", "c") == 0  # making a folder twice would fail
    assert capfd.readouterr().out.count("finished") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a | -m x", "line 2: not enough values"),
        ("a b | -m x | 9", "line 2: its name is taken or none"),
        ("first | -m x | 9", "line 2: its name is taken or none"),
        ("a | -m x | 0", "line 2: its name is taken or none, or its minutes are not above 0"),
        ("a | -m x | nine", "line 2: could not convert"),
        ("a | @unknown | 9", "line 2: @unknown is defined nowhere above"),
        ("a | 'x | 9", "line 2: No closing quotation"),
    ],
)
def test_a_wrong_line_of_runs_is_named(line, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs.txt").write_text(f"first | -m x | 1\n{line}\n")
    assert run(monkeypatch, "runs", "--file", tmp_path / "runs.txt") == 1
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and not printed.out
