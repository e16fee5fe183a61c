"""A Redis of a target's own, which keeps nothing on disk."""

import os
import socket
import subprocess
from contextlib import ExitStack

from processes import Process, accepts, fail, free_port


class Redis:
    def __init__(self, running: ExitStack) -> None:
        self.port = free_port()
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
        # What it logs, even of a good start, says nothing of use.
        self.process = Process(running, [binary(), "--port", self.port, *options], stdout=subprocess.DEVNULL)
        self.process.until(lambda: accepts(self.port))

    def forget(self) -> None:
        """Empties it, so that it need not hold what all turns leave behind."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(b"FLUSHALL SYNC\r\n")
            if (reply := connection.recv(64)) != b"+OK\r\n":
                fail(f"Redis does not forget: {reply!r}")


def binary() -> str:
    return os.environ.get("REDIS_SERVER") or "redis-server"
