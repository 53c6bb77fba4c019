"""Encoders as data: the class by its name, and the options that differ from their defaults."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from upstream.dumps.values import from_json, to_json
from upstream.streaming import Column, Csv, Json, JsonLines, Parquet, SourceError, Xlsx, stream
from upstream.streaming._optional import optional
from upstream.streaming.batches import Batch
from upstream.streaming.encoders.protocol import Capabilities, Columns, Encoder, Seam, capabilities_of

ENCODERS: Mapping[str, Any] = {kind.__name__: kind for kind in (Csv, Json, JsonLines, Parquet, Xlsx)}
# Encoders decide by no more.
FIRST_ROWS = 10_000


def to_data(encoder: Encoder) -> Mapping[str, Any]:
    """Return an encoder as JSON data; raise SourceError for one whose files cannot be joined."""
    name = type(encoder).__name__
    if ENCODERS.get(name) is not type(encoder):
        raise SourceError(
            f"a dump cannot write {name}, whose parts would not make one whole: choose {', '.join(ENCODERS)}"
        )
    if capabilities_of(encoder).seam is None:
        raise SourceError(f"a dump cannot write {encoder!r}, since each part would be summed up on its own")
    values = {one.name: (getattr(encoder, one.name), _default(one)) for one in _options(encoder)}
    changed = {option: value for option, (value, default) in values.items() if value != default}
    return {"name": name, "options": {option: _to_json(option, value) for option, value in changed.items()}}


def from_data(data: Mapping[str, Any]) -> Encoder:
    """Return the encoder that `to_data` wrote down."""
    options = {name: _from_json(name, value) for name, value in data["options"].items()}
    if "separators" in options:
        options["separators"] = tuple(options["separators"])
    encoder: Encoder = ENCODERS[data["name"]](**options)
    return encoder


def seam_of(encoder: Encoder) -> Seam:
    """Return how the files of a planned encoder are joined."""
    seam = capabilities_of(encoder).seam
    assert seam is not None, "planned encoders have one"
    return seam


def settled(encoder: Encoder, rows: Any, columns: Sequence[Column]) -> Encoder:
    """Return the encoder that writes all parts alike: with what it would take from the first rows as options."""
    capabilities = capabilities_of(encoder)
    if capabilities.settle is None:
        return encoder
    settling = _Settling(encoder, capabilities)
    with closing(stream(rows[:FIRST_ROWS], columns, settling)) as chunks:
        next(chunks, None)
    return settling.settled[0]


@dataclass
class _Settling:
    """Writes nothing of the rows that it is given, but lets an encoder see them."""

    encoder: Encoder
    capabilities: Capabilities
    settled: list[Encoder] = field(default_factory=list)

    content_type: ClassVar[str] = ""
    suffix: ClassVar[str] = ""

    def check(self, columns: Columns) -> None:
        self.capabilities.check(columns)

    def encode(self, columns: Columns | None, batches: Generator[Batch]) -> Generator[bytes]:
        assert self.capabilities.settle is not None, "without it, nothing is asked for"
        self.settled.append(self.capabilities.settle(columns or (), batches))
        yield b"settled"


def _options(encoder: Any) -> Sequence[Any]:
    return fields(encoder)


def _default(option: Any) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _to_json(option: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        write = _type_to_json if option == "types" else to_json
        return {str(name): write(one) for name, one in value.items()}
    return to_json(value)


def _from_json(option: str, value: Any) -> Any:
    if option == "types":
        return {name: _type_from_json(one) for name, one in value.items()}
    return value if option == "number_formats" else from_json(value)


def _type_to_json(kind: Any) -> str | Mapping[str, str]:
    """Return a type of Arrow as the bytes of a schema, which names all of them; a text is an alias already."""
    if isinstance(kind, str):
        return kind
    schema = optional("pyarrow", "parquet").schema([("", kind)])
    return {"arrow": schema.serialize().to_pybytes().hex()}


def _type_from_json(value: Any) -> Any:
    if isinstance(value, str):
        return value
    arrow: Any = optional("pyarrow", "parquet")
    schema = arrow.ipc.read_schema(arrow.py_buffer(bytes.fromhex(value["arrow"])))
    return schema.field(0).type
