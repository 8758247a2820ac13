"""Saved models: what a folder must hold to be loaded or published, and fetching one from the Hub.

Everything here ends well or in one line; nothing needs torch, and weights are looked at, not read.
"""

import functools
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fbinpaint.errors import InputError, one_line
from fbinpaint.labels import LabelSpace, get_label_space, label_space_of
from fbinpaint.system.files import check_no_device, read_json

# What model_index.json names: component, class. A component's module is fbinpaint.models.<component>.
COMPONENTS = {
    "initial_inpainter": "InitialInpainter",
    "segmenter": "Segmenter",
    "recorrector": "Recorrector",
    "guided_inpainter": "GuidedInpainter",
}
SAMPLE_SIZES = (16, 4096)  # the least and the largest
PICKLE_SUFFIXES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")  # loading one can run any code
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")  # of snapshot_download
WEIGHTS = "diffusion_pytorch_model"  # the name diffusers gives them
CONFIG = "config.json"  # at the top of a repository, see `fbinpaint.hub.publish`
REACH, ANSWER = 2, 10  # seconds that the Hub has to be reached in, and to answer: huggingface_hub waits for ever

# Of saved pipelines, raised whenever what is saved changes its meaning; model_index.json holds it. Nothing converts an
# older one. Version 1: the sides of a face are those of CelebAMask-HQ's owners (`l_` is the person's left). Version 2:
# larger networks, and every pass paints over the first fill. Version 3: the recorrector weighs opinions, and exemplars
# are statistics and maps.
FORMAT_VERSION = 3
# The last commit that loads each; 0 = saved without a number.
LAST_COMMITS = {0: "82617c5", 1: "a4fb447", 2: "9046780"}


class WithoutPath:
    """A diffusers configuration that is saved without the path it was loaded from; to be named before ConfigMixin."""

    config: Any  # diffusers declares a dict, but the entries are attributes as well

    def to_json_string(self) -> str:
        config = json.loads(super().to_json_string())  # type: ignore[misc]  # it is ConfigMixin's
        config.pop("_name_or_path", None)
        return json.dumps(config, indent=2, sort_keys=True) + "\n"


def check_pipeline(folder: Path, variant: str | None = None) -> None:
    """Raises InputError unless `folder` is a whole saved fbinpaint pipeline that loads without running foreign code.

    variant: of the weights, such as "fp16"; components that have none of it need the usual ones.
    """
    path = folder / "model_index.json"
    index = read_json(path)
    if index.get("_class_name") != "FeedbackInpaintPipeline":
        raise InputError(f"{path}: is of {class_of(index)}; name the folder of a FeedbackInpaintPipeline")
    check_format_version(folder)
    label_space, sample_size = index.get("label_space"), index.get("sample_size")
    low, high = SAMPLE_SIZES
    if not isinstance(label_space, str) or not isinstance(sample_size, int) or not low <= sample_size <= high:
        raise InputError(f"{path}: names no label space or no sample size of {low}..{high}; save the pipeline again")
    if not isinstance(index.get("variant", ""), str):
        raise InputError(f"{path}: its variant is not a name; save the pipeline again")
    for name, class_name in COMPONENTS.items():
        if index.get(name) != [f"fbinpaint.models.{name}", class_name]:
            raise InputError(f"{path}: its {name} is not a {class_name} of fbinpaint; save the pipeline again")
    check_no_pickle(folder)
    of_variant = [name for name in COMPONENTS if weight_files(folder / name, variant)]
    if variant and not of_variant:
        raise InputError(f"{folder}: holds no {variant} weights; load it without variant=")
    for name, class_name in COMPONENTS.items():
        check_network(folder / name, class_name, variant if name in of_variant else None)
    read_label_space(folder)


def read_label_space(folder: Path) -> LabelSpace:
    """The label space of the pipeline saved in `folder`: that of its segmenter or, where that one knows none, as before
    label spaces could be the user's, the one that model_index.json names.

    Raises InputError where there is none, or the two are not the same.
    """
    path, config = folder / "model_index.json", folder / "segmenter" / "config.json"
    name, found = read_json(path).get("label_space"), check_label_space(read_json(config), config)
    if not isinstance(name, str):
        raise InputError(f"{path}: names no label space; save the pipeline again")
    if found is None:
        try:
            return get_label_space(name)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if found.name != name:
        raise InputError(f"{path}: is of {name}, but its segmenter of {found.name}; copy or save the pipeline again")
    return found


def check_label_space(config: dict, path: Path) -> LabelSpace | None:
    """The label space in the configuration of a segmenter, if any. Raises InputError where it is none, or has another
    number of classes than the network."""
    if config.get("label_space") is None:
        return None
    label_space = label_space_of(config["label_space"], f"{path}: label_space")
    if label_space.num_classes != config.get("num_classes"):
        raise InputError(
            f"{path}: label_space has {label_space.num_classes} classes, not num_classes; copy or save the model again"
        )
    return label_space


def check_format_version(folder: Path) -> None:
    """Raises InputError unless the pipeline saved in `folder` is of this version."""
    path = folder / "model_index.json"
    check_version(read_json(path).get("format_version", 0), path)


def check_version(version: Any, path: Path) -> None:
    """Raises InputError unless the format_version that was found in the file `path` is this one."""
    if type(version) is int and version in LAST_COMMITS:
        raise InputError(
            f"{path}: was saved by an earlier fbinpaint; commit {LAST_COMMITS[version]} is the last that loads it: use "
            "that one, or train again"
        )
    if type(version) is not int or version != FORMAT_VERSION:
        raise InputError(f"{path}: its format_version {version!r:.40} is not known; install a newer fbinpaint")


def check_network(folder: Path, class_name: str, variant: str | None = None) -> None:
    """Raises InputError unless `folder` holds the configuration and whole safetensors of a `class_name`."""
    path = folder / "config.json"
    config = read_json(path)
    if config.get("_class_name") != class_name:
        raise InputError(f"{path}: is of {class_of(config)}; name the folder of a {class_name}")
    encoder = config.get("encoder_name")
    if isinstance(encoder, str) and ":" in encoder:
        raise InputError(f"{path}: its encoder {encoder!r} lies elsewhere (on the Hub?); name one that timm has itself")
    check_no_pickle(folder)
    for code in folder.glob("*.py"):
        raise InputError(f"{code}: is code, which diffusers could take for the network's; remove it")
    for path in folder.glob(f"{WEIGHTS}*"):
        check_no_device(path, "copy or save the model again")
    for index in folder.glob(f"{WEIGHTS}*.index*.json"):
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(is_shard(name) for name in shards.values()):
            raise InputError(f"{index}: names other weights than those beside it; copy or save the model again")
    files = weight_files(folder, variant)
    if not files:
        kind = f"{variant} weights" if variant else "weights"
        raise InputError(f"{folder}: holds no {kind} (*.safetensors); save the model again")
    for file in files:
        check_safetensors(file)


def is_shard(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(rf"{WEIGHTS}[\w.-]*\.safetensors", name) is not None


def class_of(config: dict) -> str:
    """The class that a configuration names, as far as it can be said in a message."""
    name = config.get("_class_name")
    return name if isinstance(name, str) and name.isidentifier() else "nothing known"


def check_no_pickle(folder: Path) -> None:
    pickled = next((path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICKLE_SUFFIXES), None)
    if pickled:
        raise InputError(f"{pickled}: may hold pickled code, which is neither loaded nor published; remove it")


def check_safetensors(path: Path) -> None:
    """Raises InputError unless the file is as long as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        # safetensors says of a file that may not be read that it is not there.
        with open(path, "rb"), safe_open(path, framework="numpy"):
            pass
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allow it, or save the model again") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: is cut short or damaged ({one_line(error)}); copy or save it again") from error


def weight_names(variant: str | None = None) -> list[str]:
    """Patterns of the weights of one variant, whole or in shards."""
    stem = f"{WEIGHTS}.{variant}" if variant else WEIGHTS
    return [f"{stem}.safetensors", f"{stem}-*-of-*.safetensors"]


def index_name(variant: str | None = None) -> str:
    """Of the file that says in which shards the weights of one variant are."""
    return f"{WEIGHTS}.safetensors.index.{f'{variant}.json' if variant else 'json'}"


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    return sorted(path for name in weight_names(variant) for path in folder.glob(name))


def check_safe(safe_serialization: bool) -> None:
    """Raises InputError for what is never loaded again."""
    if not safe_serialization:
        raise InputError("safe_serialization=False: writes pickled weights, which are never loaded; leave it out")


def split_revision(name: str) -> tuple[str, str | None]:
    """USER/NAME and, where it is named as USER/NAME@REVISION, a branch, tag or commit."""
    repo_id, at, revision = name.partition("@")
    return repo_id, revision if at else None


def check_repo_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    repo_id, revision = split_revision(name)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"{name}: is neither a folder nor of the form USER/NAME; check the path") from error
    # The cache keeps revisions as files of their names.
    if revision is not None and (not re.fullmatch(r"\w[\w./-]*", revision) or ".." in revision):
        raise InputError(f"{name}: has no revision behind the @; name a branch, tag or commit")


def pinned(model: str) -> str:
    """A folder as it is; a Hub id as USER/NAME@COMMIT, the same one in all of this process: so that label space,
    origin and weights are of one commit, whatever happens to the branch meanwhile. Raises InputError as `fetch`."""
    return model if os.path.isdir(model) else _pinned(model)


@functools.cache
def _pinned(model: str) -> str:
    return f"{split_revision(model)[0]}@{fetch(model, ()).name}"


def fetch(name: str, subfolders: Iterable[str], variant: str | None = None, **options: Any) -> Path:
    """The folder in the cache where the networks of these subfolders ("" = the top) lie, downloaded if they were not.

    name: USER/NAME or USER/NAME@REVISION
    variant: a network that has weights of this variant comes with these alone, others with the usual ones.
    options: `HUB_OPTIONS`, as in huggingface_hub; None = its default.
    Raises InputError for what cannot be fetched.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, RevisionNotFoundError

    def download(subfolders: Iterable[str], names: list[str]) -> Path:
        patterns = [f"{folder}/{name}".lstrip("/") for folder in subfolders for name in names]
        # Small, and they say what it all is; by the first the Hub counts downloads.
        patterns += [CONFIG, "model_index.json", "segmenter/config.json", "training.json"]
        return Path(snapshot_download(repo_id, allow_patterns=patterns, **options))

    check_repo_id(name)
    repo_id, revision = split_revision(name)
    options = {key: value for key, value in options.items() if value is not None}
    if revision is not None and options.setdefault("revision", revision) != revision:
        raise InputError(f"{name}: and revision={options['revision']!r} name two revisions; leave one out")
    not_reached = None
    if not options.get("local_files_only"):
        try:
            HfApi().model_info(repo_id, token=options.get("token"), timeout=(REACH, ANSWER, ANSWER, ANSWER))  # type: ignore[arg-type]  # httpx takes it
        except (HTTPError, OSError) as error:
            if not hasattr(error, "response"):  # then what is in the cache must do
                not_reached, options["local_files_only"] = one_line(error), True
    try:
        folder = download(subfolders, ["config.json", f"{WEIGHTS}*.index*.json", *weight_names(variant)])
        if lacking := [name for name in subfolders if variant and not weight_files(folder / name, variant)]:
            options["revision"] = folder.name  # the very commit that lacks them
            folder = download(lacking, weight_names())
    except RevisionNotFoundError as error:
        raise InputError(f"{repo_id}: has no revision {options['revision']}; name a branch, tag or commit") from error
    except (HTTPError, OSError, ValueError) as error:  # HTTPError: of the client that huggingface_hub uses
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403, 404):
            raise InputError(
                f"{repo_id}: is neither a folder nor a repository that you can see on the Hub; check the name, or log "
                "in with `hf auth login` if it is private"
            ) from error
        raise InputError(
            f"{repo_id}: is not a folder and was not fetched from the Hub ({not_reached or one_line(error)}); check "
            "the name and the connection"
        ) from error
    return folder
