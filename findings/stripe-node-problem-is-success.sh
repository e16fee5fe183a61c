#!/usr/bin/env bash
# Package: stripe 23.1.0 from npm, Node.js 20.
#
# The SDK decides by the JSON body, not by the status, whether a call has failed: only a member `error` rejects the
# promise. A gateway's own 409, 422, 429 or 500 with a problem (RFC 9457) therefore resolves `customers.create()` with
# that problem as the customer, after the SDK's own two retries where the status calls for them. A body that is no JSON
# rejects.
#
# Output seen on 2026-11-30:
#   409, problem: resolved with type about:blank, id undefined, attempts: 3, keys: 1
#   422, problem: resolved with type about:blank, id undefined, attempts: 1, keys: 1
#   429, problem: resolved with type about:blank, id undefined, attempts: 1, keys: 1
#   500, problem: resolved with type about:blank, id undefined, attempts: 3, keys: 1
#   422, problem with error: rejected with StripeAPIError, attempts: 1, keys: 1
#   422, text: rejected with StripeAPIError, attempts: 1, keys: 1
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.cjs" <<'NODE'
const http = require('node:http');
const Stripe = require('stripe');

const problem = (status, more) => JSON.stringify({ type: 'about:blank', title: 'not now', status, ...more });
const error = { error: { type: 'invalid_request_error', message: 'not now' } };
const cases = [
  [409, 'problem', problem(409)],
  [422, 'problem', problem(422)],
  [429, 'problem', problem(429)],
  [500, 'problem', problem(500)],
  [422, 'problem with error', problem(422, error)],
  [422, 'text', 'not now'],
];

(async () => {
  for (const [status, name, body] of cases) {
    const keys = [];
    const service = http.createServer((request, response) => {
      keys.push(request.headers['idempotency-key']);
      response.writeHead(status, { 'content-type': name === 'text' ? 'text/plain' : 'application/problem+json' });
      request.resume().on('end', () => response.end(body));
    });
    await new Promise((done) => service.listen(0, '127.0.0.1', done));
    const place = { protocol: 'http', host: '127.0.0.1', port: service.address().port };
    const client = new Stripe('sk_test_x', { ...place, telemetry: false });
    const result = await client.customers.create({ name: 'someone' }).then(
      (customer) => `resolved with type ${customer.type}, id ${customer.id}`,
      (failure) => `rejected with ${failure.constructor.name}`,
    );
    console.log(`${status}, ${name}: ${result}, attempts: ${keys.length}, keys: ${new Set(keys).size}`);
    service.closeAllConnections();
    service.close();
  }
})();
NODE

cat >"$work/expected" <<'TEXT'
409, problem: resolved with type about:blank, id undefined, attempts: 3, keys: 1
422, problem: resolved with type about:blank, id undefined, attempts: 1, keys: 1
429, problem: resolved with type about:blank, id undefined, attempts: 1, keys: 1
500, problem: resolved with type about:blank, id undefined, attempts: 3, keys: 1
422, problem with error: rejected with StripeAPIError, attempts: 1, keys: 1
422, text: rejected with StripeAPIError, attempts: 1, keys: 1
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" stripe@23.1.0 >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
node "$work/play.cjs" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
