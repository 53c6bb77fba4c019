"""A column that shows another model needs the permission to view it, by whatever name it gets there."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Count, Exists, F, FilteredRelation, OuterRef, Q, Subquery, Value, Window
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Rank, Upper
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from tests.asking import create_user
from tests.library.models import Author, Book, Card, Country, Cover, Greeted, Payment, Tag
from upstream.integrations.admin import ExportModelAdmin
from upstream.integrations.shown_models import shown_by_name
from upstream.streaming import Column

EVERY = "every model"
BY_PATH = {
    "title": [],  # of the parent that the model inherits from
    "pk": [],
    "work_ptr_id": [],
    "work_ptr__title": [],
    "details__review__stars": [],
    "printed_at__year": [],
    "pages": [],
    "sequel_to__title": [],
    "sequel_to_id": [],
    "author_id": [],
    "author": [],  # as in a Column: the key alone
    "profile_id": [],  # a number, if by two steps
    "by_mail_id": [Author],
    "by_mail": [Author],
    "by_number_id": [Author],
    "country_id": [Country],
    "author__name": [Author],
    "author__notes__private__phone": [Author],
    "author__pk": [Author],
    "sequel_to__author__name": [Author],
    "sequel_to__by_mail_id": [Author],
    "cover": [Cover],
    "cover__colour": [Cover],
    "tags__word": [Tag],
    "tags": [Tag],  # the text of its rows
    "book": [],
    "author__books__tags": [Author, Tag],
    "subject": EVERY,
    "subject__name": EVERY,
    "content_type__model": [apps.get_model("contenttypes.ContentType")],
    "writer__email": EVERY,
    "pages__real": EVERY,
    "nothing__of__the__kind": EVERY,
}
DARK = FilteredRelation("cover", condition=Q(cover__colour="black"))
BY_EXPRESSION = {
    "of the row": (Upper("title"), []),
    "a constant": (Value(1), []),
    "the number of rows": (Count("*"), []),
    "a key": (F("author_id"), []),
    "a JSON key": (F("details__review"), []),
    "a window": (Window(Rank(), order_by="title"), []),
    "a path": (F("author__email"), [Author]),
    "a part of a function": (Concat("title", Value(" by "), "author__name"), [Author]),
    "a JSON key of a relation": (F("author__notes__phone"), [Author]),
    "the key of a relation that is no primary key": (F("by_mail"), [Author]),
    "a window over a relation": (Window(Rank(), partition_by="author__name", order_by="title"), [Author]),
    "a count of a relation": (Count("cover"), [Cover]),
    "a count by a many-to-many relation": (Count("tags"), [Tag]),
    "a condition on a relation": (Count("pk", filter=Q(author__name="x")), [Author]),
    "a subquery": (Subquery(Author.objects.filter(pk=OuterRef("author")).values("email")), [Author]),
    "a subquery by a join": (Subquery(Book.objects.filter(pk=OuterRef("pk")).values("author__name")), [Author]),
    "an existence": (Exists(Cover.objects.filter(book=OuterRef("pk"))), [Cover]),
    "a subquery in a subquery": (
        Exists(Book.objects.filter(author__in=Author.objects.filter(name="x"), pk=OuterRef("pk"))),
        [Author],
    ),
    "raw SQL": (RawSQL("SELECT 1", ()), EVERY),
    "raw SQL inside": (Upper(RawSQL("SELECT 'x'", ())), EVERY),
}


def shown(name, queryset):
    found = set(shown_by_name(Book, name, queryset.query))
    others = {model for model in apps.get_models() if not issubclass(Book, model)}
    return EVERY if found == others else found


def expected(models):
    return models if models == EVERY else set(models)


@pytest.mark.parametrize("name", BY_PATH)
def test_a_path_shows_the_models_that_it_leads_through(name):
    assert shown(name, Book.objects.all()) == expected(BY_PATH[name])


@pytest.mark.parametrize("how", ["annotate", "alias"])
@pytest.mark.parametrize("called", BY_EXPRESSION)
def test_a_name_of_the_query_shows_the_models_of_its_expression(called, how):
    expression, models = BY_EXPRESSION[called]
    queryset = getattr(Book.objects, how)(found=expression)
    assert shown("found", queryset) == expected(models)


def test_a_name_over_a_filtered_relation_shows_the_model_at_its_end():
    queryset = Book.objects.annotate(dark=DARK).annotate(colour=F("dark__colour"))
    assert shown("colour", queryset) == {Cover}


def test_a_name_that_stands_for_a_name_shows_what_that_shows():
    queryset = Book.objects.annotate(mail=F("author__email")).annotate(shout=Upper("mail"), other=F("shout"))
    assert shown("other", queryset) == {Author}


def test_a_name_that_django_makes_up_for_an_aggregate_is_an_expression_too():
    assert shown("cover__count", Book.objects.annotate(Count("cover"))) == {Cover}


def test_a_name_of_extra_shows_every_model():
    assert shown("found", Book.objects.extra(select={"found": "SELECT 1"})) == EVERY


site = admin.AdminSite(name="library")


@admin.register(Book, site=site)
class BookAdmin(ExportModelAdmin):
    list_display = ["title", "author", "by_mail", "cover", "writer", "told"]
    export_columns = [
        *list_display,
        *("author_id", "by_mail_id", "country_id", "subject", "mail", "pages", "cover__colour", "author__name"),
        Column("author__email", header="Mail"),
        Column("writer__email", header="Mail of the writer"),
        Column("mail", header="Annotated", value=str.upper),
    ]

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(mail=F("author__email"))

    def told(self, book):
        return book.author.email


@admin.register(Card, site=site)
class CardAdmin(ExportModelAdmin):
    list_display = ["id", "number", "limits"]


@admin.register(Payment, site=site)
class PaymentAdmin(ExportModelAdmin):
    export_columns = ["id", "card__number", Column("card__number", header="shout", value=str.lower)]


@admin.register(Greeted, site=site)
class GreetedAdmin(ExportModelAdmin):
    list_display = ["name"]


urlpatterns = [path("library/", site.urls)]
OWN = ["title", "told", "author_id", "pages", "writer"]
OF_AUTHORS = [*OWN, "author", "by_mail", "by_mail_id", "mail", "author__name", "author__email", "mail-2"]


@pytest.fixture
def library(settings, db):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def book(library):
    author = Author.objects.create(name="Ann", email="ann@example.com")
    return Book.objects.create(title="One", author=author, by_mail=author, subject=author)


def address(model):
    return reverse(f"library:library_{model._meta.model_name}_export")


def offered(client, model=Book):
    return client.get(address(model)).context["form"].fields["columns"].initial


def export(client, model, *columns, **data):
    return client.post(address(model), {"format": "csv", "profile": "data", "columns": columns, **data})


@pytest.mark.parametrize(
    ("may", "names"),
    [
        ([], OWN),
        (["view_author"], OF_AUTHORS),
        (["change_author"], OF_AUTHORS),  # which Django's admin takes for the permission to view
        (["export_author", "delete_author"], OWN),
        (["view_cover"], [*OWN, "cover", "cover__colour"]),
        (["view_country"], [*OWN, "country_id"]),
    ],
)
def test_only_columns_of_models_that_the_user_may_view_are_offered_and_given(client, book, may, names):
    client.force_login(create_user("one", "view_book", "export_book", *may, is_staff=True))
    assert sorted(offered(client)) == sorted(names)
    everything = set(offered_to_root(client))
    for name in everything - set(names):
        answer = export(client, Book, name)
        assert answer.status_code == 400
        assert b"ann@example.com" not in answer.content


def offered_to_root(client):
    root = type(client)()
    root.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    return offered(root)


def test_whoever_may_view_every_model_gets_every_column(client, book):
    client.force_login(create_user("one", "view_book", "export_book", is_staff=True))
    User.objects.get().user_permissions.set(Permission.objects.all())
    assert len(offered(client)) == len(BookAdmin.export_columns)
    assert export(client, Book, *offered(client)).getvalue().count(b"ann@example.com") == 5


def test_a_property_that_gives_a_row_of_another_model_is_refused_by_name_of_the_permission(client, book):
    client.force_login(create_user("one", "view_book", "export_book", is_staff=True))
    answer = export(client, Book, "title", "writer")
    assert answer.status_code == 403
    assert "library.view_author" in answer.content.decode()
    User.objects.get().user_permissions.add(Permission.objects.get(codename="view_author"))
    assert export(client, Book, "writer").getvalue() == b"writer\r\nAnn\r\n"


@pytest.mark.parametrize("profile", ["data", "excel"])
def test_values_that_a_model_changes_when_it_is_loaded_are_those_of_the_list(client, library, profile):
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    holder = Author.objects.create(name="Ann", email="a@example.com")
    card = Card.objects.create(number="4111111111111111", holder=holder, limits={"day": 5})
    Payment.objects.create(card=card)
    Greeted.objects.create(name="Ann")
    stored = Greeted.objects.values_list("name", flat=True).get()
    found = b"".join(
        export(client, model, *offered(client, model), profile=profile).getvalue()
        for model in (Card, Payment, Greeted)
    )
    assert found.count(b"****1111") == 3
    assert b"4111111111111111" not in found
    assert b'"{""day"":5}"' in found
    assert f"Dear {stored}".encode() in found


@pytest.mark.parametrize("display", [["subject"], ["subject", "author"], ["author", "cover"], ["pages"]])
def test_rows_shown_as_text_are_fetched_together_whatever_the_list_shows(client, book, monkeypatch, display):
    monkeypatch.setattr(BookAdmin, "list_display", display)
    monkeypatch.setattr(BookAdmin, "export_columns", None)
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))

    def queries():
        ContentType.objects.clear_cache()
        with CaptureQueriesContext(connection) as captured:
            assert export(client, Book, *display).getvalue()
        return len(captured)

    before = queries()
    for number in range(20):
        author = Author.objects.create(name=f"{number}", email=f"{number}@example.com")
        Cover.objects.create(book=Book.objects.create(title="x", author=author, subject=author), colour="red")
    assert queries() == before
