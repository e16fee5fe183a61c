#!/usr/bin/env bash
# Package: cloudevents 10.0.0 from npm, Node.js 20.
#
# An event is known by its source and id. A hop that takes one and sends it on unchanged with this SDK sends another text:
# the time loses everything below a millisecond and its offset (RFC 3339 allows both), and JSON data is parsed and written
# anew, so that numbers beyond 2^53 become others and `1.0` becomes `1`. Who finds retries by source and id and compares
# the rest sees one key with two contents when a retry takes the other way. And `cloneWith` with other data keeps the id:
# two events, one of which is dropped.
#
# Output seen on 2026-11-30:
#   in:  ce-id 1, ce-time 2026-11-30T09:00:00.123456789+02:00, {"amount":12345678901234567890,"rate":1.0}
#   out: ce-id 1, ce-time 2026-11-30T07:00:00.123Z, {"amount":12345678901234567000,"rate":1}
#   cloneWith other data: same id
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.cjs" <<'NODE'
const { HTTP } = require('cloudevents');

const message = {
  headers: {
    'ce-id': '1',
    'ce-source': '/orders',
    'ce-type': 'order.placed',
    'ce-specversion': '1.0',
    'ce-time': '2026-11-30T09:00:00.123456789+02:00',
    'content-type': 'application/json',
  },
  body: '{"amount":12345678901234567890,"rate":1.0}',
};
const show = (way, { headers, body }) => {
  console.log(`${way} ce-id ${headers['ce-id']}, ce-time ${headers['ce-time']}, ${body}`);
};

const event = HTTP.toEvent(message);
show('in: ', message);
show('out:', HTTP.binary(event));
const other = event.cloneWith({ data: { amount: 1 } });
console.log(`cloneWith other data: ${other.id === event.id ? 'same' : 'new'} id`);
NODE

cat >"$work/expected" <<'TEXT'
in:  ce-id 1, ce-time 2026-11-30T09:00:00.123456789+02:00, {"amount":12345678901234567890,"rate":1.0}
out: ce-id 1, ce-time 2026-11-30T07:00:00.123Z, {"amount":12345678901234567000,"rate":1}
cloneWith other data: same id
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" cloudevents@10.0.0 >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
node "$work/play.cjs" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
