//! A fleet on one Redis whose Envoys write records of two forms, as while it is upgraded (`docs/redis.md`, "Upgrades").
//!
//! A record of another form is one of ours with another version byte: the first, which the scripts read, or that of the
//! sealed part behind the head. For the Envoy that finds it, it is what another release wrote.

use serde_json::{Value, json};

use crate::bench::{
    Answer, Fleet, Gate, Protocol, RedisServer, Reply, Request, Response, Setup, Transport, assert_executed,
    assert_in_flight, assert_problem, assert_replay_of, patiently,
};

/// Where a value has the version of its layout, and that of the sealed part.
const VERSIONS: [usize; 2] = [0, 63];
const END_OF_LEASE: usize = 50;

/// An order of its own: with its own path, the upstream's answers can be told for it alone.
fn order(number: usize) -> Request {
    Request::post(&format!("/orders/{number}")).key("k")
}

struct Upgrade {
    redis: RedisServer,
    /// An Envoy that rejects what it cannot guard, and one that lets it pass.
    fleet: Fleet,
}

impl Upgrade {
    async fn of(configuration: &Value) -> Self {
        let redis = RedisServer::start().await;
        let setup = |on_store_error: &str| {
            let mut configuration = configuration.clone();
            configuration["on_store_error"] = json!(on_store_error);
            Setup::redis(Transport::Direct, &configuration)
        };
        let fleet = Fleet::of([&setup("reject"), &setup("bypass")], vec![redis.address()]).await;
        Self { redis, fleet }
    }

    /// The key of the only record, once its execution has ended.
    async fn ended_key(&self) -> Vec<u8> {
        let ended = async {
            loop {
                let key = self.redis.only_key().await;
                if self.redis.get(&key).await[1] != b'i' {
                    return key;
                }
            }
        };
        patiently("the end of the execution", ended).await
    }

    async fn overwrite(&self, key: &[u8], offset: usize, bytes: &[u8]) {
        self.redis.must(&[b"SETRANGE".as_slice(), key, offset.to_string().as_bytes(), bytes]).await;
    }

    /// Ends the only record, as its `ttl` would.
    async fn end(&self, key: &[u8]) {
        assert_eq!(self.redis.must(&[b"PEXPIRE".as_slice(), key, b"1"]).await, Reply::Integer(1));
        patiently("the end of the record", async { while !self.redis.keys().await.is_empty() {} }).await;
    }

    /// Fails unless every Envoy answers 503, runs nothing and leaves the record as it is.
    async fn assert_refused(&self, order: &Request, key: &[u8]) {
        let executions = self.fleet.upstream.executions();
        let record = self.redis.get(key).await;
        for envoy in &self.fleet.envoys {
            for protocol in Protocol::BOTH {
                assert_problem(&envoy.send_over(protocol, order).await, 503, "store-unavailable");
            }
            assert!(envoy.log().contains("format version"), "{}", envoy.log());
        }
        assert_eq!(self.fleet.upstream.executions(), executions, "executions of what another release knows");
        assert_eq!(self.redis.get(key).await, record, "a record of another form was changed");
    }
}

#[tokio::test]
async fn what_has_ended_in_another_form_is_refused_until_its_record_ends() {
    let upgrade = Upgrade::of(&json!({})).await;
    let [one, other] = &upgrade.fleet.envoys;
    let endings =
        [Answer::new(201).json("{}"), Answer::hang_up(), Answer::new(201).header("idempotency-policy", "no-store")];
    let cases = VERSIONS.into_iter().flat_map(|version| endings.clone().map(|ending| (version, ending)));
    for (number, (version, ending)) in cases.enumerate() {
        let order = order(number);
        upgrade.fleet.upstream.script(&format!("/orders/{number}"), [ending, Answer::new(202)]);
        one.send(&order).await;
        let key = upgrade.ended_key().await;
        upgrade.overwrite(&key, version, b"7").await;
        upgrade.assert_refused(&order, &key).await;
        upgrade.end(&key).await;
        assert_executed(&other.send(&order).await, 202);
        upgrade.fleet.upstream.assert_executions(2 * number + 2);
        let key = upgrade.ended_key().await;
        upgrade.end(&key).await;
    }
}

#[tokio::test]
async fn what_runs_in_another_form_runs_once_and_is_replayed_by_those_who_know_the_form() {
    let upgrade = Upgrade::of(&json!({ "duplicates": { "in_flight": "wait" } })).await;
    let [one, other] = &upgrade.fleet.envoys;
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let order = order(number);
        let gate = Gate::closed();
        let answers = [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)];
        upgrade.fleet.upstream.script(&format!("/orders/{number}"), answers);
        let first = one.send_aside(Protocol::Http1, &order);
        upgrade.fleet.upstream.reached(number + 1).await;
        let key = upgrade.redis.only_key().await;
        let known = upgrade.redis.get(&key).await[version];
        upgrade.overwrite(&key, version, b"7").await;
        upgrade.assert_refused(&order, &key).await;

        // To its owner the record has the right form.
        upgrade.overwrite(&key, version, &[known]).await;
        gate.open();
        let first = first.await.unwrap();
        assert_executed(&first, 201);
        assert_replay_of(&first, &other.send(&order).await);
        upgrade.fleet.upstream.assert_executions(number + 1);
        upgrade.end(&key).await;
    }
}

/// A policy that allows another execution allows it to a release that knows the head of the record, as it does to the
/// one that wrote it.
#[tokio::test]
async fn an_unknown_outcome_in_another_form_runs_anew_only_by_a_known_head_and_a_policy_that_allows_it() {
    let [layout, sealed] = VERSIONS;
    for (policy, cases) in [("block", [(layout, false), (sealed, false)]), ("retry", [(layout, false), (sealed, true)])]
    {
        let upgrade = Upgrade::of(&json!({ "outcome": { "on_unknown": policy } })).await;
        let [one, other] = &upgrade.fleet.envoys;
        for (number, (version, runs)) in cases.into_iter().enumerate() {
            let order = order(number);
            upgrade.fleet.upstream.script(&format!("/orders/{number}"), [Answer::hang_up(), Answer::new(202)]);
            one.send(&order).await;
            let key = upgrade.ended_key().await;
            upgrade.overwrite(&key, version, b"7").await;
            upgrade.assert_refused(&order, &key).await;

            upgrade.overwrite(&key, END_OF_LEASE, b"1700000000000").await;
            if runs {
                assert_executed(&other.send(&order).await, 202);
            } else {
                upgrade.assert_refused(&order, &key).await;
            }
            upgrade.fleet.upstream.assert_executions(number + 1 + usize::from(runs));
            upgrade.end(&upgrade.ended_key().await).await;
        }
    }
}

/// The way without a 503: the new release with a prefix of its own in front of the old one.
#[tokio::test]
async fn two_releases_one_behind_the_other_answer_for_each_other_at_every_step() {
    let old = json!({ "store": { "redis": { "prefix": "old:" } } });
    let new = json!({ "store": { "redis": { "prefix": "new:" } }, "status_header": false });
    let redis = RedisServer::start().await;
    let alone = Setup::redis(Transport::Direct, &old);
    let both = Setup::redis(Transport::Direct, &old).behind_another("idemgate-new", &new);
    let mut fleet = Fleet::of([&alone, &both], vec![redis.address()]).await;

    // Some Envoys have only the old one yet.
    let known = Request::post("/orders").key("known");
    let first = fleet.envoys[0].send(&known).await;
    assert_executed(&first, 201);
    assert_replayed(&first, &fleet.envoys[1].send(&known).await);
    let gate = Gate::closed();
    fleet.upstream.script("/slow", [Answer::new(201).json("{}").held_by(&gate), Answer::new(299)]);
    let slow = Request::post("/slow").key("slow");
    let running = fleet.envoys[0].send_aside(Protocol::Http1, &slow);
    fleet.upstream.reached(2).await;
    assert_in_flight(&fleet.envoys[1].send(&slow).await, 30);
    gate.open();
    let running = running.await.unwrap();
    assert_replayed(&running, &fleet.envoys[1].send(&slow).await);
    let fresh = Request::post("/orders").key("fresh");
    let first_fresh = fleet.envoys[1].send(&fresh).await;
    assert_eq!(first_fresh.status, 201);
    assert_replayed(&first_fresh, &fleet.envoys[0].send(&fresh).await);
    fleet.upstream.assert_executions(3);

    // All have both; then some have only the new one.
    fleet.envoys[0].replace(&Setup::redis(Transport::Direct, &new)).await;
    assert_replayed(&first_fresh, &fleet.envoys[0].send(&fresh).await);
    let last = Request::post("/orders").key("last");
    let first_last = fleet.envoys[0].send(&last).await;
    assert_eq!(first_last.status, 201);
    assert_replayed(&first_last, &fleet.envoys[1].send(&last).await);
    fleet.upstream.assert_executions(4);
}

/// A replay: of the filter in front, or of the one behind it, whose marker the one in front takes off a first answer, but
/// whose `idempotency-status` it leaves.
fn assert_replayed(first: &Response, replay: &Response) {
    assert_eq!((first.status, &first.body), (replay.status, &replay.body), "{replay:?}");
    let says_so = replay.text("idempotency-replayed") == "true" || replay.text("idempotency-status") == "replayed";
    assert!(says_so, "{replay:?}");
}
