#!/usr/bin/env bash
# Packages: aws_lambda_powertools 3.37.0 and boto3 1.44.8 from PyPI, dynalite 4.0.0 from npm (a DynamoDB that runs
# locally), Node.js 20.
#
# Powertools' idempotency claims a key with a conditional PutItem that names no owner. The claim is written and its answer
# gets lost; botocore repeats the PutItem by itself, meets its own record, and Powertools says
# IdempotencyAlreadyInProgressError. So one lost answer keeps an operation from running that nobody has begun: every retry
# is refused until the claim's time is over: what is left of the Lambda's time, here a minute, and without a Lambda context
# an hour, the default of `expires_after_seconds`. A lost answer to the UpdateItem that stores the result does no harm.
#
# Output seen on 2026-11-30:
#   answer to the claim lost, first call: IdempotencyAlreadyInProgressError, ran 0 times
#   answer to the claim lost, a retry at once: IdempotencyAlreadyInProgressError, ran 0 times
#   PutItems of the first call: 200, 400
#   answer to the result lost, first call: paid, ran 1 times
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/play.py" <<'PYTHON'
import os, socket, subprocess, sys, threading, time

os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
os.environ["POWERTOOLS_SERVICE_NAME"] = "shop"

import boto3
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function,
)


class Lambda:
    def get_remaining_time_in_millis(self):
        return 60000


class Lossy:
    """Passes requests on to DynamoDB, and loses the first answer to `action`."""

    def __init__(self, upstream, action):
        self.upstream, self.action, self.seen = upstream, action, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        with client, socket.create_connection(("127.0.0.1", self.upstream)) as server:
            while request := whole(client):
                server.sendall(request)
                answer = whole(server)
                fields = request.partition(b"\r\n\r\n")[0].lower()
                is_it = self.action.lower().encode() in fields
                if is_it:
                    self.seen.append(answer.split()[1].decode())
                if is_it and len(self.seen) == 1:
                    return
                client.sendall(answer)


def whole(connection):
    """One message of HTTP/1.1, by its content-length."""
    message = b""
    while piece := connection.recv(65536):
        message += piece
        head, end, body = message.partition(b"\r\n\r\n")
        lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and len(body) >= sum(lengths):
            break
    return message


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
    sys.exit("dynalite does not listen")


def create_table(port):
    client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}")
    client.create_table(
        TableName="claims",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    while client.describe_table(TableName="claims")["Table"]["TableStatus"] != "ACTIVE":
        time.sleep(0.1)


def call(url, order):
    ran = []
    client = boto3.client("dynamodb", endpoint_url=url)
    store = DynamoDBPersistenceLayer(table_name="claims", boto3_client=client)
    config = IdempotencyConfig(lambda_context=Lambda())

    def pay(order):
        ran.append(order)
        return "paid"

    guarded = idempotent_function(pay, data_keyword_argument="order", persistence_store=store, config=config)
    try:
        result = guarded(order=order)
    except Exception as error:
        result = type(error).__name__
    return f"{result}, ran {len(ran)} times"


def main(dynalite):
    port = free_port()
    process = subprocess.Popen(["node", dynalite, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        await_port(port)
        create_table(port)
        lossy = Lossy(port, "PutItem")
        print(f"answer to the claim lost, first call: {call(lossy.url, 'order 17')}")
        puts = ", ".join(lossy.seen)
        print(f"answer to the claim lost, a retry at once: {call(lossy.url, 'order 17')}")
        print(f"PutItems of the first call: {puts}")
        print(f"answer to the result lost, first call: {call(Lossy(port, 'UpdateItem').url, 'order 18')}")
    finally:
        process.terminate()
        process.wait()


main(sys.argv[1])
PYTHON

cat >"$work/expected" <<'TEXT'
answer to the claim lost, first call: IdempotencyAlreadyInProgressError, ran 0 times
answer to the claim lost, a retry at once: IdempotencyAlreadyInProgressError, ran 0 times
PutItems of the first call: 200, 400
answer to the result lost, first call: paid, ran 1 times
TEXT

npm install --silent --no-audit --no-fund --prefix "$work" dynalite@4.0.0 >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
python3 -m pip install --quiet --disable-pip-version-check --target "$work/packages" \
    aws_lambda_powertools==3.37.0 boto3==1.44.8
PYTHONPATH=$work/packages python3 "$work/play.py" "$work/node_modules/dynalite/cli.js" | tee "$work/seen"
cmp "$work/seen" "$work/expected"
