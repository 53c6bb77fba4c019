"""What claims must be like before they are relied upon, and whether an exported file is what it should be."""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from math import inf
from os import PathLike
from pathlib import PurePath
from typing import IO, Any

from upstream.services.claim_columns import ClaimFileError, claim_columns
from upstream.services.claim_values import (
    AMOUNTS,
    DATES,
    MAX_LENGTHS,
    REQUIRED_COLUMNS,
    is_personal,
    parsed_amount,
    parsed_date,
    parsed_outcome,
)
from upstream.services.export_checks import check_export
from upstream.services.suspicious_patterns import find_patterns
from upstream.streaming.errors import ExportError
from upstream.streaming.sources.files import opened

StrPath = str | PathLike[str]

MAX_UPLOAD_BYTES = 500 * 1024 * 1024  # some 5,000,000 claims
UPLOAD_SUFFIXES = (".csv", ".csv.gz", ".csv.zst")
MAX_HEADER = 64 * 1024  # characters; a line of a compressed file could fill the memory


class DataQualityService:
    """Check claims files, claims and exported files.

    Every method is static and keeps no state. Only querysets need configured settings. Problems are returned as
    plain structures; only an argument that makes no sense is raised.
    """

    @staticmethod
    def validate_upload_format(file_obj: IO[bytes], filename: str) -> list[dict[str, str]]:
        """Check an uploaded file of claims before its rows are read.

        Args:
            file_obj: a seekable file, opened in binary mode. Its header is read, and its position is put back.
            filename: the name that it was uploaded under.

        Returns:
            The problems, each a dict of `code` and `message`; empty if the file can be read. Codes: "extension"
            (none of .csv, .csv.gz and .csv.zst), "empty", "size" (more than 500 MiB), "encoding" (the header is
            not UTF-8), "header" (it is not CSV, lacks a required column under any of the names in
            `claim_columns.ALIASES`, or has two names for one).

        Example:
            >>> from io import BytesIO
            >>> DataQualityService.validate_upload_format(BytesIO(b"payer,cpt"), "claims.xlsx")[0]["code"]
            'extension'
        """
        problems = []
        if not filename.lower().endswith(UPLOAD_SUFFIXES):
            suffix = PurePath(filename).suffix or "no suffix"
            problems.append(_problem("extension", f"{suffix}: upload a CSV file, as .csv, .csv.gz or .csv.zst"))
        position = file_obj.tell()
        try:
            size = file_obj.seek(0, 2)
            if size > MAX_UPLOAD_BYTES:
                limit = MAX_UPLOAD_BYTES // 1024**2
                problems.append(_problem("size", f"{size:,} bytes are more than {limit} MiB: split the file"))
            if not problems:
                file_obj.seek(0)
                problems += _problems_of_header(file_obj) if size else [_problem("empty", "the file is empty")]
        finally:
            file_obj.seek(position)
        return problems

    @staticmethod
    def validate_claim_data(
        row: Mapping[str, Any],
        row_number: int,
        required_columns: Sequence[str] | None = None,
        *,
        known_payers: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Check one row of a claims file, as strings under the names of `claim_values.COLUMNS`.

        Args:
            row: the row. Missing keys, None and blanks are empty.
            row_number: how the row is called in the errors.
            required_columns: those that may not be empty; by default payer, cpt, submitted_date and outcome.
            known_payers: names that are payers although they look like people's.

        Returns:
            The errors, each a dict of `row`, `field`, `code` and `message`; empty if the row is right. Codes:
            "required", "date", "date_order" (decided before submitted), "outcome" (not PAID, DENIED or OTHER),
            "amount" (negative, not a number, or beyond 9,999,999,999.99), "length", "nul", and "personal": a payer
            that looks like the name of a patient. No error holds a value of the row, since it may be such a name.

        Example:
            >>> row = {"payer": "Smith, John", "cpt": "99213", "submitted_date": "2026-02-30", "outcome": "paid"}
            >>> [(error["field"], error["code"]) for error in DataQualityService.validate_claim_data(row, 1)]
            [('payer', 'personal'), ('submitted_date', 'date')]
        """
        required = REQUIRED_COLUMNS if required_columns is None else required_columns
        cells = {name: str(value).strip() for name, value in row.items() if value is not None}
        errors = [(name, "required", "is empty") for name in required if not cells.get(name)]
        errors += _unstorable(cells)
        payer = cells.get("payer", "")
        if payer not in known_payers and is_personal(payer):
            errors.append(("payer", "personal", "looks like the name of a person, or what identifies one"))
        errors += _misread(cells)
        return [
            {"row": row_number, "field": name, "code": code, "message": f"{name} {words}"}
            for name, code, words in errors
        ]

    @staticmethod
    def compute_data_quality_score(
        total_rows: int, accepted_rows: int, rejected_rows: int, warning_rows: int = 0
    ) -> float:
        """Return how good a file of claims was, from 0 to 1: the share of accepted rows, those with warnings half.

        A file without rows scores 0: there is nothing to rely on. Counts that cannot be true, as of
        more accepted rows than rows, raise ValueError.

        Example:
            >>> DataQualityService.compute_data_quality_score(100, 90, 10, warning_rows=20)
            0.8
        """
        counts = (total_rows, accepted_rows, rejected_rows, warning_rows)
        if min(counts) < 0 or accepted_rows + rejected_rows > total_rows or warning_rows > accepted_rows:
            raise ValueError(
                "no count can be below 0, accepted and rejected rows cannot be more than all, and rows with "
                f"warnings not more than the accepted: {total_rows} rows, {accepted_rows} accepted, "
                f"{rejected_rows} rejected, {warning_rows} with warnings"
            )
        return (accepted_rows - warning_rows / 2) / total_rows if total_rows else 0.0

    @staticmethod
    def flag_suspicious_patterns(
        claims: Iterable[Any], min_pattern_count: int = 10, *, today: date | None = None
    ) -> list[dict[str, Any]]:
        """Find patterns in claims that somebody should look at, in one pass.

        Memory grows with the number of payers, up to 10,000, and not with the claims. Cells that cannot be read
        are left out; `validate_claim_data` tells of them.

        Args:
            claims: dicts or objects with the names of `claim_values.COLUMNS`, or a queryset of claims, which is
                read in windows.
            min_pattern_count: how many claims have to show a pattern.
            today: dates after it are in the future; by default the day of the computer's clock.

        Returns:
            Dicts of `pattern`, `payer`, `count`, `of` (how many claims it could be), `share` and `message`, the
            most frequent first. Patterns: "payer_concentration" (more than half of all claims),
            "same_day_processing" (at least a quarter of the decided claims were decided on the day of their
            submission), "denial_rate" (at least half are denied), "zero_amounts" (at least 5 % of the paid claims
            have an amount of 0), "future_dates", and "outliers" (billed amounts beyond Tukey's outer fence of the
            payer's: the third quartile and three times the distance between the quartiles).

        Example:
            >>> claims = [{"payer": "Summit Mutual", "outcome": "DENIED"}] * 12
            >>> [found["message"] for found in DataQualityService.flag_suspicious_patterns(claims)]
            ['Summit Mutual: 100.0% of the claims were denied (12 of 12)']
        """
        if min_pattern_count < 1:
            raise ValueError(f"min_pattern_count must be 1 or more, not {min_pattern_count}")
        return find_patterns(claims, min_pattern_count, today or date.today())

    @staticmethod
    def verify_export(
        path: StrPath,
        manifest: Mapping[str, Any] | StrPath | None = None,
        *,
        source: Iterable[bytes] | None = None,
        delimiter: str | None = None,
    ) -> dict[str, Any]:
        """Read an exported file again with an independent reader, and tell what it holds and where it differs.

        The whole file is read, in memory that does not grow with it: CSV and TSV by `csv`, JSON and NDJSON by
        ijson, Excel by openpyxl (extra `verify`; 200,000 rows of 12 cells take 18 s), Parquet by pyarrow (extra
        `parquet`). Of a PDF only the beginning and the end are looked at. CSV, TSV, JSON and NDJSON may be
        compressed.

        Args:
            path: the file; its suffix tells the format.
            manifest: what is known of the file, as a mapping or the path of one in JSON: any of `rows`, `columns`,
                `bytes` and `sha256`; or `parts`, a list of such mappings with a `name`.
            source: the chunks that the file should consist of, such as `stream(...)` with the same arguments.
            delimiter: that of a CSV file; by default a comma, in TSV a tab.

        Returns:
            A dict of `path`, `format`, `rows` (without headers, with totals; None for PDF), `columns`,
            `bytes`, `sha256`, `differences` (a list of sentences) and `valid` (whether that is empty).

        Raises:
            ValueError: no reader is known for the suffix.
            OSError: the file cannot be opened.

        Example:
            >>> path = DataExportService.export_to_csv([{"id": 1}, {"id": 2}], file_path="ids.csv")
            >>> found = DataQualityService.verify_export(path, {"rows": 3})
            >>> found["rows"], found["differences"]
            (2, ['has rows 2, but the manifest says 3'])
        """
        return check_export(path, manifest, source, delimiter)


def _problem(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _problems_of_header(file: IO[bytes]) -> list[dict[str, str]]:
    try:
        with opened(file) as plain, io.TextIOWrapper(plain, encoding="utf-8", newline="") as text:
            line = text.readline(MAX_HEADER)
            claim_columns(next(csv.reader([line], strict=True), []))
    except UnicodeDecodeError:
        return [_problem("encoding", "the header is not UTF-8: save the file as CSV UTF-8")]
    except ClaimFileError as error:
        return [_problem("header", str(error))]
    except (ExportError, csv.Error, OSError, EOFError) as error:
        return [_problem("header", f"the header cannot be read: {error}")]
    return []


def _unstorable(cells: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the errors of texts that the database would refuse, and the batch with them."""
    for name, cell in cells.items():
        if len(cell) > MAX_LENGTHS.get(name, inf):
            yield name, "length", f"is longer than {MAX_LENGTHS[name]} characters"
        if "\0" in cell:
            yield name, "nul", "contains a NUL character"


def _misread(cells: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return the errors of dates, outcome and amounts that are not empty."""
    errors: list[tuple[str, str, str]] = []
    values: dict[str, Any] = {}
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        **dict.fromkeys(DATES, ("date", parsed_date)),
        "outcome": ("outcome", parsed_outcome),
        **dict.fromkeys(AMOUNTS, ("amount", parsed_amount)),
    }
    for name, (code, read) in readers.items():
        if not cells.get(name):
            continue
        try:
            values[name] = read(cells[name])
        except ValueError as error:
            errors.append((name, code, str(error)))
    if values.keys() >= set(DATES) and values["decided_date"] < values["submitted_date"]:
        errors.append(("decided_date", "date_order", "is before submitted_date"))
    return errors
