"""Claims are checked before they are relied upon, and exported files are read again by others' readers."""

import datetime as dt
import gzip
import logging
import sys
from decimal import Decimal
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import processes
from upstream.models import ClaimRecord, Customer
from upstream.services import DataQualityService
from upstream.services.claim_values import parsed_amount, parsed_date
from upstream.streaming import Csv, Json, JsonLines, Parquet, Pdf, Xlsx, stream, to_file

HEADER = b"payer,cpt,cpt_group,submitted_date,decided_date,outcome,billed_amount,allowed_amount,paid_amount\r\n"
CLAIM = {
    "payer": "Keystone Gold, HMO",
    "cpt": "99213",
    "cpt_group": "Office visits",
    "submitted_date": "2026-01-05",
    "decided_date": "01/19/2026",
    "outcome": "Paid",
    "billed_amount": "$1,250.00",
    "allowed_amount": "810.5",
    "paid_amount": "",
}
TODAY = dt.date(2026, 11, 28)


def codes(problems):
    return [problem["code"] for problem in problems]


def errors(**cells):
    found = DataQualityService.validate_claim_data(CLAIM | cells, 7)
    assert all(error["row"] == 7 for error in found)
    return [(error["field"], error["code"]) for error in found]


class TestUploads:
    @pytest.mark.parametrize(
        ("data", "name", "found"),
        [
            (HEADER, "claims.csv", []),
            (b"\xef\xbb\xbf" + HEADER.upper(), "CLAIMS.CSV", []),
            (gzip.compress(HEADER, mtime=0), "claims.csv.gz", []),
            (b"Insurer,Procedure code,Submission date,Claim status\r\n", "claims.csv", []),
            (HEADER, "claims.xlsx", ["extension"]),
            (HEADER, "claims", ["extension"]),
            (b"", "claims.csv", ["empty"]),
            (b"payer,cpt,caf\xe9\r\n", "claims.csv", ["encoding"]),
            (b"payer,cpt\r\n", "claims.csv", ["header"]),
            (b"payer,cpt,submitted_date,outcome,cpt\r\n", "claims.csv", ["header"]),
            (b'"payer,cpt', "claims.csv", ["header"]),
            (b"\x1f\x8b cut off", "claims.csv.gz", ["header"]),
            (b"a" * 100_000, "claims.csv", ["header"]),
        ],
    )
    def test_what_cannot_be_imported_is_told_before_its_rows_are_read(self, data, name, found):
        file = BytesIO(data)
        file.seek(3)
        assert codes(DataQualityService.validate_upload_format(file, name)) == found
        assert file.tell() == 3
        assert not file.closed

    def test_a_file_over_the_limit_is_refused_by_its_size_alone(self):
        class Large(BytesIO):
            def seek(self, offset, whence=0):
                return 2**40 if whence == 2 else super().seek(offset)

            def read(self, *_):
                raise AssertionError("it was read")

        assert codes(DataQualityService.validate_upload_format(Large(), "claims.csv")) == ["size"]


class TestClaims:
    def test_a_right_row_has_no_errors(self):
        assert errors() == []

    @pytest.mark.parametrize("empty", ["", "  ", None])
    def test_required_cells_are_not_empty(self, empty):
        assert errors(payer=empty, cpt=empty) == [("payer", "required"), ("cpt", "required")]
        assert DataQualityService.validate_claim_data({"cpt": "1"}, 1, ["cpt"]) == []
        assert codes(DataQualityService.validate_claim_data({}, 1, ["paid_amount"])) == ["required"]

    @pytest.mark.parametrize(
        "day", ["2026-02-30", "30/12/2026", "20260105", "2026-1-5", "\u0662026-01-05", "tomorrow"]
    )
    def test_dates_are_days_that_exist_in_one_of_two_forms(self, day):
        assert errors(submitted_date=day) == [("submitted_date", "date")]

    def test_a_claim_is_not_decided_before_it_is_submitted(self):
        assert errors(decided_date="2026-01-04") == [("decided_date", "date_order")]
        assert errors(decided_date="2026-01-05") == []

    @pytest.mark.parametrize("outcome", ["paid", "DENIED", " Other "])
    def test_outcomes_are_three_words_in_any_case(self, outcome):
        assert errors(outcome=outcome) == []
        assert errors(outcome=outcome + "?") == [("outcome", "outcome")]

    @pytest.mark.parametrize(
        "amount",
        ["-1", "1e3", "1e999999999", "NaN", "Infinity", "1,23", "12345678901", "0.001", "1.2.3", "€5", "\u0663"],
    )
    def test_amounts_are_what_the_column_holds(self, amount):
        assert errors(paid_amount=amount) == [("paid_amount", "amount")]

    def test_a_text_that_the_column_cannot_hold_is_an_error(self):
        assert errors(cpt="9" * 17) == [("cpt", "length")]
        assert errors(cpt_group="a\0b") == [("cpt_group", "nul")]

    @given(st.decimals(0, "9999999999.99", places=2))
    def test_every_amount_that_the_column_holds_is_read_in_either_form(self, amount):
        assert parsed_amount(str(amount)) == parsed_amount(f"${amount:,}") == amount

    @given(st.dates())
    def test_every_day_is_read_in_either_form(self, day):
        assert parsed_date(day.isoformat()) == parsed_date(f"{day.month}/{day.day}/{day.year:04}") == day


class TestPatients:
    PEOPLE = (
        *("Smith, John", "John Smith", "MARY ANN JONES", "O'Neil, Mary", "Garcia-Lopez, Maria T."),
        *("Mr. Brown", "patient 12", "DOB 1/2/1950", "Jones 1950-01-02", "123-45-6789"),
    )
    PAYERS = (
        *("Aetna", "Humana", "Oscar", "Kaiser Permanente", "Keystone Gold, HMO", 'Northern Lights "Prime" PPO'),
        *("BlueRidge Health of Ohio, Inc.", "Pioneer Employers' Trust", "Seguros Peñasco", "Salud Caribeña, Inc."),
        *("John Hancock Life Insurance", "Medicare", "Summit Mutual", "St. Mary's Health Plan", "Self-pay"),
    )

    @pytest.mark.parametrize("name", PEOPLE)
    def test_a_payer_that_looks_like_a_person_is_refused_and_never_repeated(self, name, caplog):
        with caplog.at_level(logging.DEBUG):
            found = DataQualityService.validate_claim_data(CLAIM | {"payer": name}, 7)
        assert codes(found) == ["personal"]
        assert name not in str(found) + caplog.text

    @pytest.mark.parametrize("name", PAYERS)
    def test_a_payer_is_none(self, name):
        assert errors(payer=name) == []

    def test_a_name_that_is_known_as_a_payers_passes(self):
        row = CLAIM | {"payer": "John Hancock"}
        assert codes(DataQualityService.validate_claim_data(row, 1)) == ["personal"]
        assert DataQualityService.validate_claim_data(row, 1, known_payers={"John Hancock"}) == []


class TestScore:
    def test_it_is_the_share_of_accepted_rows_with_warnings_counted_half(self):
        score = DataQualityService.compute_data_quality_score
        assert score(10, 10, 0) == 1
        assert score(10, 6, 4) == 0.6
        assert score(10, 6, 4, 2) == 0.5
        assert score(10, 0, 10) == score(0, 0, 0) == 0

    @pytest.mark.parametrize("counts", [(10, 11, 0), (10, 6, 5), (10, 5, 5, 6), (-1, 0, 0), (10, -1, 0)])
    def test_counts_that_cannot_be_true_are_refused(self, counts):
        with pytest.raises(ValueError, match="accepted"):
            DataQualityService.compute_data_quality_score(*counts)


def claims(count, payer="Summit Mutual", **cells):
    typed = {"submitted_date": dt.date(2026, 1, 5), "decided_date": dt.date(2026, 1, 19), "outcome": "PAID"}
    amounts = {"billed_amount": Decimal(100), "allowed_amount": Decimal(80), "paid_amount": Decimal(80)}
    return [{"payer": payer, **typed, **amounts, **cells}] * count


def patterns(rows, **options):
    found = DataQualityService.flag_suspicious_patterns(rows, today=TODAY, **options)
    return {(one["pattern"], one["payer"]): (one["count"], one["of"]) for one in found}


class TestPatterns:
    QUIET = claims(200, "Medicare") + claims(200, "Aetna") + claims(200, "Humana")

    def test_ordinary_claims_have_none(self):
        assert patterns(self.QUIET) == {}

    @pytest.mark.parametrize(
        ("pattern", "cells", "of"),
        [
            ("same_day_processing", {"decided_date": dt.date(2026, 1, 5)}, 12),
            ("denial_rate", {"outcome": "denied"}, 12),
            ("zero_amounts", {"paid_amount": Decimal(0)}, 12),
            ("future_dates", {"decided_date": TODAY + dt.timedelta(1)}, 12),
        ],
    )
    def test_each_is_found_from_its_count_on(self, pattern, cells, of):
        odd = claims(12, **cells)
        assert patterns(self.QUIET + odd) == {(pattern, "Summit Mutual"): (12, of)}
        assert patterns(self.QUIET + odd, min_pattern_count=13) == {}

    def test_a_payer_with_more_than_half_of_all_claims_is_one_unless_it_is_the_only_one(self):
        assert patterns(claims(51) + claims(49, "Aetna")) == {("payer_concentration", "Summit Mutual"): (51, 100)}
        assert patterns(claims(51)) == {}

    @given(st.randoms(use_true_random=False))
    def test_outliers_are_the_same_in_any_order(self, rng):
        usual = [claims(1, billed_amount=Decimal(90 + number % 20))[0] for number in range(300)]
        rows = usual + claims(10, billed_amount=Decimal(90_000))
        rng.shuffle(rows)
        assert patterns(rows) == {("outliers", "Summit Mutual"): (10, 310)}

    def test_rows_of_a_file_and_objects_count_like_typed_dicts(self):
        texts = [{name: str(value) for name, value in row.items()} for row in claims(12, outcome="DENIED")]
        found = patterns(texts)
        assert found == patterns(ClaimRecord(**row) for row in claims(12, outcome="DENIED"))
        assert found == {("denial_rate", "Summit Mutual"): (12, 12)}

    def test_cells_that_cannot_be_read_are_left_out(self):
        assert patterns([{"payer": None, "billed_amount": "NaN", "decided_date": "soon", "outcome": 3}] * 20) == {}

    def test_a_payer_in_every_row_takes_no_more_memory_than_ten_thousand(self):
        rows = ({"payer": f"Payer {number}", "outcome": "DENIED"} for number in range(60_000))
        assert patterns(rows) == {("denial_rate", "(all other payers)"): (50_000, 50_000)}

    def test_a_minimum_below_one_is_refused(self):
        with pytest.raises(ValueError, match="1 or more"):
            DataQualityService.flag_suspicious_patterns([], 0)

    @pytest.mark.django_db
    def test_a_slice_of_a_queryset_is_read_too(self):
        customer = Customer.objects.create(name="Lakeside")
        rows = claims(40, outcome="DENIED")
        ClaimRecord.objects.bulk_create(ClaimRecord(customer=customer, cpt="1", **row) for row in rows)
        assert patterns(customer.claims.order_by("payer")[5:25]) == {("denial_rate", "Summit Mutual"): (20, 20)}

    @pytest.mark.django_db
    def test_a_queryset_is_read_in_windows(self, django_assert_max_num_queries):
        customer = Customer.objects.create(name="Lakeside")
        rows = claims(40, outcome="DENIED")
        ClaimRecord.objects.bulk_create(ClaimRecord(customer=customer, cpt="1", **row) for row in rows)
        with django_assert_max_num_queries(4):
            assert patterns(customer.claims.order_by("payer")) == {("denial_rate", "Summit Mutual"): (40, 40)}


ROWS = [{"id": number, "name": f"Zoë {number}"} for number in range(2_500)]


def exported(path, rows=ROWS, **options):
    encoders = {".json": Json(), ".ndjson": JsonLines(), ".xlsx": Xlsx(), ".parquet": Parquet(), ".pdf": Pdf()}
    encoder = next((one for suffix, one in encoders.items() if suffix in path.name), None)
    chunks = stream(rows, encoder=encoder, **options) if encoder else stream(rows, **options)
    return to_file(chunks, path)


class TestExports:
    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.ndjson", "a.xlsx", "a.parquet"])
    def test_a_whole_file_of_each_format_is_valid(self, tmp_path, name):
        path = exported(tmp_path / name)
        found = DataQualityService.verify_export(path)
        assert (found["rows"], found["columns"]) == (2_500, ["id", "name"])
        assert (found["valid"], found["bytes"]) == (True, path.stat().st_size)
        assert DataQualityService.verify_export(path, found)["valid"]

    @pytest.mark.parametrize(("suffix", "compression"), [("gz", "gzip"), ("zst", "zstd")])
    @pytest.mark.parametrize("kind", ["csv", "ndjson"])
    def test_compressed_files_are_read(self, tmp_path, kind, suffix, compression):
        path = exported(tmp_path / f"a.{kind}.{suffix}", compression=compression)
        assert DataQualityService.verify_export(path, {"rows": 2_500})["valid"]
        path.write_bytes(path.read_bytes()[:-20])
        assert not DataQualityService.verify_export(path)["valid"]

    @pytest.mark.parametrize("name", ["a.json", "a.xlsx", "a.parquet", "a.pdf"])
    def test_a_file_that_is_cut_off_is_not_valid(self, tmp_path, name):
        path = exported(tmp_path / name)
        assert DataQualityService.verify_export(path)["valid"]
        path.write_bytes(path.read_bytes()[:-30])
        [difference] = DataQualityService.verify_export(path)["differences"]
        assert difference.startswith(f"cannot be read as {name[2:]}")

    def test_damaged_zstd_is_told(self, tmp_path):
        path = exported(tmp_path / "a.csv.zst", compression="zstd")
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
        path.write_bytes(data)
        [difference] = DataQualityService.verify_export(path)["differences"]
        assert difference.startswith("cannot be read as csv")

    def test_another_delimiter_can_be_named(self, tmp_path):
        path = to_file(stream(ROWS, encoder=Csv(delimiter=";")), tmp_path / "a.csv")
        assert DataQualityService.verify_export(path, {"columns": ["id", "name"]}, delimiter=";")["valid"]

    def test_rows_of_another_shape_are_told(self, tmp_path):
        (tmp_path / "a.csv").write_text("a,b\n1,2\n1,2,3\n4\n")
        (tmp_path / "a.ndjson").write_text('{"a":1}\n{"b":1}\n')
        assert DataQualityService.verify_export(tmp_path / "a.csv")["differences"] == [
            "row 2 has other than the header's number of cells"
        ]
        assert DataQualityService.verify_export(tmp_path / "a.ndjson")["differences"] == [
            "row 2 has keys other than the first record's"
        ]

    @pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
    def test_a_file_with_a_header_alone_has_no_rows(self, tmp_path, name):
        encoder = Xlsx() if "xlsx" in name else None
        path = to_file(stream([], ["id"], *filter(None, [encoder])), tmp_path / name)
        found = DataQualityService.verify_export(path)
        assert (found["rows"], found["columns"], found["valid"]) == (0, ["id"], True)

    def test_differences_from_a_manifest_are_told(self, tmp_path):
        path = exported(tmp_path / "a.csv")
        manifest = {"rows": 2_499, "columns": ["id"], "sha256": "0", "bytes": path.stat().st_size}
        assert [words.split()[1] for words in DataQualityService.verify_export(path, manifest)["differences"]] == [
            *("rows", "columns", "sha256")
        ]

    def test_a_manifest_of_parts_is_read_from_its_file(self, tmp_path):
        path = exported(tmp_path / "a.csv")
        manifest = to_file(
            stream({"parts": [{"name": "b.csv", "rows": 1}, {"name": "a.csv", "rows": 2_500}]}, encoder=Json()),
            tmp_path / "manifest.json",
        )
        assert DataQualityService.verify_export(path, manifest)["valid"]
        other = exported(tmp_path / "c.csv")
        [difference] = DataQualityService.verify_export(other, manifest)["differences"]
        assert difference == "is not in the manifest: c.csv"

    def test_the_first_byte_that_differs_from_the_source_is_told(self, tmp_path):
        path = exported(tmp_path / "a.csv")
        assert DataQualityService.verify_export(path, source=stream(ROWS))["valid"]
        data = path.read_bytes()
        for changed, words in (
            (data[:9_000] + b"#" + data[9_001:], "differs from its source at byte 9,000"),
            (data[:9_000], "differs from its source at byte 9,000"),
            (data + b"#", f"goes on after its source has ended, at byte {len(data):,}"),
        ):
            path.write_bytes(changed)
            assert words in DataQualityService.verify_export(path, source=stream(ROWS))["differences"]

    def test_a_source_that_differs_is_closed(self, tmp_path):
        path = exported(tmp_path / "a.csv")
        source = stream([{"other": 1}] * 5_000)
        assert not DataQualityService.verify_export(path, source=source)["valid"]
        assert source.is_over

    def test_an_unknown_suffix_and_a_missing_file_are_raised(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.csv, \.tsv"):
            DataQualityService.verify_export(tmp_path / "a.doc")
        with pytest.raises(FileNotFoundError):
            DataQualityService.verify_export(tmp_path / "a.csv")


@pytest.mark.heavy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
class TestMemory:
    @pytest.mark.parametrize(
        ("name", "most"),
        [
            ("a.csv", 4),
            ("a.json", 4),
            ("a.ndjson.gz", 4),
            ("a.xlsx", 16),
            ("a.parquet", 40),
        ],  # Parquet: a row group
    )
    def test_reading_a_file_again_takes_no_more_for_many_rows(self, tmp_path, name, most):
        few, many = (
            self.peak(f"DataQualityService.verify_export({str(self.written(tmp_path, name, rows))!r})")
            for rows in (10_000, 150_000)
        )
        assert many - few < most * 1024**2

    def test_looking_for_patterns_takes_no_more_for_many_claims(self):
        claims = "(dict(payer=str(number % 50), billed_amount=number % 9999) for number in range({rows}))"
        few, many = (
            self.peak(f"DataQualityService.flag_suspicious_patterns({claims.format(rows=rows)})")
            for rows in (10_000, 300_000)
        )
        assert many - few < 4 * 1024**2

    @staticmethod
    def written(folder, name, rows):
        records = ({"id": number, "name": f"Zoë {number}", "amount": number / 4} for number in range(rows))
        compression = "gzip" if name.endswith(".gz") else None
        return exported(folder / f"{rows}-{name}", records, compression=compression)

    @staticmethod
    def peak(call):
        code = f"""
from benchmarks.memory import peak_bytes
from upstream.services import DataQualityService
{call}
print(peak_bytes())
"""
        return int(processes.printed(code))
