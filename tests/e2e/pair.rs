//! Two Envoys on a store that cannot be asked: what clients get, what runs, and what operators are told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{
    Fleet, Protocol, Request, Setup, assert_executed, assert_problem, assert_replay_of, assert_retry_after, patiently,
};

/// The first rejects what it cannot guard, the second lets it pass.
pub(crate) struct Pair {
    pub(crate) fleet: Fleet,
    /// So that each request that is to fail is a new operation.
    keys: AtomicUsize,
}

pub(crate) fn order() -> Request {
    Request::post("/orders").key("k")
}

impl Pair {
    pub(crate) async fn of(setups: [&Setup; 2], store: Vec<SocketAddr>) -> Self {
        Self { fleet: Fleet::of(setups, store).await, keys: AtomicUsize::new(0) }
    }

    pub(crate) fn new_order(&self) -> Request {
        order().key(format!("new-{}", self.keys.fetch_add(1, Ordering::Relaxed)))
    }

    /// Fails unless the store works. A machine that stands still for longer than the short timeout spoils an order.
    pub(crate) async fn works(&self) {
        let [one, other] = &self.fleet.envoys;
        patiently("an order and its replay", async {
            loop {
                let order = self.new_order();
                let first = one.send(&order).await;
                let replay = other.send(&order).await;
                // The second one lets pass what the first one rejects.
                if first.status == 503 || replay.status == 503 || replay.text("idempotency-status") == "bypassed" {
                    continue;
                }
                assert_executed(&first, 201);
                return assert_replay_of(&first, &replay);
            }
        })
        .await;
    }

    /// Fails unless new orders are rejected here and executed unprotected there, both for this reason.
    pub(crate) async fn fails(&self, kind: &str, remedy: &str) {
        self.fails_for(&self.new_order(), kind, remedy).await;
    }

    /// The same for `order`, which the store has a record of already.
    pub(crate) async fn fails_for(&self, order: &Request, kind: &str, remedy: &str) {
        const BYPASSED: &str = "wasmcustom.idemgate.requests.bypassed";
        const ROUNDS: usize = 20;

        let [rejecting, bypassing] = &self.fleet.envoys;
        let counter = format!("wasmcustom.idemgate.store.errors.{kind}");
        let mut before = Vec::new();
        for envoy in &self.fleet.envoys {
            before.push(envoy.stat(&counter).await.unwrap_or_default());
        }
        // A worker that rests after a failed connection says why that failed until it has tried again.
        for _ in 0..ROUNDS {
            let executions = self.fleet.upstream.executions();
            for protocol in Protocol::BOTH {
                let response = rejecting.send_over(protocol, order).await;
                assert_problem(&response, 503, "store-unavailable");
                assert_retry_after(&response, 60);
            }
            assert_eq!(self.fleet.upstream.executions(), executions, "executions of what was rejected");

            let bypassed = bypassing.stat(BYPASSED).await.unwrap_or_default();
            for protocol in Protocol::BOTH {
                let response = bypassing.send_over(protocol, order).await;
                assert_eq!((response.status, response.complete), (201, true), "{response:?}");
                assert_eq!(response.text("idempotency-status"), "bypassed", "{response:?}");
            }
            assert_eq!(self.fleet.upstream.executions(), executions + 2, "executions of what was let pass");
            bypassing.reaches_stat(BYPASSED, bypassed + 2).await;

            let mut is_counted = true;
            for (envoy, before) in self.fleet.envoys.iter().zip(&before) {
                is_counted &= envoy.stat(&counter).await.unwrap_or_default() >= before + 2;
            }
            if is_counted {
                break;
            }
        }

        for (envoy, before) in self.fleet.envoys.iter().zip(before) {
            let stats = envoy.stats_like("idemgate.store.").await;
            let counted = envoy.stat(&counter).await.unwrap_or_default();
            assert!(counted >= before + 2, "{before}, then {counted} errors counted as {kind}:\n{stats}");
            let all = envoy.stat("wasmcustom.idemgate.store.errors").await.unwrap_or_default();
            assert!(all >= counted, "{all} errors in all:\n{stats}");
            let log = envoy.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains(remedy)).collect();
            assert!(!lines.is_empty(), "no line that says {remedy:?} in\n{log}");
            assert!(lines.len() < 20, "the log is flooded:\n{log}");
        }
    }
}
