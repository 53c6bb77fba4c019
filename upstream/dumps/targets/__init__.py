"""Where dumps go: a target keeps parts in a place of its own, and publishes a dump as a whole."""

import os
from collections.abc import Mapping
from typing import Any

from upstream.dumps.targets.directories import Directory
from upstream.dumps.targets.protocol import MANIFEST, SHOWN, Target, TargetError
from upstream.dumps.targets.s3 import S3
from upstream.dumps.targets.storages import StorageTarget

__all__ = [
    "MANIFEST",
    "S3",
    "SHOWN",
    "TARGETS",
    "Directory",
    "StorageTarget",
    "Target",
    "TargetError",
    "target_named",
    "target_of",
]

TARGETS: dict[str, Any] = {"directory": Directory, "storage": StorageTarget, "s3": S3}
"""The kinds of targets, by the `kind` in their data."""


def target_of(data: Mapping[str, Any]) -> Target:
    """Return the target that gave the data."""
    options = {name: value for name, value in data.items() if name != "kind"}
    target: Target = TARGETS[data["kind"]](**options)
    return target


def target_named(text: str | os.PathLike[str]) -> Target:
    """Return the target that a text names: `s3://bucket/prefix`, `storage:alias/prefix`, or else a directory.

    The alias is one of settings.STORAGES. A directory of such a name is `./storage:alias`.
    """
    name = os.fspath(text)
    if name.startswith("s3:/"):  # a Path has one slash
        bucket, _, prefix = name.removeprefix("s3:").strip("/").partition("/")
        return S3(bucket, prefix)
    if name.startswith("storage:"):
        alias, _, prefix = name.removeprefix("storage:").partition("/")
        return StorageTarget(alias, prefix)
    return Directory(name)
