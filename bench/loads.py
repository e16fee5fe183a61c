"""What is sent to each target, and what must come back."""

import json
import os
import pathlib
import subprocess
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass

from processes import ROOT, Process, fail

PACE = 300  # requests per second
CONNECTIONS = 16


@dataclass(frozen=True)
class Load:
    title: str
    kind: str
    body: int = 200
    paced: bool = False


LOADS = {
    "get": Load("un-keyed GET, 200 B", "get"),
    "unique": Load("unique keys, 200 B", "unique"),
    "hot": Load("one hot key, 200 B", "hot"),
    "half": Load("half and half, 200 B", "half"),
    "get-16k": Load("un-keyed GET, 16 KiB", "get", 16384),
    "unique-16k": Load("unique keys, 16 KiB", "unique", 16384),
    "hot-16k": Load("one hot key, 16 KiB", "hot", 16384),
    "half-16k": Load("half and half, 16 KiB", "half", 16384),
    "paced": Load(f"unique keys, 200 B, {PACE} requests/s", "unique", paced=True),
    "paced-hot": Load(f"one hot key, 200 B, {PACE} requests/s", "hot", paced=True),
}


@dataclass(frozen=True)
class Outcome:
    """What the client saw of one turn."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    answers: "dict[str, int]"

    def with_answer(self, *words: str) -> int:
        return sum(count for answer, count in self.answers.items() if answer.split() == list(words))


def program() -> pathlib.Path:
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/load"


class Service:
    """The service behind every proxy, and how often it was asked."""

    def __init__(self, running: ExitStack) -> None:
        self.process = Process(running, [program(), "serve"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.popen.stdout.readline().rsplit(":", 1)[1])

    def executions(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/executions") as answer:
            return int(answer.read())


class Client:
    """Sends loads; no two of its runs have keys in common."""

    def __init__(self) -> None:
        self.runs = 0

    def send(self, port: int, load: Load, seconds: float = 0.0, requests: int = 0) -> Outcome:
        """For so many seconds, or so many requests."""
        self.runs += 1
        settings = {"kind": load.kind, "body": load.body, "connections": CONNECTIONS, "run": self.runs}
        settings |= {"requests": requests} if requests else {"seconds": seconds}
        settings |= {"rate": PACE} if load.paced else {}
        command = [program(), "send", f"127.0.0.1:{port}", *(f"{name}={value}" for name, value in settings.items())]
        done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            fail(f"the load '{load.title}' broke off", "What the client says stands above.")
        return Outcome(**json.loads(done.stdout))


def complaint(load: Load, outcome: Outcome, executions: int, guards: bool, names_executions: bool) -> "str | None":
    """What is wrong with the answers of a turn, in which the service ran `executions` times.

    A target that guards must execute each operation once and replay the rest, and one that does not execute all.
    """
    if load.kind == "get":
        good = outcome.answers == {"200 unmarked": outcome.requests} and executions == 0
        return None if good else f"{outcome.answers}"
    replays = outcome.with_answer("201", "replayed")
    firsts = outcome.with_answer("201", "executed" if guards and names_executions else "unmarked")
    # The client executes a hot key once before it counts.
    expected_executions = firsts + (1 if load.kind == "hot" else 0)
    if not guards:
        good = firsts == outcome.requests
    elif load.kind == "unique":
        good = firsts == outcome.requests
    elif load.kind == "hot":
        good = replays == outcome.requests
    else:
        # Each connection may end between a request and its retry.
        good = firsts + replays == outcome.requests and 0 <= firsts - replays <= CONNECTIONS
    if good and executions == expected_executions:
        return None
    return f"{outcome.answers}, {executions} executions"
