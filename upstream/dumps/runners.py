"""run(): carry out a plan, in this process, in workers of its own, or on any executor."""

import json
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Executor, as_completed
from contextlib import closing
from functools import partial
from typing import Protocol

from django.db import connections

from upstream.dumps.manifests import Manifest, commit
from upstream.dumps.parts import Part, parts_in, run_part, staged_parts
from upstream.dumps.serving import Report
from upstream.dumps.sites import Plan, plan_from_data
from upstream.dumps.targets import Target
from upstream.dumps.workers import run_in_workers
from upstream.streaming import ExportError, SourceError
from upstream.streaming.databases.sharing import is_in_callers_transaction

logger = logging.getLogger(__name__)

PLAN = "plan"


class Runner(Protocol):
    """Something that has parts of a plan written: in this process, in others, or on other machines."""

    def __call__(
        self, plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None
    ) -> Generator[Part]:
        """Yield the parts of those numbers as they are written, in any order, each by `run_part`.

        Closing the iterator ends what still runs. A part that fails runs again, up to `attempts` times in all,
        unless what it raises is an ExportError. `report` may be told of rows and bytes so far, with False: the
        caller tells it of parts that are written.
        """


RUNNERS: dict[str, Runner] = {}
"""The runners that other applications add, by the names that `run` takes."""


def begin(plan: Plan, *, overwrite: bool = False) -> None:
    """Make the place for the parts of a dump, before the first of them runs on its own; `run` does so itself.

    From then on the dump is unfinished until `commit`, after which a part that still runs fails. With `overwrite`,
    an unfinished or published dump at the target is replaced.
    """
    with plan.made_target().claim(resume=False, overwrite=overwrite):
        _stage(plan)


def run(
    plan: Plan,
    *,
    workers: int = 0,
    executor: Executor | None = None,
    runner: str = "",
    attempts: int = 3,
    overwrite: bool = False,
    report: Report | None = None,
) -> Manifest:
    """Carry out a plan from start to end, and return the manifest of the dump.

    Parts run one after the other in this process, with `workers` in that many new processes, on an `executor` of
    `concurrent.futures`, whose processes need Django set up, and the same database and target, or by the `runner`
    of that name in `RUNNERS`. A part that fails, or whose worker dies, runs again, up to `attempts` times; then
    the error is raised, and the parts that are written stay staged for `resume`. So they do after an interrupt.
    With `overwrite`, an unfinished or published dump at the target is replaced. `report` is called in this
    process, for an executor only at the end of each part.
    """
    running = _runner(plan.alias, workers, executor, runner)
    target = plan.made_target()
    with target.claim(resume=False, overwrite=overwrite):
        _stage(plan)
        try:
            return _carry_out(plan, {}, running, attempts, report)
        except BaseException:
            if next(staged_parts(target, plan), None) is None:
                target.discard()
            raise


def resume(
    target: Target,
    *,
    allow_new_snapshot: bool = False,
    workers: int = 0,
    executor: Executor | None = None,
    runner: str = "",
    attempts: int = 3,
    report: Report | None = None,
) -> Manifest:
    """Carry out what is missing of the unfinished dump at `target`, and return its manifest; as `run` otherwise.

    Nothing is missing of a dump that is whole. The snapshot of the parts that are there ended with the process
    that held it. Without `allow_new_snapshot`, SourceError is raised if further parts would show another state of
    the database; with it, the manifest says that each part shows its own.
    """
    if not is_unfinished(target) and (published := target.manifest()):
        with target.claim(resume=True, overwrite=False):
            target.discard()  # the rest of what was being dropped
        return json.loads(published)  # type: ignore[no-any-return]
    staged_plan(target)  # before a place is made
    with target.claim(resume=True, overwrite=False):
        plan = staged_plan(target)
        published = target.manifest()
        if published and json.loads(published)["dump"] == plan.identity:
            target.discard()
            return json.loads(published)  # type: ignore[no-any-return]
        done = parts_in(target, plan)
        missing = len(plan.numbers) - len(done)
        if missing and not allow_new_snapshot and any(part.snapshot for part in done.values()):
            raise SourceError(
                f"{len(done)} parts show a snapshot that has ended with its dump, and {missing} are missing: "
                "allow a new snapshot for them, or dump again and overwrite"
            )
        running = _runner(plan.alias, workers, executor, runner)
        return _carry_out(plan, done, running, attempts, report)


def is_unfinished(target: Target) -> bool:
    """Return whether a dump at the target can be resumed."""
    return PLAN in target.names()


def staged_plan(target: Target) -> Plan:
    """Return the plan of the unfinished dump at a target, which may have been moved there since."""
    if not is_unfinished(target):
        raise SourceError("there is no unfinished dump to resume")
    data = json.loads(b"".join(target.read(PLAN)))
    for one in data.get("plans", [data]):
        one["target"] = target.as_data()
    return plan_from_data(data)


def _stage(plan: Plan) -> None:
    plan.made_target().write(PLAN, [json.dumps(plan.as_data()).encode()])


def _carry_out(
    plan: Plan, done: Mapping[int, Part], runner: Runner, attempts: int, report: Report | None
) -> Manifest:
    missing = [number for number in plan.numbers if number not in done]
    parts = [*done.values()]
    if missing:
        with plan.holding_snapshot() as held:
            running = runner(held, missing, attempts=attempts, report=report)
            with closing(running) as written:
                for part in written:
                    parts.append(part)
                    if report:
                        report(part.number, part.rows, part.bytes, True)
    return commit(plan, parts)


def _runner(alias: str, workers: int, executor: Executor | None, runner: str) -> Runner:
    if sum(map(bool, (workers, executor is not None, runner))) > 1:
        raise SourceError("a dump has one runner: choose one of workers, executor and runner")
    if runner and runner not in RUNNERS:
        known = f"there are {', '.join(sorted(RUNNERS))}" if RUNNERS else "there is none"
        raise SourceError(f"no installed app has added a runner {runner!r}, {known}: see INSTALLED_APPS")
    if not workers and executor is None and not runner:
        return _here
    if is_in_callers_transaction(connections[alias]):
        raise SourceError(
            f"a transaction is open on {alias!r}, which no other process or thread sees: "
            "call this outside of transaction.atomic(), or without workers, executor and runner"
        )
    if executor is not None:
        return partial(_on_executor, executor)
    return RUNNERS[runner] if runner else partial(run_in_workers, workers)


def _here(plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None) -> Generator[Part]:
    for number in numbers:
        progress = report and partial(_tell, report, number)
        yield _tried(attempts, partial(run_part, plan, number, progress))


def _tell(report: Report, number: int, rows: int, size: int) -> None:
    report(number, rows, size, False)


def _tried(attempts: int, run: Callable[[], Part]) -> Part:
    """Return what `run` returns; unless it raises an ExportError, which would come again, it may fail before."""
    for _ in range(attempts - 1):
        try:
            return run()
        except ExportError:
            raise
        except Exception as error:  # noqa: BLE001 (tried again; its text, which may hold values, is not logged)
            logger.warning("a part of the dump failed with %s, and runs again", type(error).__name__)
    return run()


def _on_executor(
    executor: Executor, plan: Plan, numbers: Iterable[int], *, attempts: int, report: Report | None
) -> Generator[Part]:
    del report  # which no other process can call
    futures = [executor.submit(_tried, attempts, partial(run_part, plan, number)) for number in numbers]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
