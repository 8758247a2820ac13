"""Photos in parquet files, as data sets have them: rows with a picture in the column `image`, its mask in `mask`, white
= hole, and what it is called in `id`. Results are files of these names, or parquet files again.

A table is a parquet file, a folder of them, or the URL of either, as in hf://datasets/USER/NAME. Only numbers of rows
go from one process to another; whoever works on them reads them.
"""

import functools
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from fbinpaint.batch.chunks import LARGEST, Chunks
from fbinpaint.batch.planning import Job, are_written, done_already, job
from fbinpaint.errors import InputError, one_line
from fbinpaint.images.convert import ALPHA
from fbinpaint.images.folders import walk
from fbinpaint.images.io import PHOTO_SUFFIXES, ImageBytes
from fbinpaint.system.urls import Place, Url, below, check_writable, exists, is_file, is_folder, is_url, real

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fbinpaint.batch.batch import Done
    from fbinpaint.restorer import Restorer

SUFFIX = ".parquet"
METADATA = "metadata.parquet"  # what `datasets` calls a table that only tells of the photos in its folder
COLUMNS = ("id", "image", "mask")
PART = 64  # rows of a file of results, at most
LONGEST = 200  # bytes of a file's name; what is put behind it fits as well


def is_table(image: Place) -> bool:
    """Whether these are photos in parquet files. Of a folder the first files decide, photos before others.

    A store is not asked, as its folders may have millions of files: there a table ends in .parquet, or is a data set.
    """
    if image.suffix.lower() == SUFFIX:
        return True
    if isinstance(image, Url) and image.scheme != "hf" or not is_folder(image):
        return False
    for _, names in walk(image, refuse=lambda line: None):
        suffixes = {PurePath(name).suffix.lower() for name in names if name != METADATA}
        if SUFFIX in suffixes or suffixes & set(PHOTO_SUFFIXES):
            return not suffixes & set(PHOTO_SUFFIXES)
    return False


@contextmanager
def opened(place: Place) -> "Iterator[pq.ParquetFile]":
    """Raises InputError for what cannot be read, also within."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with place.open() if isinstance(place, Url) else open(place, "rb") as file, pq.ParquetFile(file) as parquet:
            yield parquet
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror or one_line(error)}); check the file") from error
    except pa.ArrowException as error:
        raise InputError(f"{place}: is no whole parquet file ({one_line(error)}); save it again") from error


def parquet_files(table: Place, leave_out: Sequence[Place] = ()) -> Iterator[tuple[Place, PurePath]]:
    """The parquet files of a table, and what they are called below it, without suffix; without those in some folders.
    """
    if not exists(table):
        raise InputError(f"{table}: no such file or folder; check the path")
    if is_file(table):
        yield table, PurePath(table.stem)
        return
    for folder, names in walk(table, leave_out):
        for name in names:
            if name.lower().endswith(SUFFIX):
                yield folder / name, PurePath(below(folder, table) / name[: -len(SUFFIX)])


def plan_table(
    table: Place,
    output: Place,
    extras: Sequence[str] = (),
    remove: bool = False,
    mask: str | None = None,
    resume: bool = False,
    base: str = "",
) -> Chunks:
    """What is to be done for a table.

    output: a folder for PNG files; with the suffix .parquet one for parquet files of the columns id, image, `extras`,
        error and notes, as many rows as the table has
    remove: rows need no mask; mask: ALPHA, instead of a column of masks
    resume: leave alone what is there, but for rows that failed and, in parquet files, those beside them
    base: folder that relative paths in the table start from; "" = the one that whoever works on it is in
    Raises InputError, when it is gone through, where the table cannot be used or results of another run are there.
    """
    row_group.cache_clear()  # of an earlier run of this process; the file may be another by now
    if exists(output) and real(output) == real(table):
        raise InputError(f"{output}: is the table itself; name another --output")
    files = list(parquet_files(table, (output,)))
    if not files:
        raise InputError(f"{table}: holds no {SUFFIX} file; name a table, or a folder of photos")
    parts = Parts(output, resume, extras) if output.suffix.lower() == SUFFIX else None
    total = done = 0
    for file, name in files:
        try:
            with opened(file) as parquet:
                check_columns(file, parquet.schema_arrow.names, remove or mask is not None)
                total += parquet.metadata.num_rows
                if parts:
                    chunks = parts.of(parquet, file, output / name, mask)
                else:
                    folder = output / name if len(files) > 1 else output
                    chunks = in_files(parquet, file, folder, extras, mask, resume)
                for item in chunks:
                    if isinstance(item, int):
                        done += item
                    else:
                        yield replace(item, base=base) if isinstance(item, TableChunk) else item
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


def check_columns(file: Place, names: Sequence[str], no_mask: bool) -> None:
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
    mask, base: as in `plan_table`
    """

    file: Place
    group: int
    first: int
    rows: tuple[int, ...]
    mask: str | None
    results: tuple[Place, ...] | None = None
    part: Place | None = None
    base: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def work(self, restorer: "Restorer") -> "Iterator[Done]":
        from fbinpaint.batch.batch import Done

        ids: list[Any] = [f"{self.file.stem}-{self.first + row}" for row in self.rows]
        try:
            table = taken(row_group(self.file, self.group), self.rows, self.file)
            columns = {name: table[name].to_pylist() for name in table.column_names}
            for name in columns.keys() & {"image", "mask"}:
                columns[name] = [from_base(value, self.base) for value in columns[name]]
            ids = columns.setdefault("id", ids)
            if self.mask:
                columns["mask"] = [self.mask] * len(self)
            if self.results:
                columns["result"] = list(map(str, self.results))
            made = restorer(columns)
            if self.part:
                write_part(self.part, made, table.schema, restorer.extras)
            errors, notes = made["error"], made["notes"]
        except InputError as error:
            errors, notes = [str(error)] * len(self), [[]] * len(self)
        for name, error, lines in zip(map(str, ids), errors, notes, strict=True):
            begins = tuple(f"{what}{name}: " for what in ("", "row ", "mask of row "))  # as `Restorer` names pictures
            if error is not None and not error.startswith(begins):
                error = f"{name}: {error}"
            yield Done(Job(Path(name), None, self.part or Path(name)), error, notes=lines)


def from_base(value: Any, base: str) -> Any:
    """A picture of a row, with the folder `base` before the path to its file, if it has a relative one."""
    if isinstance(value, dict) and value.get("bytes") is None and isinstance(value.get("path"), str):
        return value | {"path": from_base(value["path"], base)}
    if isinstance(value, str) and value not in ("", ALPHA) and not is_url(value):
        return os.path.join(base, value)
    return value


def taken(table: "pa.Table", rows: Sequence[int], file: Place) -> "pa.Table":
    """Some rows of a table of a file. Raises InputError for types of which pyarrow cannot take any."""
    import pyarrow as pa

    try:
        return table.take(rows)
    except pa.ArrowException as error:
        raise InputError(f"{file}: a column has an odd type ({one_line(error)}); save it with another") from error


@functools.lru_cache(maxsize=1)
def row_group(file: Place, group: int) -> "pa.Table":
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
    parquet: "pq.ParquetFile", file: Place, folder: Place, extras: Sequence[str], mask: str | None, resume: bool
) -> Iterator[TableChunk | str | int]:
    """Chunks of a parquet file whose results go to `folder`, lines, and how many rows of a group are done already."""
    present = frozenset(next(walk(folder), (folder, ()))[1] if resume and is_folder(folder) else ())
    taken: set[str] = set()
    for group, first, count in row_groups(parquet):
        rows, results, done = [], [], 0
        for row, name in enumerate(file_names(parquet, group, first, count)):
            one = job(Path(name), None, folder / f"{name}.png", extras)
            names = {target.name for target in one.targets}
            if names & taken:
                yield f"{file}, row {first + row}: is called {name} like another; give each row an id of its own"
            elif are_written(one, present):
                done += 1
            else:
                rows.append(row)
                results.append(one.result)
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
        names = [None if name is None else PurePath(name).stem for name in names]
    else:
        names = numbers
    return [file_name(str(number if name in (None, "") else name)) for name, number in zip(names, numbers, strict=True)]


def file_name(text: str) -> str:
    """A name for a file in its folder: without separators, not hidden, not too long."""
    name = "".join("_" if c in "/\\\0" else c for c in text).encode(errors="replace")[:LONGEST].decode(errors="ignore")
    return f"_{name[1:]}" if name.startswith(".") else name


# ---------------------------------------------------------------------------------------------- results in parquet


class Parts:
    """The parquet files of results: what such a file is called says which rows it has, so that none is made twice."""

    def __init__(self, output: Place, resume: bool, extras: Sequence[str]):
        import datasets  # noqa: F401  # `write_part` needs it: whoever lacks it is told before the work, not after it

        self.extras = extras
        self.there = {path for path, _ in parquet_files(output)} if exists(output) else set()
        if self.there and not resume:
            raise InputError(f"{output}: holds results already; --resume goes on with them, or name another --output")

    def of(self, parquet: "pq.ParquetFile", file: Place, place: Place, mask: str | None) -> Iterator[TableChunk | int]:
        """Chunks of a parquet file, and how many rows are done already."""
        for group, first, count in row_groups(parquet):
            for start in range(0, count, PART):
                rows = tuple(range(start, min(start + PART, count)))
                part = place.with_name(f"{place.name}-{first + start:09}{SUFFIX}")
                if part in self.there and is_done(part, len(rows), self.extras):
                    yield len(rows)
                else:
                    yield TableChunk(file, group, first, rows, mask, part=part)
                self.there.discard(part)

    def others(self) -> Iterator[str]:
        for path in sorted(self.there):
            yield f"{path}: holds no rows of this table; move it away, or name another --output"


def is_done(part: Place, rows: int, extras: Sequence[str]) -> bool:
    """Whether a file of results has so many rows, none with an error, and the extras; its footer tells."""
    try:
        with opened(part) as parquet:
            footer = parquet.metadata
            statistics = footer.row_group(0).column(footer.schema.names.index("error")).statistics
            nulls = statistics.null_count if statistics else None  # another program may have left them out
            return footer.num_rows == rows == nulls and set(extras) <= set(parquet.schema_arrow.names)
    except (InputError, ValueError, IndexError):  # of a file that is broken, not ours, or without rows
        return False


def write_part(path: Place, rows: dict[str, list], schema: "pa.Schema", extras: Sequence[str]) -> None:
    """Writes results, as `Restorer` gives them, with the types by which `datasets` shows them as pictures.

    schema: of the rows that they were made from
    Raises InputError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value
    from datasets.features.features import generate_from_arrow_type

    from fbinpaint.batch.batch import Files

    try:
        id_type = generate_from_arrow_type(schema.field("id").type) if "id" in schema.names else Value("string")
    except (ValueError, NotImplementedError):  # `datasets` has no such type; UUIDs are of one, as pandas writes them
        id_type, rows = Value("string"), rows | {"id": [None if x is None else str(x) for x in rows["id"]]}
    pictures = {name: Image() for name in ("image", *extras)}
    features = Features({"id": id_type} | pictures | {"error": Value("string"), "notes": List(Value("string"))})
    file = io.BytesIO()
    pq.write_table(pa.table({name: rows[name] for name in features}, features.arrow_schema), file)
    Files().copy(ImageBytes(str(path), file.getvalue()), path)


def check_table_options(output: Place, mask: Place | str | None, keep_format: bool, quality: int | None) -> None:
    """Raises InputError for what does not go with tables."""
    if mask is not None and mask != ALPHA:
        raise InputError(f"--mask {mask}: masks of a table are in its column mask; leave --mask out, or use alpha")
    if keep_format or quality is not None:
        raise InputError("--format, --quality: results of a table are PNG files; leave them out")
    check_writable(output)
    if exists(output) and not is_folder(output):
        raise InputError(f"{output}: is a file; name a folder, which for parquet files ends in {SUFFIX}")
