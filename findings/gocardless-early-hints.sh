#!/usr/bin/env bash
# Packages: gocardless_pro 3.22.0 and requests 2.34.2 (urllib3 2.8.0), from PyPI; Python 3.11's http.client.
#
# A server may send interim responses before the final one, and a client has to read on (RFC 9110, section 15.2). Python's
# http.client skips 100 only: a 103 (Early Hints) or 102 (Processing) is the response for it, and so for requests and
# every SDK on top of it. The payment is made and the 201 is on its way; the SDK takes the empty 103 for a malformed
# response, repeats the POST (with the same key) until it has no attempts left, and raises. SDKs on httpx (h11) read on.
#
# Output seen on 2026-11-30:
#   no interim response: made PM1, attempts: 1, keys: 1
#   100: made PM1, attempts: 1, keys: 1
#   102: MalformedResponseError, attempts: 3, keys: 1
#   103: MalformedResponseError, attempts: 3, keys: 1
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.server, json, threading, time

import gocardless_pro


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["idempotency-key"])
        if self.server.interim:
            self.send_response_only(self.server.interim)
            self.end_headers()
            self.wfile.flush()
            time.sleep(0.1)
        body = json.dumps({"payments": {"id": "PM1"}}).encode()
        self.send_response(201)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """The client has gone before the final response."""


for interim in [None, 100, 102, 103]:
    service = Server(("127.0.0.1", 0), Service)
    service.interim, service.keys = interim, []
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_port}"
    client = gocardless_pro.Client(access_token="x", base_url=url, environment="sandbox")
    try:
        payment = client.payments.create(params={"amount": 100, "currency": "GBP", "links": {"mandate": "MD1"}})
        result = f"made {payment.id}"
    except Exception as error:
        result = type(error).__name__
    shown = interim or "no interim response"
    print(f"{shown}: {result}, attempts: {len(service.keys)}, keys: {len(set(service.keys))}")
    service.shutdown()
PYTHON

cat >"$work/expected" <<'TEXT'
no interim response: made PM1, attempts: 1, keys: 1
100: made PM1, attempts: 1, keys: 1
102: MalformedResponseError, attempts: 3, keys: 1
103: MalformedResponseError, attempts: 3, keys: 1
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" \
    gocardless_pro==3.22.0 requests==2.34.2 urllib3==2.8.0
PYTHONPATH=$work/packages python3 "$work/play.py" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
