"""File names that are safe on every file system and in HTTP headers."""

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

MAX_BYTES = 230  # file systems take 255; wget keeps 236, without the suffix, and browsers add " (1)"
FALLBACK = "export"
# Device names on Windows, with any suffix.
DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL"} | {f"{kind}{n}" for kind in ("COM", "LPT") for n in "123456789¹²³"}
)
EDGES = re.compile(r"^[\s.]+|[\s.]+$")  # dropped by Windows; a leading dot hides the file
RESERVED = re.compile(r'[<>:"|?*]')


def clean_filename(name: str, max_bytes: int = MAX_BYTES) -> str:
    """Return `name` as one path component of at most `max_bytes` bytes of UTF-8.

    Directories, control and bidirectional characters and lone surrogates are removed, reserved characters become
    `_`, and device names get a leading `_`. A long name is truncated before its suffix; an empty one is "export".
    """
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(char for char in unicodedata.normalize("NFC", name) if unicodedata.category(char)[0] != "C")
    name = EDGES.sub("", RESERVED.sub("_", name))
    if name.split(".")[0].strip().upper() in DEVICES:
        name = "_" + name
    suffix = PurePosixPath(name).suffix if name else ""
    room = max_bytes - len(suffix.encode())
    if room < 1:
        stem, suffix, room = name, "", max_bytes
    else:
        stem = name.removesuffix(suffix)
    stem = stem.encode()[:room].decode(errors="ignore")
    return EDGES.sub("", stem + suffix) or FALLBACK


def content_disposition(name: str, *, as_attachment: bool) -> str:
    """Return the header for a clean file name, with a plain ASCII `filename` first for clients that read no other.

    RFC 6266, appendix D: curl and other clients do not know `filename*`.
    """
    kind = "attachment" if as_attachment else "inline"
    if name.isascii():
        return f'{kind}; filename="{name}"'
    return f"{kind}; filename=\"{_as_ascii(name)}\"; filename*=UTF-8''{quote(name, safe='')}"


def _as_ascii(name: str) -> str:
    """Return a name like `name`: letters without their accents, and `_` for what ASCII has no letter for."""
    letters = (char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    plain = re.sub(r"[/\\]", "_", RESERVED.sub("_", "".join(char if char.isascii() else "_" for char in letters)))
    suffix = PurePosixPath(plain).suffix
    return plain if re.search("[A-Za-z0-9]", plain.removesuffix(suffix)) else FALLBACK + suffix
