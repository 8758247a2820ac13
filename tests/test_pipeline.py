"""The pipeline's contract: any photo in, same size out, known pixels bit-identical, the same result after a reload."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, InputError, InputWarning
from fbinpaint.images.convert import to_rgb


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


MAGENTA = (255, 0, 255)


@pytest.mark.parametrize("boxes", [
    [(150, 210, 31, 35)],
    [(0, 0, 24, 30)],
    [(3, 2, 20, 20), (270, 380, 30, 40), (90, 200, 40, 25)],
    [(40, 30, 200, 300), (290, 410, 10, 10)],
], ids=["small", "corner", "far apart", "large and small"])
@pytest.mark.parametrize(("width", "height"), [(420, 300), (900, 700)])
def test_every_output_of_a_stream_is_whole(tiny_pipeline, width, height, boxes):
    """No map has a gap, and no hole shows what was in it, whatever has to be done before."""
    pixels, hole = np.array(photo(width, height)), np.zeros((height, width), bool)
    for top, left, high, wide in boxes:
        hole[top : top + high, left : left + wide] = True
    pixels[hole] = MAGENTA
    drawn = np.full(hole.shape, 255, np.uint8)
    drawn[160:170, 215:225] = 8
    for semantic_map in (None, drawn):
        options = {"num_feedback_rounds": 2, "semantic_map": semantic_map, "output_type": "np"}
        outputs = list(tiny_pipeline.stream(pixels, hole, **options))
        assert [len(out.rounds[0]) for out in outputs] == [1, 2, 3]
        whole = tiny_pipeline(pixels, hole, **options)
        for k, out in enumerate(outputs):
            assert max(out.semantic_before[0].max(), out.semantic_after[0].max()) < 19
            assert np.array_equal(out.semantic_before[0], whole.semantic_before[0])
            assert np.array_equal(out.semantic_after[0], whole.rounds[0][k].semantic_map)
            assert np.array_equal(out.images[0], whole.rounds[0][k].image)
            result = np.rint(out.images[0] * 255).astype(np.uint8)
            assert np.array_equal(result[~hole], pixels[~hole])
            assert (result[hole] == MAGENTA).all(-1).mean() < 0.01


def test_a_stream_of_photos_of_several_sizes_is_whole_at_every_step(tiny_pipeline):
    sizes = [(64, 48), (420, 300), (90, 70)]
    photos, masks = [np.array(photo(*size)) for size in sizes], [np.asarray(box(*size)) > 0 for size in sizes]
    masks.append(np.zeros((48, 64), bool))  # and one that has nothing to be done
    for pixels, mask in zip(photos, masks, strict=False):
        pixels[mask] = MAGENTA
    photos.append(np.array(photo(64, 48)))
    with pytest.warns(InputWarning, match="nothing is marked"):
        outputs = list(tiny_pipeline.stream(photos, masks, num_feedback_rounds=1))
    assert len(outputs) == 2
    for out in outputs:
        for i, mask in enumerate(masks):
            assert np.asarray(out.semantic_after[i]).max() < 19
            assert not mask.any() or (np.asarray(out.images[i])[mask] == MAGENTA).all(-1).mean() < 0.01
    assert np.array_equal(outputs[0].images[3], photos[3])


def test_a_stream_that_has_nothing_to_paint_yields_one_whole_output(tiny_pipeline):
    with pytest.warns(InputWarning, match="nothing is marked"):
        (out,) = tiny_pipeline.stream(photo(420, 300), np.zeros((300, 420), bool), num_feedback_rounds=2)
    assert len(out.rounds[0]) == 3 and np.asarray(out.semantic_before[0]).max() < 19
    assert all(round_.changed == 0 for round_ in out.rounds[0])


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
    """To the pixel, not to the cell of four; where the user drew nothing, the model decides."""
    image, mask = photo(64, 48), box(64, 48)
    free = tiny_pipeline(image, mask)
    drawn = np.full((48, 64), 255, np.uint8)
    drawn[13:23, 17:29], drawn[5, 40] = 8, 14
    out = tiny_pipeline(image, mask, semantic_map=drawn)
    for round_, other in zip(out.rounds[0], free.rounds[0], strict=True):
        map_, free_map = (np.asarray(r.semantic_map) for r in (round_, other))
        ours = drawn != 255
        assert (map_[ours] == drawn[ours]).all() and (free_map[ours] != drawn[ours]).any()
        far = np.ones((48, 64), bool)
        far[2:32, 8:48] = False  # between its cell and the next one, what is drawn blends
        assert (map_[far] == free_map[far]).all()
    assert out.images[0].tobytes() != free.images[0].tobytes()
    undecided = tiny_pipeline(image, mask, semantic_map=np.full((48, 64), 255, np.uint8))
    assert undecided.images[0].tobytes() == free.images[0].tobytes()
    large, drawn = photo(331, 251), np.full((251, 331), 255, np.uint8)  # which is worked on at less than half its size
    drawn[101:128, 93:94], drawn[131:132, 95:180], drawn[5, 7] = 8, 14, 3
    out = tiny_pipeline(large, box(331, 251), semantic_map=drawn)
    for round_ in out.rounds[0]:
        assert (np.asarray(round_.semantic_map)[drawn != 255] == drawn[drawn != 255]).all()


def test_each_photo_of_a_batch_has_its_own_map(tiny_pipeline):
    photos, masks = [photo(64, 48, 1), photo(64, 48, 2)], [box(64, 48)] * 2
    drawn = np.full((2, 48, 64), 255, np.uint8)
    drawn[0, 12:24, 16:30], drawn[1, 14:20, 20:32] = 8, 3
    together = tiny_pipeline(photos, masks, semantic_map=list(drawn))
    for i, (image, mask) in enumerate(zip(photos, masks, strict=True)):
        alone = tiny_pipeline(image, mask, semantic_map=drawn[i])
        difference = np.asarray(alone.images[0], int) - np.asarray(together.images[i], int)
        assert abs(difference).max() <= 1
        for round_, by_itself in zip(together.rounds[i], alone.rounds[0], strict=True):
            map_ = np.asarray(round_.semantic_map)
            assert (map_[drawn[i] != 255] == (8, 3)[i]).all()
            assert (map_ == np.asarray(by_itself.semantic_map)).mean() > 0.99  # nothing of the other's is in it


def as_tensor(image: Image.Image) -> torch.Tensor:
    """(3,H,W) float in [0,1]."""
    return torch.from_numpy(np.array(image)).movedim(2, 0) / 255


def test_output_types_and_tuple(tiny_pipeline):
    """As diffusers has them: "np" (B,H,W,3), "pt" (B,3,H,W), both float32 in [0,1]; the same values as "pil"."""
    photos, masks = [photo(40, 36, 1), photo(40, 36, 2)], [box(40, 36)] * 2
    pil, array, tensor = (tiny_pipeline(photos, masks, output_type=kind) for kind in ("pil", "np", "pt"))
    levels = np.stack([np.asarray(image) for image in pil.images])
    assert array.images.shape == (2, 36, 40, 3) and array.images.dtype == np.float32
    assert np.array_equal(array.images, levels.astype(np.float32) / 255)
    assert tensor.images.shape == (2, 3, 36, 40) and tensor.images.dtype == torch.float32
    assert np.array_equal(tensor.images.movedim(1, -1), array.images)
    assert np.array_equal(array.semantic_after[1], np.asarray(pil.semantic_after[1]))
    assert array.semantic_after[1].dtype == np.uint8 and tensor.semantic_before[0].dtype == torch.int64
    assert np.array_equal(array.rounds[1][-1].image, array.images[1])
    images, before, after, rounds = tiny_pipeline(photos, masks, return_dict=False)
    assert images[0].tobytes() == pil.images[0].tobytes() and len(before) == len(after) == len(rounds) == 2


def test_photos_that_differ_in_size_come_back_as_a_list(tiny_pipeline):
    photos, masks = [photo(40, 36), photo(50, 32)], [box(40, 36), box(50, 32)]
    for kind, shapes in (("np", [(36, 40, 3), (32, 50, 3)]), ("pt", [(3, 36, 40), (3, 32, 50)])):
        images = tiny_pipeline(photos, masks, num_feedback_rounds=0, output_type=kind).images
        assert isinstance(images, list) and [tuple(image.shape) for image in images] == shapes


@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), (0, 255)])
def test_floats_mean_what_value_range_says(tiny_pipeline, value_range):
    """Tensors and arrays of floats are the photo that they are made of; known values come back, in [0,1]."""
    image, mask = photo(40, 36), box(40, 36)
    expected, known = tiny_pipeline(image, mask, output_type="np").images[0], np.asarray(mask) == 0
    low, high = value_range
    tensor = as_tensor(image) * (high - low) + low
    array = tensor.movedim(0, -1).numpy().astype(np.float64)
    for given in (tensor, tensor[None], array, array[None], [tensor[None]], [array]):
        out = tiny_pipeline(given, mask, output_type="np", value_range=value_range)
        assert abs(out.images[0] - expected).max() < 1e-6 and np.array_equal(out.images[0][~known], expected[~known])
    found, same = tiny_pipeline.segment(tensor, value_range=value_range), tiny_pipeline.segment(image)
    assert found.tobytes() == same.tobytes()
    assert isinstance(tiny_pipeline.segment(tensor[None], value_range=value_range), list)


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_known_values_of_floats_are_bit_identical(tiny_pipeline, kind):
    """Also those between two grey levels."""
    image = torch.rand(2, 3, 40, 36)
    mask = torch.zeros(2, 1, 40, 36)
    mask[..., 10:20, 10:20] = 1
    result = tiny_pipeline(image if kind == "pt" else image.movedim(1, -1).numpy(), mask, output_type=kind).images
    result = result if kind == "pt" else torch.from_numpy(result).movedim(-1, 1)
    hole = mask.bool().expand_as(image)
    assert torch.equal(result[~hole], image[~hole])
    assert (result != image)[hole].float().mean() > 0.9 and 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize(
    ("image", "value_range", "words"),
    [
        (torch.linspace(-1, 1, 3 * 32 * 32), (0, 1), "from -1 to 1"),
        (torch.linspace(0, 255, 3 * 32 * 32), (0, 1), "from 0 to 255"),
        (torch.linspace(0, 255, 3 * 32 * 32), (-1, 1), "from 0 to 255"),
        (torch.linspace(0, 1.001, 3 * 32 * 32), (0, 1), "from 0 to 1.001"),
        (torch.zeros(3 * 32 * 32), (1, 0), "two numbers"),
        (torch.zeros(3 * 32 * 32), 255, "two numbers"),
        (torch.zeros(3 * 32 * 32), (0, float("inf")), "two numbers"),
    ],
)
def test_values_outside_the_range_are_an_error_that_names_value_range(tiny_pipeline, image, value_range, words):
    image = image.view(1, 3, 32, 32)
    for given in (image, image.movedim(1, -1).numpy()):
        for call in (
            lambda x: tiny_pipeline(x, box(32, 32), value_range=value_range),
            lambda x: list(tiny_pipeline.stream(x, box(32, 32), value_range=value_range)),
            lambda x: tiny_pipeline.segment(x, value_range=value_range),
        ):
            with pytest.raises(InputError, match=words) as error:
                call(given)
            assert "value_range" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["tensor", "array", "bool"])
def test_masks_of_every_shape_are_taken(tiny_pipeline, kind):
    """(H,W), (1,H,W), (B,H,W), (B,1,H,W) tensors; the same arrays, with channels last."""
    photos = [photo(40, 36, 1), photo(40, 36, 2)]
    plane = torch.from_numpy(np.array(box(40, 36)) / 255)
    plane = plane.bool() if kind == "bool" else plane
    other = plane.flip(0)
    expected = [
        tiny_pipeline(x, m.numpy(), num_feedback_rounds=0).images[0].tobytes()
        for x, m in zip(photos, (plane, other), strict=True)
    ]
    one = [plane, plane[None], plane[None, None], [plane], [plane[None]]]
    both = torch.stack([plane, other])
    two = [both, both[:, None], [plane, other], [plane[None], other[None]]]
    if kind == "array":
        one = [plane.numpy(), plane[None].numpy(), plane[..., None].numpy(), plane[None, ..., None].numpy()]
        two = [both.numpy(), both[..., None].numpy()]
    for mask in one:
        out = tiny_pipeline(photos[0], mask_image=mask, num_feedback_rounds=0)
        assert [image.tobytes() for image in out.images] == expected[:1]
    for masks in two:
        assert [x.tobytes() for x in tiny_pipeline(photos, masks, num_feedback_rounds=0).images] == expected
    with pytest.raises(InputError, match="1 photos, 3 masks"):
        tiny_pipeline(photos[0], torch.stack([plane] * 3))


def test_torchs_default_device_is_not_asked_for_anything(tiny_pipeline):
    """Which may be a GPU beside networks on the CPU, or the other way round."""
    image, mask, options = photo(200, 150), box(200, 150), {"forbidden": ["car"], "output_type": "np"}
    usual, found = tiny_pipeline(image, mask, **options), tiny_pipeline.segment(image)
    with torch.device("meta"):  # whose tensors hold nothing
        out = tiny_pipeline(image, mask, **options)
        assert np.array_equal(tiny_pipeline.segment(image), found)
    assert np.array_equal(out.images, usual.images) and np.array_equal(out.semantic_after, usual.semantic_after)


def test_mask_image_is_the_mask_by_its_name_in_diffusers(tiny_pipeline):
    image, mask = photo(48, 48), box(48, 48)
    expected = tiny_pipeline(image, mask).images[0].tobytes()
    assert tiny_pipeline(image=image, mask_image=mask).images[0].tobytes() == expected
    *_, last = tiny_pipeline.stream(image, mask_image=mask)
    assert last.images[0].tobytes() == expected
    both = {"mask": mask, "mask_image": mask}
    for masks, words in (({}, "no mask: give one"), (both, "mask and mask_image: give one")):
        with pytest.raises(InputError, match=words) as error:
            tiny_pipeline(image, **masks)
        assert "\n" not in str(error.value)


def test_an_empty_mask_returns_the_photo(tiny_pipeline):
    image = photo(60, 44)
    with pytest.warns(InputWarning, match="nothing is marked"):
        out = tiny_pipeline(image, np.zeros((44, 60), np.uint8))
    assert out.images[0].tobytes() == image.tobytes()
    assert np.asarray(out.semantic_after[0]).max() < 19


def test_a_full_mask_is_refused(tiny_pipeline):
    with pytest.raises(InputError, match="everything is marked"):
        tiny_pipeline(photo(48, 48), np.ones((48, 48), bool))


def test_one_mask_serves_many_photos(tiny_pipeline):
    photos, mask = [photo(48, 48, 1), photo(48, 48, 2), photo(40, 48, 3)], box(48, 48)
    out = tiny_pipeline(photos[:2], mask, num_feedback_rounds=0)
    assert len(out.images) == 2
    for image, result in zip(photos, out.images, strict=False):
        changed = (np.asarray(result) != np.asarray(image)).any(-1)
        assert not changed[np.asarray(mask) == 0].any() and changed[np.asarray(mask) > 0].mean() > 0.9
        (alone,) = tiny_pipeline(image, mask, num_feedback_rounds=0).images
        assert abs(np.asarray(alone, int) - np.asarray(result, int)).max() <= 1
    # Of two masks each photo has its own.
    other = Image.fromarray(np.asarray(mask)[::-1, ::-1].copy())
    results = tiny_pipeline(photos[:2], [mask, other], 0).images
    for image, result, hole in zip(photos, results, (mask, other), strict=False):
        assert not (np.asarray(result) != np.asarray(image))[np.asarray(hole) == 0].any()
    with pytest.raises(InputError, match="48x48, the photo 40x48"):  # nor is it stretched to another shape
        tiny_pipeline(photos, mask, num_feedback_rounds=0)


def test_callback_sees_every_round(tiny_pipeline):
    seen = []

    def callback(pipe, step, timestep, tensors):
        assert pipe is tiny_pipeline and step == timestep
        seen.append((step, tuple(tensors["image"].shape), tensors["probabilities"].shape[1]))

    tiny_pipeline(photo(64, 48), box(64, 48), num_feedback_rounds=2, callback_on_step_end=callback)
    assert seen == [(k, (1, 3, 48, 64), 19) for k in range(3)]


def test_callback_is_given_the_tensors_it_asks_for(tiny_pipeline):
    given = []
    options = {"num_feedback_rounds": 0, "callback_on_step_end": lambda *x: given.append(set(x[3]))}
    for names in (None, ["image"], ["probabilities"], []):
        tiny_pipeline(photo(48, 48), box(48, 48), callback_on_step_end_tensor_inputs=names, **options)
    assert given == [{"image", "probabilities"}, {"image"}, {"probabilities"}, set()]
    with pytest.raises(InputError, match="'latents' is none of image, probabilities"):
        tiny_pipeline(photo(48, 48), box(48, 48), callback_on_step_end_tensor_inputs=["latents"], **options)


def test_what_a_callback_returns_takes_the_place_of_the_loops_tensors(tiny_pipeline):
    """In the result, and in what the next round starts from; whether it is returned or changed in place."""
    image, mask = photo(64, 48), box(64, 48)
    hole, options = np.asarray(mask) > 0, {"num_feedback_rounds": 2, "output_type": "np"}
    plain = tiny_pipeline(image, mask, **options)

    def untouched(pipe, step, timestep, tensors):
        return tensors

    def grey_at_last(pipe, step, timestep, tensors):
        return {"image": torch.zeros_like(tensors["image"])} if step == 2 else {}

    def class_3(pipe, step, timestep, tensors):
        tensors["probabilities"].zero_()[:, 3] = 1
        return tensors

    def grey_first(pipe, step, timestep, tensors):
        return {"image": tensors["image"] * 0} if step == 0 else None

    def class_3_first(pipe, step, timestep, tensors):
        probabilities = torch.zeros_like(tensors["probabilities"])
        probabilities[:, 3] = 1
        return {"probabilities": probabilities} if step == 0 else None

    def run(callback):
        return tiny_pipeline(image, mask, callback_on_step_end=callback, **options)

    with torch.inference_mode():
        assert np.array_equal(run(untouched).images, plain.images)
    grey = run(grey_at_last)
    assert np.isin(np.rint(grey.images[0][hole] * 255), (127, 128)).all()
    assert np.array_equal(grey.images[0][~hole], plain.images[0][~hole])
    assert np.array_equal(grey.rounds[0][1].image, plain.rounds[0][1].image)
    assert all((round_.semantic_map[hole] == 3).all() for round_ in run(class_3).rounds[0])
    for callback in (grey_first, class_3_first):
        corrected, usual = (x.rounds[0][1] for x in (run(callback), plain))
        assert corrected.confidence != usual.confidence and (corrected.doubt != usual.doubt).any(), callback.__name__
    other = (corrected.image != usual.image).any(-1)
    assert other.any() and not other[~hole].any()
    drawn = np.full((48, 64), 255, np.uint8)
    drawn[14:20, 18:28] = 8
    kept = tiny_pipeline(image, mask, semantic_map=drawn, callback_on_step_end=class_3, output_type="np")
    assert (kept.semantic_after[0][14:20, 18:28] == 8).all()


def test_what_a_callback_returns_takes_the_place_of_what_had_settled(tiny_pipeline):
    """Of two photos one changes no more, when the other is changed from outside, and so goes on."""

    def callback(pipe, step, timestep, tensors):
        if step == 1:
            tensors["image"][1] = 0
        if step == 3:
            tensors["image"][:] = -1
        return tensors if step in (1, 3) else None

    photos, masks = [photo(64, 48), photo(64, 48)], [box(64, 48)] * 2
    out = tiny_pipeline(photos, masks, num_feedback_rounds=3, callback_on_step_end=callback, output_type="np")
    for image in out.images:
        assert (image[np.asarray(masks[0]) > 0] == 0).all()


def test_what_lies_under_a_mask_says_nothing_of_the_range_of_deep_greyscale(tiny_pipeline):
    """Also of a hole in plain surroundings, which takes no network."""
    levels, hole = np.full((48, 64), 2000, np.uint16), np.asarray(box(64, 48)) > 0
    clean = np.asarray(tiny_pipeline(Image.fromarray(levels), hole, grain=False).images[0])
    levels[hole] = 65535
    assert np.array_equal(tiny_pipeline(Image.fromarray(levels), hole, grain=False).images[0], clean)
    assert np.abs(clean.astype(int)[hole] - 2000).max() < 20
    floats = np.where(hole, np.nan, 0.4).astype(np.float32)
    filled = np.asarray(tiny_pipeline(Image.fromarray(floats), hole, grain=False).images[0])
    assert np.abs(filled[hole] - 0.4).max() < 0.01


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"image": torch.zeros(1, 3, 8, 8)}, r"image of shape \(1, 3, 8, 8\)"),
        ({"probabilities": np.zeros(3)}, "probabilities that is a ndarray"),
        ({"image": torch.full((1, 3, 48, 48), torch.nan)}, "image with NaN or infinity"),
        ({"probabilities": torch.full((1, 19, 12, 12), -0.5)}, "probabilities of -0.5"),
        (True, "returned a bool"),
    ],
)
def test_a_callback_that_returns_something_else_is_an_error(tiny_pipeline, returned, words):
    with pytest.raises(InputError, match=words):
        tiny_pipeline(photo(48, 48), box(48, 48), callback_on_step_end=lambda *_: returned)


def test_interrupt_stops_after_this_step_and_returns_what_is_done(tiny_pipeline):
    image, mask, seen = photo(64, 48), box(64, 48), []

    def stop_at_1(pipe, step, timestep, tensors):
        seen.append(step)
        pipe._interrupt = step == 1

    out = tiny_pipeline(image, mask, num_feedback_rounds=3, callback_on_step_end=stop_at_1)
    assert seen == [0, 1] and len(out.rounds[0]) == 2
    assert out.images[0].tobytes() == tiny_pipeline(image, mask, num_feedback_rounds=1).images[0].tobytes()
    assert len(tiny_pipeline(image, mask, num_feedback_rounds=3).rounds[0]) == 4  # the next call runs to its end


def test_interrupt_leaves_holes_whose_turn_has_not_come(tiny_pipeline):
    """Two photos of different sizes are worked on one after the other."""
    photos, masks, seen = [photo(64, 48), photo(48, 64)], [box(64, 48), box(48, 64)], []

    def stop_in_the_second(pipe, step, timestep, tensors):
        seen.append(step)
        pipe._interrupt = len(seen) == 4

    out = tiny_pipeline(photos, masks, num_feedback_rounds=2, callback_on_step_end=stop_in_the_second)
    assert seen == [0, 1, 2, 0] and [len(rounds) for rounds in out.rounds] == [3, 3]
    assert out.images[0].tobytes() == tiny_pipeline(photos[0], masks[0]).images[0].tobytes()
    first = tiny_pipeline(photos[1], masks[1], num_feedback_rounds=0).images[0]
    assert abs(np.asarray(out.images[1], int) - np.asarray(first, int)).max() <= 1
    stopped = tiny_pipeline(
        photos, masks, num_feedback_rounds=2, callback_on_step_end=lambda pipe, *_: setattr(pipe, "_interrupt", True)
    )
    assert len(stopped.rounds[0]) == 1 and stopped.images[1].tobytes() == photos[1].tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((32, 32))}, "floats"),
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


@pytest.mark.parametrize("sample_size", [0, 8, 4097, 96.0, "96"])
def test_a_pipeline_that_would_not_load_again_is_not_made(tiny_networks, tiny_pipeline_dir, sample_size):
    with pytest.raises(InputError, match=f"sample_size {sample_size!r}: must be a whole number, from 16 to 4096"):
        FeedbackInpaintPipeline.from_networks(tiny_networks, "cityscapes", sample_size=sample_size)
    with pytest.raises(InputError, match=f"sample_size {sample_size!r}: must be"):
        FeedbackInpaintPipeline.from_pretrained(tiny_pipeline_dir, sample_size=sample_size)


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
