"""The peers by name: made anew, or loaded as they were saved."""

from pathlib import Path

from fbinpaint.errors import InputError
from fbinpaint.models import Segmenter
from fbinpaint.system.files import read_json

from .aot_gan import AotGan
from .deepfill import DeepFill
from .generator import Generator
from .lama import LamaFourier
from .one_way_spade import OneWaySpade

PEERS: dict[str, type[Generator]] = {
    "lama-fourier": LamaFourier,
    "aot-gan": AotGan,
    "deepfill-v2": DeepFill,
    "one-way-spade": OneWaySpade,
}


def make_peer(name: str, segmenter: Segmenter) -> Generator:
    """With random weights, but for the segmenter of the one-way pipeline: a frozen copy of `segmenter`."""
    if name != "one-way-spade":
        return PEERS[name]()
    config = segmenter.config
    peer = OneWaySpade(config.num_classes, config.encoder_name, config.channels)
    peer.segmenter.load_state_dict(segmenter.state_dict())
    return peer


def load_peer(folder: Path) -> Generator:
    """Raises InputError for a folder that holds no peer, and as `SafeLoading.from_pretrained`."""
    path = folder / "config.json"
    found = read_json(path, missing="name a folder that `python -m benchmarks.peers train` saved").get("_class_name")
    classes = {peer.__name__: peer for peer in PEERS.values()}
    if found not in classes:
        raise InputError(f"{path}: is of none of these: {', '.join(classes)}; name a folder that peers' `train` saved")
    return classes[found].from_pretrained(folder)
