"""fbinpaint: photo restoration guided by a semantic map that the restoration itself corrects."""

__version__ = "0.1.0"
__all__ = ["FeedbackInpaintPipeline", "InputError", "__version__"]


def __getattr__(name: str):
    # Imported on first use: `fbinpaint --help` and the label spaces need neither torch nor diffusers.
    if name == "FeedbackInpaintPipeline":
        from .pipeline import FeedbackInpaintPipeline

        return FeedbackInpaintPipeline
    if name == "InputError":
        from .errors import InputError

        return InputError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
