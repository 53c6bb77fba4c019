"""The Encoder protocol, which turns rows into the bytes of one format. Implement it to add a format."""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, BinaryIO, Literal, Protocol

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn

Columns = Sequence[OutputColumn]
FastLane = Literal["copy", "text"]
# Opens a value of a document as rows; yields their columns (None for whole records) and their batches.
OpenRows = Callable[[Any], AbstractContextManager[tuple[Columns | None, Generator[Batch]]]]
WriteDocument = Callable[[Mapping[Any, Any], OpenRows], Generator[bytes]]
Frame = Callable[[Columns, Generator[list[bytes]]], Generator[bytes]]
# Takes files in order, which can seek, and each of which is open until the next one is taken.
JoinFiles = Callable[[Iterable[BinaryIO]], Generator[bytes]]


class Encoder(Protocol):
    """A format; its options are usually the fields of a frozen dataclass.

    Only these three members are required. The optional ones are the attributes listed in `Capabilities`.
    """

    @property
    def content_type(self) -> str:
        """The media type with its parameters, such as "text/csv; charset=utf-8"."""

    @property
    def suffix(self) -> str:
        """The file name suffix with its dot, such as ".csv"."""

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        """Yield about one chunk of bytes per batch, and keep nothing from one batch to the next.

        Close `batches` at the end, on an error and when closed early. `columns` is None only if the encoder
        `takes_records`, and empty if the source has neither names nor rows.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """How files of a format are joined to one: `between` takes the place of a file's end and the next one's head.

    `head` is what stands before the rows; None means all that a file without rows holds. `end` is what stands
    after them. `following` is the encoder of all files but the first, if it is another one.

    A format whose files cannot be cut there has `join_files` instead, which yields one file made of whole ones.
    """

    head: bytes | None = None
    between: bytes = b""
    end: bytes = b""
    following: Encoder | None = None
    join_files: JoinFiles | None = None


Settle = Callable[[Columns, Generator[Batch]], Encoder]


def _accept(_columns: Columns) -> None:
    """Accept any columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an encoder can do besides `encode`: each field is an optional attribute of encoders, with its default.

    The fast lanes are off by default. Their attributes count only if the encoder's own class declares them, since
    a subclass may write something else, and only if `lane_options` lists every option that differs from its
    default.
    """

    check: Callable[[Columns], None] = _accept
    """Raise ColumnError for columns that the format cannot hold; called before reading, if they are known then."""

    check_part: Callable[[Columns], None] | None = None
    """As `check`, for the columns of one source in a document; by default it is `check`."""

    takes_records: bool = False
    """Whether it also writes whole records, such as dicts: then `columns` is None and rows are 1-tuples."""

    takes_positions: bool = False
    """Whether columns need no names, so that rows may be plain sequences."""

    is_compressed: bool = False
    """Whether its bytes are compressed already, so that `stream` refuses to compress them again."""

    first_byte: str = ""
    """When the first byte comes, if it does not come with the first rows; the plan says it."""

    encode_document: WriteDocument | None = None
    """Write a mapping as one object, opening those of its values that are sources of rows."""

    seam: Seam | None = None
    """How its files are joined to one; None if they cannot be. A subclass has to declare it again."""

    settle: Settle | None = None
    """Return the encoder with options for what it would take from the first rows or from the process.

    So it writes files of the same columns alike, whatever rows they hold and whichever process writes them.
    """

    takes_texts: frozenset[type] | None = None
    """Lane "text": it calls `OutputColumn.load`, and takes values or preformatted text of these types."""

    row_format: object = None
    """Lane "copy": its row format, for databases that can render it (see `databases.protocol`)."""

    frame: Frame | None = None
    """Lane "copy": yield rows rendered by a database, with the framing that `encode` gives them."""

    lane_options: Mapping[FastLane, Collection[str]] = field(default_factory=dict)
    """For each lane, the options with which it still gives the bytes of `encode`."""

    refusals: Mapping[FastLane, str] = field(default_factory=dict)
    """For each lane, why the encoder cannot use it; computed, never declared."""


REQUIRED = ("content_type", "suffix", "encode")
FAST: Mapping[FastLane, tuple[str, ...]] = {"copy": ("row_format", "frame"), "text": ("takes_texts",)}


def capabilities_of(encoder: Encoder) -> Capabilities:
    """Return what `encoder` can do with its options; raise ValueError if it is not an encoder."""
    _check(encoder)
    declared = _declared(encoder)
    name, changed = encoder.__class__.__name__, _changed_options(encoder)
    refusals: dict[FastLane, str] = {}
    for lane, attributes in FAST.items():
        unlisted = changed.difference(declared.get("lane_options", {}).get(lane, ()))
        if any(declared.get(attribute) is None for attribute in attributes):
            refusals[lane] = f"{name} is rendered in Python"
        elif unlisted:
            refusals[lane] = f"{name}({', '.join(sorted(unlisted))}=...) is rendered in Python"
        if lane in refusals:
            declared.update(dict.fromkeys(attributes))
    return Capabilities(**declared, refusals=refusals)


def short_repr(encoder: Any) -> str:
    """Return an encoder as it is written: its class, with the options that differ from their defaults."""
    changed = _changed_options(encoder)
    options = (f"{one.name}={getattr(encoder, one.name)!r}" for one in fields(encoder) if one.name in changed)
    return f"{type(encoder).__name__}({', '.join(options)})"


def _check(one: object) -> None:
    if isinstance(one, type) or not all(hasattr(one, name) for name in REQUIRED):
        raise ValueError(f"encoder must be an instance with {', '.join(REQUIRED)}, such as Csv(), not {one!r}")


def _declared(one: object) -> dict[str, Any]:
    own = vars(type(one))
    of_own_class = {
        "lane_options",
        "seam",
        *(attribute for attributes in FAST.values() for attribute in attributes),
    }
    names = [field.name for field in fields(Capabilities) if field.name != "refusals"]
    return {
        name: getattr(one, name) for name in names if (name in own if name in of_own_class else hasattr(one, name))
    }


def _changed_options(one: Any) -> set[str]:
    """Return the options that differ from their defaults; all of them if the class is not a dataclass."""
    if not is_dataclass(one):
        return set(getattr(one, "__dict__", ()))
    return {option.name for option in fields(one) if getattr(one, option.name) != _default(option)}


def _default(option: Any) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()
