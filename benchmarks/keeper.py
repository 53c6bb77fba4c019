"""Runs a server until its owner ends, however that happens: `python keeper.py '{"command": [...], ...}'`.

Standard input is a pipe from the owner. A crash or a kill closes it as well as a good end does, where an `atexit`
of the owner would not run.
"""

import json
import shutil
import signal
import subprocess
import sys
from threading import Thread

SECONDS_TO_END = 10  # a MariaDB that is ended in its first milliseconds may hang


def main(command: list[str], directory: str, ending: str, **account: object) -> int:
    """Run `command`, end it with the signal `ending`, then remove `directory`; return its exit code."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **account)
    Thread(target=_end_with_owner, args=(server, signal.Signals[ending]), daemon=True).start()
    try:
        return server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end_with_owner(server: subprocess.Popen[bytes], ending: signal.Signals) -> None:
    sys.stdin.read()
    server.send_signal(ending)
    try:
        server.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))
