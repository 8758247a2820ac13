"""How every network is loaded: from safetensors only, complete, or not at all."""

import inspect
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError, safe_open

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub.saved import (
    HUB_OPTIONS,
    WithoutPath,
    check_format_version,
    check_network,
    check_safe,
    fetch,
    index_name,
    weight_files,
)
from fbinpaint.system.files import read_json

MAX_SETTING = 2**16  # widths, numbers of classes and of exemplars are far below

# diffusers 0.42 warns of this at each `.to(dtype)` of any model, even if there are no such modules.
logging.getLogger("diffusers.models.modeling_utils").addFilter(
    lambda record: "should be kept in float32: []" not in record.getMessage()
)


class SafeLoading(WithoutPath, ModelMixin):
    """`from_pretrained` of a diffusers model, made strict; to be named before `ModelMixin` among the base classes."""

    def save_pretrained(  # type: ignore[override]  # the others are among the options
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        save_function: Callable | None = None,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
        **options: Any,
    ) -> None:
        """As in diffusers, with weights that whoever may read the configuration may read: safetensors writes private
        files. An index of shards that were there is removed with them. Raises InputError for any other format, OSError
        for what cannot be written."""
        check_safe(safe_serialization)
        (Path(save_directory) / index_name(variant)).unlink(missing_ok=True)
        try:
            super().save_pretrained(
                save_directory, is_main_process, save_function, safe_serialization, variant, max_shard_size, **options
            )
        except SafetensorError as error:  # a disk that is full
            raise OSError(one_line(error)) from error
        for path in Path(save_directory).glob("*.safetensors"):
            shutil.copymode(Path(save_directory) / "config.json", path)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # its first argument has another name
        cls, name: str | Path, subfolder: str | None = None, variant: str | None = None, **options: Any
    ):
        """The network saved in a folder or a Hub repository, in evaluation mode.

        Args:
            name: the folder, or the repository's USER/NAME or USER/NAME@REVISION.
            subfolder: where the network lies in it, such as "segmenter" in a saved pipeline; None = at the top.
            variant: "fp16" for the weights saved under that name; `dtype=torch.float16` keeps them so.
            options: `dtype`, and for the Hub `revision`, `token`, `cache_dir`, `local_files_only`, as in diffusers.

        Raises:
            InputError: not there, not this network, incomplete, damaged, pickled, or with NaN or infinity among its
                weights.
        """
        folder, subfolder = Path(name), subfolder or ""
        if not os.path.isdir(folder):
            folder = fetch(str(name), [subfolder], variant, **{key: options.pop(key, None) for key in HUB_OPTIONS})
        folder = folder / subfolder
        if (folder / "model_index.json").is_file():
            raise InputError(f'{name}: is a whole pipeline; say which network of it, as by subfolder="segmenter"')
        pipeline = Path(os.path.abspath(folder)).parent
        if (pipeline / "model_index.json").is_file():  # it is one network of a saved pipeline
            check_format_version(pipeline)
        check_network(folder, cls.__name__, variant)
        cls.check_settings(folder / "config.json")
        options |= {"use_safetensors": True, "output_loading_info": True}
        try:
            loaded: Any = super().from_pretrained(str(folder), variant=variant, **options)
            network, info = loaded
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = one_line(error).split(". ")[0]  # diffusers goes on with advice of its own
            raise InputError(f"{folder}: does not load ({reason}); save the model again") from error
        # diffusers only warns of these, and leaves what is missing without values.
        for kind in ("missing_keys", "unexpected_keys"):
            if keys := info[kind]:
                raise InputError(
                    f"{folder}: its weights are not those its config.json describes ({len(keys)} "
                    f"{kind.replace('_', ' ')}, such as {sorted(keys)[0]}); save the model again"
                )
        for key, weights in network.state_dict().items():
            if weights.is_floating_point() and not weights.isfinite().all():
                files = weight_files(folder, variant)
                raise InputError(f"{file_of(key, files)}: {key} holds NaN or infinity; copy it again, or train again")
        return network

    @classmethod
    def check_settings(cls, path: Path) -> None:
        """Raises InputError unless every setting in the configuration is of the kind of its default."""
        config = read_json(path)
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if name in config and not fits(config[name], parameter.default):
                raise InputError(f"{path}: its {name} cannot be {config[name]!r:.40}; copy or save the model again")


def file_of(key: str, files: Sequence[Path]) -> Path:
    """The one of the safetensors files that holds the weights of this name."""
    for file in files:
        with safe_open(file, framework="pt") as opened:
            if key in opened.keys():
                return file
    return files[0]


def fits(value: Any, default: Any) -> bool:
    """Whether a setting read from JSON is of the kind of its default, and no number is absurd. What has no default of a
    kind, its network checks itself."""
    if default is None:
        return True
    if isinstance(default, tuple):
        return isinstance(value, list) and all(fits(item, default[0]) for item in value)
    if isinstance(default, int):
        return type(value) is type(default) and min(default, 1) <= value <= MAX_SETTING
    return isinstance(value, type(default))
