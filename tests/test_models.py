"""Every network keeps the same contract: shapes, gradients, save -> load equality, any size that fits its stride."""

import itertools
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fbinpaint.errors import InputError
from fbinpaint.models import Discriminator, GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.models.guided_inpainter import Conditioning
from fbinpaint.models.layers import SameClassAttention, cat_channels, one_hot, shuffle, unshuffle
from fbinpaint.models.segmenter import InvertedResidual, LeanInvertedResidual, build_encoder

from .conftest import make_tiny_networks

CLASSES, HEIGHT, WIDTH = 19, 48, 64


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    image, mask = draw(2, 3, HEIGHT, WIDTH) * 2 - 1, (draw(2, 1, HEIGHT, WIDTH) > 0.5).float()
    probabilities = draw(2, CLASSES, HEIGHT // 4, WIDTH // 4).softmax(1)
    if name in ("initial_inpainter", "segmenter"):
        return {"image": image, "mask": mask}
    if name == "discriminator":
        levels = [draw(2, c, HEIGHT // stride, WIDTH // stride) for c, stride in ((24, 4), (40, 8), (112, 16))]
        return {"image": image, "mask": mask, "levels": levels, "classes": probabilities}
    if name == "recorrector":
        return {
            "first": draw(2, CLASSES, HEIGHT // 4, WIDTH // 4).softmax(1),
            "newest": probabilities,
            "consistency": draw(2, CLASSES, HEIGHT // 4, WIDTH // 4).softmax(1),
            "layout": draw(2, CLASSES, HEIGHT // 4, WIDTH // 4).softmax(1),
            "doubt": draw(2, 3, HEIGHT // 4, WIDTH // 4),
            "hole": F.max_pool2d(mask, 4),
        }
    conditioning = Conditioning(
        fill=image,
        stem2=draw(2, 8, HEIGHT // 2, WIDTH // 2),
        stem4=draw(2, 16, HEIGHT // 4, WIDTH // 4),
        context8=draw(2, 16, HEIGHT // 8, WIDTH // 8),
        styles=draw(2, CLASSES, 32),
        class_embeddings=draw(2, CLASSES, 16),
        hole4=draw(2, 16, HEIGHT // 4, WIDTH // 4),
        hole8=F.max_pool2d(mask, 8),
        window=None,
    )
    return {"probabilities": probabilities, "conditioning": conditioning}


def network(name: str):
    return Discriminator(channels=(8, 8, 8)) if name == "discriminator" else getattr(make_tiny_networks(), name)


def tensors(output) -> list[torch.Tensor]:
    flat = []
    for value in output.values() if hasattr(output, "values") else output:
        flat.extend(value if isinstance(value, list) else [value])
    return flat


NAMES = ("initial_inpainter", "segmenter", "recorrector", "guided_inpainter", "discriminator")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_finite_and_sized(name):
    output = network(name)(**inputs_of(name))
    shapes = {
        "initial_inpainter": [(2, 3, 48, 64), (2, 3, 48, 64), (2, 16, 12, 16), (2, 16, 6, 8)],
        "segmenter": [(2, CLASSES, 12, 16)]
        + [(2, 24, 12, 16), (2, 32, 6, 8), (2, 48, 3, 4), (2, 64, 2, 2), (2, 16, 12, 16)],
        "recorrector": [(2, CLASSES, 12, 16), (2, 4, 12, 16)],
        "guided_inpainter": [(2, 3, 48, 64)],
        "discriminator": [(2, 1, 6, 8), (2, 1, 12, 16), (2, 1, 6, 8), (2, 1, 3, 4)]
        + [(2, 8, 24, 32), (2, 8, 12, 16), (2, 8, 6, 8)],
    }[name]
    assert [tuple(t.shape) for t in tensors(output)] == shapes
    assert all(torch.isfinite(t).all() for t in tensors(output))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name):
    model = network(name).train()
    output = model(**inputs_of(name))
    sum((t * torch.randn_like(t)).sum() for t in tensors(output) if t.requires_grad).backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # The styles and the context work through methods of their own, tested below.
    prepared = {"style", "style_prior", "context4", "context8", "embed_guide", "stem2", "down4"}
    assert {n.split(".")[0] for n in unused} <= prepared


@pytest.mark.parametrize("name", NAMES)
def test_save_load_is_bit_identical(name, tmp_path):
    # channels_last, as the pipeline runs them: other layouts may pick other kernels, which round differently.
    model = network(name).eval().to(memory_format=torch.channels_last)
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = type(model).from_pretrained(tmp_path).to(memory_format=torch.channels_last)
    for a, b in zip(tensors(model(**inputs_of(name))), tensors(loaded(**inputs_of(name))), strict=True):
        assert torch.equal(a, b)


def test_each_cell_is_judged_as_one_of_its_class():
    discriminator, seen = network("discriminator"), inputs_of("discriminator")
    unknown = {**seen, "classes": torch.zeros_like(seen["classes"])}
    left, right = torch.zeros_like(seen["classes"]), torch.zeros_like(seen["classes"])
    left[:, 0, :, : WIDTH // 8] = right[:, 1, :, WIDTH // 8 :] = 1  # road in one half, sidewalk in the other
    scores = [discriminator(**{**seen, "classes": classes})[0] for classes in (left + right, left, right)]
    nobody_knows, _ = discriminator(**unknown)
    for both, road, sidewalk, neutral in zip(*scores, nobody_knows, strict=True):
        half = both.shape[-1] // 2
        assert torch.allclose(both[..., :half], road[..., :half])
        assert torch.allclose(both[..., half:], sidewalk[..., half:])
        assert torch.allclose(road[..., half:], neutral[..., half:])
        assert not torch.allclose(road[..., :half], neutral[..., :half])


def test_methods_reach_their_parameters():
    guided = make_tiny_networks().guided_inpainter
    context, probabilities = torch.rand(1, 16, 6, 8), torch.rand(1, CLASSES, 6, 8).softmax(1)
    fill, mask = torch.rand(1, 3, 24, 32), torch.zeros(1, 1, 24, 32)
    ready = guided.prepare(fill, mask, context, torch.rand(1, 16, 3, 4), probabilities)
    sum(t.sum() for t in (ready.class_embeddings, ready.hole4, ready.stem4, ready.context8)).backward()
    layers = (guided.style[1], guided.embed_guide, guided.context4, guided.context8, guided.stem2, guided.down4)
    for parameter in (guided.style_prior, *(layer.weight for layer in layers)):
        assert parameter.grad.any()


def test_guidance_is_that_of_the_spread_styles():
    guided = make_tiny_networks().guided_inpainter
    context, probabilities = torch.rand(2, 16, 6, 8), torch.rand(2, CLASSES, 6, 8).softmax(1)
    mask = (torch.rand(2, 1, 24, 32) > 0.7).float()
    fill = torch.rand(2, 3, 24, 32)
    ready = guided.prepare(fill, mask, context, torch.rand(2, 16, 3, 4), probabilities)
    spread = torch.einsum("bchw,bcs->bshw", probabilities, ready.styles)
    wanted = guided.embed_guide(torch.cat([probabilities, spread, F.avg_pool2d(mask, 4)], dim=1))
    guide = torch.einsum("bchw,bcg->bghw", probabilities, ready.class_embeddings) + ready.hole4
    torch.testing.assert_close(guide, wanted)


def test_folding_keeps_the_encoder(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = timm.create_model("test_efficientnet", features_only=True).eval()
        for name, buffer in plain.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    save_file(plain.state_dict(), tmp_path / "encoder.safetensors")
    folded = build_encoder("test_efficientnet", tmp_path / "encoder.safetensors").eval()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert all(p.requires_grad for p in folded.parameters()) and not list(folded.buffers())
    image = torch.rand(1, 3, 64, 64)
    for a, b in zip(plain(image), folded(image), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_encoder_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        build_encoder("test_efficientnet", tmp_path / "missing.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="other.safetensors"):
        build_encoder("test_efficientnet", tmp_path / "other.safetensors")


def test_nothing_moves_what_is_known():
    """Outside the hole the first map has all the say, however sure the others are of something else."""
    recorrector, given = network("recorrector"), inputs_of("recorrector")
    given["hole"] = torch.zeros_like(given["hole"])
    given["hole"][0, :, 3:9, 4:12] = given["hole"][1, :, :5, :5] = 1
    given["layout"] = one_hot(given["first"].argmin(1), CLASSES)
    output = recorrector(**given)
    hole = given["hole"].bool().expand(2, CLASSES, HEIGHT // 4, WIDTH // 4)
    assert torch.equal(output.probabilities[~hole], given["first"][~hole])
    assert (output.probabilities[hole] - given["first"][hole]).abs().max() > 0.05
    torch.testing.assert_close(output.probabilities.sum(1), torch.ones(2, HEIGHT // 4, WIDTH // 4))
    of_first, of_others = output.gates[:, :1], output.gates[:, 1:]
    assert (of_first[~hole[:, :1]] == 1).all() and not of_others[~hole[:, :3]].any()
    assert (of_first[hole[:, :1]] < 1).all() and (of_others[hole[:, :3]] > 0).all()
    torch.testing.assert_close(output.gates.sum(1), torch.ones(2, HEIGHT // 4, WIDTH // 4))


def test_a_correction_is_the_weighted_product_of_what_is_said():
    recorrector, given = Recorrector(num_classes=CLASSES, channels=16, feature_channels=8), inputs_of("recorrector")
    given["hole"] = torch.ones_like(given["hole"])
    names = ("first", "newest", "consistency", "layout")
    output = recorrector(**given)
    gates = torch.tensor([0.7, 0.1, 0.1, 0.1]).view(1, 4, 1, 1)  # before anything is learned
    torch.testing.assert_close(output.gates, gates.expand_as(output.gates))
    powers = gates.flatten() * torch.tensor([1.0, 1.0, 0.125, 1.0])  # the exemplars' discriminant is far too sure
    product = torch.stack([given[name] ** power for name, power in zip(names, powers, strict=True)]).prod(0)
    torch.testing.assert_close(output.probabilities, product / product.sum(1, keepdim=True), atol=2e-3, rtol=0)
    # Of equal sharpness, who agrees does not become surer; who is sure of something else is heard.
    torch.nn.init.zeros_(recorrector.log_sharpness)
    agreed = recorrector(**given | dict.fromkeys(names, given["first"])).probabilities
    torch.testing.assert_close(agreed, given["first"], atol=2e-3, rtol=0)
    sure = one_hot(given["first"].argmin(1), CLASSES)
    moved = recorrector(**given | {"newest": given["first"], "consistency": given["first"], "layout": sure})
    assert ((moved.probabilities * sure).sum(1) > 1.5 * (given["first"] * sure).sum(1)).all()


def test_corrections_know_no_classes():
    """Whatever they are called: with the classes in another order, so is the corrected map."""
    recorrector, given = network("recorrector"), inputs_of("recorrector")
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0))
    other = {name: x[:, order] if x.shape[1] == CLASSES else x for name, x in given.items()}
    a, b = recorrector(**given), recorrector(**other)
    torch.testing.assert_close(b.gates, a.gates)
    torch.testing.assert_close(b.probabilities, a.probabilities[:, order])


def test_opinions_learn_from_what_they_say_alone():
    """The gates, which read how sure they are, send them no gradient: surer is not to be louder."""
    recorrector, given = network("recorrector"), inputs_of("recorrector")
    given = {name: x.requires_grad_() for name, x in given.items()}
    recorrector(**given).gates.square().sum().backward()
    assert all(given[name].grad is None for name in ("first", "newest", "consistency", "layout"))
    recorrector(**given).probabilities.square().sum().backward()
    assert all(given[name].grad.any() for name in ("first", "newest", "consistency", "layout"))


def test_a_bank_of_another_size_is_saved_and_loaded(tmp_path):
    recorrector, other = network("recorrector"), make_tiny_networks(seed=1).recorrector.bank
    buffers = [buffer for name, buffer in recorrector.named_buffers() if name.startswith("bank_")]
    recorrector.set_bank(other)
    # Of the same shapes: they stay the tensors that they are, by which DDP knows them.
    assert all(a is b for a, b in zip(buffers, recorrector.buffers(), strict=True))
    recorrector.set_bank(replace(other, maps=torch.cat([other.maps, other.maps[:2]])))
    assert recorrector.config.num_exemplars == len(recorrector.bank) == 7
    recorrector.save_pretrained(tmp_path)
    loaded = Recorrector.from_pretrained(tmp_path)
    assert loaded.config.num_exemplars == 7
    for a, b in zip(recorrector.bank.__dict__.values(), loaded.bank.__dict__.values(), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype


def test_a_segmenter_that_has_seen_no_hole_says_nothing_of_holes():
    """Intact photos teach the weights of the mask nothing, so these are nothing at the start."""
    segmenter, image = Segmenter(CLASSES, "test_efficientnet", channels=16), torch.rand(2, 3, 48, 64) * 2 - 1
    mask = torch.zeros(2, 1, 48, 64)
    expected = segmenter(image, mask).logits
    assert torch.equal(segmenter(image, 1 - mask).logits, expected)
    expected.square().mean().backward()
    assert all(not lateral.weight.grad[:, -1].any() for lateral in segmenter.lateral)
    segmenter(image, 1 - mask).logits.square().mean().backward()
    assert all(lateral.weight.grad[:, -1].any() for lateral in segmenter.lateral)


def test_a_fresh_recorrector_has_an_exemplar_that_shows_nothing():
    networks = make_tiny_networks()
    fresh = Recorrector(num_classes=CLASSES, feature_channels=networks.recorrector.config.feature_channels)
    given, mask = inputs_of("segmenter"), inputs_of("segmenter")["mask"]
    segmented = networks.segmenter(**given)
    own = segmented.logits.softmax(1)
    torch.testing.assert_close(fresh.recognise(segmented.pyramid, own), own)
    torch.testing.assert_close(fresh.lay_out(own, mask).probabilities, own)


def test_released_networks_fit_the_budget():
    parts = (InitialInpainter(), Segmenter(), Recorrector(num_exemplars=200), GuidedInpainter())
    bytes_on_disk = sum(t.numel() * t.element_size() for part in parts for t in part.state_dict().values())
    assert sum(p.numel() for part in parts for p in part.parameters()) < 17e6
    assert bytes_on_disk / 2 < 36e6  # as float16
    pyramid = parts[1](torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)).pyramid
    assert sum(level.shape[1] for level in pyramid) == parts[2].config.feature_channels


@torch.no_grad()
def test_attention_reads_known_cells_only():
    attention = SameClassAttention(16, heads=2, key_channels=16).eval()
    torch.nn.init.normal_(attention.out.weight)
    attention.norm = torch.nn.Identity()  # which would let every cell be seen by all others
    x, probabilities = torch.rand(2, 16, 4, 4), torch.rand(2, 3, 4, 4).softmax(1)
    hole = torch.zeros(2, 1, 4, 4)
    hole[0, :, 2:, 2:] = hole[1, :, :2, 1:3] = 1

    def changed_by(*cell: int) -> torch.Tensor:
        """(4,4) bool: which cells of that photo become others when this one does."""
        other = x.clone()
        other[cell[0], :, cell[1], cell[2]] += 1
        before, after = attention(x, probabilities, hole), attention(other, probabilities, hole)
        return (before - after).abs().amax(1)[cell[0]] > 1e-5

    for photo, row, column in ((0, 3, 3), (1, 0, 1)):  # in the hole: seen by itself alone
        expected = torch.zeros(4, 4, dtype=torch.bool)
        expected[row, column] = True
        assert torch.equal(changed_by(photo, row, column), expected)
    for photo, row, column in ((0, 0, 0), (1, 3, 3)):  # known: seen by all of the hole, and by nothing that is known
        expected = hole[photo, 0] > 0
        expected[row, column] = True
        assert torch.equal(changed_by(photo, row, column), expected)
    assert torch.isfinite(attention(x, probabilities, torch.ones_like(hole))).all()


@torch.no_grad()
def test_attention_is_what_it_says():
    """Softmax of scaled products and of the overlap of classes, over the known cells, head by head."""
    generator = torch.Generator().manual_seed(0)
    attention = SameClassAttention(16, heads=2, key_channels=8).eval()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    attention.affinity.copy_(torch.tensor([3.0, 6.0]))
    x = torch.rand(2, 16, 3, 4, generator=generator)
    probabilities = (3 * torch.randn(2, 5, 3, 4, generator=generator)).softmax(1)
    hole = torch.zeros(2, 1, 3, 4)
    hole[0, :, :2, 1:3] = hole[1, :, 1:, 2:] = 1
    found = attention(x, probabilities, hole)
    h = attention.norm(x)
    queries, keys = attention.query_key(h).chunk(2, dim=1)
    values = attention.value(h)
    for photo in range(2):
        query, key, value, classes = (t[photo].flatten(1).T for t in (queries, keys, values, probabilities))
        overlap = (classes[:, None] * classes[None]).sqrt().sum(-1)  # the Bhattacharyya coefficient
        heads = []
        for head in range(2):
            some = slice(4 * head, 4 * head + 4)
            logits = query[:, some] @ key[:, some].T / 2 + attention.affinity[head] * overlap
            logits[:, hole[photo].flatten() > 0] = -torch.inf
            heads.append(logits.softmax(1) @ value[:, 8 * head : 8 * head + 8])
        taken = attention.out(torch.cat(heads, dim=1).T.reshape(1, 16, 3, 4))[0]
        torch.testing.assert_close(found[photo], x[photo] + hole[photo] * taken, atol=1e-3, rtol=1e-3)


def test_attention_is_told_map_and_hole():
    networks, given = make_tiny_networks(), inputs_of("segmenter")
    guided, told = networks.guided_inpainter, []
    guided.attention.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1:]))
    context4, context8 = torch.rand(2, 16, 12, 16), torch.rand(2, 16, 6, 8)
    probabilities = torch.rand(2, CLASSES, 12, 16).softmax(1)
    mask = torch.zeros_like(given["mask"])
    mask[0, :, 5:20, 9:30] = mask[1, :, 30:41, 40:63] = 1
    guided(probabilities, guided.prepare(given["image"], mask, context4, context8, probabilities))
    ((map_, hole, window),) = told
    torch.testing.assert_close(map_, F.avg_pool2d(probabilities, 2))
    assert torch.equal(hole, F.max_pool2d(mask, 8)) and window is None


@torch.no_grad()
def test_styles_are_the_mean_of_the_known_cells_of_each_class():
    """With four cells of what is learnt of the class beside them; a class that is not seen has that alone."""
    guided = make_tiny_networks().guided_inpainter
    context = torch.rand(2, 16, 6, 8)
    classes = torch.randint(0, 3, (2, 6, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 24, 32)
    mask[0, :, 4:14, 6:30] = mask[1, :, 9:, :18] = 1
    styles, looks = guided.pool_styles(context, one_hot(classes, CLASSES), mask), guided.style(context)
    known = F.max_pool2d(mask, 4)[:, 0] == 0
    for photo, number in itertools.product(range(2), range(CLASSES)):
        cells = looks[photo][:, known[photo] & (classes[photo] == number)]  # (S, n)
        expected = (cells.sum(1) + 4 * guided.style_prior[number]) / (cells.shape[1] + 4)
        torch.testing.assert_close(styles[photo, number], expected)
        assert cells.shape[1] > 0 or number > 2
    torch.testing.assert_close(styles[:, 3:], guided.style_prior[3:].expand(2, -1, -1))


@torch.no_grad()
def test_styles_that_are_given_are_taken():
    guided = make_tiny_networks().guided_inpainter
    context, probabilities = torch.rand(2, 16, 6, 8), torch.rand(2, CLASSES, 6, 8).softmax(1)
    arguments = (torch.rand(2, 3, 24, 32), torch.zeros(2, 1, 24, 32), context, torch.rand(2, 16, 3, 4), probabilities)
    given = torch.randn(2, CLASSES, 32)
    usual, told = guided.prepare(*arguments), guided.prepare(*arguments, styles=given)
    assert torch.equal(told.styles, given)
    of_class, of_style = guided.embed_guide.weight[:, :CLASSES, 0, 0], guided.embed_guide.weight[:, CLASSES:-1, 0, 0]
    torch.testing.assert_close(told.class_embeddings, of_class.T + given @ of_style.T)
    assert not torch.allclose(told.class_embeddings, usual.class_embeddings, atol=1e-2)


@torch.no_grad()
def test_networks_are_shown_where_the_hole_is():
    """Of a picture that looks the same with and without it."""
    networks, image = make_tiny_networks().eval(), torch.full((2, 3, HEIGHT, WIDTH), 0.3)
    nowhere, hole = torch.zeros(2, 1, HEIGHT, WIDTH), torch.zeros(2, 1, HEIGHT, WIDTH)
    hole[:, :, 8:40, 16:48] = 1
    classes = inputs_of("discriminator")["classes"]
    levels = inputs_of("discriminator")["levels"]
    discriminator = network("discriminator")

    def seen(mask: torch.Tensor) -> list[torch.Tensor]:
        context = networks.initial_inpainter(image, mask)
        scores, _ = discriminator(image, mask, levels, classes)
        return [context.context4, context.context8, networks.segmenter(image, mask).logits, scores[0]]

    for with_hole, without in zip(seen(hole), seen(nowhere), strict=True):
        assert (with_hole - without).abs().max() > 1e-3


@torch.no_grad()
def test_contexts_have_the_detail_of_their_own_stride():
    """Not that of the coarser one below alone; in a fresh network, whose residual branches are silent."""
    fresh = InitialInpainter(channels=(8, 16, 16, 24), bottleneck_dilations=(1,), depth8=1)
    image = inputs_of("segmenter")["image"]
    output = fresh(image, torch.zeros_like(image[:, :1]))
    for context in (output.context4, output.context8):
        assert (context[:, :, ::2] - context[:, :, 1::2]).abs().mean() > 1e-2


def test_every_judge_teaches_the_fill():
    """The one of pixels through the picture, each of the others through its level of the encoder's features."""
    given = inputs_of("discriminator")
    given["image"].requires_grad_()
    for level in given["levels"]:
        level.requires_grad_()
    scores, _ = network("discriminator")(**given)
    for score, source in zip(scores, [given["image"], *given["levels"]], strict=True):
        (gradient,) = torch.autograd.grad(score.sum(), source, retain_graph=True)
        assert gradient.flatten(1).any(1).all()


@torch.no_grad()
def test_an_encoder_is_loaded_from_a_file(tmp_path):
    """Into a segmenter that had another one; what cannot be fetched is one line."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        plain = timm.create_model("test_efficientnet", features_only=True).eval()
    save_file(plain.state_dict(), tmp_path / "encoder.safetensors")
    segmenter, image = network("segmenter").eval(), torch.rand(1, 3, 64, 64)
    wanted = [*plain(image)]
    assert not torch.allclose(segmenter.encoder(image)[-1], wanted[-1], atol=1e-2)
    segmenter.load_encoder(tmp_path / "encoder.safetensors")
    for a, b in zip(segmenter.encoder(image), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="no such file"):
        segmenter.load_encoder(tmp_path / "missing.safetensors")


def test_attention_in_a_window_is_that_of_the_whole_picture():
    attention = SameClassAttention(16, heads=2, key_channels=16).eval()
    torch.nn.init.normal_(attention.out.weight)
    x, probabilities = torch.rand(2, 16, 6, 8), torch.rand(2, 3, 6, 8).softmax(1)
    hole = torch.zeros(2, 1, 6, 8)
    hole[..., 2:4, 3:5] = 1
    window = (slice(12, 36), slice(20, 44))  # pixels, so that its cells are 1:5 and 2:6
    everywhere = attention(x, probabilities, hole)
    torch.testing.assert_close(attention(x, probabilities, hole, window), everywhere)
    assert torch.equal(everywhere * (1 - hole), x * (1 - hole)) and not torch.equal(everywhere, x)


def test_attention_takes_from_the_same_class():
    attention = SameClassAttention(16, heads=2, key_channels=16).eval()
    torch.nn.init.normal_(attention.out.weight)
    attention.norm, attention.affinity.data = torch.nn.Identity(), torch.full((2,), 40.0)
    torch.nn.init.zeros_(attention.query_key.weight)  # so that classes alone decide
    x, hole = torch.rand(1, 16, 4, 4), torch.zeros(1, 1, 4, 4)
    hole[..., 3, 3] = 1
    probabilities = torch.zeros(1, 2, 4, 4)
    probabilities[:, 0, :, :2] = probabilities[:, 1, :, 2:] = 1  # two classes, side by side
    taken = attention.out(attention.value(x)[:, :, :, 2:].flatten(2)[..., :-1].mean(-1)[..., None, None])
    torch.testing.assert_close(attention(x, probabilities, hole)[..., 3, 3], (x + taken)[..., 3, 3])


def test_channels_are_joined_without_a_change_of_layout():
    features, mask = torch.rand(2, 8, 6, 4).to(memory_format=torch.channels_last), torch.rand(2, 1, 6, 4)
    joined = cat_channels(features, mask)
    assert torch.equal(joined, torch.cat([features, mask], dim=1))
    assert joined.is_contiguous(memory_format=torch.channels_last)


def test_unshuffled_pictures_lose_nothing():
    image, mask = torch.rand(2, 3, 8, 6), torch.rand(2, 1, 8, 6)
    halved = unshuffle(image, mask)
    assert torch.equal(torch.pixel_shuffle(halved, 2), torch.cat([image, mask], dim=1))
    assert torch.equal(shuffle(halved[:, :12]), image) and shuffle(halved[:, :12]).is_contiguous()


@pytest.mark.parametrize("size", [(364, 366), (365, 367), (364, 367)])
def test_a_lean_block_says_of_large_pictures_what_timms_own_does(size):
    block = next(x for x in build_encoder("tf_efficientnet_lite0").modules() if isinstance(x, LeanInvertedResidual))
    picture = torch.rand(1, block.conv_pw.in_channels, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(picture), InvertedResidual.forward(block, picture))


def test_weights_may_be_read_by_whoever_may_read_the_configuration(tmp_path):
    """safetensors writes private files, of which another user is told that they are not there."""
    make_tiny_networks().segmenter.save_pretrained(tmp_path / "segmenter")
    modes = {path.stat().st_mode for path in (tmp_path / "segmenter").iterdir()}
    assert len(modes) == 1 and len(list((tmp_path / "segmenter").glob("*.safetensors"))) == 1
