"""The demo: mark a part of a photo, have it restored, and watch the semantic map that guided the fill being corrected.

    python app.py                                         # the bundled models, http://127.0.0.1:7860
    python app.py --model my/pipeline user/name-on-hub    # others: folders or Hub ids

Programs call the same page:

    from gradio_client import Client, handle_file
    restored, before, after = Client("http://127.0.0.1:7860").predict(
        handle_file("photo.png"), handle_file("mask.png"), api_name="/inpaint"
    )
"""

try:
    import spaces  # Hugging Face ZeroGPU; it must be imported before torch
except ImportError:
    spaces = None

import argparse
import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

# Read when Gradio is imported: without it, a machine without internet waits half a minute for the import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
from huggingface_hub import hf_hub_download
from PIL import Image

from fbinpaint.cli import load_pipeline
from fbinpaint.data.scenes import SCENES
from fbinpaint.errors import InputError
from fbinpaint.images import to_mask, to_rgb
from fbinpaint.labels import LABEL_SPACES, LabelSpace, get_label_space
from fbinpaint.masks import protocol_mask

if TYPE_CHECKING:
    from fbinpaint.pipeline import FeedbackInpaintPipelineOutput, RoundOutput

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"
MAX_ROUNDS = 4
HOLE_COLOUR = (255, 255, 255)

EXAMPLE_SIZES = {"celebamask-hq": (256, 256), "cityscapes": (256, 192)}  # (width, height)
EXAMPLE_INDICES = (0, 1, 5)  # of the scene and of its mask: small and medium holes
EXAMPLE_SEED = 7

COLOURS = {
    name: f"#{red:02x}{green:02x}{blue:02x}"
    for space in LABEL_SPACES.values()
    for name, (red, green, blue) in zip(space.classes, space.palette, strict=True)
}

HINT = "Drop in a photo or pick an example, mark a hole, and press **Restore**."
TITLE = """# fbinpaint
Mark what is damaged or should go: the hole is filled, a semantic map is read from the fill and corrected,
and the corrected map guides the next fill, round after round."""

SYSTEM_FONTS = ("system-ui", "sans-serif")  # the themes' own are fetched from Google
STYLE = {
    "theme": gr.themes.Default(primary_hue="teal", neutral_hue="slate", radius_size="lg", font=SYSTEM_FONTS),
    "css": """
        .gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
        #title { margin-top: 0.75rem; } #title h1 { margin-bottom: 0.25rem; }
        #examples .gallery { display: grid; grid-template-columns: repeat(3, 1fr); }
        #examples .gallery-item { width: 100%; aspect-ratio: 16 / 9; overflow: hidden; }
        #examples .gallery-item * { display: block; width: 100%; height: 100%; max-width: none; object-fit: cover; }
        .map .image-container img { max-height: 420px; object-fit: contain; }
        #rounds .grid-wrap { min-height: 0; max-height: none; }
        #rounds .caption-label { max-width: 100%; white-space: normal; }
        @media (max-width: 640px) { #rounds .grid-container { grid-template-columns: 1fr !important; } }
    """,
}

gpu = spaces.GPU if spaces else lambda function: function


# ---------------------------------------------------------------------------------------------- models

load = functools.cache(load_pipeline)  # on first use, then kept


def bundled_models() -> dict[str, str]:
    """The folders under checkpoints/ that hold a pipeline, by name."""
    return {path.parent.name: str(path.parent) for path in sorted(CHECKPOINTS.glob("*/model_index.json"))}


def read_label_space(model: str) -> LabelSpace:
    """The label space of a pipeline folder or Hub id, without loading its weights. Raises InputError without one."""
    try:
        folder = Path(model)
        index = folder / "model_index.json" if folder.is_dir() else Path(hf_hub_download(model, "model_index.json"))
        return get_label_space(json.loads(index.read_text())["label_space"])
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{model}: is no fbinpaint pipeline ({reason}); name a saved folder or a Hub id") from error


@gpu
def restore(
    model: str, photo: np.ndarray, hole: np.ndarray, rounds: int, progress: gr.Progress
) -> "FeedbackInpaintPipelineOutput":
    """photo (H,W,3) uint8 and hole (H,W) bool -> the pipeline's output as arrays."""

    def step(pipeline, index, _, tensors):
        progress((index + 1, rounds + 1), desc=f"Round {index}", unit="rounds")

    progress((0, rounds + 1), desc="First fill", unit="rounds")
    return load(model)(photo, hole, num_feedback_rounds=rounds, output_type="np", callback_on_step_end=step)


# ---------------------------------------------------------------------------------------------- pictures


def read_hole(masks: list[Image.Image], size: tuple[int, int]) -> np.ndarray:
    """The (H,W) bool union of the masks at the photo's (width, height). Raises InputError if nothing is marked."""
    hole = np.zeros(size[::-1], bool)
    for mask in masks:
        hole |= to_mask(mask, size)
    if not hole.any():
        raise InputError("Nothing is marked: paint over a part of the photo, or add a mask that is white there.")
    return hole


def with_hole(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The (H,W,3) photo with its hole blanked out."""
    return np.where(hole[..., None], np.uint8(HOLE_COLOUR), photo)


def annotate(round_: "RoundOutput", space: LabelSpace) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """A round's fill and map as `gr.AnnotatedImage` takes them: the picture, and a mask per class that is present."""
    ids = [i for i in np.unique(round_.semantic_map) if i < space.num_classes]
    return round_.image, [((round_.semantic_map == i).astype(float), space.classes[i]) for i in ids]


def caption(index: int, round_: "RoundOutput") -> str:
    """The share of the hole whose class differs from one round before, and how sure the map is there."""
    changed = f"{round_.changed:.0%} changed" if index else "one-way"
    return f"Round {index}: {changed}, confidence {round_.confidence:.0%}"


def summary(output: "FeedbackInpaintPipelineOutput", hole: np.ndarray) -> str:
    """What happened, in one line of Markdown."""
    rounds = output.rounds[0]
    height, width = hole.shape
    text = f"**Restored {hole.mean():.0%} of {width} × {height} pixels.**"
    if len(rounds) == 1:
        return f"{text} No feedback; confidence {rounds[0].confidence:.0%}."
    changed = (output.semantic_before[0] != output.semantic_after[0])[hole].mean()
    return (
        f"{text} Feedback changed {changed:.0%} of the map in the hole; "
        f"confidence {rounds[0].confidence:.0%} → {rounds[-1].confidence:.0%}."
    )


def make_examples(spaces_of_models: dict[str, LabelSpace]) -> list[tuple[Image.Image, Image.Image, str]]:
    """Procedural scenes as (photo, mask, model): for every label space some, with the first model that knows it."""
    examples = []
    first_models = {space.name: model for model, space in reversed(spaces_of_models.items())}
    for space, model in reversed(first_models.items()):
        width, height = EXAMPLE_SIZES[space]
        for index in EXAMPLE_INDICES:
            photo, _ = SCENES[space]((width, height), np.random.default_rng([EXAMPLE_SEED, index]))
            examples.append((photo, Image.fromarray(protocol_mask(height, width, index)), model))
    return examples


# ---------------------------------------------------------------------------------------------- page


def build_demo(models: dict[str, str]) -> gr.Blocks:
    """The page for these models, name on the page -> folder or Hub id. Raises InputError if one is neither."""
    label_spaces = {name: read_label_space(model) for name, model in models.items()}
    examples = make_examples(label_spaces)

    def run(photo, masks, model, rounds, progress):
        """The shared part of both endpoints: photo (H,W,3), hole (H,W), output; errors of the user's as a toast."""
        try:
            if photo is None:
                raise InputError("There is no photo yet: drop one into the editor, or pick an example.")
            photo = to_rgb(photo)
            size = photo.shape[1::-1]
            masks = [mask for mask in masks if mask is not None]
            for width, height in {mask.size for mask in masks} - {size}:
                gr.Warning(f"The mask of {width} × {height} pixels was stretched to the photo's {size[0]} × {size[1]}.")
            hole = read_hole(masks, size)
            progress(0, desc="Loading the model")
            load(models[model])  # here, not in `restore`: on ZeroGPU that runs in a process of its own
            return photo, hole, restore(models[model], photo, hole, int(rounds), progress)
        except InputError as error:
            raise gr.Error(str(error), title="Not yet", print_exception=False) from None

    def on_restore(drawing, mask, model, rounds, progress=gr.Progress()):  # noqa: B008 (Gradio's way to hand it over)
        background = drawing["background"] if drawing else None
        empty = background is None or not background.getchannel("A").getbbox()  # a cleared canvas is transparent
        masks = [] if empty else [*drawing["layers"], mask]
        photo, hole, output = run(None if empty else background, masks, model, rounds, progress)
        steps, space = output.rounds[0], label_spaces[model]
        return {
            comparison: (with_hole(photo, hole), output.images[0]),
            status: summary(output, hole),
            map_before: annotate(steps[0], space),
            map_after: annotate(steps[-1], space),
            gallery: [(step.image, caption(index, step)) for index, step in enumerate(steps)],
            details: gr.Column(visible=True),
        }

    def inpaint(image, mask, model, rounds, progress=gr.Progress()):  # noqa: B008
        """Restore a photo where the mask is white. Returns it and its semantic maps before and after feedback (PNG;
        pixel values are class ids, the palette shows them in colour)."""
        _, _, output = run(image, [mask], model, rounds, progress)
        to_palette_image = label_spaces[model].to_palette_image
        return output.images[0], to_palette_image(output.semantic_before[0]), to_palette_image(output.semantic_after[0])

    def on_example(index):
        # The hole goes into the mask, not the editor: there, Gradio 6.31 drops a given layer at the first stroke.
        photo, mask, model = examples[index]
        return {"background": photo, "layers": [], "composite": None}, mask, model

    with gr.Blocks(title="fbinpaint", analytics_enabled=False) as demo:
        gr.Markdown(TITLE, elem_id="title")
        with gr.Row():
            with gr.Column():
                editor = gr.ImageEditor(
                    type="pil", image_mode="RGBA", format="png", label="Photo: paint the hole",
                    placeholder="Drop a photo here or pick an example",
                    brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"), eraser=gr.Eraser(),
                    layers=False, transforms=(), sources=("upload", "clipboard"), height=440, elem_id="editor",
                )  # fmt: skip
                with gr.Row():
                    mask = gr.Image(
                        type="pil", image_mode=None, format="png", sources="upload", height=185,
                        label="Mask (optional)", placeholder="White where to restore", elem_id="mask",
                    )  # fmt: skip
                    with gr.Column():
                        model = gr.Radio(list(models), value=next(iter(models)), label="Model")
                        rounds = gr.Slider(0, MAX_ROUNDS, value=2, step=1, label="Feedback rounds", info="0 = one-way")
                button = gr.Button("Restore", variant="primary", size="lg", elem_id="restore")
            with gr.Column():
                comparison = gr.ImageSlider(format="png", label="Before | after", height=440, elem_id="comparison")
                status = gr.Markdown(HINT, elem_id="status")
                gallery_of_examples = gr.Dataset(
                    components=[gr.Image(format="png", render=False)],
                    samples=[[with_hole(np.asarray(photo), np.asarray(hole))] for photo, hole, _ in examples],
                    type="index", layout="gallery", label="Examples", elem_id="examples",
                )  # fmt: skip
        with gr.Column(visible=False) as details:
            with gr.Row():
                maps = {"format": "png", "color_map": COLOURS, "min_width": 320, "elem_classes": "map"}
                map_before = gr.AnnotatedImage(label="Semantic map before feedback", elem_id="map-before", **maps)
                map_after = gr.AnnotatedImage(label="Semantic map after feedback", elem_id="map-after", **maps)
            gallery = gr.Gallery(
                format="png", label="Round by round", columns=MAX_ROUNDS + 1, object_fit="contain", height="auto",
                interactive=False, elem_id="rounds",
            )  # fmt: skip

        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        button.click(
            on_restore, [editor, mask, model, rounds], [comparison, status, map_before, map_after, gallery, details],
            show_progress_on=comparison, api_visibility="private", **one_at_a_time,
        )  # fmt: skip
        gallery_of_examples.click(
            on_example, gallery_of_examples, [editor, mask, model], api_visibility="private", show_progress="hidden"
        )
        # The next photo starts without the last one's holes.
        editor.clear(lambda: None, outputs=mask, api_visibility="private")

        # The endpoint for programs: plain files instead of the editor's layers, and no trigger on the page.
        image_in = gr.Image(type="pil", image_mode=None, visible=False, label="Photo")
        mask_in = gr.Image(type="pil", image_mode=None, visible=False, label="Mask: white = restore")
        images_out = [gr.Image(format="png", visible=False, label=x) for x in ("Restored", "Map before", "Map after")]
        gr.on([], inpaint, [image_in, mask_in, model, rounds], images_out, api_name="inpaint", **one_at_a_time)

    return demo.queue()


def main() -> None:
    parser = argparse.ArgumentParser(description="The demo page.", epilog="Example: python app.py --port 8000")
    parser.add_argument("--model", nargs="+", metavar="DIR|HUB_ID", help="default: those under checkpoints/")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 = reachable from other machines")
    args = parser.parse_args()
    models = {model: model for model in args.model} if args.model else bundled_models()
    if not models:
        parser.error(f"no model under {CHECKPOINTS}; name one with --model")
    try:
        demo = build_demo(models)
    except InputError as error:
        parser.exit(1, f"error: {error}\n")
    demo.launch(server_name=args.host, server_port=args.port, footer_links=["api", "gradio"], ssr_mode=False, **STYLE)


if __name__ == "__main__":
    main()
