"""Documents that end early: no reader takes what is left for the whole, and nothing is held."""

from hashlib import sha512
from itertools import count
from pathlib import Path

import pytest
from django.core.cache import cache
from django.core.files.storage import FileSystemStorage
from django.db import connections

from tests import opening
from tests.asking import Told, ask
from tests.fieldtypes.models import Parent
from tests.test_files import BrokenSourceError, FailingCalls, error_of, names
from upstream.integrations.formats import Format
from upstream.integrations.limits import Limits
from upstream.integrations.views import ExportView
from upstream.streaming import Column, Parquet, Pdf, Xlsx, stream, to_buffer, to_file, to_storage

# A row group is one chunk: these end with the first batch, where the other formats have their first bytes.
ENCODERS = {
    "xlsx": Xlsx(),
    "parquet": Parquet(row_group_rows=100, types={"id": "int64", "name": "string"}),
    "pdf": Pdf(),
}
ROWS = 300
FAILS_AT = 200  # in the second batch

every_document = pytest.mark.parametrize("suffix", ENCODERS)


def chunks_of(suffix, fails_at=None):
    length = 20 if suffix == "pdf" else None

    def rows():
        for number in range(ROWS):
            if number == fails_at:
                raise BrokenSourceError
            noise = sha512(str(number).encode()).hexdigest()  # which no codec makes much smaller
            yield {"id": number, "name": noise[:length]}

    return stream(rows(), encoder=ENCODERS[suffix])


def whole(suffix):
    return to_buffer(chunks_of(suffix)).read()


@every_document
def test_no_reader_opens_a_document_that_was_cut_unless_every_page_is_there(suffix):
    data = whole(suffix)
    found = opening.opened(suffix, data)
    assert all(found.values())
    before_the_end = (len(data) - less for less in (1, 2, 5, 20, 70))
    for end in (*range(len(data) // 9, len(data), len(data) // 9), *before_the_end):
        for name, rows in opening.opened(suffix, data[:end]).items():
            # The last bytes of a PDF tell only where its objects are: some readers find these without.
            assert rows is None or (suffix == "pdf" and rows == found[name]), (name, end)


@pytest.mark.heavy
@pytest.mark.parametrize("part", [0.3, 0.9, 0.9999])
def test_libreoffice_mends_no_workbook_that_was_cut(part):
    data = whole("xlsx")
    assert opening.opened("xlsx", data, slow=True)["libreoffice"] == ROWS + 1
    assert opening.opened("xlsx", data[: int(part * len(data))], slow=True)["libreoffice"] is None


class Breaking:
    """A function of a column that fails at one row."""

    def __init__(self):
        self.calls = 0

    def __call__(self, name):
        self.calls += 1
        if self.calls > FAILS_AT:
            raise BrokenSourceError
        return name


def view_of(suffix, database, spool):
    class Parents(ExportView):
        queryset = Parent.objects.using(database).order_by("id")
        permission = None
        formats = (Format(suffix, suffix, ENCODERS[suffix]),)
        limits = Limits(total=1)

        @property
        def columns(self):
            return ["id", Column("name", value=Breaking())]

    Parents.spool = spool
    return Parents


def is_idle(database):
    """Whether a connection has neither a transaction nor rows that nobody read, and takes another statement."""
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        one = cursor.fetchone()
    return one == (1,) and connection.get_autocommit() and not connection.in_atomic_block


def open_files(directory):
    """Return the open files in a directory, those without a name among them."""
    paths = (str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [path for path in paths if path.startswith(str(directory))]


@every_document
@pytest.mark.usefixtures("answers")
class TestDownload:
    @pytest.fixture(autouse=True)
    def rows(self, transactional_database, settings, tmp_path):
        cache.clear()
        settings.FILE_UPLOAD_TEMP_DIR = tmp_path
        Parent.objects.using(transactional_database).bulk_create(Parent(name=f"Payer {n}") for n in range(ROWS))
        self.directory = tmp_path
        yield
        assert is_idle(transactional_database)
        assert open_files(tmp_path) == names(tmp_path) == []

    def test_that_is_live_breaks_into_what_no_reader_opens(self, suffix, transactional_database):
        view = view_of(suffix, transactional_database, spool=False)
        for _ in range(2):  # the first has left its place
            sent = []
            with Told(view) as told, pytest.raises(BrokenSourceError):
                sent.extend(ask(view))
            assert b"".join(sent)
            assert set(opening.opened(suffix, b"".join(sent)).values()) == {None}
            [_, (name, details)] = told
            assert (name, details["outcome"], details["bytes"]) == ("failed", "failed", sum(map(len, sent)))

    def test_that_is_spooled_fails_before_its_first_byte(self, suffix, transactional_database):
        view = view_of(suffix, transactional_database, spool=True)
        for _ in range(2):
            with Told(view) as told, pytest.raises(BrokenSourceError):
                ask(view)
            [_, (name, details)] = told
            assert (name, details["outcome"], details["bytes"]) == ("failed", "failed", 0)

    @pytest.mark.parametrize("spool", [False, True], ids=["live", "spooled"])
    def test_whose_client_goes_holds_nothing(self, suffix, transactional_database, spool):
        view = view_of(suffix, transactional_database, spool=spool)
        view.columns = ["id", "name"]
        for _ in range(2):
            response = ask(view)
            assert next(iter(response))
            assert spool is bool(open_files(self.directory))
            response.close()


@every_document
class TestTarget:
    @pytest.mark.parametrize("fails_at", [0, 1, 100, FAILS_AT, ROWS - 1])
    def test_of_a_failing_source_has_nothing(self, suffix, fails_at, tmp_path):
        storage = FileSystemStorage(location=tmp_path / "media")
        for write in (
            lambda chunks: to_file(chunks, tmp_path / "x"),
            lambda chunks: to_storage(chunks, "x", storage),
        ):
            with pytest.raises(BrokenSourceError):
                write(chunks_of(suffix, fails_at))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    @pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replaced"])
    def test_whose_nth_call_fails_is_old_or_whole(self, suffix, old, tmp_path, monkeypatch):
        data, failed = whole(suffix), []
        for number in count(1):
            path = tmp_path / str(number) / "x"
            path.parent.mkdir()
            if old:
                path.write_bytes(old)
            with monkeypatch.context() as patch:
                calls = FailingCalls(patch, number)
                error = error_of(lambda path=path: to_file(chunks_of(suffix), path))
            content = path.read_bytes() if path.exists() else None
            assert content in ((old, data) if error else (data,))
            assert names(path.parent) == ([] if content is None else ["x"])
            if not calls.name:
                break
            failed.append(calls.name)
        assert failed.count("write") > 1
