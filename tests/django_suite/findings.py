"""What came of a run: how many exports by shape and lane, and what differs."""

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One export that is not what Django gave, and where; `unstable` says why Django itself gives others too."""

    kind: str
    message: str
    test: str
    where: str = ""
    sql: str = ""
    at: str = ""
    unstable: str = ""

    @property
    def group(self) -> tuple[str, str, str]:
        """What differences of one cause have in common."""
        return self.kind, self.at, re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "#", self.message)[:200]


@dataclass
class Findings:
    """Counts, differences and failed tests of a run; differences are written to `file` as they are found."""

    file: TextIO | None = None
    counts: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.differences.append(difference)
        if self.file:
            print(json.dumps(asdict(difference)), file=self.file, flush=True)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"counts": self.counts, "failed": self.failed}), encoding="utf-8")

    @classmethod
    def load(cls, counts: Path, differences: Path) -> "Findings":
        saved = json.loads(counts.read_text(encoding="utf-8"))
        lines = differences.read_text(encoding="utf-8").splitlines()
        found = [Difference(**json.loads(line)) for line in lines]
        return cls(counts=Counter(saved["counts"]), differences=found, failed=saved["failed"])


def grouped(differences: list[Difference]) -> list[tuple[int, Difference]]:
    """Return an example of each group of differences, and how many there are, most first."""
    groups: dict[Any, list[Difference]] = {}
    for difference in differences:
        groups.setdefault(difference.group, []).append(difference)
    return sorted(((len(group), group[0]) for group in groups.values()), key=lambda pair: -pair[0])
