#!/usr/bin/env bash
# Packages: dynalite 4.0.0 and @aws-sdk/client-dynamodb 3.1169.0 from npm, Node.js 20.
#
# dynalite takes `ReturnValuesOnConditionCheckFailure: ALL_OLD` in a conditional PutItem or UpdateItem without an objection,
# refuses the write as it should, and never shows the item that is in the way. AWS documents the item as a part of the
# refusal. So a program that reads it out of the SDK's exception finds `undefined`, and a test on dynalite counts one round
# trip more than AWS would need.
#
# Output seen on 2026-11-30:
#   PutItem: ConditionalCheckFailedException, Item: undefined
#   UpdateItem: ConditionalCheckFailedException, Item: undefined
#   GetItem: {"k":{"S":"a"},"v":{"S":"first"}}
set -eu

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts dynalite@4.0.0 @aws-sdk/client-dynamodb@3.1169.0 >/dev/null

cat >play.mjs <<'JS'
import { DynamoDBClient, CreateTableCommand, PutItemCommand, UpdateItemCommand, GetItemCommand } from "@aws-sdk/client-dynamodb";

const endpoint = process.argv[2];
const credentials = { accessKeyId: "a", secretAccessKey: "b" };
const client = new DynamoDBClient({ endpoint, credentials, region: "us-east-1", maxAttempts: 1 });
const TableName = "orders";
await client.send(new CreateTableCommand({
    TableName,
    BillingMode: "PAY_PER_REQUEST",
    KeySchema: [{ AttributeName: "k", KeyType: "HASH" }],
    AttributeDefinitions: [{ AttributeName: "k", AttributeType: "S" }],
}));
const item = (v) => ({ k: { S: "a" }, v: { S: v } });
const put = (v) => new PutItemCommand({
    TableName,
    Item: item(v),
    ConditionExpression: "attribute_not_exists(k)",
    ReturnValuesOnConditionCheckFailure: "ALL_OLD",
});
await client.send(put("first"));
const update = new UpdateItemCommand({
    TableName,
    Key: { k: { S: "a" } },
    UpdateExpression: "SET v = :v",
    ConditionExpression: "v = :other",
    ExpressionAttributeValues: { ":v": { S: "second" }, ":other": { S: "other" } },
    ReturnValuesOnConditionCheckFailure: "ALL_OLD",
});
for (const [name, command] of [["PutItem", put("second")], ["UpdateItem", update]]) {
    try {
        await client.send(command);
        console.log(`${name}: done`);
    } catch (error) {
        console.log(`${name}: ${error.name}, Item: ${JSON.stringify(error.Item)}`);
    }
}
const found = await client.send(new GetItemCommand({ TableName, Key: { k: { S: "a" } }, ConsistentRead: true }));
console.log(`GetItem: ${JSON.stringify(found.Item)}`);
JS

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
node node_modules/dynalite/cli.js --host 127.0.0.1 --port "$port" --createTableMs 0 >server.log 2>&1 &
server=$!
for _ in $(seq 100); do
    python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2>/dev/null && break
    sleep 0.1
done
node --no-warnings play.mjs "http://127.0.0.1:$port" | tee seen
expected='PutItem: ConditionalCheckFailedException, Item: undefined
UpdateItem: ConditionalCheckFailedException, Item: undefined
GetItem: {"k":{"S":"a"},"v":{"S":"first"}}'
[ "$(cat seen)" = "$expected" ] || { echo 'this has changed' >&2; exit 1; }
