"""What can go wrong in an export. Errors of the source itself pass through unchanged, with a note."""


class ExportError(Exception):
    """Any refusal of this package; its text says what to do."""


class ColumnError(ExportError, ValueError):
    """A column that cannot be read or written as asked."""


class SourceError(ExportError, TypeError):
    """A source, or one of its rows, that is not of a readable kind."""


class TextError(ExportError, UnicodeError):
    """Text that UTF-8 cannot carry, with its row number and column."""


class DeadlineError(ExportError, TimeoutError):
    """The export's own time is over."""


class LimitError(ExportError, ValueError):
    """The export has more rows or bytes than its caller allowed."""


def lone_surrogate(where: str, text: str, error: UnicodeEncodeError) -> TextError:
    """Return the TextError for the character of `text` that `error` stopped at."""
    return TextError(
        f"{where} holds the lone surrogate U+{ord(text[error.start]):04X}, which UTF-8 cannot carry: "
        "replace it, with Column(..., value=...) for instance"
    )


class MissingDependencyError(ExportError, ImportError):
    """An optional package is not installed; the text is the install command."""


class BlockedURLError(ExportError, ValueError):
    """A document asked for a resource outside what the caller allowed."""
