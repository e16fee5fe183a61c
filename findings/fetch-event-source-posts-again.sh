#!/usr/bin/env bash
# Package: @microsoft/fetch-event-source 2.0.1 from npm, Node.js 20 (its fetch; the few members of `window` and `document`
# that the package uses are stood in for).
#
# Pages read streamed answers to a POST with it. Without the caller's own `onopen` and `onerror` it repeats the POST by itself, body and
# headers unchanged but for `last-event-id`: every second, without end, when the stream breaks or when the answer is no
# event stream (a 409 or 422 with a problem too), so that the caller never hears of the refusal; and once more whenever
# the tab was hidden and is shown again while the stream runs. A 500 that is an event stream, on the other hand, counts as
# a success.
#
# Output seen on 2026-11-30:
#   stream that ends: 1 POST, resolved
#   tab hidden and shown: 2 POSTs, resolved, last-event-id: 7
#   stream that breaks: 3 POSTs or more, pending, last-event-id: 7
#   409, problem: 3 POSTs or more, pending
#   500, event stream: 1 POST, resolved
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.cjs" <<'NODE'
const http = require('node:http');

let changed = () => {};
globalThis.window = { fetch, setTimeout, clearTimeout };
globalThis.document = {
  hidden: false,
  addEventListener: (_, listener) => { changed = listener; },
  removeEventListener: () => {},
};
const { fetchEventSource } = require('@microsoft/fetch-event-source');

const pause = (time) => new Promise((done) => setTimeout(done, time));
const stream = { 'content-type': 'text/event-stream' };
const problem = { 'content-type': 'application/problem+json' };
const event = 'id: 7\ndata: one\n\n';
const cases = {
  'stream that ends': (response) => response.writeHead(200, stream).end(event),
  'tab hidden and shown': (response, posts) => {
    response.writeHead(200, stream).write(event);
    if (posts > 1) response.end();
  },
  'stream that breaks': (response) => {
    response.writeHead(200, stream).write(event);
    setTimeout(() => response.destroy(), 500);
  },
  '409, problem': (response) => response.writeHead(409, problem).end('{"type":"about:blank","status":409}'),
  '500, event stream': (response) => response.writeHead(500, stream).end(),
};

(async () => {
  for (const [name, answer] of Object.entries(cases)) {
    const posts = [];
    const service = http.createServer((request, response) => {
      posts.push(request);
      request.resume().on('end', () => answer(response, posts.length));
    });
    await new Promise((done) => service.listen(0, '127.0.0.1', done));
    const stop = new AbortController();
    let outcome = 'pending';
    let messages = 0;
    fetchEventSource(`http://127.0.0.1:${service.address().port}/`, {
      method: 'POST', body: '{"prompt":"tea"}', signal: stop.signal, onmessage: () => { messages += 1; },
    }).then(() => { outcome = 'resolved'; }, () => { outcome = 'rejected'; });
    if (name.startsWith('tab')) {
      while (!messages) await pause(100);
      for (document.hidden of [true, false]) changed();
    }
    for (let time = 0; outcome === 'pending' && posts.length < 3 && time < 100; time += 1) await pause(100);
    const number = posts.length < 3 ? `${posts.length} POST${posts.length > 1 ? 's' : ''}` : '3 POSTs or more';
    const id = posts.at(-1).headers['last-event-id'];
    console.log(`${name}: ${number}, ${outcome}${id ? `, last-event-id: ${id}` : ''}`);
    stop.abort();
    service.closeAllConnections();
    service.close();
  }
})();
NODE

cat >"$work/expected" <<'TEXT'
stream that ends: 1 POST, resolved
tab hidden and shown: 2 POSTs, resolved, last-event-id: 7
stream that breaks: 3 POSTs or more, pending, last-event-id: 7
409, problem: 3 POSTs or more, pending
500, event stream: 1 POST, resolved
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" @microsoft/fetch-event-source@2.0.1 >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
node "$work/play.cjs" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
