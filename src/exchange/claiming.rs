//! From a guarded request to the right to run its operation: its body, its claim, and its turn.

use super::{
    Counter, Effect, Event, NoRoom, Problem, State, Status, Step,
    detached::{AwaitCall, Job},
    execution::Execution,
    footprint::CALL_ANSWER,
    inline::AwaitResponse,
    reply::{Reply, is_sendable},
    settling::Answering,
};
use crate::{
    config::{BodyFingerprint, InFlight, OnStoreError, OnUnknown, Policy},
    record::{Claim, Mailbox, Owner, StoredResponse},
    request::{Caller, Fingerprint, FingerprintBuilder, OperationId},
    store::{Answer, Call, Claimed, Ending, Scarce, StoreError, redis::RedisError},
    time::Timestamp,
};

/// A request that bears a key and is to be run at most once.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) operation: OperationId,
    pub(super) caller: Caller,
    pub(super) owner: Owner,
    pub(super) mailbox: Option<Mailbox>,
    /// Whether its caller is one with all others that have no identity.
    pub(super) is_anonymous: bool,
    /// The call that executes it, if that is to be apart from the stream.
    pub(super) job: Option<Job>,
    /// How much it takes as long as it is held, besides its body.
    pub(super) held: u64,
    /// How much of its body has arrived.
    pub(super) body: u64,
    /// Its client sends no body before somebody asks for it, which the filter cannot.
    pub(super) expects_continue: bool,
}

/// Waits for the rest of the request's body.
#[derive(Clone, Debug)]
pub(super) struct AwaitBody {
    request: Request,
    fingerprint: FingerprintBuilder,
    /// How often what arrives is in memory.
    copies: u64,
}

/// Waits for the store's answer to the claim.
#[derive(Clone, Debug)]
pub(super) struct AwaitClaim {
    request: Request,
    fingerprint: Fingerprint,
    /// Set once it has begun to wait for its turn.
    waiting: Option<Waiting>,
}

/// Waits for the end of an execution that another request has under way.
#[derive(Clone, Debug)]
pub(super) struct AwaitTurn {
    request: Request,
    fingerprint: Fingerprint,
    waiting: Waiting,
    /// When the owner's lease runs out.
    lease_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    since: Timestamp,
    until: Timestamp,
}

impl AwaitBody {
    pub(super) fn new(request: Request, fingerprint: FingerprintBuilder, step: &Step<'_>) -> Self {
        let copies = request.copies(step.policy);
        Self { request, fingerprint, copies }
    }

    pub(super) fn has_seen_nothing(&self) -> bool {
        self.request.body == 0
    }

    pub(super) fn footprint(&self) -> u64 {
        self.request.reserve() + self.request.body.saturating_mul(self.copies)
    }

    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::RequestBody { chunk, end_of_stream } => self.on_body(chunk, end_of_stream, step),
            Event::RequestTrailers => self.on_end(step),
            Event::BodyWithheld => step.refuse(&Problem::HostUnsupported),
            // Envoy itself answers, by a limit or a timeout of its own: nothing was sent or will be.
            Event::ResponseHeaders { headers, .. } => {
                step.mark(Status::Rejected, headers);
                State::Finished
            }
            Event::Gone { .. } => {
                step.tell(Status::Rejected);
                State::Finished
            }
            _ => State::AwaitBody(self),
        }
    }

    fn on_body(mut self, chunk: &[u8], end_of_stream: bool, step: &mut Step<'_>) -> State {
        let length = chunk.len() as u64;
        self.request.body = self.request.body.saturating_add(length);
        let limit = step.policy.limits.request_body;
        if self.request.body > limit {
            return step.refuse(&Problem::RequestTooLarge { limit });
        }
        if !step.has_room(length.saturating_mul(self.copies)) {
            return step.refuse(&Problem::MemoryFull);
        }
        self.fingerprint.body(chunk);
        if let Some(job) = &mut self.request.job {
            job.body.extend_from_slice(chunk);
        }
        if end_of_stream {
            return self.on_end(step);
        }
        step.effects.push(Effect::Hold);
        State::AwaitBody(self)
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        step.claim(self.request, self.fingerprint.finish(), None)
    }
}

impl Step<'_> {
    /// Asks the store for the right to run the operation.
    pub(super) fn claim(&mut self, request: Request, fingerprint: Fingerprint, waiting: Option<Waiting>) -> State {
        self.effects.push(Effect::Hold);
        self.effects.push(Effect::Call(Call::Claim(Claim {
            operation: request.operation,
            caller: request.caller,
            share: self.policy.limits.caller_share,
            fingerprint,
            owner: request.owner,
            lease: self.policy.lease,
            ttl: self.policy.ttl,
            retry_unknown: self.policy.outcome.on_unknown == OnUnknown::Retry,
            watcher: request.mailbox.filter(|_| self.policy.duplicates.in_flight == InFlight::Wait),
        })));
        State::AwaitClaim(AwaitClaim { request, fingerprint, waiting })
    }
}

impl Request {
    /// What it takes in any case, as long as it is held.
    pub(super) fn reserve(&self) -> u64 {
        self.held + if self.job.is_some() { CALL_ANSWER } else { 0 }
    }

    /// How often its body is in memory: Envoy holds it, a call has one of its own, and so has what reads JSON.
    pub(super) fn copies(&self, policy: &Policy) -> u64 {
        let is_json = matches!(policy.fingerprint.body, BodyFingerprint::Json { .. });
        1 + u64::from(self.job.is_some()) + u64::from(is_json)
    }

    /// What it takes as long as it is not known whether it runs.
    fn footprint(&self) -> u64 {
        self.reserve() + self.footprint_of_body()
    }

    /// Of those who wait for their turn, most never make a call.
    fn footprint_waiting(&self) -> u64 {
        self.held + self.footprint_of_body()
    }

    /// It is read by now.
    fn footprint_of_body(&self) -> u64 {
        self.body.saturating_mul(if self.job.is_some() { 2 } else { 1 })
    }

    fn granted(&self, fingerprint: Fingerprint, step: &Step<'_>) -> Execution {
        Execution::begin(self.operation, fingerprint, self.owner, self.is_anonymous, step)
    }
}

impl AwaitClaim {
    pub(super) fn footprint(&self) -> u64 {
        self.request.footprint()
    }

    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::Answered(Answer::Claimed(claimed)) => self.on_claimed(claimed, step),
            Event::NoRoomToRun(no_room) => self.give_back(no_room, step),
            // Envoy itself answers, as above.
            Event::ResponseHeaders { headers, .. } => {
                step.mark(Status::Rejected, headers);
                State::AwaitMootClaim(self)
            }
            Event::Gone { .. } => {
                step.tell(Status::Rejected);
                State::AwaitMootClaim(self)
            }
            _ => State::AwaitClaim(self),
        }
    }

    /// Nothing was forwarded, and nobody is left to answer.
    pub(super) fn on_moot(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::Answered(Answer::Claimed(Claimed::Granted)) => {
                self.request.granted(self.fingerprint, step).settle(Ending::Released, Answering::Done, step)
            }
            Event::Answered(Answer::Claimed(Claimed::Failed(error))) => {
                step.warn(error);
                State::Finished
            }
            Event::Answered(Answer::Claimed(Claimed::InDoubt(error))) => {
                step.warn(error);
                self.request.granted(self.fingerprint, step).disown(step);
                State::Finished
            }
            Event::Answered(Answer::Claimed(_)) => State::Finished,
            _ => State::AwaitMootClaim(self),
        }
    }

    /// Whether a call is made once the claim is granted.
    pub(super) fn wants_call(&self) -> bool {
        self.request.job.is_some()
    }

    /// The claim is granted, and nothing can be made of it.
    fn give_back(self, no_room: NoRoom, step: &mut Step<'_>) -> State {
        if let Some(waiting) = self.waiting {
            step.effects.push(Effect::Waited(step.now.since(waiting.since)));
        }
        let problem = match no_room {
            NoRoom::AllTaken => Problem::TooManyCalls,
            NoRoom::OverShare => step.over_share(Scarce::Calls),
        };
        step.count(problem.counter());
        step.tell(problem.status());
        let answer = Answering::Owed(problem.reply(step.policy.docs_uri.as_deref(), step.policy.status_header));
        self.request.granted(self.fingerprint, step).settle(Ending::Released, answer, step)
    }

    fn on_claimed(self, claimed: Claimed, step: &mut Step<'_>) -> State {
        if let Claimed::InFlight { lease_left } = claimed
            && step.policy.duplicates.in_flight == InFlight::Wait
            && self.request.mailbox.is_some()
        {
            if self.request.expects_continue {
                return step.refuse(&Problem::ExpectationFailed);
            }
            return self.wait(step.now.after(lease_left), step);
        }
        if let Some(waiting) = self.waiting {
            step.effects.push(Effect::Waited(step.now.since(waiting.since)));
        }
        match claimed {
            Claimed::Granted => self.run(step),
            // Of another release, or under another policy.
            Claimed::Completed { response, .. } if !is_sendable(&response.headers) => {
                step.refuse(&Problem::ResponseNotKept { status: response.status })
            }
            // A crowd may be woken at once, and each of it is to have its own copy.
            Claimed::Completed { response, .. } if !self.has_room_for(&response, step) => {
                step.refuse(&Problem::MemoryFull)
            }
            Claimed::Completed { response, expires } => {
                step.count(Counter::RequestsReplayed);
                step.tell(Status::Replayed);
                step.reply(Reply::replay(response, expires, step.policy))
            }
            Claimed::KeyReused => step.refuse(&Problem::KeyReused),
            Claimed::InFlight { lease_left } => step.refuse(&Problem::RequestInFlight { lease_left }),
            Claimed::Unknown { lease_left } => {
                let may_retry = step.policy.outcome.on_unknown == OnUnknown::Retry;
                step.refuse(&Problem::OutcomeUnknown { retry_after: may_retry.then_some(lease_left) })
            }
            Claimed::NotKept { status } => step.refuse(&Problem::ResponseNotKept { status }),
            Claimed::Full => step.refuse(&Problem::StoreFull),
            Claimed::OverShare(scarce) => {
                let problem = step.over_share(scarce);
                step.refuse(&problem)
            }
            Claimed::Failed(error) => self.fail(error, step),
            Claimed::InDoubt(error) => {
                // If the request runs unprotected, the claim stays: it ends as unknown, which is the truth.
                if step.policy.on_store_error == OnStoreError::Reject {
                    self.request.granted(self.fingerprint, step).disown(step);
                }
                self.fail(error, step)
            }
        }
    }

    /// Whether a replay finds room, which takes the place of the request.
    fn has_room_for(&self, response: &StoredResponse, step: &Step<'_>) -> bool {
        let bytes = (response.body.len() + response.headers.byte_len()) as u64;
        step.has_room(bytes.saturating_sub(self.footprint()))
    }

    fn fail(self, error: StoreError, step: &mut Step<'_>) -> State {
        step.effects.push(Effect::WarnStore(error));
        match step.policy.on_store_error {
            OnStoreError::Reject if error == StoreError::Redis(RedisError::Overloaded) => {
                step.refuse(&Problem::Overloaded)
            }
            OnStoreError::Reject => step.refuse(&Problem::StoreUnavailable),
            OnStoreError::Bypass if error.hides_a_record() => step.refuse(&Problem::StoreUnavailable),
            OnStoreError::Bypass => {
                step.count(Counter::StoreErrors);
                step.count(Counter::RequestsBypassed);
                step.tell(Status::Bypassed);
                step.effects.push(Effect::Forward);
                State::Bypassed
            }
        }
    }

    fn run(self, step: &mut Step<'_>) -> State {
        step.count(Counter::RequestsExecuted);
        step.tell(Status::Executed);
        let execution = self.request.granted(self.fingerprint, step);
        let Request { held, body, .. } = self.request;
        match self.request.job {
            Some(job) => {
                step.effects.push(Effect::Execute(job));
                State::AwaitCall(AwaitCall::new(execution, held, body))
            }
            None => {
                step.effects.push(Effect::Forward);
                State::AwaitResponse(AwaitResponse::new(execution))
            }
        }
    }

    fn wait(self, lease_until: Timestamp, step: &mut Step<'_>) -> State {
        let until = step.now.after(step.policy.duplicates.wait_timeout);
        let waiting = self.waiting.unwrap_or(Waiting { since: step.now, until });
        step.effects.push(Effect::Hold);
        step.effects.push(Effect::Wait { operation: self.request.operation, recheck: lease_until });
        State::AwaitTurn(AwaitTurn { request: self.request, fingerprint: self.fingerprint, waiting, lease_until })
    }
}

impl AwaitTurn {
    pub(super) fn footprint(&self) -> u64 {
        self.request.footprint_waiting()
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.waiting.until
    }

    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        let operation = self.request.operation;
        match event {
            Event::Woken => step.claim(self.request, self.fingerprint, Some(self.waiting)),
            Event::NoRoomToWait(no_room) => {
                if no_room == NoRoom::OverShare {
                    step.count(Counter::RequestsOverShare);
                    step.over_share(Scarce::Places);
                }
                self.give_up(step)
            }
            Event::Tick if self.is_due(step.now) => {
                step.effects.push(Effect::StopWaiting(operation));
                step.count(Counter::RequestsWaitTimeouts);
                self.give_up(step)
            }
            // Envoy itself answers, by a timeout of its own.
            Event::ResponseHeaders { headers, .. } => {
                step.effects.push(Effect::StopWaiting(operation));
                step.effects.push(Effect::Waited(step.now.since(self.waiting.since)));
                step.mark(Status::InFlight, headers);
                State::Finished
            }
            Event::Gone { .. } => {
                step.effects.push(Effect::StopWaiting(operation));
                step.effects.push(Effect::Waited(step.now.since(self.waiting.since)));
                step.tell(Status::InFlight);
                State::Finished
            }
            _ => State::AwaitTurn(self),
        }
    }

    fn give_up(self, step: &mut Step<'_>) -> State {
        step.effects.push(Effect::Waited(step.now.since(self.waiting.since)));
        step.refuse(&Problem::RequestInFlight { lease_left: self.lease_until.since(step.now) })
    }
}
