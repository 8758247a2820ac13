"""fbinpaint: photo restoration guided by a semantic map that the restoration itself corrects."""

import sys
from typing import TYPE_CHECKING, Any

from fbinpaint.version import __version__

if TYPE_CHECKING:
    from fbinpaint.errors import InputError, InputWarning
    from fbinpaint.restorer import Restorer

__all__ = ["FeedbackInpaintPipeline", "InputError", "InputWarning", "Restorer", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `fbinpaint --help` and the label spaces need neither torch nor diffusers.
    if name == "FeedbackInpaintPipeline":
        from fbinpaint.pipeline import FeedbackInpaintPipeline

        return FeedbackInpaintPipeline
    if name == "Restorer":
        from fbinpaint.restorer import Restorer

        return Restorer
    if name in ("InputError", "InputWarning"):
        from fbinpaint import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "diffusers" in sys.modules:  # `DiffusionPipeline.from_pretrained` finds the pipeline once it has been imported
    from fbinpaint.pipeline.pipeline import FeedbackInpaintPipeline as _registered  # noqa: F401
