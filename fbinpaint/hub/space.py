"""The demo on Hugging Face Spaces: what a Space is made of, uploaded by the Hub's API."""

import json
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fbinpaint.errors import InputError, one_line
from fbinpaint.hub.saved import check_repo_id, fetch, split_revision

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo
    from huggingface_hub.hf_api import CommitOperation

PACKAGE = Path(__file__).resolve().parents[1]
OF_PACKAGE = ("*.py", "*.js", "*.css", "*.html", "*.jpg", "*.png")
MODELS = "FBINPAINT_MODELS"  # the variable that fbinpaint.demo.server reads
APP = '''"""The page of fbinpaint, started as a Space is."""

from fbinpaint.demo.server import main

if __name__ == "__main__":
    main()
'''
CARD = """---
title: {title}
emoji: 🖌️
colorFrom: green
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
short_description: Inpainting guided by a semantic map it corrects itself
models: {models}
tags:
- image-to-image
- inpainting
- semantic-segmentation
---

Mark a part of a photo, or name what is to go, and have it restored; watch the semantic map being corrected; edit it.

Models: {links}. Their licences are on their cards. What visitors upload is deleted an hour after they last used it.
"""
# ZeroGPU takes other versions than a Space of one's own (hub-docs, Spaces ZeroGPU: PyTorch to 2.8.0, Python 3.10.13).
ZERO, ZERO_PYTHON, ZERO_PINS = "zero-a10g", "3.10.13", {"torch": "2.8.0", "torchvision": "0.23.0"}


def requirements(zero: bool = False) -> str:
    """What the page needs, core and demo, in the versions that are installed here; for ZeroGPU, whose Python may be
    another, torch as it has it, and the others in whatever version will do.

    Raises InputError where this package, or one that it needs, is not installed.
    """
    pins = []
    try:
        metadata.version("gradio")  # of which the card names the version
        for requirement in metadata.requires("fbinpaint") or ():
            wanted, _, condition = requirement.partition(";")
            name = re.split(r"[^\w.-]", wanted, maxsplit=1)[0]
            # The Space's own card names gradio, with what else it brings.
            if ("extra" not in condition or re.search(r"""extra == ['"]demo['"]""", condition)) and name != "gradio":
                # Of 2.14.1+cpu, as PyTorch's own index has it, PyPI knows 2.14.1.
                own = wanted.strip() if zero else f"{name}=={metadata.version(name).partition('+')[0]}"
                pins.append(f"{name}=={ZERO_PINS[name]}" if zero and name in ZERO_PINS else own)
    except metadata.PackageNotFoundError as error:
        raise InputError(f'{error.name}: is not installed; `pip install "fbinpaint[demo]"` brings it') from error
    return "\n".join(sorted(set(pins))) + "\n"


def space_files(repo_id: str, models: Sequence[str], zero: bool = False) -> dict[str, bytes]:
    """Every file of a Space, by its path there. Raises InputError as `requirements`."""
    pins = requirements(zero)
    names = [split_revision(model)[0] for model in models]
    card = CARD.format(
        title=repo_id.split("/")[-1],
        gradio=metadata.version("gradio"),
        python=ZERO_PYTHON if zero else "{}.{}".format(*sys.version_info),
        models=json.dumps(names),
        links=", ".join(f"[{name}](https://huggingface.co/{name})" for name in names),
    )
    code = sorted(path for pattern in OF_PACKAGE for path in PACKAGE.rglob(pattern))
    files = {f"fbinpaint/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in code}
    own = {"app.py": APP, "README.md": card, "requirements.txt": pins}
    return {name: text.encode() for name, text in own.items()} | files


def publish_space(
    repo_id: str,
    models: Sequence[str],
    *,
    private: bool = False,
    hardware: str | None = None,
    token: str | None = None,
    commit_message: str = "Upload the page of fbinpaint",
) -> "CommitInfo":
    """Make a Space that serves the page with models of the Hub; one that exists gets the new files in one commit.

    Args:
        repo_id: USER/NAME.
        models: USER/NAME or USER/NAME@REVISION; the page has them in this order.
        hardware: as the Hub calls it, such as "zero-a10g"; None = as it is, "cpu-basic" where the Space is new, for
            which the requirements are.
        token: None = that of `hf auth login` or of HF_TOKEN.

    Raises:
        InputError: a model cannot be had from the Hub, or the Hub did not take the Space.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HTTPError

    check_repo_id(repo_id)
    for model in models:  # a page that cannot start is not made
        fetch(model, (), token=token)
    files = space_files(repo_id, models, zero=hardware == ZERO)
    api = HfApi(token=token)
    try:
        is_new = not api.repo_exists(repo_id, repo_type="space")
        repo_id = api.create_repo(
            repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True,
            space_hardware=hardware,  # type: ignore[arg-type]  # a name will do
        ).repo_id
        info = api.space_info(repo_id)
        # One that exists keeps its visibility, whatever was asked for.
        if private and not info.private:
            raise InputError(f"{repo_id}: exists and is public; make it private on the Hub or name another")
        there = {file.rfilename for file in info.siblings or ()}
        operations: list[CommitOperation] = [CommitOperationAdd(name, data) for name, data in files.items()]
        old = (name for name in there if name.startswith("fbinpaint/") and name not in files)
        operations += [CommitOperationDelete(name) for name in sorted(old)]
        commit = api.create_commit(repo_id, operations, commit_message=commit_message, repo_type="space")
        # The commit may well fail, and what is there goes on with the models that it had.
        api.add_space_variable(repo_id, MODELS, " ".join(models))
        if hardware and not is_new:
            api.request_space_hardware(repo_id, hardware)  # type: ignore[arg-type]  # a name will do
        return commit
    except InputError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{repo_id}: not published ({one_line(error)}); check the name, the connection and `hf auth login`"
        ) from error
