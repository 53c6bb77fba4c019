"""Single stages in memory, on one batch of rows: `pytest benchmarks --benchmark-only`."""

import csv
import zlib
from collections.abc import Generator
from decimal import Decimal
from io import StringIO
from typing import Any

import msgspec
import orjson
import pytest

from benchmarks.table.rows import COLUMNS, customers, payments
from upstream.streaming import Csv, JsonLines
from upstream.streaming.columns import OutputColumn
from upstream.streaming.compression import compressed

ENCODER = msgspec.json.Encoder()
DETAILS = COLUMNS.index("details")
OUTPUT_COLUMNS = [OutputColumn(name, json=name == "details") for name in COLUMNS]


@pytest.fixture(scope="module")
def batch() -> list[tuple[Any, ...]]:
    return rows(2000)


@pytest.fixture(scope="module")
def text() -> bytes:
    """Ten megabytes of CSV, none of it twice."""
    return encoded(Csv(), rows(32_000))


def rows(number: int) -> list[tuple[Any, ...]]:
    """Return rows as a database gives them: the JSON column is the text of the database."""
    names = {customer["id"]: customer["name"] for customer in customers()}
    records = [
        fields
        | {"customer__name": names[fields["customer_id"]], "details": orjson.dumps(fields["details"]).decode()}
        for fields in payments(number)
    ]
    return [tuple(record[name] for name in COLUMNS) for record in records]


def encoded(encoder: Csv | JsonLines, batch: list[tuple[Any, ...]]) -> bytes:
    return b"".join(encoder.encode(OUTPUT_COLUMNS, (one for one in [batch])))


def with_csv_module(batch: list[tuple[Any, ...]]) -> bytes:
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    writer.writerows(batch)
    return file.getvalue().encode()


def with_orjson(batch: list[tuple[Any, ...]]) -> bytes:
    records = (dict(zip(COLUMNS, row, strict=True)) for row in batch)
    return b"".join(
        orjson.dumps(
            record | {"details": orjson.Fragment(record["details"])}, _decimal_text, orjson.OPT_APPEND_NEWLINE
        )
        for record in records
    )


def with_orjson_on_tuples(batch: list[tuple[Any, ...]]) -> bytes:
    """Write arrays: what objects cost beyond that is their names."""
    return orjson.dumps(batch, _decimal_text)


def with_msgspec(batch: list[tuple[Any, ...]]) -> bytes:
    """Write UTC as Z, where this project writes +00:00."""
    return ENCODER.encode_lines(
        [dict(zip(COLUMNS, row, strict=True)) | {"details": msgspec.Raw(row[DETAILS].encode())} for row in batch]
    )


def _decimal_text(value: Decimal) -> str:
    return format(value, "f")


@pytest.mark.benchmark(group="CSV, 2000 rows")
def test_csv(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    assert benchmark(encoded, Csv(), batch) == with_csv_module(batch)


@pytest.mark.benchmark(group="CSV, 2000 rows")
def test_csv_module(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    benchmark(with_csv_module, batch)


@pytest.mark.benchmark(group="NDJSON, 2000 rows")
def test_ndjson(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    assert benchmark(encoded, JsonLines(), batch) == with_orjson(batch)


@pytest.mark.benchmark(group="NDJSON, 2000 rows")
def test_orjson(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    benchmark(with_orjson, batch)


@pytest.mark.benchmark(group="NDJSON, 2000 rows")
def test_orjson_on_tuples(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    assert len(orjson.loads(benchmark(with_orjson_on_tuples, batch))) == len(batch)


@pytest.mark.benchmark(group="NDJSON, 2000 rows")
def test_msgspec(benchmark: Any, batch: list[tuple[Any, ...]]) -> None:
    written = benchmark(with_msgspec, batch).replace(b'Z"', b'+00:00"')
    assert written.splitlines() == encoded(JsonLines(), batch).splitlines()


def blocks(text: bytes) -> Generator[bytes]:
    yield from (text[start : start + 65_536] for start in range(0, len(text), 65_536))


@pytest.mark.benchmark(group="compression, 10 MB of CSV")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compression(benchmark: Any, text: bytes, compression: str) -> None:
    size = benchmark(lambda: sum(map(len, compressed(blocks(text), compression))))
    assert size < len(text) / 2


@pytest.mark.benchmark(group="compression, 10 MB of CSV")
def test_zlib(benchmark: Any, text: bytes) -> None:
    benchmark(zlib.compress, text, level=1)
