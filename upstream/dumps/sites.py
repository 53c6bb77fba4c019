"""plan_site(): several models as one dump, in one state of the database, with one manifest."""

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Manager, Model, QuerySet

from upstream.dumps import querysets
from upstream.dumps.plans import VERSION, Data, DumpPlan, check_options, plan_dump, sharing_snapshot, why_uncut
from upstream.dumps.targets import Target
from upstream.integrations.stored_models import stored_models
from upstream.streaming import Csv, ExportError, SourceError
from upstream.streaming.compression import Compression
from upstream.streaming.encoders.protocol import Encoder

# A table with fewer rows is one part: to cut it gains nothing.
UNCUT_ROWS = 20_000
Source = type[Model] | QuerySet[Any] | Manager[Any]


@dataclass(frozen=True, kw_only=True)
class SitePlan:
    """How several models are dumped as one: a plan of each, with their parts numbered through.

    The plans have one identity, target and snapshot; their parts are in a folder for each model. All of it is JSON
    data, as a DumpPlan is.
    """

    identity: str
    plans: Sequence[DumpPlan]
    version: int = VERSION

    def as_data(self) -> dict[str, Any]:
        """Return the plan as JSON data."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Data) -> Self:
        """Return the plan that `as_data` gave; raise SourceError for one of another version."""
        return cls(**{**data, "plans": [DumpPlan.from_data(one) for one in data["plans"]]})

    @property
    def numbers(self) -> range:
        """The numbers of the parts."""
        return range(self.plans[-1].numbers[-1] + 1)

    @property
    def alias(self) -> str:
        """The alias of the database that is read."""
        return self.plans[0].alias

    def made_target(self) -> Target:
        """Return the target that the parts are written to."""
        return self.plans[0].made_target()

    @contextmanager
    def holding_snapshot(self) -> Iterator[Self]:
        """Yield the plan with a snapshot that is held in the block, where the database can share one."""
        with sharing_snapshot(self.plans) as plans:
            yield replace(self, plans=plans)


Plan = DumpPlan | SitePlan


def plan_from_data(data: Mapping[str, Any]) -> Plan:
    """Return the plan whose `as_data` gave the data."""
    return SitePlan.from_data(data) if "plans" in data else DumpPlan.from_data(data)


def plan_of(plan: Plan, number: int) -> DumpPlan:
    """Return the plan of the model to which the part with a number belongs."""
    return next(one for one in plan.plans if number in one.numbers)


def plan_site(
    sources: Iterable[Source] | None = None,
    encoder: Encoder = Csv(),  # noqa: B008 (frozen)
    target: Target | str | os.PathLike[str] = "dump",
    *,
    database: str = DEFAULT_DB_ALIAS,
    parts: int = 8,
    uncut_rows: int = UNCUT_ROWS,
    compression: Compression | None = None,
    windows: bool = False,
) -> SitePlan:
    """Plan a dump of several models as one, with a folder for each; nothing is exported.

    `sources` are models, which stand for all of their rows whatever their managers hide, or querysets, one for
    each model. By default they are all models whose tables `migrate` makes in the `database`, with the tables of
    many-to-many relations. Their columns are those of any export: without sensitive fields.

    A model with more than `uncut_rows` rows has at most `parts` parts, if its key can be cut; others have one. The
    other options are those of `plan_dump`. Raises SourceError, naming each model that cannot be planned.
    """
    check_options(encoder, parts, compression)
    chosen = stored_models(database) if sources is None else sources
    identity, plans, refused = secrets.token_hex(8), list[DumpPlan](), list[str]()
    for rows in (_rows(source, database) for source in chosen):
        label = rows.model._meta.label_lower
        try:
            most = parts if _is_large(rows, uncut_rows) else 1
            found = plan_dump(rows, None, encoder, target, parts=most, compression=compression, windows=windows)
        except ExportError as error:
            refused.append(f"{label}: {error}")
            continue
        first = plans[-1].numbers.stop if plans else 0
        plans.append(replace(found, identity=identity, folder=label, first=first))
    _check(plans, refused)
    return SitePlan(identity=identity, plans=plans)


def _check(plans: Sequence[DumpPlan], refused: Sequence[str]) -> None:
    if refused:
        raise SourceError("\n".join(["these models cannot be dumped, so leave them out:", *refused]))
    if not plans:
        raise SourceError("there is no model to dump")
    if len({plan.alias for plan in plans}) > 1:
        raise SourceError("a dump reads one database, and these querysets read several: dump each on its own")
    folders = [plan.folder for plan in plans]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise SourceError(f"a dump has one source for each model, and {', '.join(twice)} has several")


def _rows(source: Source, database: str) -> QuerySet[Any]:
    if isinstance(source, type) and issubclass(source, Model):
        return QuerySet(source, using=database)
    return source.all() if isinstance(source, Manager) else source


def _is_large(rows: QuerySet[Any], uncut_rows: int) -> bool:
    data = querysets.to_data(rows)
    order = [*data["order"], *querysets.key_names(rows.model)]
    plain = querysets.from_data(data)
    if why_uncut(plain.order_by(*order), order[0].lstrip("-")):
        return False
    return plain.order_by("pk")[uncut_rows : uncut_rows + 1].exists()
