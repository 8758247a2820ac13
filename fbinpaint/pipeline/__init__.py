"""The pipeline and what surrounds the loop in it: arguments, crops, holes that need no map, details, grain."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fbinpaint.pipeline.pipeline import FeedbackInpaintPipeline as FeedbackInpaintPipeline


def __getattr__(name: str) -> Any:
    # On first use: what else is in this package is wanted by programs that shall not wait for torch and diffusers.
    if name == "FeedbackInpaintPipeline":
        from fbinpaint.pipeline.pipeline import FeedbackInpaintPipeline

        return FeedbackInpaintPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
