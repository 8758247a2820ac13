"""The loop's promises: known pixels and labels never change, rounds nest, the user's map is obeyed."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from fbinpaint.errors import InputError
from fbinpaint.loop import (
    RESEGMENTED_VARIANTS,
    VARIANTS,
    Forbidden,
    Networks,
    as_the_user_wants,
    feedback_rounds,
    hole_depth,
)
from fbinpaint.models.exemplar_bank import no_exemplars
from fbinpaint.models.layers import hole_window

from .conftest import make_tiny_networks


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 48, 64, generator=generator) * 2 - 1
    mask = torch.zeros(2, 1, 48, 64)
    mask[0, :, 10:30, 20:50] = 1
    mask[1, :, 20:44, 5:25] = 1
    return image, mask


@torch.no_grad()
def run(networks, scene, rounds, **kwargs):
    return list(feedback_rounds(networks, *scene, rounds, **kwargs))


def test_known_pixels_are_the_photos_own(tiny_networks, scene):
    image, mask = scene
    known = (mask == 0).expand_as(image)
    for round_ in run(tiny_networks, scene, 3):
        assert torch.equal(round_.image[known], image[known])
        assert not torch.equal(round_.image, image)


def test_what_lies_under_the_mask_is_never_read(tiny_networks, scene):
    image, mask = scene
    other = torch.where(mask > 0, torch.rand_like(image), image)
    for a, b in zip(run(tiny_networks, scene, 2), run(tiny_networks, (other, mask), 2), strict=True):
        assert torch.equal(a.prediction, b.prediction)


def test_fewer_rounds_are_a_prefix_of_more(tiny_networks, scene):
    three, one = run(tiny_networks, scene, 3), run(tiny_networks, scene, 1)
    assert [r.index for r in three] == [0, 1, 2, 3]
    for a, b in zip(one, three, strict=False):
        assert torch.equal(a.image, b.image) and torch.equal(a.probabilities, b.probabilities)


@pytest.mark.parametrize(
    "holes",
    [[(20, 30, 25, 40)], [(0, 5, 0, 7)], [(47, 48, 63, 64)], [(3, 9, 50, 64), (30, 48, 0, 4)], [(0, 48, 0, 64)], []],
    ids=["inside", "corner", "pixel", "two", "all", "none"],
)
def test_painting_around_the_holes_only_changes_nothing(tiny_networks, scene, holes):
    """Training paints everywhere, inference in a window, and only there it looks at the fill again."""
    image, mask = scene[0], torch.zeros_like(scene[1])
    for top, bottom, left, right in holes:
        mask[0, :, top:bottom, left:right] = 1
    everywhere = list(feedback_rounds(tiny_networks, image, mask, 2))
    for windowed, whole in zip(run(tiny_networks, (image, mask), 2), everywhere, strict=True):
        for name in ("initial", "image", "probabilities", "doubt"):
            torch.testing.assert_close(getattr(windowed, name), getattr(whole, name).detach(), atol=1e-5, rtol=0)


def test_the_window_holds_the_holes_and_little_more():
    mask = torch.zeros(2, 1, 64, 96)
    mask[0, :, 21, 40] = mask[1, :, 30, 94] = 1
    assert hole_window(mask) == (slice(8, 44), slice(28, 96))
    assert hole_window(torch.zeros(1, 1, 32, 48)) == (slice(0, 32), slice(0, 48))


def test_controls_take_their_maps_from_the_segmenter_alone(scene):
    """Frozen at round 0, anew from every fill, or the mean of the first and the newest."""
    parts = dict(make_tiny_networks().eval().named_children())
    with torch.no_grad():
        parts["segmenter"].classify.weight.mul_(20)
    image, mask = scene

    @torch.no_grad()
    def segmented(fill):
        return parts["segmenter"](fill, mask).logits.softmax(1)

    for variant in ("unidirectional", "resegmented", "resegmented-mean"):
        rounds = run(Networks(**parts, variant=variant), scene, 2)
        first = segmented(rounds[0].initial)
        assert torch.equal(rounds[0].probabilities, first)
        for before, after in zip(rounds[:-1], rounds[1:], strict=True):
            newest = segmented(before.image)
            assert (newest - first).abs().max() > 1e-3
            expected = {"unidirectional": first, "resegmented": newest, "resegmented-mean": (first + newest) / 2}
            torch.testing.assert_close(after.probabilities, expected[variant])
    drawn = torch.full((2, 48, 64), 255)
    drawn[:, 20:28, 20:24] = 7
    for round_ in run(Networks(**parts, variant="resegmented"), scene, 1, semantic_map=drawn):
        assert (round_.probabilities[:, 7, 5:7, 5] == 1).all()


def test_known_labels_never_drift_but_the_holes_do(tiny_networks, scene):
    first, *later = run(tiny_networks, scene, 2)
    hole = F.max_pool2d(scene[1], 4).bool().expand_as(first.probabilities)
    for round_ in later:
        assert torch.equal(round_.probabilities[~hole], first.probabilities[~hole])
        assert (round_.probabilities[hole] - first.probabilities[hole]).abs().max() > 1e-3
        torch.testing.assert_close(round_.probabilities.sum(1), torch.ones_like(round_.probabilities[:, 0]))


def test_the_users_pixels_are_kept_and_change_the_picture(tiny_networks, scene):
    """Each photo's own, for certain, in every round: nothing is left of what the maps say there."""
    drawn = torch.full((2, 48, 64), 255)
    drawn[0, 12:28, 24:44], drawn[1, 24:40, 8:20] = 10, 4
    free, rounds = run(tiny_networks, scene, 2), run(tiny_networks, scene, 2, semantic_map=drawn)
    for round_, other in zip(rounds, free, strict=True):
        of_first, of_second = round_.probabilities[0, :, 3:7, 6:11], round_.probabilities[1, :, 6:10, 2:5]
        assert (of_first[10] == 1).all() and not of_first[:10].any() and not of_first[11:].any()
        assert (of_second[4] == 1).all() and not of_second[:4].any() and not of_second[5:].any()
        assert other.probabilities[0, 10, 3:7, 6:11].max() < 0.9 and other.probabilities[1, 4, 6:10, 2:5].max() < 0.9
        assert all(not torch.equal(a, b) for a, b in zip(round_.image, other.image, strict=True))
    swapped = run(tiny_networks, [x.flip(0) for x in scene], 2, semantic_map=drawn.flip(0))
    torch.testing.assert_close(swapped[-1].image.flip(0), rounds[-1].image, atol=1e-4, rtol=0)


def test_an_undecided_map_changes_nothing():
    probabilities = torch.rand(1, 5, 4, 4).softmax(1)
    assert torch.equal(as_the_user_wants(probabilities, torch.full((1, 16, 16), 255)), probabilities)


@pytest.mark.parametrize("variant", VARIANTS + RESEGMENTED_VARIANTS)
def test_no_round_shows_or_is_guided_by_what_is_forbidden(scene, variant):
    networks = make_tiny_networks().eval()
    networks.variant = variant
    with torch.no_grad():
        networks.segmenter.classify.bias[[7, 13]] += 20
    guides = []
    networks.guided_inpainter.register_forward_pre_hook(lambda _, inputs: guides.append(inputs[0]))
    forbidden = Forbidden(torch.isin(torch.arange(19), torch.tensor([7, 13])), scene[1])
    inside, cells = scene[1][:, 0] > 0, F.max_pool2d(scene[1], 4).bool()[:, 0]
    far = F.max_pool2d(scene[1], 13, stride=1, padding=6)[:, 0] == 0
    rounds = run(networks, scene, 3, forbidden=forbidden)
    for round_, guide in zip(rounds, guides, strict=True):
        labels = round_.labels()
        assert not torch.isin(labels[inside], torch.tensor([7, 13])).any()
        assert torch.isin(labels[far], torch.tensor([7, 13])).all()
        for map_ in (round_.probabilities, guide) if variant != "unguided" else (round_.probabilities,):
            assert not map_[:, [7, 13]].movedim(1, -1)[cells].any()
            torch.testing.assert_close(map_.sum(1), torch.ones_like(map_[:, 0]))
    free = run(networks, scene, 3)
    assert torch.isin(free[-1].labels()[inside], torch.tensor([7, 13])).all()
    known = ~cells[:, None].expand_as(free[0].probabilities)  # its map is not touched
    assert torch.equal(rounds[0].probabilities[known], free[0].probabilities[known])


def test_others_share_what_the_forbidden_had_in_proportion():
    probabilities = torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    area = torch.zeros(1, 1, 8, 8)
    area[..., 3, 7] = 1  # one pixel of the upper right cell
    shared = Forbidden(torch.tensor([False, True, False]), area).leave_out(probabilities)
    torch.testing.assert_close(shared[0, :, 0, 1], torch.tensor([0.25, 0, 0.75]))
    elsewhere = torch.tensor([[True, False], [True, True]])
    assert torch.equal(shared[..., elsewhere], probabilities[..., elsewhere])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_others_share_alike_where_only_forbidden_ones_were_possible(dtype):
    certain = torch.zeros(1, 5, 2, 2, dtype=dtype)
    certain[:, 0] = 1
    classes = torch.tensor([True, False, False, False, True])
    shared = Forbidden(classes, torch.ones(1, 1, 8, 8, dtype=dtype)).leave_out(certain)
    assert shared.dtype == dtype and not shared[:, [0, 4]].any()
    torch.testing.assert_close(shared[:, 1:4], torch.full((1, 3, 2, 2), 1 / 3, dtype=dtype))


@pytest.mark.parametrize("variant", ["feedback", "unidirectional"])  # the latter paints by it as it is
def test_a_map_put_into_a_round_is_rid_of_what_is_forbidden(scene, variant):
    networks, cells = make_tiny_networks().eval(), F.max_pool2d(scene[1], 4).bool()[:, 0]
    networks.variant = variant
    forbidden = Forbidden(torch.arange(19) == 13, scene[1])
    guides = []
    networks.guided_inpainter.register_forward_pre_hook(lambda _, inputs: guides.append(inputs[0]))
    with torch.no_grad():
        for round_ in feedback_rounds(networks, *scene, 2, forbidden=forbidden):
            round_.probabilities = torch.zeros_like(round_.probabilities)
            round_.probabilities[:, 13] = 1
            assert not (round_.labels()[scene[1][:, 0] > 0] == 13).any()
    assert len(guides) == 3 and not any(guide[:, 13][cells].any() for guide in guides)


def test_what_the_user_draws_wins_over_what_is_forbidden(tiny_networks, scene):
    drawn = torch.full((2, 48, 64), 255)
    drawn[:, 12:28, 24:44] = 13
    area = scene[1] * (drawn == 255)[:, None]
    for round_ in run(tiny_networks, scene, 2, semantic_map=drawn, forbidden=Forbidden(torch.arange(19) == 13, area)):
        assert (round_.probabilities[:, 13, 3:7, 6:11] == 1).all()
        assert not (round_.labels()[area[:, 0] > 0] == 13).any()


def test_image_loss_reaches_the_map_networks(scene):
    """SOFT maps: taking an arg-max would cut the gradient from the picture to segmenter and recorrector."""
    networks = make_tiny_networks().train()
    *_, last = feedback_rounds(networks, *scene, 1)
    last.image.sum().backward()
    assert networks.segmenter.classify.weight.grad.any()
    assert networks.recorrector.gather.weight.grad.any()
    assert networks.initial_inpainter.stem.weight.grad.any()


def test_unidirectional_never_corrects_and_teaches_the_segmenter_nothing(scene):
    networks = make_tiny_networks()
    networks.variant = "unidirectional"
    rounds = list(feedback_rounds(networks.train(), *scene, 2))
    assert all(torch.equal(round_.probabilities, rounds[0].probabilities) for round_ in rounds)
    assert torch.equal(rounds[0].image, rounds[2].image) and rounds[2].correction is None  # as the map is
    rounds[-1].image.sum().backward()
    assert networks.segmenter.classify.weight.grad is None
    assert networks.guided_inpainter.embed_guide.weight.grad.any()


def test_unguided_ignores_the_map(scene):
    networks = make_tiny_networks().eval()
    networks.variant = "unguided"
    before = run(networks, scene, 1)
    with torch.no_grad():
        networks.segmenter.classify.bias += torch.randn_like(networks.segmenter.classify.bias)
    after = run(networks, scene, 1)
    assert torch.equal(before[-1].image, after[-1].image)
    assert not torch.equal(before[-1].probabilities, after[-1].probabilities)


def test_an_unknown_variant_is_refused():
    parts = dict(make_tiny_networks().named_children())
    with pytest.raises(InputError, match="unguided, unidirectional, feedback"):
        Networks(**parts, variant="sideways")


def test_exemplars_change_the_correction(tiny_networks, scene):
    networks = make_tiny_networks().eval()
    networks.recorrector.set_bank(no_exemplars(networks.recorrector.bank))
    with_bank, without = run(tiny_networks, scene, 1), run(networks, scene, 1)
    assert torch.equal(with_bank[0].image, without[0].image)
    assert not torch.equal(with_bank[1].probabilities, without[1].probabilities)
    # Without, the photo's own maps are all that is said.
    with torch.no_grad():
        newest = tiny_networks.segmenter(without[0].image, scene[1]).logits.softmax(1)
    torch.testing.assert_close(without[1].consistency, newest)
    torch.testing.assert_close(without[1].layout.probabilities, without[0].probabilities)


def test_layouts_are_of_allowed_exemplars_and_of_the_first_map(tiny_networks, scene):
    bank = tiny_networks.recorrector.bank
    allowed = torch.ones(2, len(bank), dtype=torch.bool)
    first, *later = run(tiny_networks, scene, 2)
    favourite = later[0].layout.nearest[:, 0]
    allowed[torch.arange(2), favourite] = False
    _, *others = run(tiny_networks, scene, 2, allowed=allowed)
    assert first.layout is first.consistency is first.correction is None
    for round_, other in zip(later, others, strict=True):
        assert not (other.layout.nearest == favourite[:, None]).any()
        assert torch.equal(round_.layout.probabilities, later[0].layout.probabilities)
    assert not torch.equal(later[0].probabilities, others[0].probabilities)


def test_a_distrusted_correction_returns_to_the_first_map(scene):
    """Not to the last one: corrections of corrections would add up."""
    networks = make_tiny_networks().eval()
    with torch.no_grad():
        networks.segmenter.classify.weight.mul_(20)  # so that its maps differ
    rounds = run(networks, scene, 2)
    assert (rounds[2].probabilities - rounds[0].probabilities).abs().max() > 0.01
    torch.nn.init.zeros_(networks.recorrector.gates.weight)
    with torch.no_grad():
        networks.recorrector.gates.bias[0] = 50.0
    first, *later = run(networks, scene, 2)
    for round_ in later:
        torch.testing.assert_close(round_.probabilities, first.probabilities, atol=2e-3, rtol=0)


@torch.no_grad()
def test_each_correction_is_of_what_was_said_of_the_newest_fill(scene):
    """Of the first map, the segmenter's of the newest fill, what the exemplars recognise in that one, and the layout of
    those that the first map is like: each in its place, and each photo's own."""
    networks, mask = make_tiny_networks().eval(), scene[1]
    networks.segmenter.classify.weight.mul_(20)
    hole = F.max_pool2d(mask, 4)
    rounds = run(networks, scene, 2)
    first = rounds[0].probabilities
    layout = networks.recorrector.lay_out(first, mask).probabilities
    for before, after in itertools.pairwise(rounds):
        again = networks.segmenter(before.image, mask)
        newest = again.logits.softmax(1)
        consistency = networks.recorrector.recognise(again.pyramid, newest)
        expected = networks.recorrector(
            first=first, newest=newest, consistency=consistency, layout=layout, doubt=after.doubt, hole=hole
        )
        torch.testing.assert_close(after.probabilities, expected.probabilities)
        for name, said in (("newest", newest), ("consistency", consistency)):
            torch.testing.assert_close(getattr(after, name), said)
        for a, b in itertools.combinations((first, newest, consistency, layout), 2):
            assert ((a - b).abs() * hole).amax((1, 2, 3)).min() > 1e-3
    assert (layout[0] - layout[1]).abs().max() > 0.1


def test_the_doubt_is_of_the_last_two_fills_and_the_last_map(tiny_networks, scene):
    """How far the fills are apart, how deep a cell lies in the hole, how unsure the map is that is now corrected."""
    rounds = run(tiny_networks, scene, 3)
    fills = [rounds[0].initial, rounds[0].initial, *(round_.image for round_ in rounds)]
    maps = [rounds[0].probabilities, *(round_.probabilities for round_ in rounds)]
    depth = hole_depth(F.max_pool2d(scene[1], 4))
    for round_, last, newest, map_ in zip(rounds, fills, fills[1:], maps, strict=False):
        apart = F.avg_pool2d((newest - last).abs().mean(1, keepdim=True), 4)
        expected = torch.cat([apart, depth, 1 - map_.amax(1, keepdim=True)], dim=1)
        torch.testing.assert_close(round_.doubt, expected)
    assert not rounds[0].doubt[:, 0].any()
    assert (rounds[2].doubt[:, 0] - rounds[1].doubt[:, 0]).abs().max() > 1e-3


def test_depth_rises_into_the_hole():
    mask = torch.zeros(1, 1, 96, 96)
    mask[..., 16:80, 16:80] = 1
    depth = hole_depth(F.max_pool2d(mask, 4))[0, 0]
    assert depth[0, 0] == 0 and depth[4, 4] == 0.125 and depth[12, 12] == 1
    assert (depth[4:12, 12].diff() >= 0).all()
