"""The targets: what stands between the client and the service, and how each is started."""

import pathlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import envoy
from loads import Service
from processes import ROOT, Process

MODULE = ROOT / "dist/idemgate.wasm"
NOOP = ROOT / "dist/noop.wasm"


@dataclass(frozen=True)
class Bench:
    """What every target is started with."""

    running: ExitStack
    folder: pathlib.Path
    service: Service


@dataclass(frozen=True)
class Started:
    process: Process
    port: int
    """How often the operation ran, so far."""
    executions: Callable[[], int]
    """The store's own process, whose CPU is shown apart."""
    store: "Process | None" = None


@dataclass(frozen=True)
class Target:
    title: str
    start: Callable[[Bench, str], Started]
    """The target that is the same without what guards; its cost is what is compared with."""
    bare: "str | None" = None
    """Whether it executes each key once."""
    guards: bool = False
    """Whether it says `idempotency-status: executed`; every target that guards marks its replays."""
    names_executions: bool = False


def plain(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port))


def noop(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.wasm_filter(NOOP, {})))


def shared_data(configuration: dict) -> Callable[[Bench, str], Started]:
    def start(bench: Bench, name: str) -> Started:
        filters = envoy.wasm_filter(MODULE, configuration)
        return start_envoy(bench, name, envoy.bootstrap(bench.service.port, filters))

    return start


def start_envoy(bench: Bench, name: str, config: str) -> Started:
    process, port = envoy.start(bench.running, bench.folder / name, config)
    return Started(process, port, bench.service.executions)


DETACHED = {"execution": {"mode": "detached"}}

TARGETS = {
    "envoy": Target("Envoy, no filter", plain),
    "noop": Target("Envoy, no-op wasm filter", noop, "envoy"),
    "shared": Target("Idemgate, shared data, inline", shared_data({}), "envoy", True, True),
    "shared-detached": Target("Idemgate, shared data, detached", shared_data(DETACHED), "envoy", True, True),
}
