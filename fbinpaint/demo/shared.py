"""What all visitors share: the models and what their classes are, the examples, the folder of pictures; and what the
editor shows of a session."""

from pathlib import Path

import numpy as np
from gradio.utils import get_upload_folder

from fbinpaint.system.files import whole_file

from .examples import example, example_name, list_examples
from .models import AUTO, choose, label_space_of_model, segment_photo
from .rendering import classes_of
from .session import Session, Version
from .session_files import revisions
from .storage import EXAMPLES, Storage


class Page:
    """models: name on the page -> folder or Hub id."""

    def __init__(self, models: dict[str, str]):
        self.models, self.cache = models, Path(get_upload_folder()).resolve()
        self.storage = Storage(self.cache)
        self.spaces = {name: label_space_of_model(model) for name, model in models.items()}
        self.examples = list_examples(self.spaces)

    def see(self, session: Session, version: Version) -> str | None:
        """Makes sure that the version has a map of the model in use, which is chosen first if it is to be; what was
        chosen, in words."""
        said = None
        if not session.used:
            used = session.model
            if session.model == AUTO:
                used = choose(self.models, np.load(session.versions[0].pixels))
                said = f"The model “{used}” fits this photo best; you can choose another below."
            session.used = used  # not before: choosing can fail, and is then tried again
        self.see_by(session, version, session.used)
        return said

    def see_by(self, session: Session, version: Version, model: str) -> np.ndarray:
        """The version's map (H,W) uint8 by a model."""
        if version.seen_by != model:
            labels = segment_photo(self.models[model], np.load(version.pixels))
            session.see(version, labels, model, self.spaces[model])
        return version.map()

    def labels(self, session: Session) -> np.ndarray:
        self.see(session, session.now)
        return session.now.map()

    def pixel(self, session: Session, request: dict) -> tuple[int, int]:
        """(x, y) of the photo."""
        x, y = (
            min(length - 1, max(0, int((float(at) + 0.5) * session.scale)))
            for at, length in zip(request["at"], session.size, strict=True)
        )
        return x, y

    @property
    def first_choice(self) -> str:
        return AUTO if len(self.models) > 1 else next(iter(self.models))

    def example_file(self, index: int) -> Path:
        """The file of an example's photo, made anew where it is gone."""
        model, name = self.examples[index]
        space = self.spaces[model].name
        path = self.cache / EXAMPLES / f"{example_name(space, name).replace(' ', '_')}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                example(space, name)[0].save(temporary, "PNG")
        return path

    def example_list(self) -> list[dict]:
        return [
            {
                "index": index, "thumb": str(self.example_file(index)),
                "label": f"Example: {example_name(self.spaces[model].name, name)}",
            }
            for index, (model, name) in enumerate(self.examples)
        ]  # fmt: skip

    def view(self, session: Session | None) -> dict:
        """What the editor shows."""
        view = {"revision": next(revisions), "examples": self.example_list(), "history": [], "classes": []}
        if session is None:
            return view
        now, space = session.now, self.spaces.get(session.used)
        auto = f"by the photo ({session.used})" if session.model == AUTO and session.used else "by the photo"
        view |= {
            "session": session.id,
            "photo": str(now.preview),
            "original": str(session.versions[0].preview),
            "map": now.map_preview and str(now.map_preview),
            "history": [{"thumb": str(version.thumb), "label": version.label} for version in session.versions],
            "at": session.at,
            "model": session.model,
            "models": [
                *([{"name": AUTO, "label": auto}] if len(self.models) > 1 else []),
                *({"name": name, "label": name} for name in self.models),
            ],
            "format": session.own_suffix().removeprefix(".").upper(),
        }
        if space and now.seen_by == session.used:
            view["classes"] = classes_of(space)
            view["shown"] = now.shown
        return view
