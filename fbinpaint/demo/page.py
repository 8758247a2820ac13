"""The page."""

from dataclasses import dataclass

import gradio as gr
import numpy as np
from PIL import Image

from ..errors import InputError
from ..labels import IGNORE, LabelSpace
from ..masks import protocol_mask
from .api import add_endpoints
from .examples import example, list_examples, restored_example
from .files import save_restored, save_to_cache
from .inputs import background_of, image_path, open_upload, read_edits, read_hole, read_photo, toasts
from .models import MAX_ROUNDS, label_space_of_model, restore_with_progress
from .rendering import album, annotate, changes, editable_map, feathered, hex_colours, levels, summary, with_hole

QUEUE_LENGTH = 32  # visitors who wait; the next ones are told to come back
KEEP_FILES = 3600  # seconds


HINT = "Drop in a photo or pick an example, mark a hole, and press **Restore**."
TITLE = """# fbinpaint
Mark what is damaged or should go: the hole is filled, a semantic map is read from the fill and corrected,
and the corrected map guides the next fill, round after round. Not what you had in mind? Repaint the map."""
EDIT_HINT = """### Edit the map
Pick a class, paint it **into the hole** of the map, and restore again: the hole is filled to match."""

SYSTEM_FONTS = ("system-ui", "sans-serif")  # the themes' own are fetched from Google


def class_swatches(pickers: list[tuple[str, LabelSpace]]) -> str:
    """CSS that shows each class's colour in front of its name in the class pickers, which are found by their id."""
    return "\n".join(
        f"#{elem_id} label:nth-of-type({i + 1})::before {{ background: {colour}; }}"
        for elem_id, space in pickers
        for i, colour in enumerate(hex_colours(space).values())
    )


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
        .classes label { padding: 4px 8px; } .classes .wrap { gap: 4px; }
        .classes label::before { content: ""; width: 0.9em; height: 0.9em; margin-right: 0.4em; border-radius: 3px;
                                 border: 1px solid #8888; }
        @media (max-width: 640px) {
            #rounds .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
            .gradio-container { padding: 4px !important; }
        }
    """,
}

SERVING = {"ssr_mode": False, "max_file_size": "100mb"}


@dataclass(frozen=True)
class Session:
    """What a visitor's last restoration leaves for the next one.

    photo: (H,W,3) uint8; result: (H,W,3) uint8; hole: (H,W) bool
    edits: (H,W) uint8, the classes the user has painted so far, 255 = none
    """

    model: str
    photo: np.ndarray
    hole: np.ndarray
    result: np.ndarray
    edits: np.ndarray

    def is_about(self, model: str, photo: np.ndarray) -> bool:
        return self.model == model and np.array_equal(self.photo, photo)


def build_demo(models: dict[str, str]) -> gr.Blocks:
    """The page for these models, name on the page -> folder or Hub id. Raises InputError if one is neither."""
    label_spaces = {name: label_space_of_model(model) for name, model in models.items()}
    examples = list_examples(label_spaces)

    def save_marked(photo, hole) -> str:
        """The picture stays the same from step to step, and is encoded once."""
        return save_to_cache(Image.fromarray(with_hole(photo, hole)), comparison.GRADIO_CACHE)

    def show_first(output, model) -> dict:
        """What round 0 already decides."""
        return {
            map_before: annotate(levels(output.rounds[0][0].image), output.semantic_before[0], label_spaces[model]),
            details: gr.Column(visible=True),
        }

    def show_result(output, marked, session) -> dict:
        """What the visitor waits for, and the map to paint on: what is painted from now on must not be replaced."""
        return {
            status: summary(output, session.hole),
            comparison: (marked, session.result),
            map_editor: editable_map(output, session.hole, label_spaces[session.model]),
            state: session,
        }

    def show_details(output, session) -> dict:
        """Everything else, and the buttons that act on it."""
        space, cache = label_spaces[session.model], comparison.GRADIO_CACHE
        files = {
            download: save_restored(Image.fromarray(session.result), models[session.model], cache),
            download_map: save_to_cache(space.to_palette_image(output.semantic_after[0]), cache),
        }
        return {
            map_after: annotate(levels(output.images[0]), output.semantic_after[0], space),
            map_changes: changes(output, session.photo, space),
            gallery: album(output),
            reuse: gr.Button(interactive=True),
        } | {
            button: gr.DownloadButton(value=file, interactive=True) for button, file in files.items()
        }

    def on_restore(drawing, mask, grow, feather, invert, model, rounds, painted, session, progress=gr.Progress()):  # noqa: B008
        """Restore, and keep what was painted on the map as long as photo and model stay the same."""
        with toasts():
            background = background_of(drawing)
            photo = read_photo(background)
            size = photo.shape[1::-1]
            mask = mask and open_upload(mask)
            masks = [layer for layer in (*drawing["layers"], mask) if layer is not None]
            hole = read_hole(masks, size, grow + feather, invert, background)
            space, edits = label_spaces[model], np.full(hole.shape, IGNORE, np.uint8)
            if session and session.is_about(model, photo):
                strokes = read_edits(painted["layers"] if painted else [], session.hole, space)
                edits = np.where(strokes == IGNORE, session.edits, strokes)
            used, rounds = np.where(hole, edits, IGNORE).astype(np.uint8), int(rounds)
            used = used if (used != IGNORE).any() else None
            steps = restore_with_progress(models[model], photo, hole, rounds, used, progress)
            # The page shows the first step and the last, details after the rest; steps between move the progress bar.
            for step, output in enumerate(steps):
                if step == 0:
                    marked = save_marked(photo, hole)
                    first = (marked, feathered(photo, levels(output.images[0]), hole, feather))
                    yield {status: "Round 0: the rest follows …", comparison: first} | show_first(output, model)
            result = feathered(photo, levels(output.images[0]), hole, feather)
            session = Session(model, photo, hole, result, edits)
            yield show_result(output, marked, session)
            yield show_details(output, session)

    def on_forget(*inputs, progress=gr.Progress()):  # noqa: B008
        """Restore without what was painted on the map."""
        yield from on_restore(*inputs[:-1], None, progress)

    def on_example(index):
        """The example and, at once, its result with the settings it was restored with before."""
        model, name = examples[index]
        photo, mask = example(label_spaces[model].name, name)
        pixels, hole = np.asarray(photo), np.asarray(mask)
        with toasts():
            output = restored_example(models[model], name, 2)
        # The hole goes into the mask, not the editor: there, Gradio 6.31 drops a given layer at the first stroke.
        given = {editor: {"background": photo, "layers": [], "composite": None}, mask_upload: mask}
        settings = {model_picker: model, rounds: 2, grow: 0, feather: 0, invert: False}
        nothing = np.full(hole.shape, IGNORE, np.uint8)
        session = Session(model, pixels, hole, levels(output.images[0]), nothing)
        shown = show_first(output, model) | show_result(output, save_marked(pixels, hole), session)
        return given | settings | shown | show_details(output, session)

    def on_clear():
        """The next photo starts without the last one's hole, map and edits, and without its result."""
        return {mask_upload: None, map_editor: None, state: None, reuse: gr.Button(interactive=False)}

    def on_reuse(session):
        """The result as the next photo; nothing where it was forgotten, after an hour."""
        shown = on_clear()
        if session:
            shown[editor] = {"background": session.result, "layers": [], "composite": None}
        return shown

    def on_random_hole(drawing, seed):
        with toasts():
            width, height = background_of(drawing).size
            if seed is None:
                raise InputError("The seed is empty: type a number from 0 up.")
        return Image.fromarray(protocol_mask(height, width, int(seed)))

    def on_model(model, *picked):
        """The class picker of the model's label space, and a brush of the class that is picked there."""
        space = label_spaces[model]
        name = dict(zip(pickers, picked, strict=True))[space]
        return [*(gr.Radio(visible=other == space) for other in pickers), on_class(name, model)]

    def on_class(name, model):
        return gr.ImageEditor(brush=brush_of(label_spaces[model], name))

    def brush_of(space: LabelSpace, name: str) -> gr.Brush:
        colour = hex_colours(space)[name]
        return gr.Brush(colors=[colour], default_color=colour, color_mode="fixed", default_size=24)

    with gr.Blocks(title="fbinpaint", analytics_enabled=False, delete_cache=(KEEP_FILES, KEEP_FILES)) as demo:
        state = gr.State(None, time_to_live=KEEP_FILES)
        gr.Markdown(TITLE, elem_id="title")
        with gr.Row():
            with gr.Column():
                editor = gr.ImageEditor(
                    type="pil", image_mode="RGBA", format="png", label="Photo: paint the hole",
                    placeholder="Drop a photo here or pick an example",
                    brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"), eraser=gr.Eraser(),
                    layers=False, transforms=(), sources=("upload", "clipboard", "webcam"), height=440,
                    elem_id="editor",
                )  # fmt: skip
                with gr.Row():
                    model_picker = gr.Radio(list(models), value=next(iter(models)), label="Model", elem_id="model")
                    rounds = gr.Slider(0, MAX_ROUNDS, value=2, step=1, label="Feedback rounds", info="0 = one-way")
                button = gr.Button("Restore", variant="primary", size="lg", elem_id="restore")
                with gr.Accordion("The hole: upload, grow, feather, invert", open=False, elem_id="hole"):
                    mask_upload = image_path(
                        format="png", sources=("upload", "clipboard"), height=185,
                        label="Mask, beside what you paint", placeholder="White where to restore", elem_id="mask",
                    )  # fmt: skip
                    grow = gr.Slider(-16, 32, value=0, step=1, label="Grow", info="pixels; below 0 the hole shrinks")
                    feather = gr.Slider(0, 16, value=0, step=1, label="Feather", info="pixels around the hole to blend")
                    invert = gr.Checkbox(label="Invert: keep what is marked, restore the rest")
                    with gr.Row():
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**31, min_width=80)
                        random_hole = gr.Button("Random hole", elem_id="random-hole")
            with gr.Column():
                comparison = gr.ImageSlider(
                    format="png", label="Before | after", height=440, buttons=["fullscreen"], elem_id="comparison"
                )
                status = gr.Markdown(HINT, elem_id="status")
                with gr.Row():
                    download = gr.DownloadButton("Result (PNG)", size="sm", interactive=False, elem_id="download")
                    download_map = gr.DownloadButton("Map (PNG)", size="sm", interactive=False, elem_id="download-map")
                    reuse = gr.Button("Use result as photo", size="sm", interactive=False, elem_id="reuse")
                gallery_of_examples = gr.Dataset(
                    components=[gr.Image(format="png", render=False)],
                    samples=[
                        [with_hole(*map(np.asarray, example(label_spaces[model].name, name)))]
                        for model, name in examples
                    ],
                    type="index", layout="gallery", label="Examples", visible=bool(examples), elem_id="examples",
                )  # fmt: skip
        with gr.Column(visible=False) as details:
            with gr.Row():
                maps = {"format": "png", "min_width": 300, "elem_classes": "map"}
                map_before = gr.AnnotatedImage(label="Semantic map before feedback", elem_id="map-before", **maps)
                map_after = gr.AnnotatedImage(label="Semantic map after feedback", elem_id="map-after", **maps)
                map_changes = gr.AnnotatedImage(label="What feedback changed", elem_id="map-changes", **maps)
            with gr.Row(elem_id="map-editing"):
                with gr.Column(min_width=300):
                    gr.Markdown(EDIT_HINT)
                    first = label_spaces[next(iter(models))]
                    pickers = {
                        space: gr.Radio(
                            list(space.shown_names), value=space.shown_names[0], show_label=False, container=False,
                            visible=space == first, elem_classes="classes", elem_id=f"classes-{number}",
                        )
                        for number, space in enumerate(dict.fromkeys(label_spaces.values()))
                    }  # fmt: skip
                    swatches = class_swatches([(picker.elem_id, space) for space, picker in pickers.items()])
                    gr.HTML(f"<style>{swatches}</style>", visible="hidden")
                    with gr.Row():
                        again = gr.Button("Restore with this map", variant="primary", elem_id="restore-again")
                        forget = gr.Button("Forget my edits", elem_id="forget")
                with gr.Column(min_width=300):
                    map_editor = gr.ImageEditor(
                        type="numpy", image_mode="RGBA", format="png", label="Map: paint in the hole", sources=(),
                        brush=brush_of(first, first.shown_names[0]), eraser=gr.Eraser(), layers=False,
                        transforms=(), height=440, elem_id="map-editor",
                    )  # fmt: skip
            gallery = gr.Gallery(
                format="png", label="Round by round", columns=6, object_fit="contain", height="auto",
                interactive=False, elem_id="rounds",
            )  # fmt: skip

        one_at_a_time = {"concurrency_limit": 1, "concurrency_id": "model"}
        private = {"api_visibility": "private"}
        # What takes no time skips the queue: Gradio 6.31's page can miss the answer to a click that reaches the queue
        # just as the last answer's stream closes, and then waits for it for ever.
        quick = {"queue": False, **private}
        given = [editor, mask_upload, grow, feather, invert, model_picker, rounds, map_editor, state]
        results = [comparison, status, map_before, map_after, map_changes, gallery, details, map_editor]
        results += [download, download_map, reuse, state]
        for trigger, function in ((button, on_restore), (again, on_restore), (forget, on_forget)):
            trigger.click(function, given, results, show_progress_on=comparison, **private, **one_at_a_time)
        gallery_of_examples.click(
            on_example, gallery_of_examples,
            [editor, mask_upload, model_picker, rounds, grow, feather, invert, *results],
            show_progress_on=comparison, **private, **one_at_a_time,
        )  # fmt: skip
        # The map goes too as an editor that holds one slows down every click: Gradio 6.31 has it fetch and send its
        # pictures again with each message.
        forgotten = [mask_upload, map_editor, state, reuse]
        editor.clear(on_clear, outputs=forgotten, **quick)
        reuse.click(on_reuse, state, [editor, *forgotten], **quick)
        random_hole.click(on_random_hole, [editor, seed], mask_upload, **quick)
        of_classes = list(pickers.values())
        model_picker.change(
            on_model, [model_picker, *of_classes], [*of_classes, map_editor], show_progress="hidden", **quick
        )
        for picker in of_classes:
            picker.change(on_class, [picker, model_picker], map_editor, show_progress="hidden", **quick)

        add_endpoints(models, **one_at_a_time)

    return demo.queue(max_size=QUEUE_LENGTH)
