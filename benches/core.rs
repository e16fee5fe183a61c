//! What the core's hot paths take natively, without a proxy around them: `cargo bench`, or `cargo bench -- redis`.
//!
//! The figures are for comparing two versions of the code with each other. What a request costs in Envoy is measured
//! by `make bench`, and how much memory it asks for by `tests/abi/costs.rs`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark whose assumptions do not hold must fail"
)]
#![allow(missing_docs, reason = "each benchmark's name says what it measures")]

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use divan::{Bencher, black_box, counter::BytesCount};
use idemgate::{
    config::{BodyFingerprint, FingerprintPolicy, PointerTree, Policy, RedisConfig, Share, SharedDataConfig},
    exchange::{Attributes, Effect, Event, Evidence, Exchange},
    headers::Headers,
    record::{Claim, Owner, Record, StoredResponse, decode, encode},
    request::{Caller, Fingerprint, FingerprintBuilder, Key, OperationId, Target},
    store::{
        Answer, Call, Claimed, Ending, Settled, Settlement, StoreError,
        dialect::Heard,
        inquiry::{Inquiry, Progress},
        redis::{
            RedisStore,
            resp::{Value, decode_all},
        },
        remote::RemoteStore as _,
        shared_data::{Cas, SharedDataStore, SharedMemory, Written},
    },
    time::Timestamp,
};

/// A small order, and a large one.
const BODIES: [usize; 2] = [200, 16 << 10];

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const OPERATION: OperationId = OperationId::from_bytes([1; 32]);
const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([2; 32]);
const OWNER: Owner = Owner::new(3);
const LEASE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(86_400);

fn main() {
    divan::main();
}

mod request {
    use super::*;

    #[divan::bench(args = ["8e03978e-40d5-43e8-bc93-6894a57f9324", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "\"a\\\"b\""])]
    fn key(bencher: Bencher, key: &str) {
        let (headers, policy) = (request(key), Policy::default());
        bencher.bench(|| Key::find(black_box(&headers), &policy.key));
    }

    #[divan::bench]
    fn operation_id(bencher: Bencher) {
        let (headers, policy) = (request("k"), Policy::default());
        let key = Key::find(&headers, &policy.key).unwrap().unwrap();
        bencher.bench(|| {
            let caller = Caller::identify(&policy.caller, black_box(&headers), |_| None).unwrap().caller;
            OperationId::new(&caller, &policy.resource, &Target::from_headers(&headers), &key)
        });
    }

    #[divan::bench(args = BODIES)]
    fn fingerprint_of_opaque_body(bencher: Bencher, bytes: usize) {
        fingerprint(bencher, BodyFingerprint::Raw, &vec![b'x'; bytes]);
    }

    #[divan::bench(args = BODIES)]
    fn fingerprint_of_json(bencher: Bencher, bytes: usize) {
        fingerprint(
            bencher,
            BodyFingerprint::Json { ignore: PointerTree::new(&[vec!["sent_at".to_owned()]]) },
            &json(bytes),
        );
    }

    fn fingerprint(bencher: Bencher, how: BodyFingerprint, body: &[u8]) {
        let (headers, policy) = (request("k"), Policy::default());
        let policy = FingerprintPolicy { body: how, ..policy.fingerprint };
        bencher.counter(BytesCount::new(body.len())).bench(|| {
            let mut fingerprint = FingerprintBuilder::new(&policy, &Target::from_headers(&headers), &headers);
            fingerprint.body(black_box(body));
            fingerprint.finish()
        });
    }
}

mod record {
    use super::*;

    #[divan::bench]
    fn encode_record(bencher: Bencher) {
        let record = claim(0).granted(NOW);
        bencher.bench(|| encode(black_box(&record)));
    }

    #[divan::bench]
    fn decode_record(bencher: Bencher) {
        let bytes = encode(&claim(0).granted(NOW)).unwrap();
        bencher.bench(|| decode::<Record>(black_box(&bytes)));
    }

    #[divan::bench(args = BODIES)]
    fn encode_response(bencher: Bencher, bytes: usize) {
        let response = response(bytes);
        bencher.bench(|| black_box(&response).encode(&OPERATION, OWNER));
    }

    #[divan::bench(args = BODIES)]
    fn decode_response(bencher: Bencher, bytes: usize) {
        let bytes = response(bytes).encode(&OPERATION, OWNER).unwrap();
        bencher.bench(|| StoredResponse::decode(black_box(&bytes), &OPERATION, OWNER));
    }
}

mod shared_data {
    use super::*;

    #[divan::bench]
    fn claim_new_key(bencher: Bencher) {
        let (store, mut number) = (store(), 0);
        bencher
            .with_inputs(|| {
                number += 1;
                Call::Claim(claim(number))
            })
            .bench_local_values(|call| store.call(call, NOW));
    }

    #[divan::bench(args = BODIES)]
    fn claim_and_complete(bencher: Bencher, bytes: usize) {
        let (store, mut number) = (store(), 0);
        bencher
            .with_inputs(|| {
                number += 1;
                (Call::Claim(claim(number)), completed(number, bytes))
            })
            .bench_local_values(|(claim, settle)| {
                assert_eq!(store.call(claim, NOW), Answer::Claimed(Claimed::Granted));
                store.call(settle, NOW)
            });
    }

    #[divan::bench(args = BODIES)]
    fn replay(bencher: Bencher, bytes: usize) {
        let store = store();
        store.call(Call::Claim(claim(0)), NOW);
        let Answer::Settled(Settlement { settled: Settled::Completed, .. }) = store.call(completed(0, bytes), NOW)
        else {
            panic!("it is not stored");
        };
        bencher.with_inputs(|| Call::Claim(claim(0))).bench_local_values(|call| store.call(call, NOW));
    }

    fn store() -> SharedDataStore<Memory> {
        SharedDataStore::open(Memory::default(), SharedDataConfig::default(), 7).unwrap()
    }
}

mod redis {
    use super::*;

    #[divan::bench]
    fn build_claim(bencher: Bencher) {
        build(bencher, &Call::Claim(claim(0)));
    }

    #[divan::bench(args = BODIES)]
    fn build_completion(bencher: Bencher, bytes: usize) {
        build(bencher, &completed(0, bytes));
    }

    #[divan::bench]
    fn read_granted(bencher: Bencher) {
        read(bencher, b":1\r\n");
    }

    #[divan::bench(args = BODIES)]
    fn read_replay(bencher: Bencher, bytes: usize) {
        // As `settle.lua` leaves a record behind and `claim.lua` shows it.
        let store = RedisStore::new(RedisConfig::new("redis".to_owned()));
        let mut settle = store.inquire(&completed(0, bytes), NOW).unwrap();
        let (command, _) = settle.ask(NOW);
        let parts = decode_all(command, 1).unwrap();
        let Value::Array(Some(parts)) = &parts[0] else { panic!("no command") };
        let part = |index: usize| match &parts[index] {
            Value::Bulk(Some(bytes)) => bytes.as_slice(),
            other => panic!("{other:?}"),
        };
        let record = [b"1", part(5), part(4), part(6), b"1767225630000", part(8)].concat();
        let head = format!("*3\r\n:0\r\n:86400000\r\n${}\r\n", record.len());
        read(bencher, &[head.as_bytes(), &record, b"\r\n"].concat());
    }

    fn build(bencher: Bencher, call: &Call) {
        let store = RedisStore::new(RedisConfig::new("redis".to_owned()));
        bencher.bench_local(|| {
            let mut inquiry = store.inquire(black_box(call), NOW).unwrap();
            inquiry.ask(NOW).0.len()
        });
    }

    fn read(bencher: Bencher, reply: &[u8]) {
        let store = RedisStore::new(RedisConfig::new("redis".to_owned()));
        let asked = || -> Inquiry {
            let mut inquiry = store.inquire(&Call::Claim(claim(0)), NOW).unwrap();
            inquiry.ask(NOW);
            inquiry
        };
        bencher.with_inputs(asked).bench_local_values(|mut inquiry| {
            let progress = inquiry.hear(Heard::Reply { status: 200, body: black_box(reply), ahead: None }, NOW);
            assert!(matches!(
                progress,
                Progress::Answered(Answer::Claimed(Claimed::Granted | Claimed::Completed { .. }))
            ));
        });
    }
}

mod exchange {
    use super::*;

    /// A response that passes in pieces of 4 KiB, and the copy of it.
    #[divan::bench(args = BODIES)]
    fn capture_response(bencher: Bencher, bytes: usize) {
        let body = vec![b'x'; bytes];
        bencher.counter(BytesCount::new(bytes)).with_inputs(answered).bench_local_values(|mut exchange| {
            let mut effects = Vec::new();
            for chunk in body.chunks(4 << 10) {
                exchange.handle(Event::ResponseBody { chunk, end_of_stream: false }, &NOW.into(), &mut effects);
            }
            assert!(exchange.captures() && effects.is_empty());
            exchange
        });
    }

    /// An exchange whose upstream has begun to answer.
    fn answered() -> Exchange {
        let mut exchange = Exchange::new(Arc::new(Policy::default()));
        let mut effects = Vec::new();
        let (request, response) = (request("k"), Headers::from_iter([("content-type", "application/json")]));
        let evidence =
            Evidence { details: Some(b"via_upstream".to_vec()), attempts: Some(1), connected: true, redirected: false };
        let headers = Event::RequestHeaders {
            headers: &request,
            attribute: &NoAttributes,
            owner: OWNER,
            mailbox: None,
            is_store_remote: false,
            end_of_stream: true,
        };
        let granted = Event::Answered(Answer::Claimed(Claimed::Granted));
        let begun =
            Event::ResponseHeaders { status: 201, headers: &response, evidence: &evidence, end_of_stream: false };
        for event in [headers, granted, begun] {
            exchange.handle(event, &NOW.into(), &mut effects);
        }
        assert!(effects.contains(&Effect::Forward));
        exchange
    }

    #[derive(Debug)]
    struct NoAttributes;

    impl Attributes for NoAttributes {
        fn get(&self, _: &[String]) -> Option<Vec<u8>> {
            None
        }
    }
}

fn request(key: &str) -> Headers {
    Headers::from_iter([
        (":method", "POST"),
        (":authority", "api.example"),
        (":path", "/v1/orders?expand=items"),
        ("authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"),
        ("content-type", "application/json"),
        ("idempotency-key", key),
    ])
}

/// An order with as many items as fit into `bytes`.
fn json(bytes: usize) -> Vec<u8> {
    let item = r#"{"sku":"A-1001","quantity":2,"price":12.50,"note":"gift \"wrapped\""},"#;
    let items = item.repeat((bytes - 60) / item.len());
    format!(r#"{{"sent_at":"2026-01-01T00:00:00Z","items":[{}]}}"#, items.trim_end_matches(',')).into_bytes()
}

fn operation(number: u64) -> OperationId {
    let mut bytes = [0; 32];
    // Spread like a hash, so that operations lie in different places of the table.
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    OperationId::from_bytes(bytes)
}

fn claim(number: u64) -> Claim {
    Claim {
        operation: operation(number),
        caller: Caller::from_bytes([7; 32]),
        share: Share::WHOLE,
        fingerprint: FINGERPRINT,
        owner: OWNER,
        lease: LEASE,
        ttl: TTL,
        retry_unknown: false,
        watcher: None,
    }
}

fn completed(number: u64, bytes: usize) -> Call {
    Call::Settle {
        operation: operation(number),
        fingerprint: FINGERPRINT,
        owner: OWNER,
        ending: Ending::Completed(response(bytes)),
        lease: LEASE,
        ttl: TTL,
    }
}

fn response(bytes: usize) -> StoredResponse {
    let headers = Headers::from_iter([("content-type", "application/json"), ("location", "/v1/orders/17")]);
    StoredResponse { status: 201, headers, body: vec![b'x'; bytes] }
}

/// The host's shared data for one worker (the rules: `src/store/shared_data/memory.rs`).
#[derive(Debug, Default)]
struct Memory(RefCell<Data>);

#[derive(Debug, Default)]
struct Data {
    values: BTreeMap<String, (Vec<u8>, Cas)>,
    last_cas: u32,
}

impl SharedMemory for Memory {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        Ok(self.0.borrow().values.get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        let mut data = self.0.borrow_mut();
        if data.values.get(key).is_some_and(|(_, current)| cas != Cas(0) && cas != *current) {
            return Ok(Written::Lost);
        }
        data.last_cas += 1;
        let cas = Cas(data.last_cas);
        data.values.insert(key.to_owned(), (value.to_vec(), cas));
        Ok(Written::Done)
    }
}
