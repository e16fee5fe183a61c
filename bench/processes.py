"""Processes that the benchmark starts, and what /proc says of them."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_TIMEOUT = 30  # seconds
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def fail(message: str, *remedies: str) -> None:
    sys.exit("\n  ".join([f"bench: {message}", *remedies]))


def run(command: Sequence, what_to_do: str) -> None:
    """Runs a command to its end, which must be a good one."""
    if subprocess.run([str(part) for part in command], cwd=ROOT, stdin=subprocess.DEVNULL).returncode != 0:
        fail(f"{command[0]} failed", what_to_do)


class Process:
    """A process with those that it started itself, ended with the benchmark."""

    def __init__(self, running: contextlib.ExitStack, command: Sequence, **options) -> None:
        self.name = str(command[0])
        self.popen = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
        running.callback(self._end)

    def _end(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def until(self, is_ready: Callable[[], object]) -> object:
        """Waits until this is true of it, and returns what it said."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.popen.poll() is None:
            with contextlib.suppress(OSError, ValueError, LookupError):
                if result := is_ready():
                    return result
            time.sleep(0.05)
        return fail(f"{self.name} does not start", "What it says stands above.")

    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        ticks = 0
        for pid in self._pids():
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
            fields = stat.rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS_PER_SECOND

    def memory(self) -> "tuple[int, int]":
        """Resident bytes, now and at most so far."""
        now = peak = 0
        for pid in self._pids():
            for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("VmRSS:"):
                    now += int(line.split()[1]) * 1024
                elif line.startswith("VmHWM:"):
                    peak += int(line.split()[1]) * 1024
        return now, peak

    def _pids(self) -> "list[int]":
        own = self.popen.pid
        children = pathlib.Path(f"/proc/{own}/task/{own}/children").read_text(encoding="ascii")
        return [own, *map(int, children.split())]
