# The module as an image for hosts that load filters from a registry (Istio, Envoy Gateway), and the images of the demo:
#
#   docker build -t registry.example/idemgate:0.1.0 .      # the module alone: docs/deployment.md says how to publish it
#   docker compose up --build                              # the demo: docker-compose.yml
#   docker compose --profile redis up --build --exit-code-from demo-redis demo-redis
#   docker compose --profile postgres up --build --exit-code-from demo-postgres demo-postgres
#
# `make compose-test` builds and runs all of it.

# ---- Everything that is compiled ----
FROM rust:1.95-bookworm AS build
WORKDIR /idemgate
COPY . .
RUN tools/build-module
RUN cargo build --locked --release --example orders

# ---- The orders service of the demo ----
FROM debian:bookworm-slim AS orders
COPY --from=build /idemgate/target/release/examples/orders /usr/local/bin/orders
USER nobody
CMD ["orders"]

# ---- The requests of the demo ----
FROM python:3.11-slim-bookworm AS demo
COPY demo/run /idemgate/demo/run
USER nobody
CMD ["python3", "-u", "/idemgate/demo/run", "--envoy", "http://127.0.0.1:10000", "--orders", "http://127.0.0.1:8080"]

# ---- Envoy with its records in Redis, for the profile `redis` of docker-compose.yml ----
FROM python:3.11-slim-bookworm AS redis-config
WORKDIR /idemgate
COPY tools/render-config tools/
COPY examples/redis/envoy.yaml examples/redis/
COPY demo/compose-config demo/
RUN demo/compose-config redis >envoy.yaml

FROM envoyproxy/envoy:v1.40.0 AS envoy-on-redis
WORKDIR /idemgate
COPY --from=redis-config /idemgate/envoy.yaml .
COPY --from=build /idemgate/dist/idemgate.wasm dist/
CMD ["envoy", "--config-path", "envoy.yaml", "--concurrency", "2", "--log-level", "warning"]

# ---- The same with its records in PostgreSQL, for the profile `postgres`, and that PostgreSQL ----
FROM python:3.11-slim-bookworm AS postgres-config
WORKDIR /idemgate
COPY tools/render-config tools/
COPY examples/postgres/envoy.yaml examples/postgres/
COPY demo/compose-config demo/
RUN demo/compose-config postgres >envoy.yaml

FROM envoyproxy/envoy:v1.40.0 AS envoy-on-postgres
WORKDIR /idemgate
COPY --from=postgres-config /idemgate/envoy.yaml .
COPY --from=build /idemgate/dist/idemgate.wasm dist/
CMD ["envoy", "--config-path", "envoy.yaml", "--concurrency", "2", "--log-level", "warning"]

FROM postgres:18-bookworm AS postgres
# Run in this order when there is no database yet.
COPY src/store/postgres/schema.sql /docker-entrypoint-initdb.d/1-schema.sql
COPY demo/role.sql /docker-entrypoint-initdb.d/2-role.sql

# ---- Envoy with the module ----
FROM envoyproxy/envoy:v1.40.0 AS envoy
# envoy.yaml names the module by a path relative to this folder.
WORKDIR /idemgate
COPY envoy.yaml .
COPY --from=build /idemgate/dist/idemgate.wasm dist/
CMD ["envoy", "--config-path", "envoy.yaml", "--concurrency", "2", "--log-level", "warning"]

# ---- What `docker build` makes when no target is named: the module alone ----
# One layer with plugin.wasm at its root and nothing else, which is where Istio and Envoy Gateway look for it.
FROM scratch AS plugin
LABEL org.opencontainers.image.title="Idemgate" \
      org.opencontainers.image.description="An Envoy proxy-wasm filter that makes any HTTP service safe to retry" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /idemgate/dist/idemgate.wasm /plugin.wasm
