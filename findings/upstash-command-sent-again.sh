#!/usr/bin/env bash
# Packages: @upstash/redis 1.39.0 and @upstash/qstash 2.12.0 from npm, Node.js 20.
#
# Both send their commands as POSTs over HTTP and repeat one, with their defaults, when the connection breaks before the
# answer (redis five times, qstash likewise); neither sends a key. A Redis client on TCP tells its caller; here `incr`
# returns 2 for the first call on a new key, and a message is published twice, unless the caller gives qstash a
# `deduplicationId`. After a 500 or 503, which may be temporary as well, neither repeats anything.
#
# Output seen on 2026-11-30:
#   redis, incr on a new key, first answer lost: returned 2, the counter is 2
#   redis, incr on a new key, 503: rejected, the counter is 0
#   qstash, publishJSON, first answer lost: resolved, published 2 times, different ids: 0
#   qstash, publishJSON with deduplicationId, first answer lost: resolved, published 2 times, different ids: 1
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.cjs" <<'NODE'
const http = require('node:http');
const { Redis } = require('@upstash/redis');
const { Client } = require('@upstash/qstash');

// Counts what arrives, and answers what the services would, but for the first answer.
const serve = async (first) => {
  const seen = [];
  const service = http.createServer((request, response) => {
    request.resume().on('end', () => {
      if (!seen.length && first === 'refused') return response.writeHead(503).end('{"error":"not now"}');
      seen.push(request.headers['upstash-deduplication-id']);
      if (seen.length === 1 && first === 'lost') return response.destroy();
      const body = request.url === '/pipeline' ? [{ result: seen.length }] : { messageId: `msg_${seen.length}` };
      return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  });
  await new Promise((done) => service.listen(0, '127.0.0.1', done));
  const close = () => { service.closeAllConnections(); service.close(); };
  return { seen, close, url: `http://127.0.0.1:${service.address().port}` };
};

(async () => {
  for (const [first, said] of [['lost', 'first answer lost'], ['refused', '503']]) {
    const { seen, close, url } = await serve(first);
    const redis = new Redis({ url, token: 'x', enableTelemetry: false });
    const result = await redis.incr('visits').then((value) => `returned ${value}`, () => 'rejected');
    console.log(`redis, incr on a new key, ${said}: ${result}, the counter is ${seen.length}`);
    close();
  }
  for (const [more, said] of [[{}, ''], [{ deduplicationId: 'order-17' }, ' with deduplicationId']]) {
    const { seen, close, url } = await serve('lost');
    const queue = new Client({ baseUrl: url, token: 'x', enableTelemetry: false });
    const message = { url: 'https://shop.example', body: { order: 17 }, ...more };
    const result = await queue.publishJSON(message).then(() => 'resolved', () => 'rejected');
    const ids = new Set(seen.filter(Boolean)).size;
    console.log(`qstash, publishJSON${said}, first answer lost: ${result}, published ${seen.length} times, different ids: ${ids}`);
    close();
  }
})();
NODE

cat >"$work/expected" <<'TEXT'
redis, incr on a new key, first answer lost: returned 2, the counter is 2
redis, incr on a new key, 503: rejected, the counter is 0
qstash, publishJSON, first answer lost: resolved, published 2 times, different ids: 0
qstash, publishJSON with deduplicationId, first answer lost: resolved, published 2 times, different ids: 1
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" @upstash/redis@1.39.0 @upstash/qstash@2.12.0 >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
node "$work/play.cjs" 2>"$work/log" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
