"""Publishing a saved pipeline on the Hub: its files and its card in one commit.

Whose card it is:
- README.md in the folder is somebody's work and is published as it is;
- otherwise one in the repository that does not bear `card.MARK` is somebody's work too, and is kept;
- otherwise a card is written (`fbinpaint.hub.card`), unless the one that is there says more, such as measured figures.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub import example_picture
from fbinpaint.hub.card import MARK, model_card, says_less
from fbinpaint.hub.example_picture import has_example
from fbinpaint.hub.origin import FILE
from fbinpaint.hub.saved import COMPONENTS, CONFIG, WEIGHTS, check_pipeline
from fbinpaint.system.files import read_json
from fbinpaint.version import __version__

if TYPE_CHECKING:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from huggingface_hub import CommitInfo, HfApi
    from huggingface_hub.hf_api import CommitOperation

logger = logging.getLogger(__name__)

HANDLER = Path(__file__).resolve().parent / "endpoint_handler.py"

# What belongs to a saved pipeline, of all variants, and may be published; whatever else lies in its folder stays there.
OF_PIPELINE = ("model_index.json", CONFIG, FILE, "README.md", "LICENSE*")
OF_NETWORK = ("config.json", f"{WEIGHTS}*.safetensors", f"{WEIGHTS}*.index*.json")


def model_files(folder: Path) -> list[Path]:
    """The files of a saved pipeline."""
    places = [(folder, OF_PIPELINE), *((folder / name, OF_NETWORK) for name in COMPONENTS)]
    return sorted({path for place, names in places for name in names for path in place.glob(name) if path.is_file()})


def files_of(folder: Path) -> list[Path]:
    """What is published of a saved pipeline. Raises InputError for a file that is a link, or lies behind one."""
    files = model_files(folder)
    for path in files:
        # It may lead anywhere on this machine, and what is there become public.
        if link := next((part for part in (path, path.parent) if part != folder and part.is_symlink()), None):
            raise InputError(f"{link}: is a link; put what it leads to in its place, as `cp -rL` does")
    return files


def made_files(folder: Path, pipe: "DiffusionPipeline", handler: bool = False) -> dict[str, bytes]:
    """What is published beside the files of a saved pipeline, by its path there.

    config.json: the Hub counts a repository's downloads by it, see `fbinpaint.hub.saved.fetch`
    example.png: what the model makes of an example, for its card
    handler: with what Inference Endpoints ask for: handler.py, and the requirements that it has
    """
    from importlib.metadata import version

    index = read_json(folder / "model_index.json")
    config = {"architectures": [index["_class_name"]], "library_name": "fbinpaint", "library_version": __version__}
    config |= {key: index[key] for key in ("label_space", "sample_size", "format_version")}
    made = {} if (folder / CONFIG).exists() else {CONFIG: (json.dumps(config, indent=2) + "\n").encode()}
    if has_example(index["label_space"]):
        made[example_picture.NAME] = example_picture.example_picture(pipe)
    if handler:
        made["handler.py"] = HANDLER.read_bytes()
        made["requirements.txt"] = f"fbinpaint=={__version__}\ndiffusers=={version('diffusers')}\n".encode()
    return made


def other_files(folder: Path) -> int:
    """How many files lie in the folder that `files_of` leaves there; hidden ones do not count."""
    names = (Path(place, name).relative_to(folder) for place, _, names in os.walk(folder) for name in names)
    return sum(not any(part.startswith(".") for part in name.parts) for name in names) - len(files_of(folder))


def publish(
    folder: Path,
    repo_id: str,
    pipe: "DiffusionPipeline",
    *,
    private: bool = False,
    reports: Iterable[Path] = (),
    variant: str | None = None,
    handler: bool = False,
    token: str | None = None,
    commit_message: str = "Upload fbinpaint pipeline",
) -> "CommitInfo":
    """Make what `folder` holds the newest revision of a Hub repository, which is created if it does not exist.

    The repository changes in one commit, at the very end: an upload that breaks off leaves the old revision as it was.
    Weights that the repository has and the folder has not are deleted in it, of all variants, or of `variant` alone.

    Args:
        repo_id: USER/NAME.
        pipe: the `FeedbackInpaintPipeline` that the folder holds: it fills the example of the card.
        private: create it private; refuse one that exists and others can see.
        reports: of `evaluate`, for the card.
        variant: publish the weights of this variant, beside those of others that are there already.
        handler: with handler.py, by which Inference Endpoints serve it.
        token: None = that of `hf auth login` or of HF_TOKEN.

    Raises:
        InputError: not a pipeline that loads, or the Hub did not take it.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
    from huggingface_hub.errors import HTTPError  # of the client that huggingface_hub uses

    check_pipeline(folder, variant)
    reports = list(reports)
    card = None if (folder / "README.md").exists() else model_card(folder, repo_id, reports)
    files: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    files |= made_files(folder, pipe, handler)
    operations: list[CommitOperation] = [CommitOperationAdd(name, content) for name, content in files.items()]
    api = HfApi(token=token)
    try:
        asked, repo_id = repo_id, api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if card and repo_id != asked:  # a name alone is that of a repository of one's own
            card = model_card(folder, repo_id, reports)
        info = api.model_info(repo_id)
        # An existing repository keeps its visibility, whatever was asked for.
        if private and not info.private:
            raise InputError(f"{repo_id}: exists and is public; make it private on the Hub or name another")
        there = {file.rfilename for file in info.siblings or ()}
        # A variant is an addition: what the card says of the other weights stays true.
        old = _readme(api, repo_id) if card and "README.md" in there and not variant else ""
        if card and MARK in old and says_less(card, ModelCard(old)):
            logger.warning(f"{repo_id}: its card is kept, as it states more than a new one would; give --report, or "
                           "licence and data in training.json, or remove it")  # fmt: skip
        elif card and ("README.md" not in there or MARK in old):
            operations.append(CommitOperationAdd("README.md", str(card).encode()))
        weights = f"*/{WEIGHTS}*.{variant}*" if variant else f"*/{WEIGHTS}*"
        operations += [CommitOperationDelete(name) for name in there - set(files) if fnmatch(name, weights)]
        return api.create_commit(repo_id, operations, commit_message=commit_message)
    except InputError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # no network, not logged in, no such user, ...
        raise InputError(
            f"{repo_id}: not published ({one_line(error)}); check the name, the connection and `hf auth login`"
        ) from error


def _readme(api: "HfApi", repo_id: str) -> str:
    with tempfile.TemporaryDirectory() as folder:  # not from the cache: it may be another's
        return Path(api.hf_hub_download(repo_id, "README.md", local_dir=folder)).read_text(encoding="utf-8")
