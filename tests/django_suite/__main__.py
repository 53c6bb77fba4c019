"""Run labels of Django's suite, print what was exported and what differs, and exit with 1 if anything does."""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import django

from tests.django_suite.findings import Difference, Findings, grouped
from tests.django_suite.refusals import reason_of
from tests.django_suite.source import tests_folder
from tests.django_suite.suite import LABELS, Run, entry_of

DATABASES = ("sqlite", "postgresql")
LANES = ("copy", "text", "python", "instances", "windows")
SHAPES = ("whole", "halved", "related")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make oracle", description=__doc__)
    parser.add_argument("labels", nargs="*", default=LABELS, metavar="LABEL", help="default: all of the ORM")
    parser.add_argument("--database", action="append", choices=DATABASES, help="default: both")
    parser.add_argument("--zone", default="UTC", help="the connections' time zone; COPY needs UTC for moments")
    options = parser.parse_args(arguments)
    try:
        folder = tests_folder()
        entries = {database: entry_of(database) for database in options.database or DATABASES}
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    runs = [Run(database, entry, options.zone, tuple(options.labels)) for database, entry in entries.items()]
    print(f"Django {django.__version__}, {len(options.labels)} labels of its suite on {' and '.join(entries)} ...")
    different = [_report(run, findings) for run, findings in _run(runs, folder)]
    return 1 if any(different) else 0


def _run(runs: list[Run], folder: Path) -> list[tuple[Run, Findings]]:
    """Run all at once, and again plainly what failed: a test that fails by itself says nothing of the exports."""
    processes = [run.start(folder) for run in runs]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.kill()
    found = [(run, run.findings()) for run in runs]
    for run, findings in found:
        if findings.failed:
            again = replace(run, labels=tuple(dict.fromkeys(findings.failed)), watched=False)
            again.start(folder).wait()
            plain = set(again.findings().failed)
            findings.counts["tests that fail without exports too"] = len(plain)
            for test in sorted(set(findings.failed) - plain):
                findings.add(Difference(kind="test", message="fails beside exports alone", test=test))
    return found


def _report(run: Run, findings: Findings) -> int:
    """Print the findings of a run; return how many differences have no known reason."""
    counts = findings.counts
    exports = sum(counts[f"{shape} {lane}"] for shape in SHAPES for lane in LANES)
    print(f"\n{run.database}: {counts['tests']:,} tests, {counts['querysets']:,} querysets, {exports:,} exports")
    print(f"{'':>12}" + "".join(f"{lane:>11}" for lane in LANES))
    for shape in SHAPES:
        print(f"{shape:>12}" + "".join(f"{counts[f'{shape} {lane}']:>11,}" for lane in LANES))
    for name in sorted(counts):
        if name.startswith(("left out", "in another order", "tests that")):
            print(f"  {name}: {counts[name]:,}")
    known = Counter(filter(None, map(reason_of, findings.differences)))
    for reason, number in known.most_common():
        print(f"  no difference: {reason}: {number:,}")
    return _report_differences([one for one in findings.differences if not reason_of(one)])


def _report_differences(differences: list[Difference]) -> int:
    print(f"  {len(differences):,} differences")
    for number, example in grouped(differences):
        print(f"\n  {number:,} x {example.kind}: {example.message}")
        print(f"    {example.at or 'in the bytes'}, {example.where}")
        print(f"    {example.test}\n    {example.sql}")
    return len(differences)


if __name__ == "__main__":
    sys.exit(main())
