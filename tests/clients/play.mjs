// As play.py, for the SDKs of Node.js.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const LONG = 60;
// The packages are not beside this file.
const sdk = createRequire(`${process.env.CLIENTS}/`);

const clients = {
  async gocardless({ url, key, item }) {
    const { GoCardlessClient } = sdk('gocardless-nodejs');
    const client = new GoCardlessClient('x', 'SANDBOX');
    // There is no setting for it.
    client._api._baseUrl = url;
    const payment = { amount: 100, currency: 'GBP', description: item, links: { mandate: 'MD1' } };
    return (await client.payments.create(payment, key ?? '')).id;
  },

  async restate({ url, key, item, timeout }) {
    const { Opts, connect } = sdk('@restatedev/restate-sdk-clients');
    const client = connect({ url, headers: { authorization: 'Bearer x' }, retry: true });
    const options = Opts.from({ idempotencyKey: key, timeout: timeout * 1000 });
    return client.serviceClient({ name: 'shop' }).order(item, options);
  },

  async stripe({ url, key, item, timeout }) {
    const { hostname: host, port } = new URL(url);
    const place = { protocol: 'http', host, port, timeout: timeout * 1000, telemetry: false };
    const client = sdk('stripe')('sk_test_x', place);
    return (await client.customers.create({ name: item }, key ? { idempotencyKey: key } : {})).id;
  },

  async workos({ url, key, item, timeout }) {
    const { WorkOS } = sdk('@workos-inc/node');
    const { hostname, port } = new URL(url);
    const place = { apiHostname: hostname, port: Number(port), https: false, timeout: timeout * 1000 };
    const event = {
      action: item,
      occurredAt: new Date(0),
      actor: { type: 'user', id: 'someone' },
      targets: [],
      context: { location: '192.0.2.1' },
    };
    await new WorkOS('sk_x', place).auditLogs.createEvent('org_1', event, key ? { idempotencyKey: key } : {});
    return 'done';
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, client, timeout, ...call } = JSON.parse(line);
  clients[client]({ timeout: timeout ?? LONG, ...call })
    .then((returned) => ({ returned }))
    // What is thrown need not be an Error.
    .catch((error) => ({ raised: error?.constructor?.name, text: String(error?.message ?? error) }))
    .then((saw) => console.log(JSON.stringify({ id, ...saw })));
}
