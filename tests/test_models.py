"""Every network keeps the same contract: shapes, gradients, save -> load equality, any size that fits its stride."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fbinpaint.errors import InputError
from fbinpaint.models import Discriminator, GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.models.exemplar_bank import (
    Exemplars,
    class_prototypes,
    consistency_maps,
    retrieval_keys,
    retrieve,
)
from fbinpaint.models.guided_inpainter import Conditioning
from fbinpaint.models.layers import SameClassAttention, cat_channels, shuffle, unshuffle
from fbinpaint.models.segmenter import build_encoder

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
            "probabilities": probabilities,
            "segmenter_features": draw(2, 16, HEIGHT // 4, WIDTH // 4),
            "inpainter_features": draw(2, 16, HEIGHT // 4, WIDTH // 4),
            "doubt": draw(2, 3, HEIGHT // 4, WIDTH // 4),
            "hole": F.max_pool2d(mask, 4),
            "prototypes": draw(2, CLASSES, 8),
            "shared": torch.ones(2, CLASSES),
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
        "initial_inpainter": [(2, 3, 48, 64), (2, 16, 12, 16), (2, 16, 6, 8)],
        "segmenter": [(2, CLASSES, 12, 16), (2, 16, 12, 16)],
        "recorrector": [(2, CLASSES, 12, 16), (2, CLASSES, 6, 8), (2, 1, 12, 16)],
        "guided_inpainter": [(2, 3, 48, 64), (2, 16, 12, 16)],
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
    # The exemplar projection, the styles and the context work through methods of their own, tested below.
    prepared = {"style", "style_prior", "context4", "context8", "embed_guide", "stem2", "down4"}
    assert {n.split(".")[0] for n in unused} <= {"exemplar"} | prepared


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
    networks = make_tiny_networks()
    exemplars = networks.recorrector.make_exemplars(torch.rand(2, 16, 6, 8), torch.randint(0, CLASSES, (2, 6, 8)))
    exemplars.prototypes.sum().backward()
    assert networks.recorrector.exemplar.weight.grad.any()
    guided = networks.guided_inpainter
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
    import timm

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


def test_released_networks_fit_the_budget():
    parts = (InitialInpainter(), Segmenter(), Recorrector(num_exemplars=96), GuidedInpainter())
    bytes_on_disk = sum(t.numel() * t.element_size() for part in parts for t in part.state_dict().values())
    assert sum(p.numel() for part in parts for p in part.parameters()) < 17e6
    assert bytes_on_disk / 2 < 36e6  # as float16


def test_prototypes_are_class_means():
    features = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    labels = torch.tensor([[[0, 0], [2, 255]]])
    prototypes, present = class_prototypes(features, labels, 3)
    torch.testing.assert_close(prototypes[0, :, 0], torch.tensor([1.5, 0.0, 3.0]))
    assert present.tolist() == [[1, 0, 1]]


def test_retrieval_prefers_the_alike_and_never_the_forbidden():
    keys = torch.eye(4)
    prototypes = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 3).clone()
    present = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 1]])
    bank = Exemplars(prototypes, present, keys)
    advice = retrieve(keys[2:3], bank, top_k=1)
    torch.testing.assert_close(advice.prototypes[0, 0], torch.full((3,), 2.0), atol=1e-2, rtol=0)
    # Class 1 is shown by exemplar 3 alone: taken from there although it is not among the nearest.
    torch.testing.assert_close(advice.prototypes[0, 1], torch.full((3,), 3.0))
    assert advice.shared.tolist() == [[1, 1]] and advice.speakers.tolist() == [[2, 3]]
    allowed = torch.tensor([[True, True, False, False]])
    advice = retrieve(keys[2:3], bank, top_k=1, allowed=allowed)
    assert advice.prototypes[0, 0, 0] < 1.01 and advice.shared.tolist() == [[1, 0]]
    assert not retrieve(keys[:1], bank, top_k=1, allowed=torch.zeros(1, 4, dtype=torch.bool)).shared.any()


def test_retrieval_key_ignores_the_hole():
    features, probabilities = torch.rand(1, 5, 4, 4), torch.rand(1, 3, 4, 4).softmax(1)
    known = torch.ones(1, 1, 4, 4)
    known[..., :2] = 0
    changed = torch.where(known > 0, features, torch.rand_like(features))
    a, b = retrieval_keys(features, probabilities, known), retrieval_keys(changed, probabilities, known)
    assert torch.equal(a, b)
    torch.testing.assert_close(a.norm(dim=1), torch.ones(1))


def test_consistency_is_a_clamped_cosine_and_neutral_without_exemplar():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).t().view(1, 2, 1, 2)
    prototypes = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]])
    maps = consistency_maps(features, prototypes, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(maps[0, :, 0], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))


def test_attention_reads_known_cells_only():
    attention = SameClassAttention(16, heads=2, key_channels=16).eval()
    torch.nn.init.normal_(attention.out.weight)
    x, probabilities = torch.rand(1, 16, 4, 4), torch.rand(1, 3, 4, 4).softmax(1)
    hole = torch.zeros(1, 1, 4, 4)
    hole[..., 2:, 2:] = 1
    # With the norm out of the way, what a hole cell holds cannot be seen by any other cell.
    attention.norm = torch.nn.Identity()
    other = torch.where(hole > 0, torch.rand_like(x), x)
    a, b = attention(x, probabilities, hole), attention(other, probabilities, hole)
    known = (hole == 0).expand_as(x)
    torch.testing.assert_close(a[known], b[known])
    everything = torch.ones_like(hole)
    assert torch.isfinite(attention(x, probabilities, everything)).all()


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
