"""What an encoder is: rows to the bytes of one format. This is the extension point."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Protocol

from upstream.streaming.batches import Batch
from upstream.streaming.columns import OutputColumn

Columns = Sequence[OutputColumn]
FastLane = Literal["copy", "text"]
# Opens a value of a document as rows: their columns, None where they are whole records, and their batches.
OpenRows = Callable[[Any], AbstractContextManager[tuple[Columns | None, Generator[Batch]]]]
WriteDocument = Callable[[Mapping[Any, Any], OpenRows], Generator[bytes]]
Frame = Callable[[Columns, Generator[list[bytes]]], Generator[bytes]]


class Encoder(Protocol):
    """A format, with its options as the fields of a frozen dataclass.

    These three are all that it needs. What else it can do, it declares by attributes that `Capabilities` lists.
    """

    @property
    def content_type(self) -> str:
        """The media type, with its parameters."""

    @property
    def suffix(self) -> str:
        """The file name's ending, with its dot."""

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        """Yield about one chunk of bytes a batch; nothing is held from one batch to the next.

        It closes `batches` however it ends. `columns` is None only where the encoder `takes_records`.
        """


def _accept(_columns: Columns) -> None:
    """Any columns will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an encoder can do beside `encode`. Each field is an attribute that it may have, with its default.

    The fast lanes are refused by default. What an encoder declares for them counts only where its own class
    declares it, since a class derived from it may write something else; and only as long as every option that
    differs from its default is one that `lane_options` lists for the lane.
    """

    check: Callable[[Columns], None] = _accept
    """Raises ColumnError for columns that the format cannot hold; called before anything is read."""

    takes_records: bool = False
    """Whether it writes whole records too, each with its own keys or none: rows of one value, without columns."""

    takes_positions: bool = False
    """Whether columns need no names, so that plain sequences can be rows as they are."""

    encode_document: WriteDocument | None = None
    """Writes a mapping as one object, and opens those of its values that are sources of rows."""

    takes_texts: frozenset[type] | None = None
    """Lane "text": it loads each column by `OutputColumn.load`, to values or finished texts of these types."""

    row_format: object = None
    """Lane "copy": the format of its rows, for databases that write them (see `databases.protocol`)."""

    frame: Frame | None = None
    """Lane "copy": yields rows that a database wrote, and what stands around them, as `encode` would."""

    lane_options: Mapping[FastLane, Collection[str]] = field(default_factory=dict)
    """By lane, the options with which the lane gives the bytes that `encode` gives."""

    refusals: Mapping[FastLane, str] = field(default_factory=dict)
    """By lane, why the encoder does not take it; never declared."""


REQUIRED = ("content_type", "suffix", "encode")
FAST: Mapping[FastLane, tuple[str, ...]] = {"copy": ("row_format", "frame"), "text": ("takes_texts",)}


def capabilities_of(encoder: Encoder) -> Capabilities:
    """Return what `encoder` can do with the options that it has."""
    _check(encoder)
    declared = _declared(encoder)
    name, changed = encoder.__class__.__name__, _changed_options(encoder)
    refusals: dict[FastLane, str] = {}
    for lane, attributes in FAST.items():
        unlisted = changed.difference(declared.get("lane_options", {}).get(lane, ()))
        if any(declared.get(attribute) is None for attribute in attributes):
            refusals[lane] = f"{name} is written in Python"
        elif unlisted:
            refusals[lane] = f"{name}({', '.join(sorted(unlisted))}=...) is written in Python"
        if lane in refusals:
            declared.update(dict.fromkeys(attributes))
    return Capabilities(**declared, refusals=refusals)


def _check(one: object) -> None:
    if isinstance(one, type) or not all(hasattr(one, name) for name in REQUIRED):
        raise ValueError(f"encoder is an instance with {', '.join(REQUIRED)}, such as Csv(), not {one!r}")


def _declared(one: object) -> dict[str, Any]:
    own = vars(type(one))
    fast = {"lane_options", *(attribute for attributes in FAST.values() for attribute in attributes)}
    names = [field.name for field in fields(Capabilities) if field.name != "refusals"]
    return {name: getattr(one, name) for name in names if (name in own if name in fast else hasattr(one, name))}


def _changed_options(one: Any) -> set[str]:
    """Return the names of the options that are not the default; all those of a class that is no dataclass."""
    if not is_dataclass(one):
        return set(getattr(one, "__dict__", ()))
    return {option.name for option in fields(one) if getattr(one, option.name) != _default(option)}


def _default(option: Any) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()
