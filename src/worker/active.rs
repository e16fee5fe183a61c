//! An exchange as the worker keeps it: its stream acts on it, and so do ticks, wake-ups and answers to calls.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    body_watch::BodyWait,
    host::{About, ExchangeId, Host},
};
use crate::{
    config::{Mode, Policy},
    exchange::{Exchange, Status},
    request::{Caller, OperationId},
    store::Call,
    time::Timestamp,
};

/// An exchange that is not finished, in this worker.
#[derive(Clone)]
pub struct ActiveExchange {
    pub(super) exchange: Exchange,
    route: usize,
    /// The client's stream, as long as there is one.
    pub(super) stream: Option<u32>,
    /// Whether an earlier stream of the same request had an answer of the upstream: a redirect.
    pub(super) redirected: bool,
    /// What the store was asked about last.
    pub(super) operation: Option<OperationId>,
    /// Whose request it is, once its claim was asked for.
    pub(super) caller: Option<Caller>,
    /// What it takes of the worker's memory.
    pub(super) memory: u64,
    /// Bytes of what a remote store was last asked to take.
    pub(super) question_size: u64,
    /// When the store was asked for the claim, if it has not answered yet; in microseconds.
    claim_asked: Option<u64>,
    pub(super) body_wait: Option<BodyWait>,
    told: Option<Status>,
}

impl fmt::Debug for ActiveExchange {
    /// Without the time at which the store was asked, which is only measured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveExchange")
            .field("exchange", &self.exchange)
            .field("route", &self.route)
            .field("stream", &self.stream)
            .field("redirected", &self.redirected)
            .field("operation", &self.operation)
            .field("caller", &self.caller)
            .field("memory", &self.memory)
            .field("question_size", &self.question_size)
            .field("body_wait", &self.body_wait)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl ActiveExchange {
    pub(super) fn new(policy: &Arc<Policy>, route: usize, stream: u32) -> Self {
        Self {
            exchange: Exchange::new(Arc::clone(policy)),
            route,
            stream: Some(stream),
            redirected: false,
            operation: None,
            caller: None,
            memory: 0,
            question_size: 0,
            claim_asked: None,
            body_wait: None,
            told: None,
        }
    }

    /// The exchange itself.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// What its request falls under.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        self.exchange.policy()
    }

    /// Whether what it decides is not carried out.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.policy().mode == Mode::Shadow
    }

    /// Whether an earlier stream of the same request had an answer of the upstream.
    #[must_use]
    pub fn was_redirected(&self) -> bool {
        self.redirected
    }

    /// Notes what the store is asked, and measures how long it takes to answer a claim.
    pub(super) fn asks(&mut self, id: ExchangeId, call: &Call, host: &mut impl Host) {
        self.operation = Some(*call.operation());
        if let Call::Claim(claim) = call {
            self.caller = Some(claim.caller);
            // The clock is a call of the host's, twice, and the histogram another.
            let is_measured = id.0 % MEASURED == 1;
            self.claim_asked = is_measured.then(|| host.micros());
        }
    }

    /// Notes that the store has answered a claim; how long it took, if that is measured.
    pub(super) fn has_claim_answer(&mut self, host: &mut impl Host) -> Option<Duration> {
        self.claim_asked.take().map(|asked| Duration::from_micros(host.micros().saturating_sub(asked)))
    }

    /// How much memory it takes now.
    pub(super) fn footprint(&self) -> u64 {
        let last_word = if self.exchange.is_settling() { self.question_size } else { 0 };
        self.exchange.footprint().saturating_add(last_word)
    }

    /// Whether a tick at `now` may find something to do. Asked of all exchanges at each tick, so it calls no host.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.exchange.is_due(now) || self.exchange.awaits_first_body()
    }

    /// Makes its stream the one that the host acts on; `false` if the stream is over.
    pub(super) fn enter_stream(&self, host: &mut impl Host) -> bool {
        self.stream.is_some_and(|stream| host.enter_stream(stream))
    }

    /// Goes on in this stream, which has an access log of its own.
    pub(super) fn move_to_stream(&mut self, stream: u32) {
        if self.stream.replace(stream) != Some(stream) {
            self.told = None;
        }
    }

    /// Tells the stream's access log what became of the request, unless it was told so before.
    pub(super) fn tell(&mut self, status: Status, host: &mut impl Host) {
        // An exchange that has outlived its stream has no access log to tell.
        if self.stream.is_some() && self.told.replace(status) != Some(status) {
            host.log_status(status, self.operation, self.is_shadow());
        }
    }

    /// What reports about it say.
    pub(super) fn subject(&self, exchange: ExchangeId) -> About {
        About { exchange, route: self.route, operation: self.operation, is_shadow: self.is_shadow() }
    }
}

/// Of how many claims one is measured.
const MEASURED: u64 = 16;
