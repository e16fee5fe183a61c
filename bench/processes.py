"""Processes that the benchmark starts, and what /proc says of them."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_TIMEOUT = 30  # seconds
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


def fail(message: str, *remedies: str) -> NoReturn:
    sys.exit("\n  ".join([f"bench: {message}", *remedies]))


def run(*command: object) -> None:
    """Runs a command to its end, which must be a good one; it says itself what to do otherwise."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed", "What it says stands above.")


def output(*command: object, **options) -> str:
    """What a command prints, on either stream."""
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=True, text=True, **options).stdout


def free_port() -> int:
    """For servers that cannot be told to choose one: a port of 127.0.0.1 that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@dataclass(frozen=True)
class Memory:
    """Resident bytes: now, and the most so far."""

    now: int
    peak: int


class Process:
    """A process together with its children, ended when the benchmark ends."""

    def __init__(self, running: contextlib.ExitStack, command: Sequence[object], **options) -> None:
        self._name = str(command[0])
        self._popen = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
        running.callback(self._end)

    def _end(self) -> None:
        self._popen.terminate()
        try:
            self._popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def until(self, is_ready: Callable[[], T]) -> T:
        """Waits until this is true of it, and returns what it said."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._popen.poll() is None:
            with contextlib.suppress(OSError, ValueError, LookupError):
                if result := is_ready():
                    return result
            time.sleep(0.05)
        fail(f"{self._name} does not start", "What it says stands above.")

    def announced_port(self) -> int:
        """The number at the end of the line that it prints when it listens."""
        line = self._popen.stdout.readline() if self._popen.stdout else ""
        port = line.rstrip().rsplit(":", 1)[-1]
        if not port.strip().isdigit():
            fail(f"{self._name} does not start", "What it says stands above.")
        return int(port)

    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        ticks = 0
        for stat in self._read("stat"):
            # The name, in brackets, may hold anything. Behind it, among others: user and system time, of the process and of
            # its children that have ended.
            ticks += sum(map(int, stat.rsplit(") ", 1)[1].split()[11:15]))
        return ticks / TICKS_PER_SECOND

    def memory(self) -> Memory:
        sums = {"VmRSS:": 0, "VmHWM:": 0}
        for status in self._read("status"):
            for line in status.splitlines():
                name, *value = line.split()
                if name in sums:
                    sums[name] += int(value[0]) * 1024
        return Memory(sums["VmRSS:"], sums["VmHWM:"])

    def _read(self, file: str) -> list[str]:
        """What /proc has in this file of the process and of its children."""
        own = self._popen.pid
        children = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii").split()
        found = []
        for pid in [own, *children]:
            # A child may have ended just now.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(pathlib.Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8"))
        return found
