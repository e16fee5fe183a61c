//! No caller takes from others what all use (`limits.caller_share`).

use super::{Orders, assert_problem, order, retry_after, word, workers};
use crate::{messages::Request, stream::Stream, worker::Worker};

fn order_of(caller: &str, key: &str) -> Request {
    order(key).header("authorization", format!("Bearer {caller}"))
}

/// A request that is sent to the service, and whose client hangs up.
fn abort(worker: &Worker, request: &Request) -> Stream {
    let mut stream = worker.stream();
    stream.send(request);
    if stream.answer().is_none() {
        stream.disconnect();
    }
    stream
}

#[test]
fn who_fills_a_table_with_requests_that_it_leaves_is_refused_alone() {
    let table =
        |share| format!(r#"{{"limits":{{"caller_share":"{share}"}},"store":{{"shared_data":{{"max_entries":60}}}}}}"#);
    for (share, is_safe) in [("25%", true), ("100%", false)] {
        let (host, one, two) = workers(&table(share));
        let orders = Orders::default();
        let victims: Vec<_> = (0..8).map(|number| order_of(&format!("victim-{number}"), "a")).collect();
        for victim in &victims {
            assert_eq!(word(&orders.serve(&one, victim)), "executed");
        }
        for number in 0..200 {
            let worker = if number % 2 == 0 { &one } else { &two };
            let stream = abort(worker, &order_of("attacker", &format!("key-{number}")));
            assert_eq!(stream.answer().is_some(), number >= if is_safe { 22 } else { 52 }, "{number}");
        }
        let refused = host.metric("idemgate.requests.over_share");
        assert_eq!((refused, host.metric("idemgate.store.full")), if is_safe { (178, 0) } else { (0, 148) });

        for victim in &victims {
            assert_eq!(word(&orders.serve(&two, victim)), "replayed");
            let next = victim.clone().header("x-request-id", "1");
            assert_eq!(word(&orders.serve(&two, &next)), "replayed");
        }
        for number in 0..20 {
            let answer = orders.serve(&two, &order_of(&format!("other-{number}"), "a"));
            assert_eq!(answer.status, if is_safe { 201 } else { 503 }, "{number}: {answer:?}");
        }
        let answer = orders.serve(&one, &order_of("attacker", "another"));
        assert_problem(&answer, 503, "store-full");
        assert_eq!((word(&answer).as_str(), retry_after(&answer)), ("rejected", 1));
        assert_eq!(orders.count(), if is_safe { 28 } else { 8 });
    }
}

#[test]
fn who_has_its_share_of_the_places_to_wait_is_told_at_once_and_others_wait() {
    let (host, one, two) = workers(r#"{"duplicates":{"in_flight":"wait","max_waiting":8}}"#);
    let orders = Orders::default();
    let first: Vec<_> = ["attacker", "victim"]
        .map(|caller| {
            let stream = one.stream();
            stream.send(&order_of(caller, "slow"));
            stream
        })
        .into();
    let waiter = |caller: &str| {
        let stream = one.stream();
        stream.send(&order_of(caller, "slow"));
        stream
    };
    let attackers: Vec<_> = (0..8).map(|_| waiter("attacker")).collect();
    let waiting = |streams: &[Stream]| streams.iter().filter(|stream| stream.answer().is_none()).count();
    assert_eq!(waiting(&attackers), 4);
    let mut victims: Vec<_> = (0..3).map(|_| waiter("victim")).collect();
    // Two of eight are its share in any case.
    assert_eq!(waiting(&victims), 2);
    assert_eq!((host.metric("idemgate.waiting"), host.metric("idemgate.requests.over_share")), (6, 5));
    assert_problem(&victims.pop().unwrap().finish(), 409, "request-in-flight");

    // Places that are left are free again.
    let (waiting, refused): (Vec<_>, Vec<_>) = attackers.into_iter().partition(|stream| stream.answer().is_none());
    refused.into_iter().for_each(|stream| assert_problem(&stream.finish(), 409, "request-in-flight"));
    waiting.into_iter().for_each(|mut stream| drop(stream.disconnect()));
    let third = waiter("victim");
    for stream in first {
        stream.respond(&orders.run());
        stream.finish();
    }
    (0..4).for_each(|_| [&one, &two].into_iter().for_each(Worker::rest));
    for stream in victims.into_iter().chain([third]) {
        assert_eq!(word(&stream.finish()), "replayed");
    }
    assert_eq!((orders.count(), host.metric("idemgate.waiting")), (2, 0));
}

#[test]
fn who_has_its_share_of_the_detached_calls_is_refused_alone_though_its_clients_have_left() {
    let (host, one, two) = workers(r#"{"execution":{"mode":"detached","max_calls":8}}"#);
    let orders = Orders::default();
    for number in 0..10 {
        let stream = abort(&one, &order_of("attacker", &format!("key-{number}")));
        assert_eq!(stream.answer().is_some(), number >= 4, "{number}");
        if stream.answer().is_some() {
            let answer = stream.finish();
            assert_problem(&answer, 503, "overloaded");
            assert_eq!((word(&answer).as_str(), retry_after(&answer)), ("rejected", 1));
        }
    }
    assert_eq!((one.callouts().len(), host.metric("idemgate.requests.over_share")), (4, 6));

    // Others have two each, and all together eight.
    let mut streams = Vec::new();
    for number in 0..6 {
        let stream = one.stream();
        stream.send(&order_of(&format!("victim-{}", number / 2), &format!("key-{number}")));
        assert_eq!(stream.answer().is_some(), number >= 4, "{number}");
        streams.push(stream);
    }
    assert_problem(&streams.pop().unwrap().finish(), 503, "overloaded");
    assert_problem(&streams.pop().unwrap().finish(), 503, "overloaded");
    assert_eq!(host.metric("idemgate.requests.too_many_calls"), 2);
    assert_eq!(host.metric("idemgate.requests.executed"), 8, "what was refused never ran");

    for call in one.callouts() {
        let response = orders.run().header("x-envoy-upstream-service-time", "5");
        one.answer_callout(call.token, response.fields(), &response.body);
    }
    assert!(streams.into_iter().all(|stream| word(&stream.finish()) == "executed"));
    // A refused one had claimed nothing that would be left: it runs on either worker.
    let stream = two.stream();
    stream.send(&order_of("attacker", "key-9"));
    assert_eq!(two.callouts().len(), 1);
    // What ran is replayed however many calls are under way.
    assert_eq!(word(&orders.serve(&one, &order_of("attacker", "key-0"))), "replayed");
    assert_eq!(orders.count(), 8);
    stream.vanish();
}
