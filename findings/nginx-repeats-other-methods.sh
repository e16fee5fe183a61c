#!/usr/bin/env bash
# Package: nginx 1.22.1-9+deb12u11 of Debian 12 (and libpcre2-8-0, which it needs).
#
# nginx does not send a POST, LOCK or PATCH on to the next server of an upstream once it has been sent (`non_idempotent`
# would). That is a list of exceptions, not a list of what may be repeated: every other method is taken for idempotent,
# those that nginx does not know too. A server that has carried out a Subversion MERGE, a WebDAV MOVE or a method of one's
# own, and dies before it answers, has the next one carry it out again, by the default `proxy_next_upstream error
# timeout`.
#
# Output seen on 2026-11-30 (two servers that take a request and close the connection):
#   POST, PATCH, LOCK: sent to 1 server
#   PUT, DELETE: sent to 2 servers
#   MOVE, MERGE, MKACTIVITY, PURCHASE: sent to 2 servers
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import http.client, socket, subprocess, sys, threading, time

GROUPS = [["POST", "PATCH", "LOCK"], ["PUT", "DELETE"], ["MOVE", "MERGE", "MKACTIVITY", "PURCHASE"]]
CONFIGURATION = """
daemon off;
master_process off;
pid {work}/pid;
error_log {work}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {work}/client;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    upstream service {{
        server 127.0.0.1:{one} max_fails=0;
        server 127.0.0.1:{other} max_fails=0;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://service; }}
    }}
}}
"""


def serve(seen):
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536).split()[0].decode())

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
    sys.exit("nginx does not listen")


def main(nginx, work):
    seen, port = [], free_port()
    with open(f"{work}/nginx.conf", "w") as file:
        file.write(CONFIGURATION.format(work=work, one=serve(seen), other=serve(seen), port=port))
    process = subprocess.Popen([nginx, "-c", f"{work}/nginx.conf", "-e", f"{work}/error.log"])
    try:
        await_port(port)
        for group in GROUPS:
            numbers = set()
            for method in group:
                seen.clear()
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                client.request(method, "/", "x")
                assert client.getresponse().status == 502
                numbers.add(seen.count(method))
            number = numbers.pop() if len(numbers) == 1 else sorted(numbers)
            print(f"{', '.join(group)}: sent to {number} server{'' if number == 1 else 's'}")
    finally:
        process.terminate()
        process.wait()


main(*sys.argv[1:])
PYTHON

cat >"$work/expected" <<'TEXT'
POST, PATCH, LOCK: sent to 1 server
PUT, DELETE: sent to 2 servers
MOVE, MERGE, MKACTIVITY, PURCHASE: sent to 2 servers
TEXT

(
    cd "$work"
    apt-get download -q nginx=1.22.1-9+deb12u* libpcre2-8-0
    for package in *.deb; do dpkg -x "$package" unpacked; done
) >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
libraries=$(find "$work/unpacked" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
LD_LIBRARY_PATH=$libraries python3 "$work/play.py" "$work/unpacked/usr/sbin/nginx" "$work" 2>"$work/log" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
