#!/usr/bin/env bash
# Package: inngest 0.5.19 from PyPI (httpx and pydantic as pip resolves them).
#
# `send_sync` says whether events were taken: it returns their ids, or raises. A 5xx is repeated (five attempts, one and
# the same x-inngest-event-id-seed, whatever Retry-After says). Any other status is taken for an answer and its JSON body
# is read as one: unless that has a member `error`, a 409, 422 or 429 with a problem (RFC 9457), as gateways send it,
# comes out as an empty list. Nothing is raised, nothing is repeated, and the event is lost.
#
# Output seen on 2026-11-30:
#   503 then 200: returned ['01ABC'], attempts: 2, seeds: 1
#   409: returned [], attempts: 1, seeds: 1
#   422: returned [], attempts: 1, seeds: 1
#   429: returned [], attempts: 1, seeds: 1
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.server, json, threading

import inngest


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seeds.append(self.headers["x-inngest-event-id-seed"])
        status = self.server.statuses.pop(0)
        problem = {"type": "about:blank", "title": "not taken", "status": status}
        body = json.dumps({"ids": ["01ABC"], "status": 200} if status == 200 else problem).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


for statuses in [[503, 200], [409], [422], [429]]:
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    service.statuses, service.seeds = list(statuses), []
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_port}"
    client = inngest.Inngest(app_id="shop", event_key="x", event_api_base_url=url, is_production=True)
    try:
        result = f"returned {client.send_sync(inngest.Event(name='order/placed'))}"
    except Exception as error:
        result = f"raised {type(error).__name__}"
    said = " then ".join(map(str, statuses))
    print(f"{said}: {result}, attempts: {len(service.seeds)}, seeds: {len(set(service.seeds))}")
    service.shutdown()
PYTHON

cat >"$work/expected" <<'TEXT'
503 then 200: returned ['01ABC'], attempts: 2, seeds: 1
409: returned [], attempts: 1, seeds: 1
422: returned [], attempts: 1, seeds: 1
429: returned [], attempts: 1, seeds: 1
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" inngest==0.5.19
PYTHONPATH=$work/packages python3 "$work/play.py" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
