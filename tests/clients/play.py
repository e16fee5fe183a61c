"""Makes one call of an SDK for each line of JSON on standard input, all at once, and prints what its user saw.

A line has `id`, `client`, `url`, `key` (or null: the SDK's own), `item` (what is asked for) and `timeout` (seconds, or null:
longer than any test). The answer has the `id` and either `returned` or `raised` and `text`.
"""

import json
import sys
import threading
from types import SimpleNamespace

LONG = 60
printing = threading.Lock()


def options(call):
    return {"idempotency_key": call.key} if call.key else {}


def botocore(call):
    from botocore.config import Config
    from botocore.session import Session

    config = Config(read_timeout=call.timeout, retries={"mode": "standard"})
    client = Session().create_client(
        "secretsmanager", "eu-west-1", endpoint_url=call.url, config=config,
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="x",
    )
    token = {"ClientRequestToken": call.key} if call.key else {}
    return client.create_secret(Name=call.item, SecretString="x", **token)["VersionId"]


def gocardless(call):
    import gocardless_pro

    client = gocardless_pro.Client("x", "sandbox", base_url=call.url, timeout=call.timeout)
    payment = {"amount": 100, "currency": "GBP", "description": call.item, "links": {"mandate": "MD1"}}
    return client.payments.create(payment, headers={"Idempotency-Key": call.key} if call.key else None).id


def inngest(call):
    import inngest as sdk

    client = sdk.Inngest(
        app_id="shop", event_key="x", event_api_base_url=call.url, is_production=True,
        request_timeout=int(call.timeout * 1000),
    )
    return client.send_sync(sdk.Event(name="order/placed", data={"item": call.item}, ts=1))


def modern_treasury(call):
    return treasurer(call).counterparties.create(name=call.item, **options(call)).id


def modern_treasury_upload(call):
    return treasurer(call).documents.create(file=call.item.encode(), document_type="invoice", **options(call)).id


def treasurer(call):
    from modern_treasury import ModernTreasury

    return ModernTreasury(api_key="x", organization_id="x", base_url=call.url, timeout=call.timeout)


def mollie(call):
    import mollie as sdk

    client = sdk.ClientSDK(
        security=sdk.Security(api_key="test_x"), server_url=call.url, timeout_ms=int(call.timeout * 1000),
    )
    return client.customers.create(entity_customer={"name": call.item}, **options(call)).id


def openai(call):
    from openai import OpenAI

    client = OpenAI(api_key="x", base_url=call.url, timeout=call.timeout)
    headers = {"Idempotency-Key": call.key} if call.key else None
    message = {"role": "user", "content": call.item}
    return client.chat.completions.create(model="x", messages=[message], extra_headers=headers).id


def square(call):
    from square import Square

    client = Square(token="x", base_url=call.url, timeout=call.timeout)
    return client.payments.create(source_id=call.item, idempotency_key=call.key).payment.id


def stripe(call):
    import stripe as sdk

    client = sdk.StripeClient(
        "sk_test_x", base_addresses={"api": call.url}, http_client=sdk.RequestsClient(timeout=call.timeout),
        max_network_retries=2,
    )
    return client.v1.customers.create({"name": call.item}, options(call)).id


def svix(call):
    from svix.api import MessageCreateOptions, MessageIn, Svix, SvixOptions

    client = Svix("testsk_x.eu", SvixOptions(server_url=call.url, timeout=call.timeout))
    message = MessageIn(event_type="order.placed", payload={"item": call.item})
    return client.message.create("app_1", message, MessageCreateOptions(idempotency_key=call.key)).id


def workos(call):
    from workos import WorkOSClient

    client = WorkOSClient(api_key="sk_x", client_id="x", base_url=call.url, request_timeout=call.timeout)
    return client.organizations.create_organization(name=call.item, request_options=options(call)).id


def play(call):
    call.timeout = call.timeout or LONG
    try:
        saw = {"returned": globals()[call.client](call)}
    except Exception as error:
        saw = {"raised": type(error).__name__, "text": str(error)}
    with printing:
        print(json.dumps({"id": call.id, **saw}, default=repr), flush=True)


for line in sys.stdin:
    threading.Thread(target=play, args=[SimpleNamespace(**json.loads(line))], daemon=True).start()
