"""Large dumps of querysets: in parts, on several processes, resumable, in one state of the database."""

from upstream.dumps.manifests import IncompleteError, commit
from upstream.dumps.parts import Part, run_part
from upstream.dumps.plans import DumpPlan, plan_dump
from upstream.dumps.readers import VerificationError
from upstream.dumps.runners import begin, resume, run
from upstream.dumps.sites import SitePlan, plan_site
from upstream.dumps.targets import S3, Directory, StorageTarget, Target, TargetError, target_named
from upstream.dumps.verification import verify
from upstream.dumps.workers import WorkerError

__all__ = [
    "S3",
    "Directory",
    "DumpPlan",
    "IncompleteError",
    "Part",
    "SitePlan",
    "StorageTarget",
    "Target",
    "TargetError",
    "VerificationError",
    "WorkerError",
    "begin",
    "commit",
    "plan_dump",
    "plan_site",
    "resume",
    "run",
    "run_part",
    "target_named",
    "verify",
]
