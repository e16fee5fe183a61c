"""The targets: what stands between the client and the service, and how each is started."""

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import envoy
import nginx
from goals import FEW, MANY
from loads import CLAIMS_PATH, RECORDS_PATH, Service
from postgres import Postgres
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
    store: Redis | Postgres | None = None


# Starts a target under this name.
Start = Callable[[Bench, str], Started]


@dataclass(frozen=True)
class Target:
    title: str
    start: Start
    # The target that is the same without what guards.
    bare: str
    # Scripts that install or build what it needs.
    needs: tuple[str, ...]
    # How it marks the answer of an operation that ran, and a replay, in the words of the client's `Tally`; None if it does
    # not guard.
    marks: tuple[str, str] | None = None
    # How many records it has from the start; such a target meets only the load for that.
    records: int | None = None
    # Whether it answers by itself what it has claimed on one path.
    answers_claims: bool = False
    # Measured unless others are chosen.
    by_default: bool = True


def plain_envoy(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port))


def noop_filter(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.wasm_filter(NOOP, {})))


def lua_filter(bench: Bench, name: str) -> Started:
    return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.lua_filter(LUA)))


def shared_data(**configuration: Any) -> Start:
    """Idemgate with its records in Envoy. More of them come than a table may hold that keeps all for an hour."""
    configuration.setdefault("store", {"shared_data": {"keep_at_least": "0s"}})

    def start(bench: Bench, name: str) -> Started:
        return start_envoy(bench, name, envoy.bootstrap(bench.service.port, envoy.wasm_filter(MODULE, configuration)))

    return start


def with_room() -> Start:
    """Idemgate with room for many records, and with little time for those of the load `records`: they stay as many."""
    store = {"shared_data": {"max_entries": 4 * MANY, "max_bytes": "512MiB", "keep_at_least": "0s"}}
    return shared_data(store=store, routes=[{"match": {"path": RECORDS_PATH}, "policy": {"ttl": "1s"}}])


def in_redis(example: str, **configuration: Any) -> Start:
    """Idemgate with its records in Redis."""
    return in_store(Redis, example, 6379, configuration)


def in_postgres(*options: str) -> Start:
    """Idemgate with its records in a PostgreSQL with these options."""
    return in_store(lambda running: Postgres(running, *options), "postgres", 5432, {})


def in_store(
    server: Callable[[ExitStack], Redis | Postgres], example: str, port: int, configuration: dict[str, Any]
) -> Start:
    """An example of this project as it stands, with these settings and the path of the load `claims` added."""
    answered = f'match: {{ path: "{CLAIMS_PATH}" }}, direct_response: {{ status: 201 }}'

    def start(bench: Bench, name: str) -> Started:
        store = server(bench.running)
        settings = "".join(f"{json.dumps(key)}: {json.dumps(value)}, " for key, value in configuration.items())
        config = output(
            *(ROOT / "tools/render-config", "--file", f"examples/{example}/envoy.yaml", "--module", MODULE),
            *("--bind", "127.0.0.1", "--listener", 0, "--admin", 0, "--upstream", bench.service.port),
            *("--replace", f"port_value: {port}", f"port_value: {store.port}"),
            *("--replace", '"store": {', f'{settings}"store": {{'),
            *("--replace", "              routes:", f"              routes:\n              - {{ {answered} }}"),
        )
        return start_envoy(bench, name, config, store)

    return start


def start_envoy(bench: Bench, name: str, config: str, store: Redis | Postgres | None = None) -> Started:
    process, port = envoy.start(bench.running, bench.folder / name, config)
    return Started(process, port, bench.service.executions, store)


def start_nginx(lua: bool) -> Start:
    def start(bench: Bench, name: str) -> Started:
        process, port = nginx.start(bench.running, bench.folder / name, bench.service.port, lua)
        return Started(process, port, bench.service.executions)

    return start


def start_express(guarded: bool) -> Start:
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

# Marks.
IDEMGATE = ("executed", "replayed")
SCRIPT = ("unmarked", "replayed")
NEITHER = ("unmarked", "unmarked")

# Needs.
ENVOY = ("tools/setup-envoy",)
NOOP_MODULE = (*ENVOY, "tools/build-module --noop")
SHARED = (*ENVOY, "tools/build-module")
REDIS = (*SHARED, "tools/setup-redis")
POSTGRES = (*SHARED, "tools/setup-postgres")
NGINX = ("tools/setup-nginx",)
EXPRESS_ALONE = ("tools/setup-express",)
EXPRESS_REDIS = ("tools/setup-express", "tools/setup-redis")


def idemgate(title: str, start: Start, needs: tuple[str, ...] = SHARED, **others: Any) -> Target:
    return Target(f"**Idemgate**, {title}", start, "envoy", needs, IDEMGATE, **others)


def meets(target: Target, load: str) -> bool:
    """Whether a load is sent to a target."""
    if load == "claims":
        return target.answers_claims
    return (load == "records") == (target.records is not None)


TARGETS = {
    "envoy": Target("Envoy, no filter", plain_envoy, "envoy", ENVOY),
    "noop": Target("Envoy, a wasm filter that does nothing", noop_filter, "envoy", NOOP_MODULE),
    "lua": Target("Envoy, a Lua filter", lua_filter, "envoy", ENVOY, SCRIPT),
    "shared": idemgate("shared data", shared_data()),
    "shared-detached": idemgate("shared data, detached", shared_data(execution=DETACHED)),
    "redis": idemgate("Redis", in_redis("redis"), REDIS, answers_claims=True),
    "redis-detached": idemgate("Redis, detached", in_redis("redis", execution=DETACHED), REDIS),
    "redis-one-shot": idemgate(
        "Redis, a connection per call", in_redis("redis-one-shot"), REDIS, answers_claims=True
    ),
    "postgres": idemgate("PostgreSQL", in_postgres(), POSTGRES, answers_claims=True),
    "postgres-async": idemgate(
        "PostgreSQL, asynchronous", in_postgres("synchronous_commit=off"), POSTGRES, answers_claims=True
    ),
    "nginx": Target("nginx", start_nginx(lua=False), "nginx", NGINX),
    "nginx-lua": Target("nginx, Lua and a shared dictionary", start_nginx(lua=True), "nginx", NGINX, SCRIPT),
    "express": Target("Express (is the service)", start_express(guarded=False), "express", EXPRESS_ALONE),
    "express-idempotency": Target(
        "Express, `express-idempotency`, Redis", start_express(guarded=True), "express", EXPRESS_REDIS, NEITHER
    ),
    "few-records": idemgate(f"{FEW} records", with_room(), records=FEW),
    "many-records": idemgate(f"{MANY:,} records", with_room(), records=MANY),
    # The modes by themselves.
    "shared-off": Target("**Idemgate**, mode off", shared_data(mode="off"), "envoy", SHARED, by_default=False),
    "shared-wait": idemgate("shared data, wait", shared_data(duplicates=WAIT), by_default=False),
    "shared-detached-wait": idemgate(
        "shared data, detached, wait", shared_data(execution=DETACHED, duplicates=WAIT), by_default=False
    ),
}
