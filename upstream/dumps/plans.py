"""plan_dump(): decide how a dump is cut into parts, as data that any process can carry out."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from django.core.exceptions import FieldDoesNotExist
from django.db import connections
from django.db.models import QuerySet

from upstream.dumps import cuts, encoders, querysets
from upstream.dumps.targets import Target, target_named, target_of
from upstream.dumps.values import from_json, to_json
from upstream.streaming import Column, ColumnError, Csv, SourceError, plan
from upstream.streaming.columns import Names, as_columns
from upstream.streaming.compression import SUFFIXES, Compression, check_compression
from upstream.streaming.databases import database_of
from upstream.streaming.encoders.protocol import Encoder, capabilities_of
from upstream.streaming.sources.keyset import why_not
from upstream.streaming.sources.model_columns import is_sensitive

MOST_PARTS = 10_000  # and the most pieces of which S3 makes an object
VERSION = 1
Data = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DumpPlan:
    """How a dump is cut into parts, and where they go; all of it is JSON data.

    `source` is a queryset, `columns` are names with their headers, `encoder` and `target` their options. `ranges`
    are the first value of `key` in each part, and the value before which it ends; None leaves an end open.
    `snapshot` names the state of the database that all parts read, as long as someone holds it. The names of parts
    begin with the `folder`, and they are counted from `first`.

    `json.dumps` of `as_data()` is complete, and holds the values of the filters: keep it as you keep the rows.
    """

    identity: str
    source: Data
    columns: Sequence[Data]
    encoder: Data
    compression: Compression | None
    key: str
    ranges: Sequence[Sequence[Any]]
    target: Data
    windows: bool = False
    joined: bool = False
    snapshot: str = ""
    folder: str = ""
    first: int = 0
    version: int = VERSION

    def as_data(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Data) -> Self:
        """Return the plan that `as_data` gave; raise SourceError for one of another version."""
        if data.get("version") != VERSION:
            raise SourceError(
                f"this plan is of version {data.get('version')!r}, not {VERSION}: plan the dump again"
            )
        return cls(**data)

    @property
    def plans(self) -> Sequence[Self]:
        """The plan itself: a dump of one model."""
        return [self]

    @property
    def numbers(self) -> range:
        """The numbers of the parts."""
        return range(self.first, self.first + len(self.ranges))

    @property
    def alias(self) -> str:
        """The alias of the database that is read."""
        alias: str = self.source["database"]
        return alias

    @property
    def suffix(self) -> str:
        """The suffix of the files, such as .csv.gz."""
        ending = next((suffix for suffix, name in SUFFIXES.items() if name == self.compression), "")
        return self.made_encoder().suffix + ending

    def rows(self) -> QuerySet[Any]:
        """Return the rows of all parts, in the order of the dump."""
        return querysets.from_data(self.source)

    def rows_of(self, part: int) -> QuerySet[Any]:
        """Return the rows of the part with a number."""
        start, end = map(from_json, self.ranges[part - self.first])
        limits = {"gte": start, "lt": end}
        found = {f"{self.key}__{lookup}": value for lookup, value in limits.items() if value is not None}
        return self.rows().filter(**found)

    def made_columns(self) -> list[Column]:
        """Return the columns as the engine takes them."""
        return [Column(**column) for column in self.columns]

    def made_encoder(self) -> Encoder:
        """Return the encoder of whole files."""
        return encoders.from_data(self.encoder)

    def made_target(self) -> Target:
        """Return the target that the parts are written to."""
        return target_of(self.target)

    @contextmanager
    def holding_snapshot(self) -> Iterator["DumpPlan"]:
        """Yield the plan with a snapshot that is held in the block, where the database can share one."""
        with sharing_snapshot([self]) as [plan]:
            yield plan

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the snapshot of the plan, if it has one, in the block."""
        name = self.snapshot.partition("/")[2]
        if not name:
            yield
            return
        with database_of(connections[self.alias]).join_snapshot(self.alias, name, self.tables()):
            yield

    def tables(self) -> list[str]:
        """Return the names of the tables that are read."""
        return querysets.tables(self.rows(), [column["source"] for column in self.columns])


def plan_dump(
    source: Any,
    columns: Names | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    target: Target | str | os.PathLike[str] = "dump",
    *,
    parts: int = 8,
    compression: Compression | None = None,
    windows: bool = False,
    joined: bool = False,
) -> DumpPlan:
    """Plan a dump of the queryset `source` in at most `parts` parts; nothing is exported.

    `columns` are names, with headers and joins, as `stream` takes them, but no functions. `target` is a directory,
    another place that `target_named` knows, or a Target. The rows keep the order of the source, followed by the
    primary key, by which they are ordered without one; the parts are ranges of the first field of that order,
    which has to be one of the model's own that is never NULL. A composite key is cut by its first field.
    `compression` is "gzip" or "zstd". With `windows`, nothing stays open on the database, and a part shows several
    states of it. With `joined`, the parts become one file in the end.

    To find the ranges takes a few index look-ups, or one walk over the keys if they are few, or neither integers
    nor UUIDs (see `cuts`). Raises SourceError, ColumnError or ValueError for what cannot be planned.
    """
    check_options(encoder, parts, compression)
    data = dict(querysets.to_data(source))
    declared = _columns(source, columns, encoder)
    data["order"] = _whole_order(querysets.from_data(data))
    rows = querysets.from_data(data)
    made = [Column(**column) for column in declared]
    plan(rows, made, encoder, windows=windows)
    key = data["order"][0].lstrip("-")
    ranges = _ranges(rows, data["order"][0], parts) if parts > 1 else [(None, None)]
    place = target_named(target) if isinstance(target, str | os.PathLike) else target
    stays_whole = encoders.seam_of(encoder).join_files is not None and not joined
    return DumpPlan(
        identity=secrets.token_hex(8),
        source=data,
        columns=declared,
        encoder=encoders.to_data(encoders.settled(encoder, rows, made)),
        compression=compression,
        key=key,
        ranges=to_json(ranges),
        target=place.as_data(),
        windows=windows,
        joined=joined,
        folder=rows.model._meta.label_lower if stays_whole else "",  # beside no manifest, its files are a data set
    )


@contextmanager
def sharing_snapshot(plans: Sequence[DumpPlan]) -> Iterator[Sequence[DumpPlan]]:
    """Yield plans with one snapshot, which is held in the block, where the database can share one."""
    if plans[0].windows:
        yield [replace(plan, snapshot="") for plan in plans]
        return
    alias, token = plans[0].alias, secrets.token_hex(4)  # databases give a name again
    tables = [plan.tables() for plan in plans]
    with database_of(connections[alias]).share_snapshot(alias, tables) as names:
        shared = zip(plans, names, strict=True)
        yield [replace(plan, snapshot=f"{token}/{name}" if name else "") for plan, name in shared]


def check_options(encoder: Encoder, parts: int, compression: Compression | None) -> None:
    """Raise SourceError or ValueError for what no dump can have, before anything is read."""
    if isinstance(parts, bool) or not isinstance(parts, int) or not 1 <= parts <= MOST_PARTS:
        raise ValueError(f"parts must be a number from 1 to {MOST_PARTS}, not {parts!r}")
    check_compression(compression)
    encoders.to_data(encoder)
    if compression and capabilities_of(encoder).is_compressed:
        raise ValueError(f"{type(encoder).__name__} is compressed inside: leave out compression={compression!r}")


def _columns(source: Any, columns: Names | None, encoder: Encoder) -> list[Data]:
    wanted = as_columns(plan(source, None, encoder).headers or () if columns is None else columns)
    for column in wanted:
        if column.name is None or column.value is not None:
            raise ColumnError(f"column {str(column.header)!r} is made by a function, which a plan cannot hold")
    return [{"source": one.name, "header": str(one.header), "join": one.join} for one in wanted]


def _whole_order(rows: QuerySet[Any]) -> list[str]:
    """Return the order of a queryset and, in the direction of its end, what it lacks of the primary key."""
    order = list(map(str, rows.query.order_by))
    names = {name.lstrip("-") for name in order}
    direction = "-" if order and order[-1].startswith("-") else ""
    return [*order, *(direction + name for name in querysets.key_names(rows.model) if name not in names)]


def _ranges(rows: QuerySet[Any], first: str, parts: int) -> list[cuts.Range]:
    """Return the ranges in the order of the rows, descending if their first field is."""
    key = first.lstrip("-")
    if reason := why_uncut(rows, key):
        raise SourceError(f"this queryset cannot be cut into parts because {reason}: change it, or plan parts=1")
    found = cuts.ranges(rows, key, parts)
    return found[::-1] if first.startswith("-") else found


def why_uncut(rows: QuerySet[Any], key: str) -> str:
    """Return why rows cannot be cut into ranges of a key, or ""; a row without one would be in no range."""
    if reason := why_not(rows) or _why_no_key(rows.model, key):
        return reason
    is_missing = rows.order_by().filter(**{f"{key}__isnull": True}).exists()
    return f"{key!r}, which it is ordered by first, is NULL in some rows" if is_missing else ""


def _why_no_key(model: Any, name: str) -> str:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return f"{name!r}, which it is ordered by first, is no field of {model.__name__} itself"
    if not getattr(field, "concrete", False):
        return f"{name!r}, which it is ordered by first, has no column"
    if is_sensitive(field):
        return f"{name!r}, which it is ordered by first, is sensitive, and the bounds of parts are told"
    if field.is_relation and name != field.attname:
        return (
            f"it is ordered by {name!r} first, which stands for the order of another model; use {field.attname!r}"
        )
    return f"{name!r}, which it is ordered by first, may be NULL" if field.null else ""
