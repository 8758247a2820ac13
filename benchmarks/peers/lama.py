"""LaMa-Fourier: Suvorov et al., "Resolution-robust Large Mask Inpainting with Fourier Convolutions", WACV 2022.

27 million parameters (their table 1). Fast Fourier convolutions: Chi et al., NeurIPS 2020.
"""

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from .generator import Generator

GLOBAL_SHARE = 0.75  # of the channels: they see the whole picture through its spectrum


class FourierUnit(nn.Module):
    """A 1x1 convolution of the spectrum, real and imaginary parts as channels: (B,D,h,w) -> (B,D,h,w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x.float(), norm="ortho")  # there is no transform of bfloat16
        h = F.relu(self.norm(self.conv(torch.cat([spectrum.real, spectrum.imag], dim=1))))
        real, imaginary = h.float().chunk(2, dim=1)
        return torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho").to(x.dtype)


class SpectralTransform(nn.Module):
    """Global channels to global channels, at half the width; their figure 2."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
        self.unit = FourierUnit(half)
        self.expand = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.reduce(x)
        return self.expand(h + self.unit(h))


def reflected(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=False)


class FastFourierConvolution(nn.Module):
    """Local and global channels, each from both; their figure 2. With norms and activations."""

    def __init__(self, local: int, global_: int):
        super().__init__()
        self.local_to_local, self.local_to_global = reflected(local, local), reflected(local, global_)
        self.global_to_local, self.global_to_global = reflected(global_, local), SpectralTransform(global_)
        self.norm_local, self.norm_global = nn.BatchNorm2d(local), nn.BatchNorm2d(global_)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        local = self.local_to_local(x) + self.global_to_local(y)
        global_ = self.local_to_global(x) + self.global_to_global(y)
        return F.relu(self.norm_local(local)), F.relu(self.norm_global(global_))


class FourierBlock(nn.Module):
    def __init__(self, local: int, global_: int):
        super().__init__()
        self.conv1, self.conv2 = FastFourierConvolution(local, global_), FastFourierConvolution(local, global_)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        local, global_ = self.conv2(*self.conv1(x, y))
        return x + local, y + global_


def strided(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, 2, 1, padding_mode="reflect", bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def upsampled(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class LamaFourier(Generator):
    """Three strided convolutions, `num_blocks` residual blocks of Fourier convolutions at an eighth, three steps up."""

    @register_to_config
    def __init__(self, channels: int = 64, num_blocks: int = 9):
        super().__init__()
        c, deepest = channels, 8 * channels
        self.global_channels = int(GLOBAL_SHARE * deepest)
        self.encode = nn.Sequential(
            nn.Conv2d(4, c, 7, padding=3, padding_mode="reflect", bias=False), nn.BatchNorm2d(c), nn.ReLU(),
            strided(c, 2 * c), strided(2 * c, 4 * c), strided(4 * c, deepest),
        )  # fmt: skip
        local = deepest - self.global_channels
        self.blocks = nn.ModuleList(FourierBlock(local, self.global_channels) for _ in range(num_blocks))
        self.decode = nn.Sequential(
            upsampled(deepest, 4 * c), upsampled(4 * c, 2 * c), upsampled(2 * c, c),
            nn.Conv2d(c, 3, 7, padding=3, padding_mode="reflect"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        h = self.encode(x)  # (B, 8c, H/8, W/8)
        local, global_ = h.split((h.shape[1] - self.global_channels, self.global_channels), dim=1)
        for block in self.blocks:
            local, global_ = block(local, global_)
        return self.decode(torch.cat([local, global_], dim=1)).tanh()  # theirs, a sigmoid, is of pictures in [0,1]
