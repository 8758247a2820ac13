"""Building blocks shared by the networks: plain and semantically guided residual blocks, same-class attention.

Everything is a dense convolution on a few channels: on a CPU those run several times nearer to peak than depthwise or
Fourier layers. GroupNorm, never BatchNorm: batches are tiny and weight averages copy no buffers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """A residual branch that starts at zero starts as the identity: deep stacks then train at high rates at once."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """Nearest upsampling to the reference's height and width (odd sizes included)."""
    return F.interpolate(x, size=reference.shape[-2:], mode="nearest")


def downsample_mask(mask: Tensor, stride: int) -> Tensor:
    """(B,1,H,W) -> (B,1,H/stride,W/stride); a cell is hole (1) as soon as one of its pixels is."""
    return F.max_pool2d(mask, stride)


def downsample_labels(pixels: Tensor) -> Tensor:
    """(...,H,W) -> (...,H/4,W/4), the centres of cells of 4x4 pixels."""
    return pixels[..., 2::4, 2::4]


def upsample_labels(cells: Tensor) -> Tensor:
    """(B,h,w), one value for each cell of 4x4 pixels -> (B,4h,4w)."""
    return cells.repeat_interleave(4, 1).repeat_interleave(4, 2)


def cat_channels(*tensors: Tensor) -> Tensor:
    """torch.cat of (B,·,h,w) along the channels, channels_last. That itself falls back to the other layout as soon as a
    tensor of one channel, which fits both, is among them, and the convolution behind it copies everything back."""
    return torch.cat([t.movedim(1, -1) for t in tensors], dim=-1).movedim(-1, 1)


def unshuffle(image: Tensor, mask: Tensor) -> Tensor:
    """What a network sees of a picture, without loss at half its size: (B,3,H,W), (B,1,H,W) -> (B,16,H/2,W/2)."""
    return cat_channels(F.pixel_unshuffle(image, 2), F.pixel_unshuffle(mask, 2))


def shuffle(x: Tensor) -> Tensor:
    """The picture in (B,12,H/2,W/2) -> (B,3,H,W), contiguous: three channels are slow to compose otherwise."""
    pixels = x.movedim(1, -1).unflatten(-1, (3, 2, 2))  # (B, H/2, W/2, 3, 2, 2), a view where x is channels_last
    return pixels.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


# Rows and columns of the picture, at multiples of 4.
Window = tuple[slice, slice]


def hole_window(mask: Tensor) -> Window:
    """The smallest window around the holes of a batch in which details are painted as they are in the whole picture.

    mask (B,1,H,W), H and W multiples of 4. Without any hole, the whole picture. Asks for the mask's own values, so an
    accelerator is waited for: once, before the rounds.
    """
    height, width = mask.shape[-2:]
    rows, columns = ((mask > 0).amax(axes).nonzero()[:, 0].tolist() for axes in ((0, 1, 3), (0, 1, 2)))
    if not rows:
        return whole(mask)

    def around(inside: list[int], side: int) -> slice:
        return slice(max(0, inside[0] // 4 * 4 - Details.REACH), min(side, inside[-1] // 4 * 4 + 4 + Details.REACH))

    return around(rows, height), around(columns, width)


def whole(image: Tensor) -> Window:
    height, width = image.shape[-2:]
    return slice(0, height), slice(0, width)


def crop(x: Tensor, window: Window, stride: int) -> Tensor:
    """A window of the picture in its features (B,·,H/stride,W/stride); stride 1, 2 or 4."""
    rows, columns = (slice(side.start // stride, side.stop // stride) for side in window)
    return x[..., rows, columns]


class PlainBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), without norms: what lies in a window does not depend on what lies outside."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = zero_init(conv3x3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Details(nn.Module):
    """The last layers of both inpainters: features at half and quarter resolution -> what to add to the picture.

    Sub-pixel upsampling (Shi et al., CVPR 2016) and residual blocks at half resolution: with nearest upsampling and a
    single convolution, fills show the squares of 4x4 pixels that they are made of.

    Args:
        quarter_channels, channels: widths at a quarter and at half of the picture's size.
    """

    BLOCKS = 2
    REACH = 2 * (2 * BLOCKS + 2)  # pixels, as far as its convolutions look

    def __init__(self, quarter_channels: int, channels: int):
        super().__init__()
        self.up = nn.Conv2d(quarter_channels, 4 * channels, 1)
        self.fuse = conv3x3(channels, channels)
        self.blocks = nn.Sequential(*(PlainBlock(channels) for _ in range(self.BLOCKS)))
        self.to_rgb = zero_init(conv3x3(channels, 12))

    def forward(self, half: Tensor, quarter: Tensor) -> Tensor:
        """half (B,c2,H/2,W/2), quarter (B,c4,H/4,W/4) -> (B,3,H,W)."""
        up = F.pixel_shuffle(self.up(F.silu(quarter)), 2).contiguous(memory_format=torch.channels_last)
        h = self.blocks(self.fuse(F.silu(half + up)))
        return shuffle(self.to_rgb(F.silu(h)))


def decode_residual(image: Tensor, details: Details, half: Tensor, quarter: Tensor, window: Window | None) -> Tensor:
    """A picture with its details.

    image (B,3,H,W); half (B,c2,H/2,W/2), with a window only that part of it; quarter (B,c4,H/4,W/4). What lies outside
    the window stays as it is.
    """
    if window is not None:
        quarter = crop(quarter, window, 4)
    detail = details(half, quarter)
    if window is None:
        return image + detail
    image = image.clone()
    crop(image, window, 1).add_(detail)
    return image


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(B,H,W) int64, 255 = ignore -> (B,C,H,W) float in {0,1}; all zero where ignored."""
    return (labels[..., None] == torch.arange(num_classes, device=labels.device)).movedim(-1, 1).float()


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int, dilation: int = 1):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = conv3x3(channels, channels, dilation=dilation)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = zero_init(conv3x3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class GuidedBlock(nn.Module):
    """A residual block whose first norm is modulated by the guidance: norm(x) * (1 + gamma(g)) + beta(g).

    SPADE (Park et al., CVPR 2019, eq. 1) with 1x1 convolutions for gamma and beta: the guidance is already smooth, and
    it is kept SOFT, so that the image loss reaches the segmentation networks through it.
    """

    def __init__(self, channels: int, guide_channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, affine=False)
        self.modulation = nn.Conv2d(guide_channels, 2 * channels, 1)
        self.conv1 = conv3x3(channels, channels)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = zero_init(conv3x3(channels, channels))

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        gamma, beta = self.modulation(guide).chunk(2, dim=1)
        h = self.conv1(F.silu(torch.addcmul(beta, self.norm1(x), 1 + gamma)))
        return x + self.conv2(F.silu(self.norm2(h)))


class SameClassAttention(nn.Module):
    """Every cell of the hole looks at the KNOWN cells, those of its own class first, and takes detail from them.

    The logits carry affinity * sum_c sqrt(p_query(c) p_key(c)), the overlap of the cells' classes under the soft map
    (Bhattacharyya coefficient): a right label is thereby worth a right texture. An inner product, like the logits
    themselves, so it travels in extra channels of queries and keys, and no matrix of all pairs is ever made.
    """

    def __init__(self, channels: int, heads: int, key_channels: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.query_key = nn.Conv2d(channels, 2 * key_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))
        self.affinity = nn.Parameter(torch.full((heads,), 7.0))

    def forward(self, x: Tensor, probabilities: Tensor, hole: Tensor, window: Window | None = None) -> Tensor:
        """x (B,D,h,w), probabilities (B,C,h,w), hole (B,1,h,w) in {0,1} -> (B,D,h,w).

        window: of the picture, 8 times as large, that holds all the hole; None = look for it everywhere.
        """

        def asking(t: Tensor) -> Tensor:  # the cells in the window
            if window is None:
                return t
            rows, columns = (slice(side.start // 8, -(-side.stop // 8)) for side in window)
            return t[..., rows, columns]

        def tokens(t: Tensor) -> Tensor:  # (B, n*d, h, w) -> (B, n, hw, d)
            return t.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)

        def shared(t: Tensor) -> Tensor:  # (B, d, h, w) -> (B, n, hw, d)
            return t.flatten(2).transpose(1, 2)[:, None].expand(-1, self.heads, -1, -1)

        h = self.norm(x)
        query, key = self.query_key(h).chunk(2, dim=1)
        query, key, value = tokens(asking(query)), tokens(key), tokens(self.value(h))
        scale = query.shape[-1] ** -0.5
        root = (probabilities + 1e-6).sqrt()
        own_root = self.affinity.view(1, -1, 1, 1) * shared(asking(root))
        # A large finite penalty, not -inf: where nothing at all is known the softmax falls back to all cells.
        query = torch.cat([scale * query, own_root, torch.ones_like(own_root[..., :1])], dim=-1)
        key = torch.cat([key, shared(root), shared(-1e4 * hole)], dim=-1)
        # The fast kernels want queries, keys and values of one length.
        length = max(query.shape[-1], value.shape[-1])
        query, key, padded = (
            t if t.shape[-1] == length else F.pad(t, (0, length - t.shape[-1])) for t in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(query, key, padded, scale=1.0)[..., : value.shape[-1]]
        places = asking(hole)
        attended = attended.transpose(2, 3).reshape(x.shape[0], -1, *places.shape[-2:])
        found = places * self.out(attended)
        if window is None:
            return x + found
        x = x.clone()
        asking(x).add_(found)
        return x
