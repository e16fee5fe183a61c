#!/usr/bin/env bash
# Packages: moto 5.2.5 with its server (flask 3.1.3, flask-cors 6.0.5) and what DynamoDB needs (boto3 1.44.8) from PyPI,
# Python 3.11.
#
# moto's server knows the service by the signature alone. A call to DynamoDB that names its target and is not signed, as of a
# proxy that has found no credentials, is taken for one to S3, and answered with 200 and a list of buckets as XML: also a write,
# which is not made. AWS says 400 with MissingAuthenticationTokenException. So a client that trusts the status believes that
# it has written, and a test on moto does not show that nothing signs.
#
# Output seen on 2026-12-01:
#   signed: 200 application/x-amz-json-1.0 {}
#   unsigned: 200 application/xml
#   items: 1
set -eu

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 boto3==1.44.8

cat >play.py <<'PY'
import http.client, json, sys

SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=b",
    "x-amz-date": "20260101T000000Z",
}


def call(operation, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", "content-type": "application/x-amz-json-1.0", **headers}
    connection.request("POST", "/", json.dumps(body), headers)
    reply = connection.getresponse()
    return reply.status, reply.getheader("content-type").split(";")[0], reply.read().decode()


key = {"AttributeName": "k", "AttributeType": "S"}
call("CreateTable", {
    "TableName": "orders",
    "AttributeDefinitions": [key],
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}, SIGNED)
item = lambda name: {"TableName": "orders", "Item": {"k": {"S": name}}}
print("signed:", *call("PutItem", item("a"), SIGNED))
print("unsigned:", *call("PutItem", item("b"), {})[:2])
print("items:", json.loads(call("Scan", {"TableName": "orders"}, SIGNED)[2])["Count"])
PY

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/python -m moto.server -H 127.0.0.1 -p "$port" >server.log 2>&1 &
server=$!
for _ in $(seq 200); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break
    sleep 0.1
done
venv/bin/python play.py "$port" | tee seen
expected='signed: 200 application/x-amz-json-1.0 {}
unsigned: 200 application/xml
items: 1'
[ "$(cat seen)" = "$expected" ] || { echo 'this has changed' >&2; exit 1; }
