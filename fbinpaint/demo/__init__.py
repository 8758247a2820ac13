"""The demo: its page and its endpoints for programs.

    server -> gate -> page (visitors) -> models -> the pipeline
                      api (programs)

gate: which requests come in. uploads: which files they may name. models: what runs on the GPU, and how much of it at
once. questions: what the page asks, and inputs: what is given, checked. rendering: what is shown. files: what is sent.
examples. session: what a visitor has. storage: what may lie on the disk, and for how long. clients: who waits for what.
"""

try:
    import spaces  # noqa: F401  Hugging Face ZeroGPU; it must be imported before torch
except ImportError:
    pass

import os

from fbinpaint.system.threads import openmp_settings

# Read when Gradio is imported: without it, a machine without internet waits half a minute for the import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.update(openmp_settings())  # read when torch is imported
if "SPACE_ID" in os.environ:  # nobody but Hugging Face's proxy reaches a Space; it says which address asks
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")  # read by uvicorn
