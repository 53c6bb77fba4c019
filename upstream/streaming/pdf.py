"""HTML to PDF with WeasyPrint, restricted to the files that the caller allows."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from upstream.streaming._optional import optional
from upstream.streaming.errors import BlockedURLError


def render_pdf(
    html: str,
    *,
    stylesheets: Iterable[str | PathLike[str]] = (),
    directories: Iterable[str | PathLike[str]] = (),
) -> bytes:
    """Render an HTML document as PDF, with the CSS files `stylesheets`.

    The document and its stylesheets may use `data:` URLs and files below `directories`. Relative URLs are resolved
    against the first directory, in a stylesheet against its own path. Any other URL is not fetched; it raises a
    BlockedURLError that names it, as does a URL that cannot be read. The whole document is in memory: about 10 MB
    per page.
    """
    weasyprint: Any = optional("weasyprint", "pdf")
    allowed = [Path(directory).resolve() for directory in directories]
    fetcher = _closed_fetcher(weasyprint.urls, allowed)
    base_url = f"{(allowed or [Path.cwd()])[0].as_uri()}/"
    try:
        sheets = [_stylesheet(weasyprint, Path(sheet), fetcher) for sheet in stylesheets]
        document = weasyprint.HTML(string=html, base_url=base_url, url_fetcher=fetcher)
        pdf: bytes = document.write_pdf(stylesheets=sheets)
    except weasyprint.urls.FatalURLFetchingError as error:
        raise BlockedURLError(str(error)) from error
    if fetcher.failures:  # WeasyPrint ignores failed fetches inside an SVG image
        raise BlockedURLError(fetcher.failures[0])
    return pdf


def _stylesheet(weasyprint: Any, path: Path, fetcher: Any) -> Any:
    with path.open("rb") as file:
        return weasyprint.CSS(file_obj=file, base_url=path.resolve().as_uri(), url_fetcher=fetcher)


def _closed_fetcher(urls: Any, directories: list[Path]) -> Any:
    class ClosedFetcher(urls.URLFetcher):  # type: ignore[misc]
        """Fetches `data:` URLs and files below `directories`; any other URL, and any failure, aborts rendering."""

        def __init__(self) -> None:
            super().__init__(allowed_protocols={"data", "file"}, allow_redirects=False, fail_on_errors=True)
            self.failures: list[str] = []

        def fetch(self, url: str, headers: Any = None) -> Any:
            if not _is_allowed(url, directories):
                raise self._failure(f"{url:.200} is blocked: it is neither a data: URL nor a file below {allowed}")
            try:
                return super().fetch(url, headers)
            except Exception as error:
                raise self._failure(f"{url:.200} cannot be read: {error}") from error

        def _failure(self, reason: str) -> BaseException:
            self.failures.append(reason)
            return urls.FatalURLFetchingError(reason)  # type: ignore[no-any-return]

    allowed = ", ".join(map(str, directories)) or "an allowed directory"
    return ClosedFetcher()


def _is_allowed(url: str, directories: list[Path]) -> bool:
    parts = urlsplit(url)
    if parts.scheme.lower() == "data":
        return True
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        return False
    path = Path(url2pathname(parts.path)).resolve()  # symbolic links and `..` are resolved before the comparison
    return any(path.is_relative_to(directory) for directory in directories)
