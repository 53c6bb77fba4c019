"""The two ways in which text encoders write a batch, each alone."""

from upstream.streaming.encoders.text import TextRows

# What is taken away for each, so that a test that goes the other way fails.
_OTHERS = {"at once": "_rows", "cell by cell": "_at_once"}
WAYS = [*_OTHERS]


def only(way, monkeypatch):
    """Let text encoders write every batch in this way, or fail."""
    monkeypatch.setattr(TextRows, _OTHERS[way], lambda *_: None)
