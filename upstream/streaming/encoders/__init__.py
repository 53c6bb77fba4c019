"""Encoders: rows to bytes, one module per family of formats. An encoder knows its format but no destination."""
