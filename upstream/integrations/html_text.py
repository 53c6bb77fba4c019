"""HTML as the text that a reader sees."""

from html.parser import HTMLParser
from typing import Any

# Elements that a browser puts on a line of their own, and the one that ends a line.
BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "dd", "details", "dialog", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header"),
        *("hr", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tr", "ul"),
    )
)
CELLS = frozenset(("td", "th"))
UNSEEN = frozenset(("script", "style", "template"))


def text_of(html: str, *, line_break: str = "\n") -> str:
    """Return the text of some HTML: lines, list items and table rows are separated by `line_break`.

    Tags inside of a line leave no trace, cells of a table row are separated by a space, an image is its `alt`,
    and white space of any length is one space.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return line_break.join(filter(None, lines))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.unseen = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in UNSEEN:
            self.unseen += 1
        elif tag == "img":
            self.parts.append(dict(attrs).get("alt") or "")
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in UNSEEN:
            self.unseen = max(0, self.unseen - 1)
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.parts.append(data.replace("\n", " "))

    def _separate(self, tag: str) -> None:
        if tag in BLOCKS:
            self.parts.append("\n")
        elif tag in CELLS:
            self.parts.append(" ")
