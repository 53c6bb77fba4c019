"""A file of claims is imported whole or not at all; what is wrong in it goes to a file with the reasons."""

import csv
import doctest
import gzip
import hashlib
import io
import itertools
import os
import signal
import subprocess
import threading
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections, transaction

from tests import processes
from upstream.models import ClaimRecord, Customer, RunStatus
from upstream.services.claim_columns import ClaimFileError, claim_columns
from upstream.services.claim_import import (
    AlreadyImportedError,
    import_claims,
)
from upstream.services.claim_rows import read_rows

HEADER = "payer,cpt,cpt_group,submitted_date,decided_date,outcome,billed_amount,allowed_amount,paid_amount"
RIGHT = "Medicare,99213,Office visits,2026-10-01,2026-10-15,PAID,200.00,150.00,120.50"
WRONG = "Medicare,99213,Office visits,2026-13-01,2026-10-15,MAYBE,200.00,-1,120.50"


def file_of(*rows, header=HEADER):
    return io.BytesIO("\n".join([header, *rows, ""]).encode())


@pytest.fixture
def customer(database):
    return Customer.objects.using(database).create(name="Lakeside")


def rows_of(path):
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


class TestClaims:
    def test_get_the_values_of_their_row(self, customer):
        upload = import_claims(customer, file_of(RIGHT), "october.csv")

        claim = customer.claims.get()
        assert claim.upload == upload
        assert (claim.payer, claim.cpt, claim.cpt_group) == ("Medicare", "99213", "Office visits")
        assert (claim.submitted_date, claim.decided_date) == (date(2026, 10, 1), date(2026, 10, 15))
        assert (claim.outcome, claim.billed_amount, claim.allowed_amount, claim.paid_amount) == (
            "PAID",
            Decimal(200),
            Decimal(150),
            Decimal("120.50"),
        )

    def test_take_dates_as_americans_write_them_and_any_case_of_the_outcome(self, customer):
        import_claims(customer, file_of(" Medicare ,99213,,11/2/2026,,Denied,$1,,".replace("$1", '"$1,234.50"')))

        claim = customer.claims.get()
        assert claim.payer == "Medicare"
        assert claim.submitted_date == date(2026, 11, 2)
        assert (claim.outcome, claim.billed_amount) == ("DENIED", Decimal("1234.50"))

    def test_without_a_group_are_grouped_by_their_code(self, customer):
        import_claims(
            customer, file_of("Medicare,99213,2026-10-01,PAID", header="payer,cpt,submitted_date,outcome")
        )

        assert customer.claims.get().cpt_group == "99213"

    def test_may_lack_what_is_optional(self, customer):
        import_claims(customer, file_of("Medicare,99213,,2026-10-01,,OTHER,,,"))

        claim = customer.claims.get()
        assert claim.decided_date is claim.billed_amount is claim.allowed_amount is claim.paid_amount is None

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
    def test_are_all_stored_whatever_the_size_of_a_batch(self, customer, batch_size):
        upload = import_claims(customer, file_of(*[RIGHT, WRONG, RIGHT] * 2), "x.csv", batch_size=batch_size)

        assert customer.claims.count() == upload.accepted_rows == 4
        assert upload.rejected_rows == 2

    def test_that_contradict_themselves_are_counted(self, customer):
        upload = import_claims(
            customer,
            file_of(
                RIGHT,
                "Medicare,99213,,2026-10-01,,PAID,200,,100",  # decided, but when?
                "Medicare,99213,,2026-10-01,2026-10-02,PAID,200,,200.01",
                "Medicare,99213,,2026-10-01,2026-10-02,DENIED,200,,1",
                "Medicare,99213,,2026-10-01,,OTHER,,,",
            ),
        )

        assert (upload.accepted_rows, upload.warning_rows) == (5, 3)


class TestUpload:
    def test_tells_what_came_of_the_file(self, customer):
        file = file_of(RIGHT, WRONG)

        upload = import_claims(customer, file, "october.csv")

        upload.refresh_from_db()
        assert upload.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
        assert (upload.filename, upload.status) == ("october.csv", RunStatus.SUCCESS)
        assert (upload.accepted_rows, upload.rejected_rows, upload.error_message) == (1, 1, "")

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(lambda plain: b"\xef\xbb\xbf" + plain, id="a byte-order mark"),
            pytest.param(gzip.compress, id="gzip"),
            pytest.param(lambda plain: plain.replace(b"\n", b"\r\n"), id="CRLF"),
        ],
    )
    def test_may_come_with(self, customer, tmp_path, content):
        path = tmp_path / "claims.csv"
        path.write_bytes(content(file_of(RIGHT).getvalue()))

        upload = import_claims(customer, path)

        assert (upload.filename, upload.accepted_rows) == ("claims.csv", 1)
        assert upload.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_may_come_from_a_form(self, customer):
        plain = file_of(RIGHT).getvalue()
        uploaded = SimpleUploadedFile("from a form.csv", plain)
        assert import_claims(customer, uploaded).filename == "from a form.csv"

        with TemporaryUploadedFile("large.csv", "text/csv", len(plain) + 1, "utf-8") as large:
            large.write(plain + b"\n")
            assert import_claims(customer, large).accepted_rows == 1

    def test_may_come_from_a_pipe(self, customer):
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as file:
            with os.fdopen(writing, "wb") as other:
                other.write(file_of(RIGHT).getvalue())
            upload = import_claims(customer, file, "pipe.csv")

        assert upload.accepted_rows == 1
        assert upload.sha256 == hashlib.sha256(file_of(RIGHT).getvalue()).hexdigest()

    def test_of_an_open_file_leaves_it_open_and_reads_it_from_its_beginning(self, customer):
        file = file_of(RIGHT)
        file.read(20)

        assert import_claims(customer, file).accepted_rows == 1
        assert not file.closed

    def test_is_refused_the_second_time_and_changes_nothing(self, customer):
        first = import_claims(customer, file_of(RIGHT), "october.csv")

        with pytest.raises(AlreadyImportedError, match=r"imported on 2.*'october.csv': 1 claims") as caught:
            import_claims(customer, file_of(RIGHT), "other name.csv")

        assert caught.value.upload == first
        assert customer.claims.count() == customer.claim_uploads.count() == 1

    def test_of_one_customer_is_no_upload_of_another(self, customer):
        other = Customer.objects.using(customer._state.db).create(name="Bayview")
        import_claims(customer, file_of(RIGHT))

        assert import_claims(other, file_of(RIGHT)).accepted_rows == 1


class TestRejectedRows:
    def test_are_written_with_their_number_and_all_reasons(self, customer, tmp_path):
        path = tmp_path / "rejected.csv"

        import_claims(customer, file_of(RIGHT, WRONG, RIGHT), rejected_path=path)

        [row] = rows_of(path)
        assert row["row_number"] == "2"
        for words in ("submitted_date is a day", "outcome is not one of", "allowed_amount is not an amount"):
            assert words in row["reasons"]
        assert {name: row[name] for name in HEADER.split(",")} == dict(
            zip(HEADER.split(","), WRONG.split(","), strict=True)
        )

    def test_can_be_corrected_and_imported(self, customer, tmp_path):
        path = tmp_path / "rejected.csv"
        import_claims(customer, file_of(RIGHT, WRONG), rejected_path=path)
        corrected = path.read_text(encoding="utf-8-sig").replace("2026-13-01", "2026-10-01")
        path.write_text(corrected.replace("MAYBE", "OTHER").replace(",-1,", ",1,"))

        assert import_claims(customer, path).accepted_rows == 1

    def test_are_no_formulas(self, customer, tmp_path):
        path = tmp_path / "rejected.csv"

        import_claims(customer, file_of('"=HYPERLINK(""x"")",99213,,yesterday,,PAID,,,'), rejected_path=path)

        assert rows_of(path)[0]["payer"].startswith("'=")

    def test_keep_the_names_of_the_file_and_leave_out_columns_that_are_not_imported(self, customer, tmp_path):
        path = tmp_path / "rejected.csv"
        file = file_of(
            "Jane Roe,Medicare,99213,never,paid", header="Patient,Payer Name,CPT Code,Submission Date,Claim Status"
        )

        import_claims(customer, file, rejected_path=path)

        assert list(rows_of(path)[0]) == [
            *("row_number", "reasons", "Payer Name", "CPT Code", "Submission Date", "Claim Status")
        ]
        assert "Roe" not in path.read_text()

    def test_never_show_what_looks_like_a_patient(self, customer, tmp_path, caplog):
        path = tmp_path / "rejected.csv"

        upload = import_claims(customer, file_of('"Smith, John",99213,,2026-10-01,,PAID,,,'), rejected_path=path)

        assert upload.rejected_rows == 1
        assert rows_of(path)[0]["payer"] == "(withheld)"
        assert "Smith" not in path.read_text() + caplog.text + upload.error_message

    def test_are_a_compressed_file_if_its_name_says_so(self, customer, tmp_path):
        path = tmp_path / "rejected.csv.gz"

        import_claims(customer, file_of(WRONG), rejected_path=path)

        assert gzip.decompress(path.read_bytes()).count(b"\r\n") == 2

    def test_are_a_file_with_a_header_if_there_are_none(self, customer, tmp_path):
        import_claims(customer, file_of(RIGHT), rejected_path=tmp_path / "rejected.csv")

        assert (tmp_path / "rejected.csv").read_text(encoding="utf-8-sig") == f"row_number,reasons,{HEADER}\n"

    def test_hold_what_a_database_would_not_take(self, customer):
        rows = (
            "Med\0icare,99213,,2026-10-01,,PAID,,,",
            f"{'x' * 256},99213,,2026-10-01,,PAID,,,",
            f"Medicare,{'9' * 17},,2026-10-01,,PAID,,,",
            f"Medicare,99213,{'x' * 65},2026-10-01,,PAID,,,",
            "Medicare,99213,,2026-10-02,2026-10-01,PAID,,,",
            "Medicare,99213,,2026-10-02,,PAID,99999999999,,",
        )

        upload = import_claims(customer, file_of(*rows, RIGHT))

        assert (upload.accepted_rows, upload.rejected_rows) == (1, len(rows))

    def test_may_be_rejected_for_want_of_what_this_customer_requires(self, customer):
        file = file_of(RIGHT, "Medicare,99213,,2026-10-01,,PAID,,,")

        upload = import_claims(customer, file, required_columns=["paid_amount"])

        assert (upload.accepted_rows, upload.rejected_rows) == (1, 1)

    def test_cannot_replace_the_file_itself(self, customer, tmp_path):
        path = tmp_path / "claims.csv"
        path.write_bytes(file_of(RIGHT).getvalue())

        with pytest.raises(ValueError, match="would replace the file itself"):
            import_claims(customer, path, rejected_path=f"{tmp_path}/../{tmp_path.name}/claims.csv")

        assert path.read_bytes() == file_of(RIGHT).getvalue()


def imported(customer, content, tmp_path, **options):
    """Import a file; return the numbers of accepted rows and of rejected ones with their reasons."""
    path = tmp_path / "rejected.csv"
    upload = import_claims(customer, io.BytesIO(content), "x.csv", rejected_path=path, **options)
    rejected = rows_of(path)
    assert upload.rejected_rows == len(rejected)
    assert customer.claims.count() == upload.accepted_rows
    return upload.accepted_rows, {int(row["row_number"]): row["reasons"] for row in rejected}


LATIN_1 = RIGHT.replace("Medicare", "M\xe9decine").encode("latin-1").decode(errors="surrogateescape")


class TestBrokenRows:
    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (RIGHT + ",more", "line 3 has 10 cells, but the header has 9"),
            (RIGHT.removesuffix(",120.50"), "line 3 has 8 cells, but the header has 9"),
            ("  ", "line 3 has 1 cells, but the header has 9"),
            (HEADER, "line 3 is the header once more"),
            ('"' + RIGHT, "line 3 has a quote that is not closed"),
            ('"Medicare"x' + RIGHT, "line 3 has a quote in a wrong place: ',' expected after '\"'"),
            (LATIN_1, "line 3 is not UTF-8: save the file as CSV UTF-8"),
            (RIGHT.replace("Medicare", "Med\0icare"), "payer contains a NUL character"),
            (RIGHT.replace("Medicare", "x" * 1_000_000), "payer is longer than 255 characters"),
            (
                RIGHT.replace("Medicare", "x" * 3_000_000),
                "line 3 begins a row of more than 100 lines or 1,048,576",
            ),
        ],
        ids=[
            *("too many cells", "too few cells", "blanks", "header", "open quote", "stray quote", "not UTF-8"),
            *("NUL", "1 MB cell", "3 MB cell"),
        ],
    )
    @pytest.mark.django_db
    def test_are_rejected_and_those_around_them_imported(self, row, reason, tmp_path):
        customer = Customer.objects.create(name="Lakeside")
        content = f"{HEADER}\n{RIGHT}\n{row}\n{RIGHT}\n{RIGHT}\n".encode(errors="surrogateescape")
        accepted, rejected = imported(customer, content, tmp_path, batch_size=2)
        assert (accepted, list(rejected)) == (3, [2])
        assert rejected[2].startswith(reason)

    def test_do_not_stop_any_database(self, customer, tmp_path):
        content = "\n".join([HEADER, RIGHT, RIGHT + ",more", LATIN_1, "Med\0" + RIGHT, '"' + RIGHT])
        accepted, rejected = imported(customer, content.encode(errors="surrogateescape"), tmp_path)
        assert (accepted, list(rejected)) == (1, [2, 3, 4, 5])

    @pytest.mark.django_db
    def test_show_none_of_their_cells_since_they_may_be_of_any_column(self, tmp_path, caplog):
        customer = Customer.objects.create(name="Lakeside")
        content = file_of(RIGHT, f"Roe,{RIGHT}", f'"Roe"x,{RIGHT}', f'"Roe{RIGHT}').getvalue()
        imported(customer, content + f"Roe{LATIN_1}\n".encode(errors="surrogateescape"), tmp_path)
        assert "Roe" not in (tmp_path / "rejected.csv").read_text() + caplog.text

    @pytest.mark.django_db
    def test_of_an_open_quote_end_with_their_line_however_long_the_file_is(self, tmp_path):
        customer = Customer.objects.create(name="Lakeside")
        content = file_of(RIGHT, f'"{RIGHT}', *[RIGHT] * 500, f'"{RIGHT}', *[RIGHT] * 20).getvalue()
        accepted, rejected = imported(customer, content, tmp_path)
        assert (accepted, list(rejected)) == (521, [2, 503])
        assert (
            rejected[2] == "line 3 begins a row of more than 100 lines or 1,048,576 characters: is a quote open?"
        )

    @pytest.mark.django_db
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_are_none_for_empty_lines_any_line_ends_and_cells_of_several_lines(self, end, tmp_path):
        customer = Customer.objects.create(name="Lakeside")
        lines = f'"Medicare",99213,"Office{end}{end}visits",{RIGHT.split(",", 3)[3]}'
        content = end.join(["", HEADER, "", RIGHT, "", "", lines, RIGHT, ""])
        assert imported(customer, content.encode(), tmp_path) == (3, {})
        assert customer.claims.filter(cpt_group=f"Office{end}{end}visits").count() == 1

    @pytest.mark.django_db
    def test_are_told_by_their_line_in_the_file_and_their_number_among_the_rows(self, tmp_path):
        customer = Customer.objects.create(name="Lakeside")
        several = f'"Medicare",99213,"Office\nvisits",{RIGHT.split(",", 3)[3]}'
        accepted, rejected = imported(customer, file_of("", several, "", "a,b", RIGHT).getvalue(), tmp_path)
        assert (accepted, rejected) == (2, {2: "line 6 has 2 cells, but the header has 9"})

    def test_of_any_kind_are_read_in_flat_memory(self):
        long = b"x" * 1_000_000
        tracemalloc.start()
        kept = sum(1 for _ in read_rows(Endless(b'payer,cpt\n"', long, 40)))
        one_line = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        kept += sum(1 for _ in read_rows(Endless(b'payer,cpt\n"', long[:9_999] + b"\n", 4_000)))
        many_lines = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert kept == 2 + 1 + 4_000
        assert max(one_line, many_lines) < 16 * 1024 * 1024


class Endless(io.RawIOBase):
    """A file of a beginning, and then one piece again and again."""

    def __init__(self, start, piece, times):
        self.pieces = itertools.chain([start], itertools.repeat(piece, times))
        self.rest = b""

    def readable(self):
        return True

    def readinto(self, buffer):
        self.rest = self.rest or next(self.pieces, b"")
        data, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class TestFailure:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no rows"),
            (HEADER.encode(), "no rows"),
            (b"payer,cpt\nMedicare,99213\n", "no column submitted_date, outcome: its first row must"),
            (file_of(RIGHT + ",more").getvalue(), "no row .* line 2 has 10 cells, but the header has 9"),
            (
                file_of(RIGHT, RIGHT).getvalue().replace(b"Medicare", b"M\xe9dicare"),
                "no row .* line 2 is not UTF-8: save the file as CSV UTF-8",
            ),
            (gzip.compress(file_of(*[RIGHT] * 999).getvalue())[:-20], "cannot be read: Compressed file ended"),
            (file_of('"open').getvalue(), "no row .* line 2 has a quote that is not closed"),
            (b'"payer,cpt\n' + RIGHT.encode(), "line 1, the header, has a quote that is not closed"),
            (f"{HEADER},r\xe9sum\xe9\n{RIGHT}\n".encode("latin-1"), "line 1, the header, is not UTF-8: save"),
        ],
        ids=[
            *("empty", "only a header", "missing columns", "ragged", "latin-1", "truncated", "open quote"),
            *("open quote in the header", "latin-1 header"),
        ],
    )
    def test_of_a_file_leaves_no_claims_and_is_recorded(self, customer, content, message, tmp_path):
        with pytest.raises(ClaimFileError, match=message):
            import_claims(customer, io.BytesIO(content), "x.csv", batch_size=1, rejected_path=tmp_path / "r.csv")

        upload = customer.claim_uploads.get()
        assert (upload.status, upload.accepted_rows) == (RunStatus.FAILED, 0)
        assert upload.error_message
        assert not customer.claims.exists()
        assert not (tmp_path / "r.csv").exists()

    def test_of_the_database_leaves_no_claims_and_is_recorded_without_a_value(self, customer, monkeypatch):
        def fail(manager, claims, *arguments):
            raise DatabaseError("too many\nDETAIL: Failing row contains (Jane Roe)")

        with monkeypatch.context() as patched:
            patched.setattr("upstream.services.claim_import._Intake._store", fail)
            with pytest.raises(DatabaseError, match="too many"):
                import_claims(customer, file_of(RIGHT), "x.csv")

        assert customer.claim_uploads.get().error_message == "too many"
        assert not customer.claims.exists()

    def test_of_a_file_without_a_header_shows_nothing_of_its_first_row(self, customer, caplog):
        with pytest.raises(ClaimFileError, match="first row must name the columns") as caught:
            import_claims(customer, file_of(RIGHT, header="Jane Roe,99213,2026-10-01,PAID,1,2,3,4,5"))

        assert "Roe" not in str(caught.value) + customer.claim_uploads.get().error_message + caplog.text

    def test_can_be_tried_again(self, customer, tmp_path):
        missing = tmp_path / "no directory" / "rejected.csv"
        with pytest.raises(OSError, match="no directory"):
            import_claims(customer, file_of(RIGHT), rejected_path=missing)
        assert customer.claim_uploads.get().status == RunStatus.FAILED

        assert import_claims(customer, file_of(RIGHT)).accepted_rows == 1
        assert customer.claim_uploads.get().status == RunStatus.SUCCESS

    def test_of_a_file_in_text_mode_says_so(self, customer):
        with pytest.raises(ClaimFileError, match="open it in binary mode"):
            import_claims(customer, io.StringIO("payer"))

    def test_of_an_argument_says_which(self, customer):
        with pytest.raises(ValueError, match="batch_size must be 1 or more, not 0"):
            import_claims(customer, file_of(RIGHT), batch_size=0)


@pytest.mark.parametrize("alias", ["postgresql", "mariadb"])
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_of_two_imports_of_one_file_at_a_time_one_is_refused(alias):
    if alias not in connections.databases:
        pytest.skip(f"there is no {alias}")
    customer = Customer.objects.using(alias).create(name="Lakeside")
    outcomes = []

    def import_too():
        try:
            outcomes.append(import_claims(customer, file_of(RIGHT)).accepted_rows)
        except AlreadyImportedError:
            outcomes.append("refused")
        finally:
            connections[alias].close()

    with transaction.atomic(using=alias):
        import_claims(customer, file_of(RIGHT))
        other = threading.Thread(target=import_too)
        other.start()
        other.join(0.5)
        assert other.is_alive()  # it waits for how the first one ends
    other.join()

    assert outcomes == ["refused"]
    assert customer.claims.count() == 1


SLOW = """
import django, sys, time
django.setup()
from upstream.models import Customer
from upstream.services.claim_import import import_claims
def wait(rows, size):
    print("stored", flush=True)
    time.sleep(60)
import_claims(Customer.objects.create(name="Lakeside"), sys.argv[1], batch_size=1, progress=wait)
"""


def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_bytes(file_of(RIGHT, RIGHT).getvalue())
    variables = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/claims.sqlite3",
        "DJANGO_SETTINGS_MODULE": "upstream.settings",
    }
    assert processes.run("manage.py", "migrate", variables=variables).returncode == 0

    process = processes.start("-c", SLOW, path, variables=variables, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"stored\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    code = """
import django
django.setup()
from upstream.models import ClaimRecord, ClaimUpload, Customer
print(Customer.objects.count(), ClaimUpload.objects.count(), ClaimRecord.objects.count())
"""
    assert processes.printed(code, variables=variables).split() == ["1", "0", "0"]


class TestHeader:
    def test_is_read_as_the_example_shows(self):
        [example] = doctest.DocTestFinder(recurse=False).find(
            claim_columns, globs={"claim_columns": claim_columns}
        )
        assert doctest.DocTestRunner().run(example) == (0, 1)

    def test_may_use_other_names_and_any_case(self):
        names = ["INSURANCE COMPANY", "Procedure-Code", "service line", "Claim Date", "Status", "Charges"]
        assert list(claim_columns(names)) == [
            *("payer", "cpt", "cpt_group", "submitted_date", "outcome", "billed_amount")
        ]

    def test_may_have_columns_that_are_not_imported(self):
        names = ["Room", "payer", "cpt", "submitted_date", "outcome", "Patient"]
        assert set(claim_columns(names)) == {"payer", "cpt", "submitted_date", "outcome"}

    def test_may_not_name_a_column_twice(self):
        with pytest.raises(ClaimFileError, match="'Payer' and 'Insurance' both are payer"):
            claim_columns(["Payer", "Insurance"])

    def test_with_a_misspelt_column_is_refused_since_it_would_be_lost(self):
        with pytest.raises(ClaimFileError, match="'decided_dat': did you mean 'decided_date'"):
            claim_columns([*HEADER.replace("decided_date", "decided_dat").split(",")])

    def test_lists_what_is_missing(self):
        with pytest.raises(ClaimFileError, match="no column payer, outcome, paid_amount"):
            claim_columns(["cpt", "submitted_date"], ["payer", "cpt", "outcome", "paid_amount"])


class TestCommand:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "october.csv"
        path.write_bytes(file_of(RIGHT, RIGHT, WRONG).getvalue())
        return path

    def test_imports_and_tells_the_counts(self, customer, database, path, tmp_path, capsys):
        rejected = tmp_path / "rejected.csv"

        call_command("import_claims", "Lakeside", str(path), "--rejected", str(rejected), "--database", database)

        assert "Lakeside: imported 2 claims of october.csv (0" in (printed := capsys.readouterr().out)
        assert f"rejected 1 row, see {rejected}. Data quality: 66.7%." in printed
        assert "Look at this" not in printed
        assert len(rows_of(rejected)) == 1
        assert ClaimRecord.objects.using(database).count() == 2

    @pytest.mark.django_db
    def test_tells_what_looks_odd(self, tmp_path, capsys):
        Customer.objects.create(name="Lakeside")
        path = tmp_path / "denied.csv"
        path.write_bytes(file_of(*[RIGHT.replace("PAID", "DENIED")] * 12).getvalue())

        call_command("import_claims", "Lakeside", str(path))

        assert "Look at this: " in (printed := capsys.readouterr().out)
        assert "100.0% of the claims were denied (12 of 12)" in printed

    @pytest.mark.django_db
    def test_takes_the_id_of_a_customer_and_shows_progress(self, path, capsys):
        customer = Customer.objects.create(name="Lakeside")

        call_command("import_claims", str(customer.pk), str(path), verbosity=2)

        assert capsys.readouterr().err.startswith("3 rows in ")

    @pytest.mark.django_db
    def test_does_nothing_the_second_time(self, path, capsys):
        Customer.objects.create(name="Lakeside")
        call_command("import_claims", "Lakeside", str(path))

        call_command("import_claims", "Lakeside", str(path))

        assert "Nothing to do: this file was imported on" in capsys.readouterr().out
        assert ClaimRecord.objects.count() == 2

    @pytest.mark.django_db
    @pytest.mark.parametrize(
        ("customer", "file", "message"),
        [
            ("Nobody", "x.csv", "no customer 'Nobody': give the name or the id"),
            ("7", "x.csv", "'7' is the name of one customer and the id of another"),
            ("Lakeside", "missing.csv", "nothing was imported: .*No such file.*missing.csv"),
            ("Lakeside", "wrong.csv", "nothing was imported: the file has no column payer"),
        ],
    )
    def test_says_what_is_wrong(self, customer, file, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("wrong.csv").write_text("a,b\n1,2\n")
        Customer.objects.create(pk=7, name="Lakeside")
        Customer.objects.create(pk=8, name="7")

        with pytest.raises(CommandError, match=message):
            call_command("import_claims", customer, file)
