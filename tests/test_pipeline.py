"""The pipeline's contract: any photo in, same size out, known pixels bit-identical, the same result after a reload."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.images import to_rgb


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box(width: int, height: int) -> Image.Image:
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2 + 1] = 255
    return Image.fromarray(mask)


def in_mode(mode: str, tmp_path) -> Image.Image:
    """A 45x38 photo of the given mode, read back from a file as a user's would be."""
    image = photo(45, 38)
    if mode == "16-bit":
        values = np.random.default_rng(0).integers(0, 65536, (38, 45), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "photo.png")
    elif mode == "EXIF-rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "photo.png", exif=exif)
    elif mode == "CMYK":
        image.convert("CMYK").save(tmp_path / "photo.tif")
        return Image.open(tmp_path / "photo.tif")
    elif mode == "RGBA":
        alpha = Image.fromarray(np.random.default_rng(1).integers(0, 256, (38, 45), dtype=np.uint8))
        image.putalpha(alpha)
        image.save(tmp_path / "photo.png")
    elif mode == "17x23":
        photo(17, 23).save(tmp_path / "photo.png")
    else:
        image.convert(mode).save(tmp_path / "photo.png")
    return Image.open(tmp_path / "photo.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "16-bit", "EXIF-rotated", "17x23"])
def test_known_pixels_are_bit_identical(tiny_pipeline, mode, tmp_path):
    image = in_mode(mode, tmp_path)
    expected = to_rgb(image)
    height, width = expected.shape[:2]
    if mode == "EXIF-rotated":
        assert (width, height) == (38, 45)
    out = tiny_pipeline(image, box(width, height), num_feedback_rounds=1)
    result, hole = to_rgb(out.images[0]), np.asarray(box(width, height)) > 0
    assert out.images[0].mode == {"P": "RGB"}.get(image.mode, image.mode) and out.images[0].size == (width, height)
    assert np.array_equal(result[~hole], expected[~hole])
    assert not np.array_equal(result[hole], expected[hole])
    if mode in ("RGB", "RGBA", "L", "LA", "1", "CMYK", "16-bit"):  # not by way of 8-bit RGB, too
        assert np.array_equal(np.asarray(out.images[0])[~hole], np.asarray(image)[~hole])
    for map_ in (out.semantic_before[0], out.semantic_after[0]):
        assert map_.mode == "P" and map_.size == (width, height) and np.asarray(map_).max() < 19


@pytest.mark.parametrize(("width", "height"), [(16, 16), (400, 330), (900, 40)])
def test_large_and_odd_photos(tiny_pipeline, width, height):
    """Larger than the working size: crops around holes, maps of the whole photo, holes restored everywhere."""
    image, mask = photo(width, height), np.zeros((height, width), np.uint8)
    mask[2:9, 2:9] = mask[-9:-2, -12:-3] = 255
    out = tiny_pipeline(image, mask, num_feedback_rounds=2)
    result, hole = np.asarray(out.images[0]), mask > 0
    assert np.array_equal(result[~hole], np.asarray(image)[~hole])
    assert (result != np.asarray(image)).any(-1)[hole].mean() > 0.9
    before, after = np.asarray(out.semantic_before[0]), np.asarray(out.semantic_after[0])
    assert before.shape == after.shape == (height, width) and max(before.max(), after.max()) < 19
    assert np.array_equal(before[~hole], after[~hole])


def test_what_the_hole_holds_does_not_matter(tiny_pipeline):
    """Also when the photo is shrunk to the working size: no hole pixel bleeds into a known one."""
    mask = np.zeros((300, 400), bool)
    mask[37:215, 61:333] = True
    one, other = np.array(photo(400, 300)), np.array(photo(400, 300))
    other[mask] = 0
    a, b = (tiny_pipeline(x, mask, output_type="np").images[0] for x in (one, other))
    assert np.array_equal(a, b)


def test_a_component_can_be_replaced(tiny_pipeline_dir):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    before = pipe(photo(48, 48), box(48, 48), num_feedback_rounds=np.int64(1), output_type="np")
    other = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir).segmenter
    torch.nn.init.zeros_(other.classify.weight)
    torch.nn.init.constant_(other.classify.bias[3:4], 9)
    pipe.segmenter = other
    after = pipe(photo(48, 48), box(48, 48), num_feedback_rounds=0, output_type="np")
    assert (after.semantic_before[0] == 3).all() and (before.semantic_before[0] != 3).any()


def test_batch_equals_singles(tiny_pipeline):
    sizes = [(64, 48), (64, 48), (50, 70), (130, 100)]
    images, masks = [photo(*s, seed=i) for i, s in enumerate(sizes)], [box(*s) for s in sizes]
    together = tiny_pipeline(images, masks)
    assert len(together.images) == len(together.rounds) == len(together.semantic_after) == 4
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        alone = tiny_pipeline(image, mask)
        difference = np.asarray(alone.images[0], int) - np.asarray(together.images[i], int)
        assert abs(difference).max() <= 1  # convolutions of another batch size may round differently
        agree = np.asarray(alone.semantic_after[0]) == np.asarray(together.semantic_after[i])
        assert agree.mean() > 0.99


def test_rounds_are_reported(tiny_pipeline):
    image, mask = photo(64, 48), box(64, 48)
    out = tiny_pipeline(image, mask, num_feedback_rounds=3)
    rounds = out.rounds[0]
    assert len(rounds) == 4 and rounds[0].changed == 0
    assert all(0 <= r.changed <= 1 and 0 < r.confidence <= 1 for r in rounds)
    assert rounds[-1].image.tobytes() == out.images[0].tobytes()
    assert rounds[0].semantic_map.tobytes() == out.semantic_before[0].tobytes()
    one_way = tiny_pipeline(image, mask, num_feedback_rounds=0)
    assert one_way.images[0].tobytes() == rounds[0].image.tobytes() and len(one_way.rounds[0]) == 1


def test_networks_may_wait_on_the_cpu(tiny_pipeline, tiny_pipeline_dir):
    """One at a time on the accelerator (here a CPU as well): whatever uses a network's weights fetches it first.

    Until then they are not those that it will compute with: here they are no numbers, or zeros if they are whole.
    """
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_model_cpu_offload(device="cpu")
    fetched = []
    for name in ("initial_inpainter", "segmenter", "recorrector", "guided_inpainter"):
        network = getattr(pipe, name)
        hook, weights = network._hf_hook, {key: value.clone() for key, value in network.state_dict().items()}

        def fetch(module, *args, name=name, plain=hook.pre_forward, weights=weights, **kwargs):
            fetched.append(name)
            module.load_state_dict(weights, assign=True)
            return plain(module, *args, **kwargs)

        nothing = {key: torch.full_like(x, torch.nan if x.is_floating_point() else 0) for key, x in weights.items()}
        network.load_state_dict(nothing, assign=True)

        hook.pre_forward = fetch
    image, mask = photo(64, 48), box(64, 48)
    out = pipe(image, mask, num_feedback_rounds=1)
    order = "initial_inpainter segmenter guided_inpainter recorrector guided_inpainter"
    order += " segmenter recorrector recorrector guided_inpainter"  # once more to recognise what the fill shows
    assert fetched == order.split()  # styles are pooled and exemplars compared before the first pass
    assert out.images[0].tobytes() == tiny_pipeline(image, mask, num_feedback_rounds=1).images[0].tobytes()


def test_rounds_that_change_nothing_end_the_work(tiny_pipeline_dir):
    pipe = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    pipe.set_progress_bar_config(disable=True)
    passes = []
    pipe.guided_inpainter.register_forward_hook(lambda *_: passes.append(1))
    image, mask = photo(64, 48), box(64, 48)
    pipe(image, mask, num_feedback_rounds=4)
    assert 3 <= len(passes) <= 5
    passes.clear()
    for layer in (pipe.guided_inpainter.details.to_rgb, pipe.recorrector.gates):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    pipe.recorrector.gates.bias[0] = 50.0  # the first map has all the say
    out = pipe(image, mask, num_feedback_rounds=4)
    assert len(passes) == 2 and len(out.rounds[0]) == 5
    assert out.rounds[0][4].changed == 0 and out.rounds[0][4].confidence == out.rounds[0][1].confidence > 0
    assert out.rounds[0][4].image.tobytes() == out.rounds[0][1].image.tobytes()


def test_streaming_yields_every_round(tiny_pipeline):
    image, mask = photo(64, 48), box(64, 48)
    whole = tiny_pipeline(image, mask, num_feedback_rounds=2)
    outputs = list(tiny_pipeline.stream(image, mask, num_feedback_rounds=2))
    assert [len(out.rounds[0]) for out in outputs] == [1, 2, 3]
    for k, out in enumerate(outputs):
        assert out.images[0].tobytes() == whole.rounds[0][k].image.tobytes()
        assert out.semantic_after[0].tobytes() == whole.rounds[0][k].semantic_map.tobytes()
    # A large photo: the map of the known part first, then its crop.
    assert len(list(tiny_pipeline.stream(photo(420, 300), box(420, 300), num_feedback_rounds=1))) == 3


def test_rounds_carry_their_evidence(tiny_pipeline):
    """Also of a large photo, worked on in crops at another size."""
    bank_size = len(tiny_pipeline.recorrector.bank)
    for size in ((48, 64), (300, 420)):
        hole = np.zeros(size, bool)
        hole[10:40, 20:50] = True
        rounds = tiny_pipeline(photo(size[1], size[0]), hole, num_feedback_rounds=2).rounds[0]
        for k, round_ in enumerate(rounds):
            assert round_.doubt.shape == (*size, 3) and round_.doubt.dtype == np.uint8
            assert not round_.doubt[~hole].any() and round_.doubt[hole][:, 1:].any(axis=0).all()
            for plane in (round_.trust, round_.consistency):
                assert plane.shape == size and plane.dtype == np.uint8
                assert not plane[~hole].any() and plane[hole].any() == (k > 0)
            changed = round_.exemplar >= 0
            assert round_.exemplar.max() < bank_size and not changed[~hole].any()
            if k:
                # Whatever an exemplar is named for did change its class.
                before, after = (np.asarray(r.semantic_map) for r in rounds[k - 1 : k + 1])
                assert (before != after)[changed].all()
        assert any((round_.exemplar >= 0).any() for round_ in rounds)


def test_the_users_map_is_kept_and_followed(tiny_pipeline):
    image, mask = photo(64, 48), box(64, 48)
    free = tiny_pipeline(image, mask)
    drawn = np.full((48, 64), 255, np.uint8)
    drawn[12:24, 16:30] = 8
    out = tiny_pipeline(image, mask, semantic_map=drawn)
    assert (np.asarray(out.semantic_after[0])[12:24, 16:30] == 8).all()
    assert out.images[0].tobytes() != free.images[0].tobytes()
    undecided = tiny_pipeline(image, mask, semantic_map=np.full((48, 64), 255, np.uint8))
    assert undecided.images[0].tobytes() == free.images[0].tobytes()


def test_output_types_and_tuple(tiny_pipeline):
    image, mask = photo(40, 36), box(40, 36)
    pil = tiny_pipeline(image, mask)
    array = tiny_pipeline(np.asarray(image), np.asarray(mask), output_type="np")
    assert np.array_equal(array.images[0], np.asarray(pil.images[0]))
    assert np.array_equal(array.semantic_after[0], np.asarray(pil.semantic_after[0]))
    images, before, after, rounds = tiny_pipeline(image, mask, return_dict=False)
    assert images[0].tobytes() == pil.images[0].tobytes() and len(before) == len(after) == len(rounds) == 1


def test_float_tensors_keep_their_own_known_values(tiny_pipeline):
    image = torch.rand(2, 3, 40, 36) * 2 - 1
    mask = torch.zeros(2, 1, 40, 36)
    mask[..., 10:20, 10:20] = 1
    out = tiny_pipeline(image, mask, output_type="pt")
    for i in range(2):
        known = (mask[i] == 0).expand(3, -1, -1)
        assert torch.equal(out.images[i][known], image[i][known])
        assert out.semantic_after[i].dtype == torch.int64
        assert not torch.equal(out.images[i], image[i]) and out.images[i].abs().max() <= 1


def test_an_empty_mask_returns_the_photo(tiny_pipeline):
    image = photo(60, 44)
    out = tiny_pipeline(image, np.zeros((44, 60), np.uint8))
    assert out.images[0].tobytes() == image.tobytes()
    assert np.asarray(out.semantic_after[0]).max() < 19


def test_a_full_mask_is_restored_whole(tiny_pipeline):
    out = tiny_pipeline(photo(48, 48), np.ones((48, 48), bool))
    assert len(np.unique(np.asarray(out.images[0]))) > 1


def test_one_mask_serves_many_photos(tiny_pipeline):
    out = tiny_pipeline([photo(48, 48, 1), photo(48, 48, 2)], box(48, 48), num_feedback_rounds=0)
    assert len(out.images) == 2


def test_callback_sees_every_round(tiny_pipeline):
    seen = []

    def callback(pipe, step, timestep, tensors):
        assert pipe is tiny_pipeline and step == timestep
        seen.append((step, tuple(tensors["image"].shape), tensors["probabilities"].shape[1]))

    tiny_pipeline(photo(64, 48), box(64, 48), num_feedback_rounds=2, callback_on_step_end=callback)
    assert seen == [(k, (1, 3, 48, 64), 19) for k in range(3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((32, 32, 3))}, "uint8"),
        ({"image": torch.full((1, 3, 32, 32), float("nan"))}, "finite"),
        ({"image": photo(8, 8)}, "16"),
        ({"image": [photo(32, 32)] * 3, "mask": [box(32, 32)] * 2}, "3 photos"),
        ({"num_feedback_rounds": -1}, "num_feedback_rounds"),
        ({"output_type": "jpeg"}, "output_type"),
        ({"semantic_map": np.full((32, 32), 40, np.uint8)}, "40"),
    ],
)
def test_bad_input_is_one_clear_line(tiny_pipeline, arguments, message):
    good = {"image": photo(32, 32), "mask": box(32, 32)}
    with pytest.raises(InputError, match=message) as error:
        tiny_pipeline(**(good | arguments))
    assert "\n" not in str(error.value)


def test_a_saved_pipeline_gives_the_same_bits_in_a_new_process(tiny_pipeline, tiny_pipeline_dir, tmp_path):
    files = [path.name for path in tiny_pipeline_dir.rglob("*") if path.is_file()]
    assert {name.rsplit(".", 1)[1] for name in files} == {"json", "safetensors"}
    image, mask = photo(64, 48), box(64, 48)
    image.save(tmp_path / "photo.png"), mask.save(tmp_path / "mask.png")
    script = (
        "import sys; from PIL import Image; from fbinpaint import FeedbackInpaintPipeline as P;"
        "pipe = P.from_pretrained(sys.argv[1]);"
        "pipe(Image.open('photo.png'), Image.open('mask.png')).images[0].save('result.png')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(tiny_pipeline_dir)], cwd=tmp_path, check=True, env=environment)
    expected = tiny_pipeline(image, mask).images[0]
    assert Image.open(tmp_path / "result.png").tobytes() == expected.tobytes()
    loaded = FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir)
    assert loaded.label_space.name == "cityscapes" and loaded.config.sample_size == 96
    assert len(loaded.recorrector.bank) == 5
