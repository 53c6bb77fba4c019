"""The labels of columns, as the admin's lists have them."""

from typing import Any

from django.contrib.admin.utils import label_for_field
from django.utils.text import capfirst

from upstream.integrations.html_text import text_of


def label_of(name: Any, model: Any, model_admin: Any = None) -> str:
    """Return the label of a name, or of another entry of `list_display`: a verbose name, in one line of text."""
    try:
        label: Any = label_for_field(name, model, model_admin)
    except AttributeError:  # an annotation, say
        label = str(name).replace("__", " ").replace("_", " ")
    return capfirst(text_of_label(label))


def text_of_label(label: Any) -> str:
    """Return a label, which may be HTML, as one line of text."""
    text = text_of(label.__html__(), line_break=" ") if hasattr(label, "__html__") else str(label)
    return " ".join(text.split())
