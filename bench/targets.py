"""The targets: what stands between the client and the service, and how each is started."""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import envoy
import nginx
from goals import FEW, MANY
from loads import RECORDS_PATH, Service
from processes import ROOT, Process, output
from redis import Redis

MODULE = ROOT / "dist/idemgate.wasm"
NOOP = ROOT / "dist/noop.wasm"
LUA = ROOT / "bench/targets/lua/idempotency.lua"
EXPRESS = ROOT / "bench/targets/express/server.js"
EXPRESS_PACKAGES = ROOT / ".tools/express/node_modules"


@dataclass(frozen=True)
class Bench:
    """What targets are started with."""

    running: ExitStack
    folder: pathlib.Path
    service: Service


@dataclass(frozen=True)
class Started:
    process: Process
    port: int
    # How often the operation has run.
    executions: Callable[[], int]
    # Where the records are, if in a process of its own.
    redis: Redis | None = None


@dataclass(frozen=True)
class Target:
    title: str
    start: Callable[[Bench, str], Started]
    # The target that is the same without what guards.
    bare: str
    # How it marks the answer of an operation that ran, and a replay; None if it does not guard. See `Tally` of the client.
    marks: tuple[str, str] | None = None
    # Scripts that install or build what it needs.
    needs: tuple[str, ...] = ()
    # How many records it has from the start; such a target meets only the load for that.
    records: int | None = None
    # Measured unless others are chosen.
    by_default: bool = True


def plain_envoy(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port))


def noop_filter(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.wasm_filter(NOOP, {})))


def lua_filter(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.lua_filter(LUA)))


def shared_data(**configuration: object) -> Callable[[Bench, str], Started]:
    """Idemgate with its records in Envoy."""

    def start(bench: Bench, name: str) -> Started:
        return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.wasm_filter(MODULE, configuration)))

    return start


def with_room() -> Callable[[Bench, str], Started]:
    """The same with room for many records, and little time for those of the load `records`, so that they stay as many."""
    store = {"shared_data": {"max_entries": 4 * MANY, "max_bytes": "512MiB"}}
    return shared_data(store=store, routes=[{"match": {"path": RECORDS_PATH}, "policy": {"ttl": "1s"}}])


def in_redis(example: str, **configuration: object) -> Callable[[Bench, str], Started]:
    """Idemgate with its records in Redis: an example of this project as it stands, with these settings added."""

    def start(bench: Bench, name: str) -> Started:
        redis = Redis(bench.running)
        settings = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in configuration.items())
        config = output(
            *(ROOT / "tools/render-config", "--file", f"examples/{example}/envoy.yaml", "--module", MODULE),
            *("--bind", "127.0.0.1", "--listener", 0, "--admin", 0, "--upstream", bench.service.port),
            *("--replace", "port_value: 6379", f"port_value: {redis.port}"),
            *("--replace", '"store": {', f'{settings}"store": {{'),
        )
        return start_envoy(bench, name, config, redis)

    return start


def start_envoy(bench: Bench, name: str, config: str, redis: Redis | None = None) -> Started:
    process, port = envoy.start(bench.running, bench.folder / name, config)
    return Started(process, port, bench.service.executions, redis)


def start_nginx(lua: bool) -> Callable[[Bench, str], Started]:
    def start(bench: Bench, name: str) -> Started:
        process, port = nginx.start(bench.running, bench.folder / name, bench.service.port, lua)
        return Started(process, port, bench.service.executions)

    return start


def start_express(guarded: bool) -> Callable[[Bench, str], Started]:
    """There is no proxy: it is the service."""

    def start(bench: Bench, _name: str) -> Started:
        redis = Redis(bench.running) if guarded else None
        settings = {"NODE_ENV": "production", "NODE_PATH": str(EXPRESS_PACKAGES)}
        settings |= {"REDIS_URL": f"redis://127.0.0.1:{redis.port}"} if redis else {}
        process = Process(
            bench.running, ["node", EXPRESS], env=os.environ | settings, stdout=subprocess.PIPE, text=True
        )
        port = process.announced_port()
        return Started(process, port, Service(port).executions, redis)

    return start


DETACHED = {"mode": "detached"}
WAIT = {"in_flight": "wait"}
# As `Tally` of the client names them.
IDEMGATE = ("executed", "replayed")
LUA_SCRIPT = ("unmarked", "replayed")
EXPRESS_IDEMPOTENCY = ("unmarked", "unmarked")
ENVOY = ("tools/setup-envoy",)
REDIS = ("tools/setup-redis",)
BUILD = (*ENVOY, "tools/build-module")

TARGETS = {
    "envoy": Target("Envoy, no filter", plain_envoy, "envoy", None, ENVOY),
    "noop": Target("Envoy, a wasm filter that does nothing", noop_filter, "envoy", None, (*ENVOY, "tools/build-module --noop")),
    "lua": Target("Envoy, a Lua filter", lua_filter, "envoy", LUA_SCRIPT, ENVOY),
    "shared": Target("**Idemgate**, shared data", shared_data(), "envoy", IDEMGATE, BUILD),
    "shared-detached": Target(
        "**Idemgate**, shared data, detached", shared_data(execution=DETACHED), "envoy", IDEMGATE, BUILD
    ),
    "redis": Target("**Idemgate**, Redis", in_redis("redis"), "envoy", IDEMGATE, (*BUILD, *REDIS)),
    "redis-detached": Target(
        "**Idemgate**, Redis, detached", in_redis("redis", execution=DETACHED), "envoy", IDEMGATE, (*BUILD, *REDIS)
    ),
    "redis-pooled": Target(
        "**Idemgate**, Redis, pooled", in_redis("redis-pooled"), "envoy", IDEMGATE, (*BUILD, *REDIS)
    ),
    "few-records": Target(
        f"**Idemgate**, {FEW} records", with_room(), "envoy", IDEMGATE, BUILD, records=FEW
    ),
    "many-records": Target(
        f"**Idemgate**, {MANY:,} records", with_room(), "envoy", IDEMGATE, BUILD, records=MANY
    ),
    "nginx": Target("nginx", start_nginx(lua=False), "nginx", None, ("tools/setup-nginx",)),
    "nginx-lua": Target("nginx, Lua and a shared dictionary", start_nginx(lua=True), "nginx", LUA_SCRIPT, ("tools/setup-nginx",)),
    "express": Target("Express (is the service)", start_express(guarded=False), "express", None, ("tools/setup-express",)),
    "express-idempotency": Target(
        "Express, `express-idempotency`, Redis",
        start_express(guarded=True),
        "express",
        EXPRESS_IDEMPOTENCY,
        ("tools/setup-express", *REDIS),
    ),
    "shared-off": Target("**Idemgate**, mode off", shared_data(mode="off"), "envoy", None, BUILD, by_default=False),
    "shared-wait": Target(
        "**Idemgate**, shared data, wait", shared_data(duplicates=WAIT), "envoy", IDEMGATE, BUILD, by_default=False
    ),
    "shared-detached-wait": Target(
        "**Idemgate**, shared data, detached, wait",
        shared_data(execution=DETACHED, duplicates=WAIT),
        "envoy",
        IDEMGATE,
        BUILD,
        by_default=False,
    ),
}
