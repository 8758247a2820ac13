"""What the page asks the server, and what of it is right: the page itself sends nothing else."""

from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic's own, up to Python 3.11

from fbinpaint.errors import InputError

NOT_UNDERSTOOD = "What this page asked did not arrive as it was sent; reload it, and try again."
Name = Annotated[str, Field(max_length=1000)]


class Drawing(TypedDict):
    """All that is drawn and chosen. The strokes are read by strokes.py, the settings by restoring.py."""

    marks: Annotated[list[dict], FailFast()]  # pydantic would tell of each of a million that are wrong
    strokes: Annotated[list[dict], FailFast()]
    forbidden: Annotated[list[int], FailFast()]
    allowed: Annotated[list[int], FailFast()]  # what was forbidden, or would be, and may come back
    settings: dict


class Plain(TypedDict):
    kind: Literal["close", "look_at_photo", "random", "preview"]


class Restore(TypedDict):
    """It waits in a queue: session and model are those that the drawing is of."""

    kind: Literal["restore"]
    session: Name
    model: Name


class File(TypedDict):
    kind: Literal["open", "mask"]
    path: str
    name: Name


class Number(TypedDict):
    kind: Literal["example", "go"]
    index: int


class Label(TypedDict):
    kind: Literal["class"]
    label: int


class Place(TypedDict):
    kind: Literal["pick", "look"]
    at: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


class Model(TypedDict):
    kind: Literal["model"]
    model: Name


class Format(TypedDict):
    kind: Literal["download"]
    format: Literal["same", "png", "jpeg", "map"]


class Resume(TypedDict):
    kind: Literal["resume"]
    session: Name
    left: Drawing  # when the page was left


Request = Annotated[
    Plain | Restore | File | Number | Label | Place | Model | Format | Resume, Field(discriminator="kind")
]


class Question(TypedDict):
    request: Request
    drawing: Drawing


QUESTION = TypeAdapter(Question)


def read_question(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The editor's value -> what it asks, and all that is drawn and chosen. Raises InputError for what no page of ours
    sends."""
    try:
        question: Any = QUESTION.validate_python(value, strict=True)
    except (ValidationError, RecursionError):
        raise InputError(NOT_UNDERSTOOD) from None
    return question["request"], question["drawing"]
