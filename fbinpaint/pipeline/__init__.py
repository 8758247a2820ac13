"""The pipeline and what surrounds the loop in it: arguments, crops, holes that take no network, details, grain."""


def __getattr__(name: str):
    # On first use: what else is in this package is wanted by programs that shall not wait for torch and diffusers.
    if name == "FeedbackInpaintPipeline":
        from .pipeline import FeedbackInpaintPipeline

        return FeedbackInpaintPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
