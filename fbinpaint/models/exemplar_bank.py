"""Labelled exemplars: what other photos say each class looks like, and which of them to ask.

The bank of a released model is a handful of prototypes per exemplar (no pixels), saved inside the recorrector's
safetensors; in training the labelled photos of the batch are the bank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .layers import one_hot


@dataclass
class Exemplars:
    """N labelled photos: prototypes (N,C,D), present (N,C) in {0,1}, retrieval keys (N,K)."""

    prototypes: Tensor
    present: Tensor
    keys: Tensor

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class Advice:
    """What the retrieved exemplars say."""

    prototypes: Tensor  # (B,C,D)
    shared: Tensor  # (B,C) in {0,1}, the classes that some exemplar shows
    speakers: Tensor  # (B,C) int64, the exemplar with the largest share in a class's prototype, if shared


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def class_prototypes(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """v_c = sum_x F(x) 1[y(x)=c] / (sum_x 1[y(x)=c] + eps)   (CISC-R, Wu et al., TPAMI 2023).

    features (N,D,h,w), labels (N,h,w) int64 with 255 = ignore -> prototypes (N,C,D) and present (N,C) in {0,1}.
    """
    belongs = one_hot(labels, num_classes).to(features.dtype).flatten(2)  # (N, C, hw)
    count = belongs.sum(2)  # (N, C)
    total = torch.einsum("ncp,ndp->ncd", belongs, features.flatten(2))
    return total / (count[..., None] + 1e-6), (count > 0).to(features.dtype)


def retrieval_keys(features: Tensor, probabilities: Tensor, known: Tensor) -> Tensor:
    """What a photo is retrieved by: its pooled features and its class histogram, over the known cells only.

    features (B,D,h,w), probabilities (B,C,h,w), known (B,1,h,w) in {0,1} -> (B,D+C), unit length; a dot product of two
    keys is half their cosine plus half the Bhattacharyya overlap of their histograms. float32 at least: half precision
    would overflow in the sums.
    """
    features, probabilities, known = map(at_least_float32, (features, probabilities, known))
    area = known.sum((2, 3)) + 1e-6
    pooled = F.normalize((features * known).sum((2, 3)) / area, dim=1)
    histogram = F.normalize(((probabilities * known).sum((2, 3)) / area + 1e-6).sqrt(), dim=1)
    return torch.cat([pooled, histogram], dim=1) / 2**0.5


def retrieve(keys: Tensor, exemplars: Exemplars, top_k: int, allowed: Tensor | None = None) -> Advice:
    """The prototypes that the nearest exemplars agree on.

    keys (B,K); allowed (B,N) bool, None = all (training excludes a photo from its own exemplars). A class that none of
    the `top_k` nearest shows is taken from all allowed exemplars; one that no exemplar shows is not shared: its
    prototype is zero.
    """
    scores = keys @ exemplars.keys.to(keys.dtype).T  # (B, N)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -1.0)
    best = scores.topk(min(top_k, len(exemplars)), dim=1)
    # Temperature 0.05: among near-duplicates the votes are even, a photo of another kind has almost none.
    votes = torch.softmax(best.values / 0.05, dim=1) * (best.values >= 0)
    near = torch.zeros_like(scores).scatter(1, best.indices, votes)  # (B, N)
    far = 1e-4 * (scores >= 0) / len(exemplars)  # everyone has a voice, heard only where the near ones are silent
    weight = (near + far)[:, :, None] * exemplars.present  # (B, N, C)
    total = weight.sum(1)  # (B, C)
    prototypes = torch.einsum("bnc,ncd->bcd", weight, exemplars.prototypes.to(weight.dtype))
    prototypes = (prototypes / (total[..., None] + 1e-12)).to(exemplars.prototypes.dtype)
    return Advice(prototypes, (total > 0).to(prototypes.dtype), weight.argmax(1))


def consistency_maps(features: Tensor, prototypes: Tensor, shared: Tensor) -> Tensor:
    """S_c(x) = clamp(cos(F_u(x), v_c), 0, 1)   (CISC-R), for all shared classes at once.

    features (B,D,h,w) non-negative, prototypes (B,C,D), shared (B,C) -> (B,C,h,w) in [0,1]. A class nobody shows can be
    neither supported nor refuted: it gets the mean of the shared ones (0 when there are none).
    """
    unit = F.normalize(at_least_float32(features), dim=1)
    towards = F.normalize(at_least_float32(prototypes), dim=2)
    cosine = torch.einsum("bdhw,bcd->bhwc", unit, towards).movedim(-1, 1)
    cosine = cosine.clamp(0, 1).to(features.dtype)
    shared = shared[:, :, None, None]
    neutral = (cosine * shared).sum(1, keepdim=True) / shared.sum(1, keepdim=True).clamp_min(1)
    return torch.where(shared > 0, cosine, neutral)
