#!/usr/bin/env bash
# Package: svix 2.9.1 from PyPI (httpx and the rest as pip resolves them).
#
# The SDK raises HttpError for what an API refuses, with the status and the text. A 422 it takes for the validation error of its
# own API, whose `detail` is a list of objects: a gateway's 422 with a problem (RFC 9457, where `detail` is a text) comes out
# as an AttributeError of the SDK's own code. An answer that is no JSON, as a proxy's own 503, comes out as a JSONDecodeError,
# after the three retries. Neither is an error of the SDK that a caller would catch, and what the answer said is lost.
#
# Output seen on 2026-11-30:
#   409, problem: HttpError, says why
#   422, problem: AttributeError, does not say why
#   503, text: JSONDecodeError, does not say why
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.server, json, threading

from svix.api import MessageIn, Svix, SvixOptions

TEXT = b"not this one"
PROBLEM = json.dumps({"type": "about:blank", "title": "no", "detail": TEXT.decode()}).encode()


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = self.server.body
        self.send_response(self.server.status)
        self.send_header("content-type", "text/plain" if self.server.body == TEXT else "application/problem+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


for status, name, body in [(409, "problem", PROBLEM), (422, "problem", PROBLEM), (503, "text", TEXT)]:
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.status, service.body = status, body
    threading.Thread(target=service.serve_forever, daemon=True).start()
    client = Svix("testsk_x.eu", SvixOptions(server_url=f"http://127.0.0.1:{service.server_port}"))
    try:
        client.message.create("app_1", MessageIn(event_type="order.placed", payload={}))
    except Exception as error:
        told = "says why" if TEXT.decode() in str(error) else "does not say why"
        print(f"{status}, {name}: {type(error).__name__}, {told}")
    service.shutdown()
PYTHON

cat >"$work/expected" <<'TEXT'
409, problem: HttpError, says why
422, problem: AttributeError, does not say why
503, text: JSONDecodeError, does not say why
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" svix==2.9.1
PYTHONPATH=$work/packages python3 "$work/play.py" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
