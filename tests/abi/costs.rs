//! What one request costs, from socket to record: memory asked for and host calls made, held against a budget.
//!
//! Both are exact where time is noise. A change that makes one dearer says so here; one that makes it cheaper lowers
//! the budget: `cargo test --test abi costs -- --nocapture` prints the table as it would be.

use std::collections::BTreeMap;

use idemgate::store::redis::resp::{Value, decode_all};

use crate::{
    host::Host,
    messages::{Answer, Request, Response},
    meter::{self, Cost},
    worker::{self, Worker},
};

/// What a request may cost at most.
struct Budget {
    request: Kind,
    configuration: &'static str,
    /// How often the filter, the SDK, and the host for what it hands over, may ask for memory.
    allocations: usize,
    /// How often for as much as a large body takes.
    large: usize,
    /// How often each function of the host may be called: a name and a number each.
    calls: &'static str,
}

/// A request of a client, and how it ends.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nobody guards it.
    Get,
    /// Its method is guarded, and it has no key.
    PostWithoutKey,
    /// It has a new key, and runs; its body and that of the answer are of this many bytes.
    First(usize),
    /// It ran before, with bodies of this many bytes.
    Replay(usize),
}

const SHARED_DATA: &str = "{}";
const DETACHED: &str = r#"{"execution": {"mode": "detached"}}"#;
const REDIS: &str = r#"{"store": {"redis": {"cluster": "redis", "connections": 0}}}"#;

const BUDGETS: [Budget; 9] = [
    Budget {
        request: Kind::Get,
        configuration: SHARED_DATA,
        allocations: 2,
        large: 0,
        calls: "get_header_map_value 1",
    },
    Budget {
        request: Kind::PostWithoutKey,
        configuration: SHARED_DATA,
        allocations: 3,
        large: 0,
        calls: "get_current_time_nanoseconds 1, get_header_map_pairs 1, increment_metric 1",
    },
    Budget {
        request: Kind::First(200),
        configuration: SHARED_DATA,
        allocations: 21,
        large: 0,
        calls: "add_header_map_value 1, get_buffer_bytes 2, get_current_time_nanoseconds 2, \
                get_header_map_pairs 2, get_shared_data 3, increment_metric 2, set_property 1, \
                set_shared_data 3",
    },
    Budget {
        request: Kind::Replay(200),
        configuration: SHARED_DATA,
        allocations: 14,
        large: 0,
        calls: "get_buffer_bytes 1, get_current_time_nanoseconds 1, get_header_map_pairs 1, \
                get_header_map_size 1, get_shared_data 1, increment_metric 1, \
                replace_header_map_value 1, send_local_response 1, set_property 1",
    },
    Budget {
        request: Kind::First(16 << 10),
        configuration: SHARED_DATA,
        allocations: 24,
        large: 4,
        calls: "add_header_map_value 1, get_buffer_bytes 2, get_current_time_nanoseconds 2, \
                get_header_map_pairs 2, get_shared_data 4, increment_metric 2, set_property 1, \
                set_shared_data 4",
    },
    Budget {
        request: Kind::Replay(16 << 10),
        configuration: SHARED_DATA,
        allocations: 15,
        large: 1,
        calls: "get_buffer_bytes 1, get_current_time_nanoseconds 1, get_header_map_pairs 1, \
                get_header_map_size 1, get_shared_data 1, increment_metric 1, \
                replace_header_map_value 1, send_local_response 1, set_property 1",
    },
    Budget {
        request: Kind::First(200),
        configuration: DETACHED,
        allocations: 52,
        large: 0,
        calls: "dequeue_shared_queue 2, enqueue_shared_queue 1, get_buffer_bytes 2, \
                get_current_time_nanoseconds 3, get_header_map_pairs 2, get_header_map_size 1, \
                get_property 1, get_shared_data 3, http_call 1, increment_metric 4, \
                replace_header_map_value 1, send_local_response 1, set_effective_context 3, \
                set_property 1, set_shared_data 3",
    },
    Budget {
        request: Kind::First(200),
        configuration: REDIS,
        allocations: 46,
        large: 0,
        calls: "add_header_map_value 1, continue_stream 2, dequeue_shared_queue 4, \
                enqueue_shared_queue 2, get_buffer_bytes 4, get_current_time_nanoseconds 6, \
                get_header_map_pairs 2, get_header_map_value 2, http_call 2, increment_metric 2, \
                set_effective_context 6, set_property 1",
    },
    Budget {
        request: Kind::Replay(200),
        configuration: REDIS,
        allocations: 34,
        large: 0,
        calls: "dequeue_shared_queue 2, enqueue_shared_queue 1, get_buffer_bytes 2, \
                get_current_time_nanoseconds 3, get_header_map_pairs 1, get_header_map_size 1, \
                get_header_map_value 1, http_call 1, increment_metric 1, replace_header_map_value 1, \
                send_local_response 1, set_effective_context 3, set_property 1",
    },
];

#[test]
fn no_request_costs_more_than_its_budget() {
    let dear: Vec<String> = BUDGETS
        .iter()
        .filter_map(|budget| {
            let cost = measure(budget);
            let report = format!("{:?} under {}\n{}", budget.request, budget.configuration, row(&cost));
            println!("{report}");
            (!budget.covers(&cost)).then_some(report)
        })
        .collect();
    assert!(dear.is_empty(), "dearer than its budget:\n{}", dear.join("\n"));
}

#[test]
fn a_response_that_was_replayed_is_read_again_after_a_tick() {
    let worker = Host::new().worker(SHARED_DATA);
    let reads = || {
        worker.run(meter::take);
        let answer = worker.exchange(&order(200).key("key"), || order_made(200));
        assert_eq!(answer.body.len(), 200, "{answer:?}");
        worker.run(meter::take).calls.get("get_shared_data").copied()
    };
    worker::undisturbed(|| {
        reads();
        assert_eq!([reads(), reads()], [Some(2), Some(1)]);
        worker.tick();
        assert_eq!([reads(), reads()], [Some(2), Some(1)]);
    });
}

/// No cliff: what a request asks of the host does not depend on how full the table is, nor with what.
#[test]
fn a_table_whose_bytes_have_ended_makes_no_request_much_dearer() {
    /// Without answers there are tombstones only, which take all bytes that there are.
    const TOMBSTONES: &str = r#"{"limits": {"response_body": 0, "caller_share": "100%"},
        "store": {"shared_data": {"max_entries": 2730, "max_bytes": "1MiB", "keep_at_least": "0s"}}}"#;
    const ANSWERS: &str = r#"{"limits": {"caller_share": "100%"}, "store": {"shared_data": {"max_entries": 2730, "max_bytes": "1MiB", "keep_at_least": "0s"}}}"#;
    /// One caller beyond its share, whose records make way for its own.
    const OWN: &str =
        r#"{"store": {"shared_data": {"max_entries": 2730, "max_bytes": "1MiB", "keep_at_least": "0s"}}}"#;
    /// The same, with nothing that may go.
    const REFUSED: &str = r#"{"store": {"shared_data": {"max_bytes": "1MiB"}}}"#;
    for (configuration, most, mean) in [(TOMBSTONES, 100, 35), (ANSWERS, 200, 40), (OWN, 200, 50), (REFUSED, 200, 40)] {
        let worker = Host::new().worker(configuration);
        let calls = worker::undisturbed(|| {
            let calls_of = |number: usize| {
                worker.run(meter::take);
                serve(&worker, &mut Redis::default(), &order(200).key(format!("key-{number}")), 200);
                let calls = worker.run(meter::take).calls;
                ["get_shared_data", "set_shared_data"].map(|name| calls.get(name).copied().unwrap_or_default())
            };
            (0..3 * 2730).map(|number| calls_of(number).iter().sum()).collect::<Vec<usize>>()
        });
        let late = &calls[2 * 2730..];
        let (late_mean, late_most) = (late.iter().sum::<usize>() / late.len(), late.iter().max());
        let figures = format!("{:?} at first, {late_mean} on average and {late_most:?} at most late", &calls[..3]);
        println!("{configuration}: {figures}");
        assert!(late_mean <= mean && calls.iter().all(|calls| *calls <= most), "{configuration}: {figures}");
    }
}

impl Budget {
    fn covers(&self, cost: &Cost) -> bool {
        let allowed: BTreeMap<&str, usize> = self
            .calls
            .split(", ")
            .filter_map(|call| call.split_once(' '))
            .map(|(name, count)| (name, count.parse().expect("a number of calls")))
            .collect();
        cost.allocations <= self.allocations
            && cost.large <= self.large
            && cost.calls.iter().all(|(name, count)| Some(count) <= allowed.get(name))
    }
}

/// A budget as it would be without any room.
fn row(Cost { allocations, large, calls }: &Cost) -> String {
    let calls: Vec<_> = calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("    allocations: {allocations}, large: {large}, calls: {}", calls.join(", "))
}

/// The cost of a request once everything is in place that only grows now and then. Whether two operations share a
/// bucket of the table depends on a seed, so the cost in the middle is taken.
fn measure(budget: &Budget) -> Cost {
    let worker = Host::new().worker(budget.configuration);
    let mut redis = Redis::default();
    worker::undisturbed(|| {
        let mut cost_of = |number: usize| {
            let (request, bytes) = match budget.request {
                Kind::Get => (get(), 200),
                Kind::PostWithoutKey => (order(200), 200),
                Kind::First(bytes) => (order(bytes).key(format!("key-{number}")), bytes),
                Kind::Replay(bytes) => (order(bytes).key("key"), bytes),
            };
            worker.run(meter::take);
            let answer = serve(&worker, &mut redis, &request, bytes);
            assert_eq!(answer.body.len(), bytes, "{answer:?}");
            let status = match budget.request {
                Kind::Get | Kind::PostWithoutKey => None,
                Kind::Replay(_) if number > 0 => Some("replayed"),
                Kind::First(_) | Kind::Replay(_) => Some("executed"),
            };
            assert_eq!(answer.header("idempotency-status").as_deref(), status);
            worker.run(meter::take)
        };
        (0..WARM_UP).for_each(|number| drop(cost_of(number)));
        let mut costs: Vec<Cost> = (WARM_UP..WARM_UP + SAMPLE).map(cost_of).collect();
        costs.sort_by_key(|cost| cost.allocations);
        costs.swap_remove(SAMPLE / 2)
    })
}

/// One exchange, callback by callback as Envoy makes them for HTTP/1.1: the end of a body comes by itself.
fn serve(worker: &Worker, redis: &mut Redis, request: &Request, bytes: usize) -> Answer {
    let stream = worker.stream();
    let has_body = !request.body.is_empty();
    stream.request_headers(request.headers.clone(), !has_body);
    if has_body {
        stream.request_body(&request.body, false);
        stream.request_body("", true);
    }
    answer_calls(worker, redis, bytes);
    if stream.answer().is_none() {
        let response = order_made(bytes);
        stream.response_headers(&response, false);
        stream.response_body(&response.body, false);
        stream.response_body("", true);
        answer_calls(worker, redis, bytes);
    }
    stream.finish()
}

/// Answers what the filter asks clusters until it asks nothing more.
fn answer_calls(worker: &Worker, redis: &mut Redis, bytes: usize) {
    worker.rest();
    while let Some(call) = worker.callouts().pop() {
        if call.cluster == "redis" {
            let reply = redis.reply(&call.body);
            worker.answer_callout(call.token, [(":status", "200"), ("date", DATE), ("server", "envoy")], &reply);
        } else {
            let response = order_made(bytes);
            worker.answer_callout(call.token, response.fields(), &response.body);
        }
    }
}

fn get() -> Request {
    common(Request::new("GET", "/orders/1"))
}

fn order(bytes: usize) -> Request {
    let length = bytes.to_string();
    common(Request::post("/orders")).header("content-length", length).body(vec![b'a'; bytes])
}

/// The fields that most requests have when they come to a filter.
fn common(request: Request) -> Request {
    request
        .header("user-agent", "curl/8.14.1")
        .header("accept", "*/*")
        .header("x-forwarded-proto", "http")
        .header("x-request-id", "6d2b4a5e-8f0e-4a55-9f0c-3f4c7c1c1b1e")
}

/// The upstream's answer, with what Envoy adds to it.
fn order_made(bytes: usize) -> Response {
    Response::new(201)
        .header("content-type", "application/json")
        .header("content-length", bytes.to_string())
        .header("date", DATE)
        .header("x-envoy-upstream-service-time", "1")
        .header("server", "envoy")
        .body(vec![b'b'; bytes])
}

/// As much of Redis as one request after the other needs.
#[derive(Debug, Default)]
struct Redis {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Redis {
    /// What the scripts of a claim and of a settlement reply (`src/store/redis/*.lua`).
    fn reply(&mut self, command: &[u8]) -> Vec<u8> {
        let values = decode_all(command, 1).unwrap();
        let [Value::Array(Some(parts))] = values.as_slice() else { panic!("{values:?}") };
        let part = |index: usize| match parts.get(index) {
            Some(Value::Bulk(Some(bytes))) => bytes.as_slice(),
            other => panic!("{other:?}"),
        };
        let (key, owner) = (part(3), part(4));
        let is_claim = parts.len() == 10;
        if !is_claim {
            let record = [b"1", part(5), owner, part(6), b"1767225630000", part(8)].concat();
            self.records.insert(key.to_vec(), record);
        }
        match self.records.get(key) {
            Some(record) if is_claim => {
                let head = format!("*3\r\n:0\r\n:86400000\r\n${}\r\n", record.len());
                [head.as_bytes(), record, b"\r\n"].concat()
            }
            _ => b":1\r\n".to_vec(),
        }
    }
}

const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// Requests after which nothing is there for the first time.
const WARM_UP: usize = 50;

/// Requests that are measured.
const SAMPLE: usize = 51;
