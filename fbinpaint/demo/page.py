"""The page: the editor, how its results came about, and what the models can and cannot do."""

from pathlib import Path
from typing import Any

import gradio as gr

from .api import add_endpoints
from .clients import limit_places
from .editor import make_editor
from .handlers import Handlers
from .models import devices
from .storage import own_folder
from .uploads import guard

QUEUE_LENGTH = 32  # visitors who wait; the next ones are told to come back
HERE = Path(__file__).resolve().parent

TITLE = """# fbinpaint
Mark what is damaged or should go, and it is filled, guided by a map of what is where. The map is there to be edited."""
LIMITS = """The **code** is [Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). The **bundled models** are for
research and other non-commercial use only, because of the photos that they were trained on.

- They know street scenes and faces, at a few hundred pixels. Other photos are filled, too, but their maps say little.
- Small and middle-sized holes in even surroundings come out well. Large holes, text, hands and fine patterns come out
  soft or wrong. What is filled into a face is **made up**: it is nobody's likeness.
- The map can be wrong, and so can what follows from it. A class that you paint may not be followed; the page says so.
- Do not use them to judge, identify or deceive people. A downloaded result says in its metadata that a model painted
  in it.
- Photos, and all that came of them, are deleted from this server an hour after you last used them; of a photo that
  you close, what you did with it goes at once. What programs send and get is deleted an hour later."""

SYSTEM_FONTS = ("system-ui", "sans-serif")  # the themes' own are fetched from Google
COLOURS = """
    .gradio-container {
        --fb-strong: #0f766e; --fb-focus: #0f766e; --fb-hint: #475569; --fb-error: #b91c1c; --fb-off: #64748b;
        --fb-line: #7b8aa1; max-width: 1340px !important; margin: 0 auto !important; min-width: 0;
    }
    .dark .gradio-container, .gradio-container.dark {
        --fb-focus: #5eead4; --fb-hint: #cbd5e1; --fb-error: #fca5a5; --fb-off: #94a3b8;
    }
    .gradio-container :is(a, button, summary, [tabindex]):focus-visible {
        outline: 3px solid var(--fb-focus); outline-offset: 2px;
    }
    footer, footer * { color: var(--fb-hint) !important; }
    .gradio-container .main { padding-block: 10px; }
    #title .prose { display: flex; flex-wrap: wrap; align-items: baseline; column-gap: 1rem; }
    #title.block :is(h1, p) { margin: 0; font-size: 1rem !important; } #title.block h1 { font-size: 1.4rem !important; }
    #editor .html-container { padding: 0; }
    #waiting { position: fixed; top: 0; right: 0.6rem; width: 14rem; height: 2rem; z-index: 20; pointer-events: none; }
    #waiting .wrap { overflow: visible; } #waiting .progress-text { top: 0; right: 0; color: var(--body-text-color); }
    #limits a { color: inherit; text-decoration: underline; }
    #details .row > * { min-width: min(300px, 100%) !important; }
    #rounds .grid-wrap { min-height: 0; max-height: none; }
    #rounds .caption-label { max-width: 100%; white-space: normal; }
    .seen .image-container img { max-height: 100svh; object-fit: contain; }
    /* A class's colour beside its name, not behind it, where it could not be read. */
    #details .legend-item {
        padding-left: 1.5rem; color: var(--body-text-color);
        background-image: linear-gradient(90deg, #0000 1.1rem, var(--block-background-fill) 1.1rem);
    }
    @keyframes fb-sweep { from { background-position: 100% 0; } to { background-position: -50% 0; } }
    @media (max-width: 760px) {
        .gradio-container .main { padding-inline: 12px !important; }
        .gradio-container:has([data-state="open"]) #title p { display: none; }
        #rounds .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); }
    }
"""
# Not as `css`: Gradio 6.31 puts its own prefix into every selector, after each comma in `:is(...)`, too. Nested in
# #editor, the editor's rules are stronger than Gradio's.
STYLE: dict[str, Any] = {
    "theme": gr.themes.Default(primary_hue="teal", neutral_hue="slate", radius_size="lg", font=SYSTEM_FONTS),
    "head": f"<style>{COLOURS}#editor {{ {(HERE / 'editor.css').read_text(encoding='utf-8')} }}</style>",
}


def build_demo(models: dict[str, str]) -> gr.Blocks:
    """The page for these models, name on the page -> folder or Hub id. Raises InputError if one is neither."""
    own_folder()
    with gr.Blocks(title="fbinpaint", analytics_enabled=False) as demo:
        handlers = Handlers(models)
        demo.storage = handlers.storage
        demo.storage.watch()
        gr.Markdown(TITLE, elem_id="title")
        editor = make_editor(handlers.view(None))
        waiting = gr.HTML(elem_id="waiting")  # shows how many visitors come first
        with gr.Column(visible=False, elem_id="details") as details:
            gr.Markdown("### How the last restoration came about")
            with gr.Row():
                maps = [
                    gr.AnnotatedImage(
                        label=label, format="png", min_width=300, height=None, elem_id=elem_id, elem_classes="seen"
                    )
                    for label, elem_id in (
                        ("Map before feedback", "map-before"),
                        ("Map after feedback", "map-after"),
                        ("What feedback changed", "map-changes"),
                    )
                ]
            gallery = gr.Gallery(
                format="png", label="Round by round", columns=6, object_fit="contain", height="auto",
                interactive=False, elem_id="rounds",
            )  # fmt: skip
        with gr.Accordion("Licence, and what the models can and cannot do", open=False, elem_id="limits"):
            gr.Markdown(LIMITS)
        session = gr.State(None)

        private = {"api_visibility": "private"}
        # What takes a moment skips the queue. Only one function of the page goes through it: Gradio 6.31 can lose the
        # answer to a second one that arrives just as the stream of the first one's answers closes.
        asked = editor.ask(
            handlers.ask, [editor, session], [editor, session, details], queue=False, show_progress="hidden",
            trigger_mode="multiple", **private,
        )  # fmt: skip
        one_a_device = {"concurrency_limit": len(devices()), "concurrency_id": "model"}
        restored = editor.restore(
            handlers.restore, [editor, session], [editor, details, *maps, gallery], show_progress="minimal",
            show_progress_on=waiting, **private, **one_a_device,
        )  # fmt: skip
        for event, name in ((asked, "ask"), (restored, "restore")):
            event.then(None, js=f"() => document.dispatchEvent(new CustomEvent('fbinpaint-end', {{detail: '{name}'}}))")
        add_endpoints(models, **one_a_device)
    guard(demo)
    demo.queue(max_size=QUEUE_LENGTH, api_open=False)
    limit_places(demo)
    return demo
