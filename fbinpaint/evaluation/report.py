"""Reports of `evaluate` for people: Markdown tables, sentences with intervals, curves.

    python -m fbinpaint evaluate --compare one-way=DIR feedback=DIR ...     writes both beside its report
    python -m benchmarks.table README.md                                    fills the tables of a page
"""

from pathlib import Path

from fbinpaint.system.files import whole_file

COLUMNS = {
    "lpips_alex": ("LPIPS-Alex", "{:.4f}"),
    "lpips_vgg": ("LPIPS-VGG", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_hole": ("PSNR in hole", "{:.2f}"),
    "miou_hole_after": ("mIoU in hole", "{:.3f}"),
}
PLOTTED = ("lpips_alex", "miou_hole_after")


def table(report: dict) -> str:
    """The overall scores: a row for each variant, with the number of photos where it is not that of the report. The
    distance of all photos together, FID, where the report has it."""
    with_fid = has_fid(report)
    titles = ["variant", *(title for title, _ in COLUMNS.values()), *(["FID"] if with_fid else [])]
    rows = [titles, ["---"] * len(titles)]
    for name, variant in report["variants"].items():
        scores = variant["overall"]
        cells = ["-" if scores[key] is None else form.format(scores[key]) for key, (_, form) in COLUMNS.items()]
        photos = "" if scores["n"] == report["protocol"]["n"] else f" ({scores['n']} photos)"
        rows.append([name + photos, *cells, *([fid_cell(variant)] if with_fid else [])])
    return markdown_table(rows)


def has_fid(report: dict) -> bool:
    return any(variant.get("fid") is not None for variant in report["variants"].values())


def fid_cell(variant: dict) -> str:
    return "-" if variant["fid"] is None else f"{variant['fid']:.2f}"


def plain_table(report: dict) -> str:
    """The overall scores for a terminal, in columns that line up; a column that no variant has is left out."""
    shown = ("lpips_alex", "psnr", "ssim", "miou_hole_after")
    scores = {name: variant["overall"] for name, variant in report["variants"].items()}
    columns = [key for key in shown if any(one[key] is not None for one in scores.values())]
    with_fid = has_fid(report)
    rows = [["", *columns, *(["fid"] if with_fid else [])]]
    for name, one in scores.items():
        cells = ["-" if one[key] is None else f"{one[key]:.4f}" for key in columns]
        rows.append([name, *cells, *([fid_cell(report["variants"][name])] if with_fid else [])])
    width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([name.ljust(width), *(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))])
        for name, *cells in rows
    )


def class_table(report: dict) -> str:
    """IoU of each class that the labels hold: of intact photos, and in the hole after each number of rounds. Empty
    where a report has no labels, or is of several models."""
    if not report.get("intact") or isinstance(report["protocol"]["model"], dict):
        return ""
    columns = {"intact": report["intact"]["iou_by_class"]} | {
        f"hole, {name}": report["variants"][name]["overall"]["iou_hole_by_class"] or {}
        for name in (f"rounds={k}" for k in report["protocol"]["rounds"])
    }
    rows = [["class", *columns], ["---"] * (len(columns) + 1)]
    for name in columns["intact"]:  # a class may be in no hole
        rows.append([name, *(f"{iou[name]:.3f}" if name in iou else "-" for iou in columns.values())])
    means = [report["intact"]["miou"]] + [
        report["variants"][f"rounds={k}"]["overall"]["miou_hole_after"] for k in report["protocol"]["rounds"]
    ]
    return markdown_table([*rows, ["mean", *("-" if mean is None else f"{mean:.3f}" for mean in means)]])


def markdown_table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def sizes(protocol: dict) -> str:
    """The size that photos were scored at, and the size that the networks worked at."""
    text = f"shorter side {protocol['resolution']} pixels"
    sample_size = protocol.get("sample_size")
    worked_on = set(sample_size.values()) if isinstance(sample_size, dict) else [sample_size] if sample_size else ()
    if not worked_on:  # a report of an earlier version
        return text
    return f"{text}, worked on at " + " or ".join(str(min(size, protocol["resolution"])) for size in sorted(worked_on))


def sentence(report: dict, pair: str) -> str:
    """The relative change of each metric with its 95 % interval."""
    changes = {COLUMNS[key][0]: change(found) for key, found in report["paired"][pair].items()}
    return f"{pair}: " + ", ".join(f"{title} {text}" for title, text in changes.items() if text) + "."


def change(found: dict | None) -> str:
    """A relative change with its interval; empty where it was not measured, or is relative to 0."""
    if found is None or None in (found["relative"], *found["ci95"]):
        return ""
    relative, low, high = (round(100 * x, 1) + 0.0 for x in (found["relative"], *found["ci95"]))  # no "-0.0"
    return f"{relative:+.1f} % [{low:+.1f}, {high:+.1f}]"


def harm_table(report: dict) -> str:
    """What the correction did to the classes in the hole, by variant."""
    rows = ["| variant | fixed | broken |", "| --- | --- | --- |"]
    for name, variant in report["variants"].items():
        if harm := variant.get("do_no_harm"):
            rows.append(f"| {name} | {harm['fixed']:.2%} | {harm['broken']:.2%} |")
    return "\n".join(rows) if rows[2:] else ""


def markdown(report: dict) -> str:
    """All of it: the protocol in a line, the table, who beats whom, harm done."""
    protocol = report["protocol"]
    trained = [f"- {name}: {run['time']}" for name, run in protocol.get("training", {}).items() if "time" in run]
    parts = [
        f"{protocol['data']}: {protocol['n']} photos, {sizes(protocol)}, masks {protocol['masks']}.",
        table(report),
        "Relative changes of the means, 95 % intervals of a paired bootstrap over photos:",
        "\n".join(f"- {sentence(report, pair)}" for pair in report["paired"]),
    ]
    if trained:
        parts += ["Training:", "\n".join(trained)]
    if harm := harm_table(report):
        parts += ["Labelled hole pixels whose class was fixed or broken since round 0:", harm]
    if classes := class_table(report):
        parts += ["IoU by class:", classes]
    return "\n\n".join(parts) + "\n"


def plot(report: dict, path: Path) -> None:
    """LPIPS and, of labelled photos, mIoU: by round, and by mask ratio after two rounds, the pipeline's own (the last
    round, where they are not among them). One line for each model. Written whole or not."""
    from matplotlib.figure import Figure  # half a second that only this command should pay

    rounds = report["protocol"]["rounds"]
    shown = 2 if 2 in rounds else rounds[-1]
    models = list(report["protocol"]["model"])
    known = report["variants"][f"{models[0]}: rounds={rounds[0]}"]["overall"]
    plotted = [metric for metric in PLOTTED if known[metric] is not None]
    figure = Figure(figsize=(11, 3.5 * len(plotted)), layout="constrained")
    axes = figure.subplots(len(plotted), 2, squeeze=False)
    for row, metric in zip(axes, plotted, strict=True):
        for model in models:
            variants = [report["variants"][f"{model}: rounds={k}"] for k in rounds]
            row[0].plot(rounds, [variant["overall"][metric] for variant in variants], marker="o", label=model)
            bins = report["variants"][f"{model}: rounds={shown}"]["by_mask_ratio"]
            row[1].plot(list(bins), [scores[metric] for scores in bins.values()], marker="o", label=model)
        row[0].set(xlabel="feedback rounds", ylabel=COLUMNS[metric][0], xticks=rounds)
        row[1].set(xlabel=f"share of the photo that is hole, after {shown} rounds", ylabel=COLUMNS[metric][0])
        for axis in row:
            axis.grid(alpha=0.3)
    axes[0][0].legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
