"""Photos in parquet files, as data sets have them: rows with a picture in the column `image`, its mask in `mask`, white
= hole, and what it is called in `id`. Results are files of these names, or parquet files again.

A table is a parquet file, a folder of them, or the URL of either, as in hf://datasets/USER/NAME. Only numbers of rows
go from one process to another; whoever works on them reads them.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fbinpaint.chunks import LARGEST, Chunks
from fbinpaint.errors import InputError, one_line
from fbinpaint.files import whole_file
from fbinpaint.folders import walk
from fbinpaint.image_io import PHOTO_SUFFIXES
from fbinpaint.images import ALPHA
from fbinpaint.planning import Job, done_already, job

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fbinpaint.batch import Done
    from fbinpaint.restorer import Restorer

SUFFIX = ".parquet"
COLUMNS = ("id", "image", "mask")
PART = 64  # rows of a file of results, at most
LONGEST = 200  # characters of a file's name
TOKENS = {
    "hf": "HF_TOKEN, for data sets that are not public",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}


def is_table(image: Path | str) -> bool:
    """Whether these are photos in parquet files. Of a folder the first files decide, photos before others."""
    if urlsplit(str(image)).scheme == "hf" or str(image).rstrip("/").endswith(SUFFIX):
        return True
    if os.path.isdir(image):
        for _, names in walk(Path(image), refuse=lambda error: None):
            suffixes = {os.path.splitext(name)[1].lower() for name in names}
            if suffixes & {*PHOTO_SUFFIXES, SUFFIX}:
                return not suffixes & {*PHOTO_SUFFIXES}
    return False


def is_table_of_results(output: Path) -> bool:
    """Whether results are to go to parquet files, in a folder of such a name."""
    return output.suffix.lower() == SUFFIX


@contextmanager
def reading(name: str) -> Iterator[None]:
    """InputErrors of what cannot be read."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of many kinds: those of pyarrow, of fsspec's file systems, of what these rest upon
        token = TOKENS.get(urlsplit(name).scheme)
        advice = f"check it, and the environment's {token}" if token else "check the path and the file"
        raise InputError(f"{name}: cannot be read ({one_line(error)}); {advice}") from error


@contextmanager
def opened(name: str) -> "Iterator[pq.ParquetFile]":
    import fsspec
    import pyarrow.parquet as pq

    with reading(name), fsspec.open(name) as file, pq.ParquetFile(file) as parquet:
        yield parquet


def parquet_files(table: Path | str) -> tuple[list[str], str]:
    """The parquet files of a table, sorted, and the folder that they are in."""
    import fsspec

    name = str(table)
    with reading(name):
        fs, root = fsspec.core.url_to_fs(name)
        if fs.isfile(root):
            return [name], name.rpartition("/")[0]
        if not fs.exists(root):
            raise InputError(f"{name}: no such file or folder; check the path")
        found = [path for path in sorted(fs.find(root)) if path.endswith(SUFFIX) and "/." not in path[len(root) :]]
        if not found:
            raise InputError(f"{name}: holds no {SUFFIX} file; name a table, or a folder of photos")
        prefix = "" if os.path.exists(name) else f"{urlsplit(name).scheme}://"
        return [prefix + path for path in found], prefix + root.rstrip("/")


def plan_table(
    table: Path | str,
    output: Path,
    extras: Sequence[str] = (),
    remove: bool = False,
    mask: str | None = None,
    resume: bool = False,
) -> Chunks:
    """What is to be done for a table.

    output: a folder for PNG files; with the suffix .parquet one for parquet files of the columns id, image, `extras`,
        error and notes, as many rows as the table has
    remove: rows need no mask; mask: ALPHA, instead of a column of masks
    resume: leave alone what is there, but for rows that failed and, in parquet files, those beside them
    Raises InputError, when it is gone through, where the table cannot be used or results of another run are there.
    """
    row_group.cache_clear()  # of an earlier run of this process; the file may be another by now
    files, folder = parquet_files(table)
    parts = Parts(output, resume) if is_table_of_results(output) else None
    total = done = 0
    for file in files:
        try:
            with opened(file) as parquet:
                check_columns(file, parquet.schema_arrow.names, remove or mask is not None)
                place = output / file.removeprefix(folder).lstrip("/").removesuffix(SUFFIX)
                total += parquet.metadata.num_rows
                if parts:
                    chunks = parts.of(parquet, file, place, mask)
                else:
                    chunks = in_files(parquet, file, place if len(files) > 1 else output, extras, mask, resume)
                for item in chunks:
                    if isinstance(item, int):
                        done += item
                    else:
                        yield item
        except InputError as error:
            if len(files) == 1:
                raise
            yield str(error)
    if not total:
        raise InputError(f"{table}: holds no row that can be read; check it")
    if parts:
        yield from parts.others()
    if resume:
        yield done_already(output, done, total)


def check_columns(file: str, names: Sequence[str], no_mask: bool) -> None:
    for column in ("image",) if no_mask else ("image", "mask"):
        if column not in names:
            raise InputError(
                f"{file}: has no column {column}, only {', '.join(names)}; rename one"
                + (", or name what is to go: --remove car" if column == "mask" else "")
            )


@dataclass(frozen=True)
class TableChunk:
    """Some rows of a row group of a parquet file.

    first: number of the group's first row in the file
    rows: numbers in the group
    results: a file for each; None = results go to `part`, a parquet file
    mask: as in `plan_table`
    """

    file: str
    group: int
    first: int
    rows: tuple[int, ...]
    mask: str | None
    results: tuple[str, ...] | None = None
    part: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def work(self, restorer: "Restorer") -> "Iterator[Done]":
        from fbinpaint.batch import Done

        stem = self.file.rpartition("/")[2].removesuffix(SUFFIX)
        ids: list[Any] = [f"{stem}-{self.first + row}" for row in self.rows]
        try:
            table = row_group(self.file, self.group).take(self.rows)
            columns = {name: table[name].to_pylist() for name in table.column_names}
            ids = columns.setdefault("id", ids)
            if self.mask:
                columns["mask"] = [self.mask] * len(self)
            if self.results:
                columns["result"] = list(self.results)
            made = restorer(columns)
            if self.part:
                write_part(self.part, made, table.schema, restorer.extras)
            errors, notes = made["error"], made["notes"]
        except InputError as error:
            errors, notes = [str(error)] * len(self), [[]] * len(self)
        for name, error, lines in zip(map(str, ids), errors, notes, strict=True):
            if error is not None and name not in error:
                error = f"{name}: {error}"
            yield Done(Job(Path(name), None, self.part or Path(name)), error, notes=lines)


@functools.lru_cache(maxsize=1)
def row_group(file: str, group: int) -> "pa.Table":
    """Whole, as many of its rows are wanted one after the other."""
    with opened(file) as parquet:
        return parquet.read_row_group(group, [name for name in COLUMNS if name in parquet.schema_arrow.names])


def row_groups(parquet: "pq.ParquetFile") -> Iterator[tuple[int, int, int]]:
    """Of each its number, that of its first row, and how many it has."""
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        yield group, first, count
        first += count


# ---------------------------------------------------------------------------------------------- results in files


def in_files(
    parquet: "pq.ParquetFile", file: str, folder: Path, extras: Sequence[str], mask: str | None, resume: bool
) -> Iterator[TableChunk | str | int]:
    """Chunks of a parquet file whose results go to `folder`, lines, and how many rows of a group are done already."""
    try:
        present = frozenset(os.listdir(folder)) if resume else frozenset()
    except OSError:  # not there yet, or to be refused when the first result is written
        present = frozenset()
    taken: set[str] = set()
    for group, first, count in row_groups(parquet):
        rows, results, done = [], [], 0
        for row, name in enumerate(file_names(parquet, group, first, count)):
            one = job(Path(name), None, folder / f"{name}.png", extras)
            names = {target.name for target in one.targets}
            if names & taken:
                yield f"{file}, row {first + row}: is called {name} like another; give each row an id of its own"
            elif names <= present:
                done += 1
            else:
                rows.append(row)
                results.append(str(one.result))
            taken |= names
        yield done
        for start in range(0, len(rows), LARGEST):
            end = start + LARGEST
            yield TableChunk(file, group, first, tuple(rows[start:end]), mask, tuple(results[start:end]))


def file_names(parquet: "pq.ParquetFile", group: int, first: int, count: int) -> list[str]:
    """What the results of a row group are called: by the rows' ids, else by the files that the pictures come from, else
    by the rows' numbers."""
    numbers = [str(first + row) for row in range(count)]
    if "id" in parquet.schema_arrow.names:
        names = parquet.read_row_group(group, ["id"])["id"].to_pylist()
    elif "image.path" in (parquet.schema.column(i).path for i in range(len(parquet.schema))):
        names = [(x or {}).get("path") for x in parquet.read_row_group(group, ["image.path"])["image"].to_pylist()]
        names = [None if name is None else os.path.splitext(os.path.basename(name))[0] for name in names]
    else:
        names = numbers
    return [file_name(str(number if name in (None, "") else name)) for name, number in zip(names, numbers, strict=True)]


def file_name(text: str) -> str:
    """A name for a file in its folder: without separators, not hidden, not too long."""
    name = "".join("_" if c in "/\\\0" else c for c in text)[:LONGEST]
    return f"_{name[1:]}" if name.startswith(".") else name


# ---------------------------------------------------------------------------------------------- results in parquet


class Parts:
    """The parquet files of results: what such a file is called says which rows it has, so that none is made twice."""

    def __init__(self, output: Path, resume: bool):
        self.output, self.resume = output, resume
        try:
            self.there = {path for path in output.rglob(f"*{SUFFIX}") if not path.name.startswith(".")}
        except OSError as error:
            raise InputError(f"{output}: cannot be read ({error.strerror}); name another --output") from error
        if self.there and not resume:
            raise InputError(f"{output}: holds results already; --resume goes on with them, or name another --output")

    def of(self, parquet: "pq.ParquetFile", file: str, place: Path, mask: str | None) -> Iterator[TableChunk | int]:
        """Chunks of a parquet file, and how many rows are done already."""
        for group, first, count in row_groups(parquet):
            for start in range(0, count, PART):
                rows = tuple(range(start, min(start + PART, count)))
                part = place.with_name(f"{place.name}-{first + start:09}{SUFFIX}")
                if part in self.there and is_done(part, len(rows)):
                    yield len(rows)
                else:
                    yield TableChunk(file, group, first, rows, mask, part=part)
                self.there.discard(part)

    def others(self) -> Iterator[str]:
        for path in sorted(self.there):
            yield f"{path}: holds no rows of this table; move it away, or name another --output"


def is_done(part: Path, rows: int) -> bool:
    """Whether a file of results has so many rows, none with an error; its footer tells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(part)
        column = footer.schema.names.index("error")
        statistics = footer.row_group(0).column(column).statistics
        return footer.num_rows == rows == statistics.null_count
    except (OSError, ValueError, AttributeError, pa.ArrowException):
        return False


def write_part(path: Path, rows: dict[str, list], schema: "pa.Schema", extras: Sequence[str]) -> None:
    """Writes results, as `Restorer` gives them, with the types by which `datasets` shows them as pictures.

    schema: of the rows that they were made from
    Raises InputError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value
    from datasets.features.features import generate_from_arrow_type

    id_type = generate_from_arrow_type(schema.field("id").type) if "id" in schema.names else Value("string")
    pictures = {name: Image() for name in ("image", *extras)}
    features = Features({"id": id_type} | pictures | {"error": Value("string"), "notes": List(Value("string"))})
    table = pa.table({name: rows[name] for name in features}, features.arrow_schema)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: folder cannot be made ({error.strerror}); choose another") from error
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)


def check_table_options(output: Path, mask: Path | str | None, keep_format: bool, quality: int | None) -> None:
    """Raises InputError for what does not go with tables."""
    if mask is not None and mask != ALPHA:
        raise InputError(f"--mask {mask}: masks of a table are in its column mask; leave --mask out, or use alpha")
    if keep_format or quality is not None:
        raise InputError("--format, --quality: results of a table are PNG files; leave them out")
    if os.path.exists(output) and not output.is_dir():
        raise InputError(f"{output}: is a file; name a folder, which for parquet files ends in {SUFFIX}")
