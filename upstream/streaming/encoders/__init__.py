"""Rows to bytes, one module per family of formats. An encoder knows its format and no destination."""
