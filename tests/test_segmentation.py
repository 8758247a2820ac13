"""Maps of intact photos: of their own size, of photo and mirror image, and of small things in large ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fbinpaint import FeedbackInpaintPipeline, InputError
from fbinpaint.data.scenes import SCENES, face_scene
from fbinpaint.evaluation import metrics
from fbinpaint.images.crops import resize_image
from fbinpaint.labels import CELEBAMASK_HQ, CITYSCAPES
from fbinpaint.pipeline.segmentation import class_probabilities, in_pixels, most_probable, pyramid, segment_photos

from .conftest import make_tiny_networks

FACES = Path(__file__).parents[1] / "checkpoints" / "faces"


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def faces() -> FeedbackInpaintPipeline:
    pipe = FeedbackInpaintPipeline.from_pretrained(FACES)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_one_map_for_one_photo_and_a_list_for_several(tiny_pipeline):
    photos = [photo(40, 48, 1), photo(64, 50, 2), photo(40, 48, 3)]
    maps = tiny_pipeline.segment(photos, output_type="np")
    assert [found.shape for found in maps] == [(40, 48), (64, 50), (40, 48)]
    assert all(found.dtype == np.uint8 and found.max() < 19 for found in maps)
    for one, found in zip(photos, maps, strict=True):  # whatever it is batched with
        alone = tiny_pipeline.segment(Image.fromarray(one))
        assert alone.mode == "P" and np.array_equal(np.asarray(alone), found)
    batch = torch.stack([torch.from_numpy(photos[i]).permute(2, 0, 1) for i in (0, 2)]).float() / 255
    tensors = tiny_pipeline.segment(batch, output_type="pt")
    assert [t.dtype for t in tensors] == [torch.int64] * 2 and np.array_equal(tensors[1].numpy(), maps[2])
    assert len(tiny_pipeline.segment(batch[:1])) == len(tiny_pipeline.segment(photos[:1])) == 1


@pytest.mark.parametrize("space", [CITYSCAPES, CELEBAMASK_HQ], ids=lambda space: space.name)
def test_mirror_images_have_mirrored_maps(space):
    """Of faces with left and right exchanged: what is seen of a photo and of its mirror image is averaged."""
    networks = make_tiny_networks(space.name)
    pipe = FeedbackInpaintPipeline.from_networks(networks, space.name, sample_size=96)
    image, _ = SCENES[space.name]((96, 64), np.random.default_rng(1))
    pixels = np.array(image)
    labels = pipe.segment(pixels, output_type="np")
    mirrored = pipe.segment(np.ascontiguousarray(pixels[:, ::-1]), output_type="np")
    assert len(np.unique(labels)) > 1 and (space.flip(mirrored[:, ::-1]) == labels).mean() > 0.999
    (alone,) = pipe(pixels, np.zeros(labels.shape, bool), output_type="np").semantic_before
    assert 0.5 < (alone == labels).mean() < 1  # the loop's own map is of the photo alone


def test_a_turned_photo_is_segmented_upright(tiny_pipeline):
    upright = Image.fromarray(photo(60, 40))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert np.array_equal(tiny_pipeline.segment(turned), tiny_pipeline.segment(upright))


@pytest.mark.parametrize(
    "image, output_type, named",
    [(photo(8, 8), "pil", "8x8"), (photo(20, 20), "map", "map"), (torch.zeros(1, 20, 20), "np", "tensor")],
)
def test_what_cannot_be_segmented_is_refused(tiny_pipeline, image, output_type, named):
    with pytest.raises(InputError, match=named):
        tiny_pipeline.segment(image, output_type=output_type)


def test_large_photos_are_looked_at_in_several_sizes():
    assert pyramid(64, 64, 256) == [(64, 64)] and pyramid(480, 360, 256) == [(341, 256)]
    assert pyramid(512, 512, 256) == [(256, 256), (512, 512)]
    assert pyramid(4000, 3000, 256) == [(341, 256), (683, 512), (1365, 1024)]  # and no larger
    for width, height in ((4000, 300), (4000, 16), (40, 4000)):
        sizes = pyramid(width, height, 256)
        assert 1 <= len(sizes) <= 3 and all(w <= width and h <= height for w, h in sizes)


@pytest.mark.parametrize("size", [(4000, 1000), (700, 5600), (12_000, 1000), (750_000, 16), (4000, 3000), (2000, 1000)])
def test_a_panorama_takes_no_more_than_a_photo_of_two_squares(size):
    """Memory follows the pixels that are looked at, and was twice as much for a panorama as for 12 megapixels."""
    sizes = pyramid(*size, 256)
    areas = [width * height for width, height in sizes]
    assert areas == sorted(areas) and max(areas) <= 2 * 1024**2 * 1.01 and min(map(min, sizes)) >= 16
    assert (size == (2000, 1000)) == (sizes[-1] == size)  # twice as wide as high is no panorama


def test_the_likeliest_class_at_the_photos_size():
    probabilities = np.zeros((3, 2, 2), np.float32)
    probabilities[1, :, 0], probabilities[2, :, 1] = 0.9, 0.6
    found = most_probable(probabilities, (80, 40))
    assert found.shape == (40, 80) and set(np.unique(found)) == {1, 2}
    border = np.flatnonzero(np.diff(found[0].astype(int)))  # where .9 (1 - x) = .6 x, x from one centre to the other
    assert len(border) == 1 and abs((border[0] + 1 - 20) / 40 - 0.6) < 0.02


@torch.no_grad()
def test_the_surer_size_is_heard_more():
    """e times as loudly for each fiftieth that it is surer on average; each photo for itself."""
    segmenter = make_tiny_networks().eval().segmenter
    segmenter.classify.weight.mul_(20)
    photos = [photo(192, 224, 1), cv2.GaussianBlur(photo(192, 224, 2), (0, 0), 9)]
    sizes = pyramid(224, 192, 96)
    assert sizes == [(112, 96), (224, 192)]
    at_each = [class_probabilities(segmenter, photos, CITYSCAPES, size, segmenter.device) for size in sizes]
    planes = [in_pixels(x, size) for x, size in zip(at_each, sizes, strict=True)]
    sure = [x.amax(1).mean((1, 2)).tolist() for x in planes]
    found = segment_photos(segmenter, photos, CITYSCAPES, 96, segmenter.device)
    enlarged = [torch.nn.functional.interpolate(x, size=(192, 224), mode="bilinear") for x in planes]
    shares = []
    for i, labels in enumerate(found):
        loud = np.exp([(of_size[i] - sure[0][i]) / 0.02 for of_size in sure])
        shares.append(loud / loud.sum())
        by_hand = sum(share * x[i] for share, x in zip(shares[-1], enlarged, strict=True)).argmax(0)
        assert (by_hand.numpy() == labels).mean() > 0.999
        evenly = (enlarged[0][i] + enlarged[1][i]).argmax(0)
        assert (evenly.numpy() == labels).mean() < 0.99
    assert np.ptp([share[0] for share in shares]) > 0.05


def test_small_faces_in_a_large_photo_are_found(faces):
    """Sixteen faces: seen as one picture of 256 pixels, hardly a part of them can be told."""
    scenes = [face_scene((192, 192), np.random.default_rng([50, i])) for i in range(16)]

    def mosaic(k: int) -> np.ndarray:
        parts = [np.asarray(scene[k]) for scene in scenes]
        return np.concatenate([np.concatenate(parts[4 * row : 4 * row + 4], axis=1) for row in range(4)])

    pixels, truth = mosaic(0), mosaic(1)
    small = faces.segment(resize_image(pixels, (256, 256)), output_type="np")
    small = cv2.resize(small, truth.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)

    def miou(found: np.ndarray) -> float:
        confusion = metrics.confusion_matrix(truth, found, np.ones_like(truth, bool), 19)
        return float(metrics.miou_from_confusion(confusion))

    assert miou(faces.segment(pixels, output_type="np")) > 2 * miou(small) > 0.2


def test_the_bundled_model_tells_the_eyes_apart_as_the_owners_do(faces):
    """The person's left eye, brow and ear are on the right of the picture."""
    for seed in range(3):
        pixels, _ = face_scene((192, 192), np.random.default_rng([60, seed]))
        found = faces.segment(pixels, output_type="np")
        for part in ("eye", "brow"):
            left, right = (np.argwhere(found == faces.label_space.classes.index(f"{side}_{part}")) for side in "lr")
            assert min(len(left), len(right)) > 20 and left.mean(0)[1] > right.mean(0)[1] + 20
