"""Rows of photos in, rows of restored photos out, for engines that bring many machines to work on millions of them.

    import ray
    from fbinpaint import Restorer

    rows = ray.data.read_parquet("s3://bucket/photos")  # columns: id, image, mask
    rows = rows.map_batches(Restorer, fn_constructor_kwargs={"rounds": 2}, batch_size=16, num_gpus=1)
    rows.write_parquet("s3://bucket/restored")  # columns: id, image, error, notes

Nothing in it belongs to one engine: it is a class whose instances take a batch, by columns, and give one back, as
`map_batches` of Ray Data and, with an instance, `map(batched=True)` of Hugging Face's `datasets` have it.
"""

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from fbinpaint.batch.batch import Memory, Removing, Restoration, run
from fbinpaint.batch.planning import Job, clash_of, job
from fbinpaint.errors import InputError, check_whole
from fbinpaint.hub.model_names import AUTO, candidates, load_pipeline
from fbinpaint.images.convert import ALPHA
from fbinpaint.images.io import SAVE_FORMATS, ImageBytes
from fbinpaint.images.xmp import model_name
from fbinpaint.system.devices import AUTO_DEVICE
from fbinpaint.system.urls import Place, place, real

EXTRAS = ("before", "after", "mask")


class Restorer:
    """Restores the photos of a batch of rows. What a photo becomes does not depend on the other rows where `batch_size`
    is 1; in larger batches a pixel in a million may differ by a level.

    Args:
        model: a folder, a Hub id, or "auto": the bundled one that suits the photo best.
        rounds: K, corrections of the map; 0 = the usual one-way pipeline.
        remove: classes that are to go, by names or ids; None = only what masks mark is filled.
        grow, shadow, retries: as in `fbinpaint.removal.remove`, beside `remove`.
        seed: of the grain; None = the same grain in every call.
        extras: what is wanted beside each result: "before" and "after", its maps, and "mask", what was filled.
        quality: 1 to 100 of JPEG, AVIF and WebP files; None = 95, WebP lossless.
        provenance: whether the XMP of results says that a model painted in them.
        batch_size: photos that the networks work on together.
        device: where they do: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1" or "mps".
        dtype: of the networks: "float32", "float16" or "bfloat16".
        compile: whether torch.compile makes programs of the networks when they first run, which takes minutes.

    Raises:
        InputError: an argument is not of this form, the device is not there, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str = AUTO,
        rounds: int = 2,
        remove: str | int | Sequence[str | int] | None = None,
        grow: int | None = None,
        shadow: bool = False,
        retries: int = 0,
        seed: int | None = None,
        extras: Sequence[str] = (),
        quality: int | None = None,
        provenance: bool = True,
        batch_size: int = 1,
        device: str = AUTO_DEVICE,
        dtype: str = "float32",
        compile: bool = False,
    ):
        check_whole("batch_size", batch_size, 1)
        check_whole("retries", retries, 0)
        for name, number, low, high in (
            ("grow", grow, 0, None), ("quality", quality, 1, 100), ("seed", seed, 0, 2**64 - 1),
        ):  # fmt: skip
            if number is not None:
                check_whole(name, number, low, high)
        if not isinstance(model, str):
            raise InputError(f"model {model!r}: must be text; name a folder or a Hub id")
        from fbinpaint.pipeline.inputs import check_rounds  # here, as it brings torch

        check_rounds(rounds)
        if unknown := sorted(set(extras) - set(EXTRAS)):
            raise InputError(f"extras {', '.join(unknown)}: not known; choose from {', '.join(EXTRAS)}")
        if remove is None and (grow is not None or shadow or retries):
            raise InputError("grow, shadow, retries: only for what remove takes out; name its classes")
        classes = None if remove is None else [remove] if isinstance(remove, str | int | Integral) else list(remove)
        if classes == []:
            raise InputError("remove: names no class; name one or more, or leave it out")
        models = candidates(model, None if classes is None else [str(wanted) for wanted in classes])
        runtime: dict[str, Any] = {"device": device, "dtype": dtype, "compile": compile}
        pipes = {name: load_pipeline(folder, **runtime) for name, folder in models.items()}
        painters = {name: model_name(folder) if provenance else None for name, folder in models.items()}
        self.extras, self.batch_size = tuple(extras), batch_size
        self.task: Restoration | Removing
        if classes is None:
            self.task = Restoration(pipes, rounds, seed, painters, quality)
        else:
            options: dict[str, Any] = {"classes": classes, "num_feedback_rounds": rounds}
            options |= {"grow": grow, "shadow": shadow, "retries": retries}
            self.task = Removing(pipes, seed, painters, quality, **options)

    def __call__(self, rows: Mapping[str, Sequence]) -> dict[str, list]:
        """The restored photos of a batch of rows, in their order.

        rows: columns, each as long as the batch:
            image: the photo, as a path or URL, as what its file holds (bytes), or as {"bytes", "path"}, as parquet
                files have it, and `datasets` after `cast_column("image", Image(decode=False))`.
            mask: likewise, white = hole, or "alpha", the photo's transparent part; may be left out beside `remove`.
            result: the path or URL that the result is written to, of a format by its suffix; extras go to files beside
                it, NAME_before.png and so on. Left out: results are PNG files in the rows.
            id: what errors call a photo without a path; may be left out.

        Returns the other columns as they are, and
            image: with `result` as it was; else {"bytes", "path"} of the restored photo, None where that failed.
            before, after, mask: of `extras`, likewise.
            error: None, or one line that says what was wrong with the row.
            notes: lines about what was done, of each row.
        """
        columns = {name: list(values) for name, values in rows.items()}
        if "image" not in columns:
            raise InputError(f"the rows have no column image, only {', '.join(columns) or 'none'}; rename one")
        count = len(columns["image"])
        if uneven := [name for name, values in columns.items() if len(values) != count]:
            raise InputError(f"the columns {', '.join(uneven)} are not as long as the column image, {count} rows")
        in_files = "result" in columns
        results = columns.get("result") or [None] * count
        masks = columns.get("mask") or [None] * count
        names = [str(name) for name in columns.get("id", range(count))]
        jobs, numbers = [], []
        errors: list[str | None] = [None] * count
        notes: list[list[str]] = [[] for _ in range(count)]
        taken: set[str] = set()
        for number, row in enumerate(zip(columns["image"], masks, results, strict=True)):
            try:
                todo = self._job(number, names[number], *row, in_files)
                if in_files:
                    check_targets(todo, taken)
                jobs.append(todo)
                numbers.append(number)
            except InputError as error:
                errors[number] = str(error)
        output = None if in_files else Memory()
        pictures: dict[str, list] = {name: [None] * count for name in ("image", *self.extras)}
        for number, done in zip(numbers, run(self.task, jobs, self.batch_size, output), strict=True):
            errors[number], notes[number] = done.error, [*done.warnings, *done.notes]
            if output is None:
                continue
            made = {"image": done.job.result, **done.job.extras}
            files = {name: output.pop(path, None) for name, path in made.items()}
            if done.error is None:
                for name, path in made.items():
                    pictures[name][number] = {"bytes": files[name], "path": path.name}
        if not in_files:
            columns.pop("mask", None)
            columns |= pictures
        return columns | {"error": errors, "notes": notes}

    def _job(self, number: int, name: str, image: Any, mask: Any, result: Any, in_file: bool) -> Job:
        photo = picture(image, f"row {name}")
        assert photo is not None, "a photo may not be missing"
        hole: Place | ImageBytes | str | None
        hole = ALPHA if isinstance(mask, str) and mask == ALPHA else picture(mask, f"mask of {photo}", missing=True)
        if hole is None and isinstance(self.task, Restoration):
            raise InputError(f"{photo}: has no mask; add a column mask, or name what is to go")
        if not in_file:
            stem = (name if str(photo) == f"row {name}" else Path(str(photo)).stem) or str(number)
            # A path of no file; the number keeps those of the batch apart.
            return job(photo, hole, Path(str(number), f"{stem.replace('/', '_')}.png"), self.extras)
        if not isinstance(result, str | os.PathLike):
            raise InputError(f"{photo}: the column result holds {result!r:.80}; give the path or URL of a file")
        return job(photo, hole, place(result), self.extras)


def check_targets(todo: Job, taken: set[str]) -> None:
    """Raises InputError for a result in no format that is written, and for one that would be written over what is read,
    or over the result of another row, as `taken` has it; adds to that."""
    if Path(str(todo.result)).suffix.lower() not in SAVE_FORMATS:
        raise InputError(f"{todo.result}: results are written as {' '.join(SAVE_FORMATS)}; name one of these")
    if clash := clash_of(todo, taken):
        raise InputError(clash)
    taken.update(map(real, todo.targets))


def picture(value: Any, name: str, missing: bool = False) -> Place | ImageBytes | None:
    """A picture of a row, named for messages. Raises InputError for anything else, and, unless it may be missing, None.
    """
    if isinstance(value, Mapping):
        path, data = value.get("path"), value.get("bytes")
        value, name = (path, name) if data is None else (data, str(path or name))
    if isinstance(value, bytes | bytearray | memoryview):
        return ImageBytes(name, bytes(value))
    if isinstance(value, str | os.PathLike) and str(value):
        return place(value)
    if missing and (value is None or (isinstance(value, float) and np.isnan(value))):
        return None
    raise InputError(
        f"{name}: is a {type(value).__name__}; give a path or a URL, or what an image file holds, as datasets do after "
        "cast_column(..., Image(decode=False))"
    )
