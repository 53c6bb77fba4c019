"""Errors of this package. Those of a source pass through unchanged, with a note."""


class ExportError(Exception):
    """Base class of this package's errors; the message says what to do."""


class ColumnError(ExportError, ValueError):
    """A column cannot be read or written as requested."""


class SourceError(ExportError, TypeError):
    """A source, or one of its rows, cannot be read."""


class TextError(ExportError, UnicodeError):
    """Text cannot be encoded; the message says where it is."""


class DeadlineError(ExportError, TimeoutError):
    """The export exceeded its `timeout`."""


class LimitError(ExportError, ValueError):
    """The export exceeded `max_rows` or `max_bytes`."""


class StreamOverError(ExportError, ValueError):
    """A target got a stream that has ended, failed or been closed; as for a closed file, it is a ValueError."""


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
    """An optional package cannot be imported; the message contains the install command."""


class BlockedURLError(ExportError, ValueError):
    """HTML to be rendered as PDF refers to a URL or file that is blocked or unreadable."""
