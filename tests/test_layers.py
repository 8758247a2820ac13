"""The building blocks, on numbers one can check by hand."""

import torch
from torch.nn import functional as F

from fbinpaint.models.layers import GuidedBlock, ResBlock, downsample_labels, downsample_mask, one_hot, upsample_labels


def test_a_cells_label_is_that_of_its_centre():
    labels = torch.arange(64).view(8, 8)
    assert downsample_labels(labels).tolist() == [[18, 22], [50, 54]]
    batch = torch.stack([labels, 63 - labels])[:, None]
    assert downsample_labels(batch).tolist() == [[[[18, 22], [50, 54]]], [[[45, 41], [13, 9]]]]
    # What is laid out in pixels and read in cells again is what it was.
    cells = torch.arange(12).view(2, 2, 3)
    assert upsample_labels(cells).shape == (2, 8, 12) and torch.equal(downsample_labels(upsample_labels(cells)), cells)


def test_a_cell_is_a_hole_as_soon_as_a_pixel_is():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, 0, 7] = mask[1, :, 4:, :4] = 1
    assert downsample_mask(mask, 4)[:, 0].tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]


def test_unknown_labels_are_of_no_class():
    assert one_hot(torch.tensor([[[1, 255]]]), 3)[0].tolist() == [[[0, 0]], [[1, 0]], [[0, 0]]]


@torch.no_grad()
def test_guidance_scales_and_shifts_what_is_normed():
    """norm(x) * (1 + gamma) + beta; of a fresh block, whose second convolution is silent, x itself is left."""
    generator = torch.Generator().manual_seed(0)
    block, x, guide = GuidedBlock(8, 4), torch.randn(2, 8, 6, 5), torch.randn(2, 4, 6, 5)
    assert torch.equal(block(x, guide), x)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    gamma, beta = block.modulation(guide).split(8, dim=1)
    normed = F.group_norm(x, 8)
    h = block.conv1(F.silu(normed * (1 + gamma) + beta))
    expected = x + block.conv2(F.silu(block.norm2(h)))
    torch.testing.assert_close(block(x, guide), expected)


@torch.no_grad()
def test_a_dilated_block_looks_twice_as_far():
    """Two convolutions of three cells; the norms out of the way, which look at everything."""
    for dilation in (1, 2):
        block = ResBlock(8, dilation)
        block.norm1 = block.norm2 = torch.nn.Identity()
        torch.nn.init.normal_(block.conv2.weight)
        x = torch.rand(1, 8, 15, 15)
        other = x.clone()
        other[..., 7, 7] += 1
        changed = (block(x) != block(other)).any(1)[0].nonzero()
        assert (changed - 7).abs().max() == dilation + 1
