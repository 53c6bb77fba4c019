"""PDFs hold what the document says, and the document reads nothing that the caller did not allow."""

import base64
import io
import socket
from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import quote

import pytest
from pypdf import PdfReader

from upstream.services import DataExportService
from upstream.streaming import BlockedURLError
from upstream.streaming.pdf import render_pdf

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
INCH = 72

pytestmark = pytest.mark.skipif(not find_spec("weasyprint"), reason="WeasyPrint is not installed")


def pages(pdf):
    return PdfReader(io.BytesIO(pdf)).pages


def size(page):
    return float(page.mediabox.width), float(page.mediabox.height)


@pytest.fixture
def assets(tmp_path):
    """A directory that documents may use, and beside it a file that they may not."""
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "logo.png").write_bytes(PNG)
    (assets / "page.css").write_text("@page { size: 3in 4in }")
    (assets / "two words.png").write_bytes(PNG)
    (tmp_path / "secret.css").write_text("@page { size: 1in 1in }")
    (tmp_path / "secret.png").write_bytes(PNG)
    return assets


@pytest.fixture
def listener():
    """A server on the loopback, for whoever may come."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def came(server):
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_text_of_the_document_is_in_the_pdf():
    (page,) = pages(render_pdf("<h1>Drift report</h1><p>Überblick: 1 &lt; 2</p>"))
    assert "Drift report" in page.extract_text()
    assert "Überblick: 1 < 2" in page.extract_text()


def test_long_document_has_many_pages():
    document = "".join(f"<p style='page-break-after: always'>Page {number}</p>" for number in range(1, 4))
    texts = [page.extract_text().strip() for page in pages(render_pdf(document))]
    assert texts[:3] == ["Page 1", "Page 2", "Page 3"]


def test_stylesheets_lay_the_document_out(tmp_path):
    (tmp_path / "size.css").write_text("@page { size: 5in 5in }", encoding="utf-8")
    (tmp_path / "words.css").write_text("p::after { content: ' · behind' }", encoding="utf-8")
    pdf = DataExportService.export_to_pdf(
        "<p>Text</p>", stylesheets=[str(tmp_path / "size.css"), tmp_path / "words.css"]
    )
    (page,) = pages(pdf.read())
    assert size(page) == (5 * INCH, 5 * INCH)
    assert "Text · behind" in page.extract_text()


def test_last_stylesheet_wins(tmp_path):
    for number in (3, 5):
        (tmp_path / f"{number}.css").write_text(f"@page {{ size: {number}in {number}in }}")
    (page,) = pages(render_pdf("<p>x</p>", stylesheets=[tmp_path / "3.css", tmp_path / "5.css"]))
    assert size(page) == (5 * INCH, 5 * INCH)


def test_stylesheet_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "x.css").write_text("@page { size: 5in 5in }", encoding="utf-8-sig")
    (page,) = pages(render_pdf("<p>x</p>", stylesheets=[tmp_path / "x.css"]))
    assert size(page) == (5 * INCH, 5 * INCH)


def test_image_in_the_document_itself_is_shown():
    image = base64.b64encode(PNG).decode()
    (page,) = pages(render_pdf(f'<img src="data:image/png;base64,{image}">'))
    assert len(page.images) == 1


@pytest.mark.parametrize(
    "source", ["logo.png", "./logo.png", "two%20words.png", "sub/../logo.png", "{uri}/logo.png"]
)
def test_file_below_an_asset_directory_is_used(assets, source):
    document = f'<img src="{source.format(uri=assets.as_uri())}">'
    (page,) = pages(DataExportService.export_to_pdf(document, asset_directories=[assets]).read())
    assert len(page.images) == 1


def test_second_asset_directory_is_used_by_its_full_path(assets, tmp_path):
    (tmp_path / "other").mkdir()
    (page,) = pages(
        render_pdf(f'<img src="{assets.as_uri()}/logo.png">', directories=[tmp_path / "other", assets])
    )
    assert len(page.images) == 1


@pytest.mark.parametrize(
    "document", ['<link rel="stylesheet" href="page.css">', "<style>@import 'page.css'</style>"]
)
def test_stylesheet_below_an_asset_directory_is_used(assets, document):
    (page,) = pages(render_pdf(document, directories=[assets]))
    assert size(page) == (3 * INCH, 4 * INCH)


def test_stylesheet_imports_what_lies_beside_it(assets, tmp_path):
    (assets / "main.css").write_text("@import 'page.css'")
    (page,) = pages(render_pdf("<p>x</p>", stylesheets=[assets / "main.css"], directories=[assets]))
    assert size(page) == (3 * INCH, 4 * INCH)


def test_missing_asset_is_an_error_that_names_it(assets):
    with pytest.raises(BlockedURLError, match=r"missing\.png"):
        render_pdf('<img src="missing.png">', directories=[assets])


SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
WAYS_IN = {
    "image": '<img src="{url}">',
    "stylesheet": '<link rel="stylesheet" href="{url}">',
    "import": "<style>@import '{url}'</style>",
    "import-url": "<style>@import url({url})</style>",
    "background": "<style>body {{ background: url('{url}') }}</style>",
    "style": "<div style=\"background-image: url('{url}')\">x</div>",
    "content": "<style>p::before {{ content: url('{url}') }}</style><p>x</p>",
    "bullet": "<style>li {{ list-style-image: url('{url}') }}</style><li>x</li>",
    "font": "<style>@font-face {{ font-family: f; src: url('{url}') }} p {{ font-family: f }}</style><p>x</p>",
    "object": '<object data="{url}"></object>',
    "embed": '<embed src="{url}">',
    "attachment": '<a rel="attachment" href="{url}">x</a>',
    "attachments": '<link rel="attachment" href="{url}">',
    "svg-image": SVG + '<image href="{url}" width="9" height="9"/></svg>',
}

every_way_in = pytest.mark.parametrize("document", WAYS_IN.values(), ids=WAYS_IN)
every_scheme = pytest.mark.parametrize("scheme", ["http", "https", "ftp"])


@every_way_in
@every_scheme
def test_nothing_is_fetched_from_a_network(listener, scheme, document):
    with suppress(BlockedURLError):
        render_pdf(document.format(url=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x"))
    assert not came(listener)


@every_way_in
@every_scheme
def test_url_of_a_network_is_an_error_that_names_it(scheme, document):
    with pytest.raises(BlockedURLError, match=f"{scheme}://127.0.0.1:9/x"):
        render_pdf(document.format(url=f"{scheme}://127.0.0.1:9/x"))


@every_way_in
def test_no_file_outside_the_asset_directories_is_read(assets, document):
    url = (assets.parent / "secret.png").as_uri()
    with pytest.raises(BlockedURLError, match=r"secret\.png"):
        render_pdf(document.format(url=url), directories=[assets])


@pytest.mark.parametrize(
    "source",
    [
        "../secret.png",
        "../assets/../secret.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        "link.png",
        "link/secret.png",
        "{parent}/secret.png",
        "file://{parent}/secret.png",
        "file://localhost{parent}/secret.png",
        "FILE://{parent}/secret.png",
        "file://{assets}/../secret.png",
        "file://{assets}-of-others/secret.png",
        "file://elsewhere{assets}/logo.png",
        "//elsewhere/logo.png",
        "file:{parent}/secret.png",
    ],
)
def test_no_way_out_of_an_asset_directory_is_followed(assets, source):
    (assets / "link.png").symlink_to(assets.parent / "secret.png")
    (assets / "link").symlink_to(assets.parent)
    others = assets.with_name("assets-of-others")
    others.mkdir()
    (others / "secret.png").write_bytes(PNG)
    with pytest.raises(BlockedURLError, match="blocked"):
        render_pdf(f'<img src="{source.format(parent=assets.parent, assets=assets)}">', directories=[assets])


def test_relative_url_without_asset_directories_is_blocked(assets, monkeypatch):
    monkeypatch.chdir(assets)
    with pytest.raises(BlockedURLError, match=r"logo\.png"):
        render_pdf('<img src="logo.png">')


@pytest.mark.parametrize("rule", ["@import '{url}';", "body {{ background: url('{url}') }}"])
def test_stylesheet_given_by_path_reads_nothing_else(assets, listener, tmp_path, rule):
    sheet = tmp_path / "given.css"
    for url in (f"http://127.0.0.1:{listener.getsockname()[1]}/x", "secret.css", "/etc/hosts"):
        sheet.write_text(rule.format(url=url))
        with pytest.raises(BlockedURLError, match=url):
            render_pdf("<p>x</p>", stylesheets=[sheet], directories=[assets])
    assert not came(listener)


def test_base_of_the_document_does_not_widen_what_is_allowed(assets):
    document = f'<base href="{assets.parent.as_uri()}/"><img src="secret.png">'
    with pytest.raises(BlockedURLError, match=r"secret\.png"):
        render_pdf(document, directories=[assets])


def test_image_inside_an_svg_of_the_document_is_held_to_the_same_rule(assets, listener):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}" width="9" height="9"/></svg>'
    with pytest.raises(BlockedURLError, match=url):
        render_pdf(f'<img src="data:image/svg+xml,{quote(svg)}">')
    assert not came(listener)


@pytest.mark.parametrize("scheme", ["gopher", "jar", "chrome", "unheard-of", "about"])
def test_unknown_schemes_are_blocked(scheme):
    with pytest.raises(BlockedURLError, match=scheme):
        render_pdf(f'<img src="{scheme}:x">')


def test_link_to_a_page_elsewhere_is_no_request():
    (page,) = pages(render_pdf('<a href="https://example.com/">x</a>'))
    assert page["/Annots"][0].get_object()["/A"]["/URI"] == "https://example.com/"


def test_error_leaves_no_file(tmp_path):
    with pytest.raises(BlockedURLError):
        DataExportService.export_to_pdf('<img src="http://127.0.0.1:9/x">', tmp_path / "x.pdf")
    assert list(tmp_path.iterdir()) == []
