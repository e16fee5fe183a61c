# The module, the demo, and an image that holds nothing but the module, for hosts that load filters from a registry:
#
#   docker compose up --build
#   docker compose --profile redis up --build --exit-code-from demo-redis demo-redis
#   docker build --target plugin -t idemgate .

# ---- Everything that is compiled ----
FROM rust:1.95-bookworm AS build
WORKDIR /idemgate
COPY . .
RUN tools/build-module
RUN cargo build --locked --release --example orders

# ---- The module alone: one layer with /plugin.wasm at its root, as Istio and Envoy Gateway expect it ----
FROM scratch AS plugin
COPY --from=build /idemgate/dist/idemgate.wasm /plugin.wasm

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
RUN demo/compose-config >envoy.yaml

FROM envoyproxy/envoy:v1.40.0 AS envoy-on-redis
WORKDIR /idemgate
COPY --from=redis-config /idemgate/envoy.yaml .
COPY --from=build /idemgate/dist/idemgate.wasm dist/
CMD ["envoy", "--config-path", "envoy.yaml", "--concurrency", "2", "--log-level", "warning"]

# ---- Envoy with the module; what `docker build` makes when no target is named ----
FROM envoyproxy/envoy:v1.40.0 AS envoy
# envoy.yaml names the module by a path relative to this folder.
WORKDIR /idemgate
COPY envoy.yaml .
COPY --from=build /idemgate/dist/idemgate.wasm dist/
CMD ["envoy", "--config-path", "envoy.yaml", "--concurrency", "2", "--log-level", "warning"]
