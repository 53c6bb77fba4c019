"""Large dumps of querysets: in parts, on several processes, resumable, in one state of the database."""

from upstream.dumps.manifests import IncompleteError, commit
from upstream.dumps.parts import Part, run_part
from upstream.dumps.plans import DumpPlan, plan_dump
from upstream.dumps.runners import begin, resume, run
from upstream.dumps.targets import S3, Directory, StorageTarget, Target, TargetError, target_named
from upstream.dumps.verification import VerificationError, verify
from upstream.dumps.workers import WorkerError

__all__ = [
    "S3",
    "Directory",
    "DumpPlan",
    "IncompleteError",
    "Part",
    "StorageTarget",
    "Target",
    "TargetError",
    "VerificationError",
    "WorkerError",
    "begin",
    "commit",
    "plan_dump",
    "resume",
    "run",
    "run_part",
    "target_named",
    "verify",
]
