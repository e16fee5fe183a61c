"""What is sent to each target, and what must come back."""

import json
import os
import pathlib
import subprocess
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

from processes import ROOT, Process, fail

PACE = 300  # requests per second
CONNECTIONS = 16
RECORDS_PATH = "/brief"
# Where Envoy answers by itself.
CLAIMS_PATH = "/claims"


@dataclass(frozen=True)
class Load:
    title: str
    # As `Kind` of the client.
    kind: str
    # Bytes of the request's body (but of a GET), and of the answer's.
    body: int = 200
    paced: bool = False
    path: str = "/orders"


LOADS = {
    "get": Load("GET, no key", "get"),
    "unique": Load("unique keys", "unique"),
    "hot": Load("one hot key", "hot"),
    "half": Load("half and half", "half"),
    "get-16k": Load("GET, no key", "get", 16384),
    "unique-16k": Load("unique keys", "unique", 16384),
    "hot-16k": Load("one hot key", "hot", 16384),
    "half-16k": Load("half and half", "half", 16384),
    "paced": Load("unique keys", "unique", paced=True),
    "paced-hot": Load("one hot key", "hot", paced=True),
    "records": Load("unique keys", "unique", path=RECORDS_PATH),
    "claims": Load("claims alone", "unique", path=CLAIMS_PATH),
}


@dataclass(frozen=True)
class Outcome:
    """What the client saw of one turn."""

    requests: int
    seconds: float
    # How many answers there were by status and mark: `201 executed`.
    answers: dict[str, int]
    p50_us: float
    p99_us: float


@dataclass(frozen=True)
class Service:
    """What executes the operations."""

    port: int

    def executions(self) -> int:
        """How often it has answered a POST."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/executions") as answer:
            return int(answer.read())


def start_service(running: ExitStack) -> Service:
    """The one behind every proxy."""
    return Service(Process(running, [program(), "serve"], stdout=subprocess.PIPE, text=True).announced_port())


class Client:
    """Sends loads; no two of its runs have keys in common."""

    def __init__(self) -> None:
        self._runs = 0

    def send(self, port: int, load: Load, **extent: float) -> Outcome:
        """For this number of `seconds`, or of `requests`."""
        self._runs += 1
        settings: dict[str, object] = {
            "kind": load.kind,
            "path": load.path,
            "body": load.body,
            "connections": CONNECTIONS,
        }
        settings |= {"run": self._runs} | extent | ({"rate": PACE} if load.paced else {})
        given = [f"{name}={value}" for name, value in settings.items()]
        command: list[str | pathlib.Path] = [program(), "send", f"127.0.0.1:{port}", *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            fail(f"the load of {load.title} ({load.body} bytes) broke off", "What the client says stands above.")
        return Outcome(**json.loads(done.stdout))


def program() -> pathlib.Path:
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/load"


def complaint(load: Load, outcome: Outcome, executions: int, marks: tuple[str, str] | None) -> str | None:
    """What is wrong with a turn in which the operation ran so often.

    `marks` are those of the target: each of its operations must run once, and what ran, and only that, be marked so. A
    target without marks does not guard, and all must run.
    """
    first, replay = marks or ("unmarked", "unmarked")
    # The client has a hot key executed before it counts.
    executed = executions - (1 if load.kind == "hot" else 0)
    if load.kind == "get":
        right, expected = executions == 0, Counter({"200 unmarked": outcome.requests})
    elif load.path == CLAIMS_PATH:
        # No service was asked, so that the key is given back.
        right, expected = executions == 0, Counter({"201 rejected": outcome.requests})
    else:
        replayed = outcome.requests - executed
        expected = Counter({f"201 {first}": executed}) + Counter({f"201 {replay}": replayed})
        if marks is None or load.kind == "unique":
            right = replayed == 0
        elif load.kind == "hot":
            right = executed == 0
        else:
            # A connection may end between a request and its retry.
            right = 0 <= executed - replayed <= CONNECTIONS
    if right and Counter(outcome.answers) == expected:
        return None
    return f"{outcome.requests} requests, {executions} executions, answers {outcome.answers}"
