"""fbinpaint: photo restoration guided by a semantic map that the restoration itself corrects."""

__version__ = "0.1.0"
__all__ = ["FeedbackInpaintPipeline", "InputError", "InputWarning", "__version__"]


def __getattr__(name: str):
    # Imported on first use: `fbinpaint --help` and the label spaces need neither torch nor diffusers.
    if name == "FeedbackInpaintPipeline":
        from .pipeline import FeedbackInpaintPipeline

        return FeedbackInpaintPipeline
    if name in ("InputError", "InputWarning"):
        from . import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
