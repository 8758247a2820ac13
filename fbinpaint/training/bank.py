"""The exemplar bank of a trained model: prototypes of its labelled photos, as its own segmenter sees them."""

from collections.abc import Callable

import torch
from datasets import Dataset

from ..data.photos import read_photo
from ..data.rows import evenly_spaced, read_first, rows_from
from ..images import pad_to_multiple, to_tensor
from ..labels import LabelSpace
from ..loop import Networks
from ..models.exemplar_bank import Exemplars
from ..models.layers import in_cells


@torch.no_grad()
def build_bank(
    networks: Networks,
    photos: Dataset,
    label_space: LabelSpace,
    resolution: int,
    size: int,
    skip: Callable[[str, str], None] | None = None,
) -> Exemplars:
    """Prototypes of at most `size` photos, evenly spaced over `photos` (all with a label), shorter side `resolution`.

    One whose label knows no pixel is left out, unless there is no other.

    skip: as in `read_first`; the next photo stands in for a bad one.
    """
    device = networks.segmenter.device
    banks = []
    for index in evenly_spaced(len(photos), size):
        photo, semantic_map = read_first(
            rows_from(photos, index), lambda row: read_photo(row, resolution, label_space), skip
        )
        image = pad_to_multiple(to_tensor(photo), 16).to(device)
        labels = torch.from_numpy(semantic_map)[None, None].float()
        labels = in_cells(pad_to_multiple(labels, 16).long()[:, 0]).to(device)
        features = networks.segmenter(image, torch.zeros_like(image[:, :1])).features
        banks.append(networks.recorrector.make_exemplars(features, labels))
    banks = [bank for bank in banks if bank.present.any()] or banks[:1]
    return Exemplars(*(torch.cat([getattr(b, name) for b in banks]) for name in ("prototypes", "present", "keys")))
