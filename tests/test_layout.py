"""How the package is laid out: documented import paths, and modules that do not import each other in a circle."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "fbinpaint").rglob("*.py")
}


@pytest.mark.parametrize(
    "path",
    [
        "fbinpaint.FeedbackInpaintPipeline", "fbinpaint.InputError", "fbinpaint.InputWarning", "fbinpaint.Restorer",
        "fbinpaint.pipeline.FeedbackInpaintPipeline", "fbinpaint.loop.Networks", "fbinpaint.loop.feedback_rounds",
        "fbinpaint.models.InitialInpainter", "fbinpaint.models.Segmenter", "fbinpaint.models.Recorrector",
        "fbinpaint.models.GuidedInpainter", "fbinpaint.models.segmenter.Segmenter",
        "fbinpaint.models.recorrector.Recorrector", "fbinpaint.models.guided_inpainter.GuidedInpainter",
        "fbinpaint.models.initial_inpainter.InitialInpainter", "fbinpaint.labels.load_label_space",
        "fbinpaint.masks.protocol_mask", "fbinpaint.removal.remove", "fbinpaint.export.export_onnx",
        "fbinpaint.data.scenes.write_scenes", "fbinpaint.data.scenes.SCENES",
    ],
)  # fmt: skip
def test_documented_names_are_where_they_were(path):
    module, _, name = path.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name)) or name == "SCENES"


def imported(name: str) -> set[str]:
    """The modules of ours that one imports, on first use as well: not those for a type checker."""
    path, found = MODULES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parts = package.split(".")[: len(package.split(".")) + 1 - child.level] if child.level else []
                base = ".".join([*parts, *filter(None, [child.module])])
                names = {f"{base}.{alias.name}" for alias in child.names}
                found.update(names & MODULES.keys() or {base})
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & MODULES.keys() - {name}


def test_imports_go_in_one_direction():
    imports = {name: imported(name) for name in MODULES}
    assert imports["fbinpaint.loop"] > {"fbinpaint.models"} and "fbinpaint.pipeline.pipeline" in imports["fbinpaint"]
    # Who imports nothing that is left is taken away; what remains imports itself by way of others.
    while free := [name for name, others in imports.items() if not others & imports.keys()]:
        for name in free:
            del imports[name]
    assert not imports
