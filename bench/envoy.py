"""Envoys to measure: one worker, with the filter that is wanted, before the benchmark's service."""

import json
import os
import pathlib
import urllib.request
from contextlib import ExitStack

from processes import ROOT, Process

TYPES = "type.googleapis.com/envoy.extensions"


def binary() -> pathlib.Path:
    return pathlib.Path(os.environ.get("ENVOY") or ROOT / ".tools/envoy")


def bootstrap(upstream: int, *filters: dict) -> str:
    """What envoy.yaml is without its access log, with other filters, on ports that the kernel chooses."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "normalize_path": True,
        "merge_slashes": True,
        "http_filters": [*filters, router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "orders",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "orders", "timeout": "15s"}}],
                }
            ]
        },
    }
    listener = {
        "name": "ingress",
        "address": address(0),
        "per_connection_buffer_limit_bytes": 2 << 20,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    cluster = {
        "name": "orders",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "orders",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}],
        },
    }
    resources = {"listeners": [listener], "clusters": [cluster]}
    return json.dumps({"static_resources": resources, "admin": {"address": address(0)}})


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def wasm_filter(module: pathlib.Path, configuration: dict) -> dict:
    """As envoy.yaml has it."""
    config = {
        "name": module.stem,
        "vm_config": {
            "vm_id": module.stem,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(module)}},
        },
        "failure_policy": "FAIL_RELOAD",
        "reload_config": {"backoff": {"base_interval": "1s"}},
        "allow_on_headers_stop_iteration": True,
        "configuration": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": json.dumps(configuration),
        },
    }
    return {"name": module.stem, "typed_config": {"@type": f"{TYPES}.filters.http.wasm.v3.Wasm", "config": config}}


def lua_filter(script: pathlib.Path) -> dict:
    config = {"@type": f"{TYPES}.filters.http.lua.v3.Lua", "default_source_code": {"filename": str(script)}}
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def start(running: ExitStack, folder: pathlib.Path, config: str) -> tuple[Process, int]:
    """The process, and the port that clients come to. `folder` is this Envoy's own."""
    folder.mkdir()
    # JSON is YAML, too.
    file = folder / "envoy.yaml"
    file.write_text(config, encoding="utf-8")
    admin = folder / "admin"
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    process = Process(running, [binary(), "-c", file, "--admin-address-path", admin, *options])

    def port() -> int:
        with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json") as answer:
            listeners = {one["name"]: one for one in json.load(answer)["listener_statuses"]}
        return listeners["ingress"]["local_address"]["socket_address"]["port_value"]

    return process, process.until(port)
