"""How a pipeline is loaded, saved, published: as in diffusers, but checked before, without pickle, with its origin."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from huggingface_hub import CommitInfo

from fbinpaint.hub.origin import read_origin, write_origin
from fbinpaint.hub.publish import publish
from fbinpaint.hub.saved import (
    COMPONENTS,
    HUB_OPTIONS,
    WithoutPath,
    check_pipeline,
    check_repo_id,
    check_safe,
    fetch,
    index_name,
    weight_names,
)
from fbinpaint.images.folders import naming
from fbinpaint.system.files import fill_folder

if TYPE_CHECKING:
    from typing_extensions import Self


class SavedPipeline(WithoutPath, DiffusionPipeline):
    """What `FeedbackInpaintPipeline` has of `DiffusionPipeline` around its folder."""

    _origin: dict | None = None

    @classmethod
    def from_pretrained(  # type: ignore[override]  # a name of its own
        cls, name: str | os.PathLike, **options: Any
    ) -> "Self":
        """The pipeline saved in a folder or a Hub repository.

        Args:
            name: the folder, or the repository's USER/NAME or USER/NAME@REVISION (a branch, tag or commit).
            options: as in diffusers: `variant` ("fp16": the weights saved under that name, where there are any; they
                still become float32 without `dtype=torch.float16`), `dtype`; for the Hub `revision`, `token`,
                `cache_dir`, `local_files_only`.

        Raises:
            InputError: not there, not this pipeline, incomplete, damaged, or pickled.
        """
        name = os.fspath(name)
        folder = name
        if os.path.isdir(name):
            check_pipeline(Path(name), options.get("variant"))
        else:
            check_repo_id(name)
        with naming(name):
            if not os.path.isdir(name):
                folder = cls.download(name, **options)
            options = {key: value for key, value in options.items() if key not in HUB_OPTIONS}
            pipe = super().from_pretrained(folder, **options)
            pipe._origin = read_origin(Path(folder))
        return pipe

    @property
    def origin(self) -> dict:
        """What is on file about where the model comes from, see `fbinpaint.hub.origin`; saved with the pipeline."""
        if self._origin is None:  # not loaded, or by `DiffusionPipeline.from_pretrained`
            folder = self.config.get("_name_or_path")
            self._origin = read_origin(Path(folder)) if folder else {}
        return self._origin

    def save_pretrained(  # type: ignore[override]  # no option of sharing
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """As in diffusers, with the model's origin, and whole or not at all: a pipeline that the folder holds stays as
        it is until all of this one is written. `push_to_hub=True` publishes the folder as `push_to_hub` does; options:
        `repo_id` (default: the folder's name), `private`, `token`, `commit_message`. Raises InputError for a folder
        that cannot be written."""
        check_safe(safe_serialization)
        folder, save = Path(save_directory), super().save_pretrained

        def write(partial: Path) -> None:
            save(str(partial), safe_serialization, variant, max_shard_size)
            if self.origin:
                write_origin(partial, self.origin)

        weights = [*weight_names(variant), index_name(variant)]
        fill_folder(folder, write, [f"{network}/{name}" for network in COMPONENTS for name in weights])
        if push_to_hub:
            publish(folder, options.pop("repo_id", folder.name), self, variant=variant, **options)

    def to(self, *args: Any, **options: Any) -> "Self":
        # diffusers warns of float16 on CPUs, where these networks run as well.
        return super().to(*args, **{"silence_dtype_warnings": True} | options)

    @classmethod
    def download(  # type: ignore[override]  # a name of its own
        cls, name: str, variant: str | None = None, **options: Any) -> str:
        """Fetch a pipeline from the Hub; the folder it lies in afterwards. Raises InputError as `from_pretrained`.

        The base class looks for a Python file beside each component that is not its own; ours are installed.
        """
        folder = fetch(name, COMPONENTS, variant, **{key: options.get(key) for key in HUB_OPTIONS})
        check_pipeline(folder, variant)
        return str(folder)

    def push_to_hub(  # type: ignore[override]  # without options that make no sense here
        self,
        repo_id: str,
        private: bool = False,
        token: str | None = None,
        variant: str | None = None,
        commit_message: str = "Upload fbinpaint pipeline",
    ) -> CommitInfo:
        """Publish the pipeline as USER/NAME in one commit, with a card; see `fbinpaint.hub.publish.publish`."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant)
            return publish(
                Path(folder), repo_id, self, private=private, token=token, variant=variant,
                commit_message=commit_message,
            )  # fmt: skip
