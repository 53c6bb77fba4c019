"""Errors of this package. Those of a source pass through unchanged, with a note."""


class ExportError(Exception):
    """Base class of this package's errors; the message says what to do.

    >>> try:
    ...     stream([{"id": 1}], ["idd"])
    ... except ExportError as error:
    ...     print(error)
    unknown column 'idd' on the first row: did you mean 'id'?
    """


class ColumnError(ExportError, ValueError):
    """A column cannot be read or written as requested.

    >>> stream([{"id": 1}], [])
    Traceback (most recent call last):
    upstream.streaming.errors.ColumnError: an export needs at least one column
    """


class SourceError(ExportError, TypeError):
    """A source, or one of its rows, cannot be read.

    >>> stream(1)
    Traceback (most recent call last):
    upstream.streaming.errors.SourceError: a source must be a queryset or an iterable of rows, not int
    """


class TextError(ExportError, UnicodeError):
    """Text cannot be encoded; the message says where it is.

    >>> to_buffer(stream([{"unit": "\u03a9"}], encoder=Csv(encoding="cp1252")))
    Traceback (most recent call last):
    upstream.streaming.errors.TextError: row 1, column 'unit' contains '\u03a9' U+03A9, which cp1252 cannot...
    """


class DeadlineError(ExportError, TimeoutError):
    """The export exceeded its `timeout`.

    >>> to_buffer(stream([{"id": 1}], timeout=1e-9))
    Traceback (most recent call last):
    upstream.streaming.errors.DeadlineError: the export exceeded its timeout: raise it, or export fewer rows
    """


class LimitError(ExportError, ValueError):
    """The export exceeded `max_rows` or `max_bytes`.

    >>> to_buffer(stream([{"id": 1}, {"id": 2}], max_rows=1))
    Traceback (most recent call last):
    upstream.streaming.errors.LimitError: the export has more than 1 rows: narrow it down
    """


class StreamOverError(ExportError, ValueError):
    """A target got a stream that has ended, failed or been closed; as for a closed file, it is a ValueError.

    >>> chunks = stream([{"id": 1}])
    >>> buffer = to_buffer(chunks)
    >>> to_buffer(chunks)
    Traceback (most recent call last):
    upstream.streaming.errors.StreamOverError: this stream has ended, failed or been closed: call...
    """


def lone_surrogate(where: str, text: str, error: UnicodeEncodeError) -> TextError:
    """Return the TextError for the character of `text` at which `error` was raised."""
    return unencodable(where, text, error.start, "UTF-8")


def unencodable(where: str, text: str, start: int, encoding: str) -> TextError:
    """Return the TextError for the character of `text` at `start`, which `encoding` lacks."""
    character = text[start]
    surrogate = "\ud800" <= character <= "\udfff"
    what = "the lone surrogate" if surrogate else repr(character)
    name = "UTF-8" if encoding == "utf-8" else encoding
    other = "" if surrogate else ", or choose another encoding"
    return TextError(
        f"{where} contains {what} U+{ord(character):04X}, which {name} cannot encode: "
        f"replace it, for example with Column(..., value=...){other}"
    )


class MissingDependencyError(ExportError, ImportError):
    """An optional package cannot be imported; the message contains the install command.

    >>> try:
    ...     chunks = stream([{"id": 1}], compression="zstd")
    ... except MissingDependencyError as error:
    ...     print(error)
    """


class BlockedURLError(ExportError, ValueError):
    """HTML to be rendered as PDF refers to a URL or file that is blocked or unreadable.

    >>> from upstream.streaming.pdf import render_pdf
    >>> try:
    ...     render_pdf("<img src='https://example.com/logo.png'>")
    ... except BlockedURLError:
    ...     print("use a data: URL, or a file in `directories`")
    use a data: URL, or a file in `directories`
    """
