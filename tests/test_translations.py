"""Every text of the admin's exports, and of those in the background, has its translation in compiled catalogs."""

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_python
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.apps import apps
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.translation import override

APPS = [Path(apps.get_app_config(label).path) for label in ("upstream_integrations", "upstream_jobs")]
CATALOGS = [path for app in APPS for path in sorted(app.glob("locale/*/LC_MESSAGES/django.po"))]
# What Django's own catalogs have.
OF_DJANGO = {"Home", "Error:", "Please correct the errors below."}

every_catalog = pytest.mark.parametrize("path", CATALOGS, ids=lambda path: f"{path.parts[-5]}-{path.parts[-3]}")


def texts_in_python(app):
    for path in app.rglob("*.py"):
        with path.open("rb") as file:
            yield from (text for _, _, text, _ in extract_python(file, ["_"], [], {}))


def texts_in_templates(app):
    for path in app.rglob("*.html"):
        source = path.read_text()
        yield from re.findall(r'{% translate "([^"]+)" %}', source)
        for block in re.findall(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate %}", source):
            yield re.sub(r"{{ (\w+) }}", r"%(\1)s", block)


def messages(catalog):
    return {message.id: message.string for message in catalog if message.id}


@every_catalog
def test_every_text_is_translated(path):
    app = path.parents[3]
    wanted = {*texts_in_python(app), *texts_in_templates(app)} - OF_DJANGO
    with path.open("rb") as file:
        found = messages(read_po(file))
    assert len(wanted) > 10
    assert wanted == set(found)
    assert all(found.values())


@every_catalog
def test_every_translation_has_the_places_of_its_text(path):
    with path.open("rb") as file:
        for text, translation in messages(read_po(file)).items():
            assert sorted(re.findall(r"%\(\w+\)s", text)) == sorted(re.findall(r"%\(\w+\)s", translation))


@every_catalog
def test_compiled_catalog_is_that_of_its_source(path):
    with path.open("rb") as source, path.with_suffix(".mo").open("rb") as compiled:
        assert messages(read_po(source)) == messages(read_mo(compiled))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Export drift events", "Choose at least one column.", "Back to the list")),
        ("de", ("exportieren", "Bitte mindestens eine Spalte auswählen.", "Zurück zur Liste", "Profil")),
        ("fr", ("Exporter", "Choisissez au moins une colonne.", "Retour à la liste")),
        ("es", ("Exportar", "Elija al menos una columna.", "Volver a la lista")),
    ],
)
def test_the_page_speaks_the_language_of_its_reader(client, language, words):
    client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
    with override(None):
        address = reverse("admin:upstream_driftevent_export")
        page = client.post(address, {"format": "csv", "profile": "data"}, headers={"Accept-Language": language})
    content = page.content.decode()
    assert [word for word in words if word not in content] == []
