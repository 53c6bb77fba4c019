"""Exports in the background: asked for now, written by a worker, fetched when they are done."""
