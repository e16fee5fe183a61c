#!/usr/bin/env bash
# Packages: redis-tools 5:7.0.15-1~deb12u10 of Debian 12, which has the binary of the server, and the libraries it needs.
#
# A client may close its sending half once it has asked everything, and read the answers then (printf ... | nc does). Redis
# answers such a client, except while CLIENT PAUSE keeps its command back: then it closes the connection without a word, and
# the command is not carried out. A client that keeps its sending half open is answered when the pause is over. So to those
# who ask over half-closed connections a short pause, by which operators bridge a failover, looks like a server that breaks
# every connection.
#
# Output seen on 2026-11-30:
#   no pause, half-closed: b'+OK\r\n'
#   paused, open: b'+OK\r\n'
#   paused, half-closed: b''
#   carried out: half-closed while paused: no
set -eu

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT

(
    cd "$work"
    apt-get download -q redis-tools=5:7.0.15-1~deb12u* libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libatomic1
    for package in *.deb; do dpkg -x "$package" unpacked; done
) >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
libraries=$(find "$work/unpacked" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
ln -s unpacked/usr/bin/redis-check-rdb "$work/redis-server"
LD_LIBRARY_PATH=$libraries "$work/redis-server" --version

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$libraries "$work/redis-server" --port "$port" --bind 127.0.0.1 --save '' --dir "$work" >"$work/log" 2>&1 &
server=$!

python3 - "$port" <<'PYTHON'
import socket, sys, time

address = ("127.0.0.1", int(sys.argv[1]))


def connect():
    for _ in range(100):
        try:
            return socket.create_connection(address, timeout=10)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the server does not listen")


def ask(command, half_closed):
    with connect() as client:
        client.sendall(command)
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        return client.recv(100)


pause = b"CLIENT PAUSE 1500 ALL\r\n"
plain = ask(b"SET a 1\r\n", True)
ask(pause, False)
opened = ask(b"SET b 1\r\n", False)
ask(pause, False)
closed = ask(b"SET c 1\r\n", True)
time.sleep(2)
done = ask(b"EXISTS c\r\n", False)
print("no pause, half-closed:", plain)
print("paused, open:", opened)
print("paused, half-closed:", closed)
print("carried out: half-closed while paused:", "yes" if done == b":1\r\n" else "no")
if (plain, opened, closed, done) != (b"+OK\r\n", b"+OK\r\n", b"", b":0\r\n"):
    raise SystemExit("this has changed")
PYTHON
