#!/usr/bin/env bash
# Packages: hcloud 2.27.0 (Hetzner Cloud), linode_api4 5.48.0 (Akamai), alpaca-py 0.44.0 (stock trading), from PyPI, on
# requests and urllib3 as pip resolves them.
#
# All three repeat, by themselves and with their defaults, a POST that creates something, after an outcome that does not
# say whether it was created; none sends an idempotency key, and the bodies of the attempts are equal, so that no server
# can tell a retry from a second wish. hcloud does it after 502 and 504, alpaca-py after 504 (and an order has no
# client_order_id unless the caller sets one), linode_api4 when the connection breaks before there is an answer.
#
# Output seen on 2026-11-30:
#   hcloud, create a server, 504: 2 attempts, equal bodies, no key
#   hcloud, create a server, connection broken: 1 attempt, no key
#   linode_api4, create a volume, 504: 1 attempt, no key
#   linode_api4, create a volume, connection broken: 2 attempts, equal bodies, no key
#   alpaca-py, submit an order, 504: 2 attempts, equal bodies, no key
#   alpaca-py, submit an order, connection broken: 1 attempt, no key
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.server, json, threading

import hcloud, hcloud.images, hcloud.server_types, linode_api4
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import MarketOrderRequest


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((body, [name for name in self.headers if "idempotency" in name.lower()]))
        is_first = len(self.server.seen) == 1
        if is_first and not self.server.first:
            return
        answer = b"upstream request timeout" if is_first else json.dumps({"id": 1, "label": "a"}).encode()
        self.send_response(self.server.first if is_first else 200)
        self.send_header("content-type", "text/plain" if is_first else "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def server(url):
    kind, image = hcloud.server_types.ServerType(name="cx22"), hcloud.images.Image(name="debian-12")
    hcloud.Client("x", api_endpoint=url).servers.create(name="a", server_type=kind, image=image)


def volume(url):
    linode_api4.LinodeClient("x", base_url=url).volume_create("a", region="nl-ams", size=20)


def order(url):
    wish = MarketOrderRequest(symbol="TEA", qty=1, side="buy", time_in_force="day")
    TradingClient("x", "x", url_override=url, raw_data=True).submit_order(wish)


for name, call in [
    ("hcloud, create a server", server),
    ("linode_api4, create a volume", volume),
    ("alpaca-py, submit an order", order),
]:
    for first, said in [(504, "504"), (None, "connection broken")]:
        service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
        service.first, service.seen = first, []
        threading.Thread(target=service.serve_forever, daemon=True).start()
        try:
            call(f"http://127.0.0.1:{service.server_port}")
        except Exception:
            # The first answer, or the second, which is no whole server: how many attempts there were counts here.
            pass
        bodies = [body for body, _ in service.seen]
        keys = [key for _, keys in service.seen for key in keys]
        attempts = "1 attempt" if len(bodies) == 1 else f"{len(bodies)} attempts"
        if len(bodies) > 1:
            attempts += ", equal bodies" if len(set(bodies)) == 1 else ", different bodies"
        print(f"{name}, {said}: {attempts}, {keys or 'no key'}")
        service.shutdown()
PYTHON

cat >"$work/expected" <<'TEXT'
hcloud, create a server, 504: 2 attempts, equal bodies, no key
hcloud, create a server, connection broken: 1 attempt, no key
linode_api4, create a volume, 504: 1 attempt, no key
linode_api4, create a volume, connection broken: 2 attempts, equal bodies, no key
alpaca-py, submit an order, 504: 2 attempts, equal bodies, no key
alpaca-py, submit an order, connection broken: 1 attempt, no key
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" \
    hcloud==2.27.0 linode_api4==5.48.0 alpaca-py==0.44.0
PYTHONPATH=$work/packages python3 "$work/play.py" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
