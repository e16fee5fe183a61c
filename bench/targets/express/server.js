// An orders service on Express, alone or with the middleware express-idempotency on Redis.
//
//   node server.js                        # on a free port of 127.0.0.1, which it prints
//   REDIS_URL=redis://127.0.0.1:6379 node server.js
//
// It answers as the benchmark's own service does (examples/load.rs), so that there is no proxy in between.

"use strict";

const express = require("express");
const { idempotency, getSharedIdempotencyService } = require("express-idempotency");
const RedisAdapter = require("express-idempotency-redis-adapter").default;

let executions = 0;

const content = (length) => `{"item":"${"x".repeat(Math.max(length - 11, 0))}"}`;

async function main() {
  const app = express();
  app.use(express.json({ limit: "2mb" }));
  if (process.env.REDIS_URL) {
    const dataAdapter = new RedisAdapter({ connectionConfig: { url: process.env.REDIS_URL } });
    await dataAdapter.connect();
    app.use(idempotency({ dataAdapter }));
  }

  app.get("/executions", (request, response) => response.type("text").send(String(executions)));
  app.get("/:length", (request, response) => response.type("json").send(content(Number(request.params.length))));
  app.post("/orders", (request, response) => {
    // The middleware goes on to the handler after a replay, too.
    if (process.env.REDIS_URL && getSharedIdempotencyService().isHit(request)) return;
    executions += 1;
    response.status(201).type("json").send(content(Number(request.get("content-length"))));
  });

  const server = app.listen(0, "127.0.0.1", () => console.log(`express: listening on 127.0.0.1:${server.address().port}`));
}

main();
