//! `examples/jwt`: the caller is whom a verified token names.

use serde_json::json;

use crate::bench::{
    Bench, Protocol, Request, assert_executed, assert_problem, assert_replay_of, assert_unguarded, token,
};

const EXAMPLE: &str = "jwt";

#[tokio::test]
async fn two_users_with_one_key_and_one_body_get_an_answer_each() {
    let bench = Bench::example(EXAMPLE).await;
    for (number, protocol) in Protocol::BOTH.into_iter().enumerate() {
        let order = Request::post("/orders").key(format!("{protocol:?}"));
        let by = |subject: &str, id: &str| order.clone().caller(&token(&json!({ "sub": subject, "jti": id })));
        let ann = bench.send_over(protocol, &by("ann", "1")).await;
        assert_executed(&ann, 201);
        let bob = bench.send_over(protocol, &by("bob", "1")).await;
        assert_executed(&bob, 201);
        // With a token that was refreshed meanwhile.
        assert_replay_of(&ann, &bench.send_over(protocol, &by("ann", "2")).await);
        assert_replay_of(&bob, &bench.send_over(protocol, &by("bob", "2")).await);
        bench.assert_executions(2 * (number + 1));
    }
}

#[tokio::test]
async fn whom_nobody_has_verified_is_shown_nothing() {
    let bench = Bench::example(EXAMPLE).await;
    let order = Request::post("/orders").key("k");
    assert_executed(&bench.send(&order.clone().caller(&token(&json!({ "sub": "ann" })))).await, 201);

    let forged = token(&json!({ "sub": "bob" })).replace('.', ".e30");
    assert_unguarded(&bench.send(&order.clone().caller(&forged)).await, 401);
    assert_unguarded(&bench.send(&order).await, 401);
    // An issuer may leave the subject out, and the body decides nothing.
    let without_claims = bench.send(&order.clone().caller(&token(&json!({})))).await;
    assert_executed(&without_claims, 201);
    bench.assert_executions(2);
}

#[tokio::test]
async fn one_host_is_one_operation_however_it_is_spelt() {
    let bench = Bench::example(EXAMPLE).await;
    let order = Request::post("/orders").key("k").caller(&token(&json!({ "sub": "ann" })));
    let first = bench.send(&order).await;
    assert_executed(&first, 201);
    for host in ["orders.example:80", "orders.example:10000", "orders.example."] {
        assert_replay_of(&first, &bench.send(&order.clone().header("host", host)).await);
    }
    assert_problem(&bench.send(&order.body("another")).await, 422, "key-reused");
    bench.assert_executions(1);
}
