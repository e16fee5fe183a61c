"""A PostgreSQL of a target's own, with the schema that records are kept in."""

import os
import pathlib
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from typing import Any

from processes import ROOT, Process, accepts, fail, free_port


class Postgres:
    def __init__(self, running: ExitStack, *options: str) -> None:
        self.port = free_port()
        # PostgreSQL refuses to run as root, and its folder has to be where another user can go.
        user: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        folder = pathlib.Path(tempfile.mkdtemp(prefix="idemgate-bench-"))
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        if user:
            shutil.chown(folder, "nobody", "nogroup")
        self._run("initdb", "--pgdata", folder, "--username", "postgres", "--auth", "trust", "--no-sync", **user)
        settings = ["listen_addresses=127.0.0.1", "max_wal_size=4GB", *options]
        given = [word for setting in settings for word in ("-c", setting)]
        server = [program("postgres"), "-D", folder, "-p", self.port, "-k", "", *given]
        log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = Process(running, server, cwd="/", **log, **user)
        self.process.until(lambda: accepts(self.port) and self._answers())
        self._sql("-c", "CREATE DATABASE idemgate", database="postgres")
        self._sql("-f", ROOT / "src/store/postgres/schema.sql", "-f", ROOT / "demo/role.sql")

    def forget(self) -> None:
        """Empties it, and begins no turn with what the one before has left to be written."""
        self._sql("-c", "TRUNCATE idemgate.records", "-c", "CHECKPOINT")

    def _answers(self) -> bool:
        command = [program("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0

    def _sql(self, *what: object, database: str = "idemgate") -> None:
        where = ("-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "-d", database)
        self._run("psql", "-q", "-v", "ON_ERROR_STOP=1", *where, *what)

    @staticmethod
    def _run(name: str, *arguments: object, **user: Any) -> None:
        command = [program(name), *map(str, arguments)]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **user)
        if done.returncode != 0:
            fail(f"{name} failed", done.stdout, done.stderr)


def program(name: str) -> str:
    """The newest that Debian has, unless another is chosen as for the tests."""
    if chosen := os.environ.get("POSTGRES_BIN"):
        return str(pathlib.Path(chosen) / name)
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else name
