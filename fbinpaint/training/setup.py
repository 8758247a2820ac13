"""What a run starts from: its photos and its networks, as the options say."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from fbinpaint.data.hf_datasets import HubOptions
from fbinpaint.data.label_map import read_label_map
from fbinpaint.data.photos import PhotoCrops
from fbinpaint.data.rows import evenly_spaced, has_label
from fbinpaint.data.sources import check_label_map, load_photos, stream_photos
from fbinpaint.data.streams import StreamedCrops, set_aside
from fbinpaint.errors import InputError
from fbinpaint.hub.saved import COMPONENTS, pinned
from fbinpaint.labels import LabelSpace
from fbinpaint.loop import Networks
from fbinpaint.models import GuidedInpainter, InitialInpainter, Recorrector, Segmenter
from fbinpaint.pipeline import FeedbackInpaintPipeline

from .validation import Validator


def build_data(
    args: argparse.Namespace,
    label_space: LabelSpace,
    skip: Callable[[str, str], None] | None,
    process: int = 0,
    processes: int = 1,
) -> tuple[PhotoCrops | StreamedCrops, Validator]:
    """The training crops, at the largest `--resolution`, and the photos that are held out of them, of which each
    process validates its share."""
    label_map = None
    if args.label_map is not None:
        check_label_map(args.train_data_dir, args.dataset_name)
        label_map = read_label_map(args.label_map, label_space)
    options = HubOptions(args.image_column, args.label_column, args.dataset_config_name, args.split, args.revision)

    def make_crops(photos: Dataset) -> PhotoCrops:
        return PhotoCrops(
            photos,
            label_space,
            max(args.resolution),
            args.max_zoom,
            args.labelled_zoom,
            args.label_fraction,
            skip_bad=args.skip_bad_images,
            label_map=label_map,
        )

    if args.streaming:
        streams = stream_photos(args.train_data_dir, args.dataset_name, args.seed, options)
        validation, known = set_aside(streams, args.num_validation_images, args.num_exemplars)
        crops = StreamedCrops(streams, make_crops(known), args.seed, held_out=validation["name"])
    else:
        photos = load_photos(args.train_data_dir, args.dataset_name, options)
        if len(photos) <= args.num_validation_images:
            raise InputError(f"{len(photos)} photos, and all of them held out; lower --num_validation_images")
        held_out = evenly_spaced(len(photos), args.num_validation_images)
        crops = make_crops(photos.select(np.setdiff1d(np.arange(len(photos)), held_out)))
        validation = photos.select(held_out)
    if not len(crops.labelled_photos()):
        sources = " ".join(args.train_data_dir + args.dataset_name)
        if held_out := int(has_label(validation).sum()):
            raise InputError(
                f"{sources}: no labelled photo is left to train on (held out: {held_out}); lower "
                "--num_validation_images"
            )
        raise InputError(f"{sources}: no labelled photo; one folder at least needs labels/ (or what its layout has)")
    return crops, Validator(
        validation, label_space, max(args.resolution), 2, skip, label_map, process=process, processes=processes
    )


def build_networks(args: argparse.Namespace, label_space: LabelSpace, tell: Callable[[str], None] = print) -> Networks:
    """Those of `--pretrained_model`, else fresh ones around an ImageNet encoder; ready to learn.

    tell: takes the lines that say what of a model of other classes starts anew, and which option has no use. Raises
    InputError where what starts anew is frozen.
    """
    if args.pretrained_model:
        if args.encoder_weights:
            tell(f"--encoder_weights {args.encoder_weights}: not used, the encoder is that of {args.pretrained_model}")
        pipeline = FeedbackInpaintPipeline.from_pretrained(pinned(args.pretrained_model))
        networks = pipeline.networks
        if pipeline.label_space.classes != label_space.classes:
            networks, anew = with_other_classes(networks, label_space.num_classes)
            if frozen := sorted({key.split(".")[0] for key in anew} & set(args.frozen)):
                raise InputError(
                    f"--frozen {' '.join(frozen)}: what depends on the classes starts anew, as {args.pretrained_model} "
                    f"is of {pipeline.label_space.name}; let these networks train"
                )
            tell(f"{args.pretrained_model} is of {pipeline.label_space.name}; these start anew: {', '.join(anew)}")
        networks.requires_grad_(True)
        networks.variant = args.variant
        networks.segmenter.register_to_config(label_space=label_space.to_config())
    else:
        segmenter = Segmenter(num_classes=label_space.num_classes, label_space=label_space.to_config())
        segmenter.load_encoder(args.encoder_weights)
        networks = Networks(
            initial_inpainter=InitialInpainter(),
            segmenter=segmenter,
            recorrector=Recorrector(num_classes=label_space.num_classes),
            guided_inpainter=GuidedInpainter(num_classes=label_space.num_classes),
            variant=args.variant,
        )
    for name in args.frozen:
        getattr(networks, name).requires_grad_(False)
    return networks.train().to(memory_format=torch.channels_last)


def with_other_classes(networks: Networks, num_classes: int) -> tuple[Networks, list[str]]:
    """The same networks for other classes, and the names of the weights that start anew: those of the layers whose
    shape depends on how many classes there are."""
    parts: dict[str, Any] = {}
    anew: list[str] = []
    for name in COMPONENTS:
        network = getattr(networks, name)
        if "num_classes" in network.config:
            config = {key: value for key, value in network.config.items() if key != "label_space"}
            # Of one class more as well: a shape that is the same then does not depend on the classes.
            network_, other = (type(network)(**config | {"num_classes": n}) for n in (num_classes, num_classes + 1))
            shapes = {key: value.shape for key, value in other.state_dict().items()}
            kept = {
                key: network.state_dict()[key]
                for key, value in network_.state_dict().items()
                if value.shape == shapes[key] and not key.startswith("bank_")
            }
            network_.load_state_dict(kept, strict=False)
            anew += [f"{name}.{key}" for key in shapes if key not in kept and not key.startswith("bank_")]
            network = network_
        parts[name] = network
    return Networks(**parts), sorted(anew)
