#!/usr/bin/env bash
# Packages: pydo 0.44.0 (DigitalOcean), azure-communication-rooms 1.2.0 and azure-core 1.41.0 (what both of them, and all
# of Azure's Python SDKs, send requests with), from PyPI.
#
# azure-core repeats a request of any method, POST too, after any 4xx that has a Retry-After, whatever the status says:
# 402 and 422 as well. And it repeats a POST after 500, 503 and 504. pydo sends no idempotency key with that, so a droplet
# whose first creation outlasts a gateway's patience is created twice. azure-communication-rooms sends one
# Repeatability-Request-ID with all attempts.
#
# Output seen on 2026-11-30:
#   pydo, 504: 2 attempts, no key
#   pydo, 422: 1 attempt, no key
#   pydo, 422 with Retry-After: 2 attempts, no key
#   pydo, 402 with Retry-After: 2 attempts, no key
#   rooms, 504: 2 attempts, 1 key
#   rooms, 422: 1 attempt, 1 key
#   rooms, 422 with Retry-After: 2 attempts, 1 key
#   rooms, 402 with Retry-After: 2 attempts, 1 key
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.server, json, threading

import pydo
from azure.communication.rooms import RoomsClient
from azure.core.credentials import AzureKeyCredential

DROPLET = {"name": "a", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64"}
CREATED = {"droplet": {"id": 1}, "id": "room"}


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.keys.append(self.headers["repeatability-request-id"])
        status, fields = self.server.answers.pop(0)
        body = json.dumps(CREATED).encode() if status < 300 else b"{}"
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def droplet(url):
    pydo.Client("x", endpoint=url).droplets.create(DROPLET, enforce_https=False)


def room(url):
    RoomsClient(url, AzureKeyCredential("eA==")).create_room()


for name, call, success in [("pydo", droplet, 202), ("rooms", room, 201)]:
    for status, fields in [(504, {}), (422, {}), (422, {"retry-after": "1"}), (402, {"retry-after": "1"})]:
        service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        service.keys, service.answers = [], [(status, fields), (success, {})]
        threading.Thread(target=service.serve_forever, daemon=True).start()
        try:
            call(f"http://127.0.0.1:{service.server_port}")
        except Exception:
            # Refused, or the last answer is no whole room: how many attempts there were is all that counts here.
            pass
        attempts, different = len(service.keys), len(set(service.keys) - {None})
        said = f"{status} with Retry-After" if fields else str(status)
        print(f"{name}, {said}: {attempts} attempt{'s' if attempts > 1 else ''}, {different or 'no'} key")
        service.shutdown()
PYTHON

cat >"$work/expected" <<'TEXT'
pydo, 504: 2 attempts, no key
pydo, 422: 1 attempt, no key
pydo, 422 with Retry-After: 2 attempts, no key
pydo, 402 with Retry-After: 2 attempts, no key
rooms, 504: 2 attempts, 1 key
rooms, 422: 1 attempt, 1 key
rooms, 422 with Retry-After: 2 attempts, 1 key
rooms, 402 with Retry-After: 2 attempts, 1 key
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" \
    pydo==0.44.0 azure-communication-rooms==1.2.0 azure-core==1.41.0
PYTHONPATH=$work/packages python3 "$work/play.py" 2>"$work/log" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
