"""The spreadsheet of the admin has what the list shows; its data are the values, unchanged."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import F
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join, mark_safe
from django.utils.timezone import override

from tests.fieldtypes.models import Everything
from tests.library.models import Author, Book, Cover
from tests.test_querysets import row as everything
from upstream.integrations.admin import ExportModelAdmin
from upstream.integrations.formats import Format
from upstream.streaming import Column, Csv

pytestmark = pytest.mark.django_db

MOMENT = datetime(2026, 1, 31, 23, 30, 5, 250000, tzinfo=UTC)
OWN = Format("own", "Own", Csv(), Csv(profile="excel", time_zone=UTC, datetime_format="%d.%m.%Y"))
DATA_ONLY = Format("plain", "Plain", Csv(), Csv(delimiter=";"))

site = admin.AdminSite(name="shelf")


@admin.register(Book, site=site)
class BookAdmin(ExportModelAdmin):
    export_formats = ("csv", "json", OWN, DATA_ONLY)
    list_display = ["title", "bound", "at", "lines", "words", "nothing", "is_new", "icon", "lasts"]
    export_columns = [
        *list_display,
        *("binding", "printed_at", "read_for", "details", "annotated", "sequel_to", "sequel_to__binding"),
        Column("bound", header="Own header"),
        Column("title", value=str.upper),
    ]

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(annotated=F("binding"))

    def at(self, book):
        return book.printed_at

    @admin.display(description=mark_safe("Lines<br>of <i>it</i>"))
    def lines(self, book):
        return format_html_join(mark_safe("<br>"), "{}", [["red"], ["green & blue"]])

    def words(self, book):
        return ["one", 2]

    @admin.display(empty_value="???")
    def nothing(self, book):
        return None

    @admin.display(boolean=True)
    def is_new(self, book):
        return True

    def icon(self, book):
        return format_html('<img src="/x.svg" alt="{}">', "No")

    def lasts(self, book):
        return timedelta(hours=26)


@admin.register(Cover, site=site)
class CoverAdmin(ExportModelAdmin):
    list_display = ["book__binding", "book__printed_at"]


@admin.register(Everything, site=site)
class EverythingAdmin(ExportModelAdmin):
    list_display = ["word", "level", "boolean", "date", "decimal", "floating"]


urlpatterns = [path("shelf/", site.urls)]
EXPECTED = {
    "title": (("Title", "One"), ("title", "One")),
    "bound": (("Bound", "As a book"), ("bound", "True")),
    "at": (("At", "2026-02-01 00:30:05"), ("at", "2026-01-31 23:30:05.250000+00:00")),
    "lines": (("Lines of it", "red\ngreen & blue"), ("lines", "red; green & blue")),
    "words": (("Words", "one, 2"), ("words", '["one",2]')),
    "nothing": (("Nothing", ""), ("nothing", "")),
    "is_new": (("Is new", "True"), ("is_new", "True")),
    "icon": (("Icon", "No"), ("icon", "No")),
    "lasts": (("Lasts", "1 day, 2:00:00"), ("lasts", "P1DT02H00M00S")),
    "binding": (("Binding", "Paperback"), ("binding", "s")),
    "printed_at": (("Printed at", "2026-02-01 00:30:05"), ("printed_at", "2026-01-31 23:30:05.250000+00:00")),
    "read_for": (("Read for", "0:01:30"), ("read_for", "P0DT00H01M30S")),
    "details": (("Details", "[5]"), ("details", "[5]")),
    "annotated": (("Annotated", "Paperback"), ("annotated", "s")),
    "sequel_to": (("Sequel to", "Zero"), ("sequel_to", "Zero")),
    "sequel_to__binding": (("Sequel to binding", "Hardcover"), ("sequel_to__binding", "h")),
    "bound-2": (("Own header", "As a book"), ("Own header", "True")),
    "title-2": (("Title", "ONE"), ("title", "ONE")),
}


@pytest.fixture
def shelf(settings, client):
    settings.ROOT_URLCONF = __name__
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    first = Book.objects.create(title="Zero", author=Author.objects.create(name="Ann", email="a@example.com"))
    return Book.objects.create(
        title="One",
        bound=True,
        binding="s",
        printed_at=MOMENT,
        read_for=timedelta(seconds=90),
        details=[5],
        sequel_to=first,
    )


def export(client, model, *columns, **data):
    address = reverse(f"shelf:{model._meta.app_label}_{model._meta.model_name}_export")
    with override("Europe/Berlin"):
        answer = client.post(address, {"format": "csv", "profile": "excel", "columns": columns, **data})
    assert answer.status_code == 200, answer.content
    text = answer.getvalue().decode("utf-8-sig")
    delimiter = ";" if data.get("format") == "plain" else ","
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize("column", EXPECTED)
def test_a_column_is_as_the_list_shows_it_or_as_it_is_stored(client, shelf, column):
    in_spreadsheet, in_data = EXPECTED[column]
    header, first, _ = export(client, Book, column)
    assert (header, first) == ([in_spreadsheet[0]], [in_spreadsheet[1]])
    header, first, _ = export(client, Book, column, profile="data")
    assert (header, first) == ([in_data[0]], [in_data[1]])


def test_every_column_has_its_expectation(client, shelf):
    page = client.get(reverse("shelf:library_book_export"))
    assert page.context["form"].fields["columns"].initial == list(EXPECTED)


def test_values_of_relations_are_worded_as_well(client, shelf):
    Cover.objects.create(book=shelf, colour="red")
    found = export(client, Cover, "book__binding", "book__printed_at")
    assert found == [["Book binding", "Book printed at"], ["Paperback", "2026-02-01 00:30:05"]]


def test_a_value_that_is_no_choice_stays(client, shelf):
    Book.objects.filter(pk=shelf.pk).update(binding="x")
    assert export(client, Book, "binding")[1] == ["x"]


def test_labels_stand_for_texts_and_numbers(client, shelf):
    everything(word="=1+1", level=-1).save()
    _, first = export(client, Everything, "word", "level")
    assert first == ["A formula", "Below"]


def test_a_format_of_ones_own_keeps_its_zone_and_its_form_of_moments(client, shelf):
    assert export(client, Book, "printed_at", format="own")[1] == ["31.01.2026"]


def test_a_format_that_writes_data_for_people_keeps_its_moments(client, shelf):
    assert export(client, Book, "printed_at", format="plain")[1] == ["2026-01-31 23:30:05.250000+00:00"]
