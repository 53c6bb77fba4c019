"""Large dumps of querysets: in parts, on several processes, resumable, in one state of the database."""

from upstream.dumps.manifests import IncompleteError, commit
from upstream.dumps.parts import Part, run_part
from upstream.dumps.plans import DumpPlan, plan_dump
from upstream.dumps.readers import VerificationError
from upstream.dumps.runners import begin, resume, run
from upstream.dumps.sites import SitePlan, plan_site
from upstream.dumps.targets import Directory, Target, TargetError
from upstream.dumps.verification import verify
from upstream.dumps.workers import WorkerError

__all__ = [
    "Directory",
    "DumpPlan",
    "IncompleteError",
    "Part",
    "SitePlan",
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
    "verify",
]
