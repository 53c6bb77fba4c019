"""The source distribution of the installed Django, which holds its test suite; the wheel does not."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import mkdtemp

import django

CACHE = Path(__file__).resolve().parents[2] / ".django-suite"
PIP = [sys.executable, "-m", "pip", "download", "--quiet", "--retries=1", "--no-deps", "--no-binary=:all:"]


def tests_folder() -> Path:
    """Return the folder of the suite, downloaded with pip if it is not there; raise OSError if it cannot be."""
    name = f"django-{django.__version__}"
    folder = CACHE / name
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        download = Path(mkdtemp(prefix="download-", dir=CACHE))
        try:
            _download(download)
            with tarfile.open(next(download.glob("*.tar.gz"))) as archive:
                archive.extractall(download, filter="data")
            (download / name).replace(folder)
        finally:
            shutil.rmtree(download, ignore_errors=True)
    return folder / "tests"


def _download(folder: Path) -> None:
    requirement = f"django=={django.__version__}"
    done = subprocess.run([*PIP, f"--dest={folder}", requirement], check=False, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise OSError(f"the source distribution of {requirement} cannot be downloaded: {why}")
