//! From a guarded request to the right to run its operation: its body, its claim, and its turn.

use super::{
    effect::Effect,
    event::{Event, NoRoom},
    problem::Problem,
    reply::{Reply, is_sendable},
    state::{
        Answering, AwaitBody, AwaitCall, AwaitClaim, AwaitResponse, AwaitTurn, Client, Execution, GuardedRequest, Name,
        State, WaitPeriod,
    },
    step::Step,
    vocabulary::{Counter, Status},
};
use crate::{
    config::{InFlight, OnStoreError, OnUnknown},
    record::{Claim, StoredResponse},
    request::Fingerprint,
    store::{Answer, Call, Claimed, Ending, Scarce, StoreError},
    time::Timestamp,
};

impl AwaitBody {
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
        if self.request.keeps_text(step.policy)
            && let Name::Open(unnamed) = &mut self.request.name
        {
            unnamed.text.extend_from_slice(chunk);
        }
        if let Some(call) = &mut self.request.call {
            call.body.extend_from_slice(chunk);
        }
        if end_of_stream {
            return self.on_end(step);
        }
        step.effects.push(Effect::Hold);
        State::AwaitBody(self)
    }

    fn on_end(self, step: &mut Step<'_>) -> State {
        step.name(self.request, self.fingerprint.finish())
    }
}

impl Step<'_> {
    /// Asks the store for the right to run the operation.
    pub(super) fn claim(
        &mut self,
        request: GuardedRequest,
        fingerprint: Fingerprint,
        waiting: Option<WaitPeriod>,
    ) -> State {
        self.effects.push(Effect::Hold);
        self.effects.push(Effect::Call(Call::Claim(Claim {
            operation: request.name.operation,
            caller: request.name.caller,
            share: self.policy.limits.caller_share,
            fingerprint,
            owner: request.owner,
            lease: self.policy.lease,
            ttl: request.name.ttl,
            retry_unknown: self.policy.outcome.on_unknown == OnUnknown::Retry,
            watcher: request.mailbox.filter(|_| self.policy.duplicates.in_flight == InFlight::Wait),
        })));
        State::AwaitClaim(AwaitClaim { request, fingerprint, waiting })
    }
}

impl AwaitClaim {
    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::Answered(Answer::Claimed(claimed)) => self.on_claimed(claimed, step),
            Event::NoRoomToRun(no_room) => self.give_back(no_room, step),
            // Envoy itself answers, as above.
            Event::ResponseHeaders { headers, .. } => {
                step.mark(Status::Rejected, headers);
                State::AwaitAbandonedClaim(self)
            }
            Event::Gone { .. } => {
                step.tell(Status::Rejected);
                State::AwaitAbandonedClaim(self)
            }
            _ => State::AwaitClaim(self),
        }
    }

    /// Nothing was forwarded, and nobody is left to answer.
    pub(super) fn on_abandoned(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        match event {
            Event::Answered(Answer::Claimed(Claimed::Granted)) => {
                self.granted(step).settle(Ending::Released, Answering::Done, step)
            }
            Event::Answered(Answer::Claimed(Claimed::Failed(error))) => {
                step.warn(error);
                State::Finished
            }
            Event::Answered(Answer::Claimed(Claimed::InDoubt(error))) => {
                step.warn(error);
                self.granted(step).give_back_in_doubt(step);
                State::Finished
            }
            Event::Answered(Answer::Claimed(_)) => State::Finished,
            _ => State::AwaitAbandonedClaim(self),
        }
    }

    fn granted(&self, step: &Step<'_>) -> Execution {
        Execution::begin(&self.request, self.fingerprint, step)
    }

    /// The claim is granted, and nothing can be made of it.
    fn give_back(self, no_room: NoRoom, step: &mut Step<'_>) -> State {
        if let Some(waiting) = self.waiting {
            step.effects.push(Effect::Waited(step.now.get().since(waiting.since)));
        }
        let problem = match no_room {
            NoRoom::AllTaken => Problem::TooManyCalls,
            NoRoom::OverShare => step.over_share(Scarce::Calls),
        };
        step.count(problem.counter());
        step.tell(problem.status());
        let answer = Answering::Owed(problem.reply(step.policy));
        self.granted(step).settle(Ending::Released, answer, step)
    }

    fn on_claimed(self, claimed: Claimed, step: &mut Step<'_>) -> State {
        if let Claimed::InFlight { age, lease_left } = claimed
            && step.policy.duplicates.in_flight == InFlight::Wait
            && self.request.mailbox.is_some()
        {
            if self.request.expects_continue {
                return step.refuse(&Problem::ExpectationFailed);
            }
            return self.wait(step.now.get().before(age), step.now.get().after(lease_left), step);
        }
        if let Some(waiting) = self.waiting {
            step.effects.push(Effect::Waited(step.now.get().since(waiting.since)));
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
            Claimed::InFlight { age, lease_left } => step.refuse(&Problem::RequestInFlight { age, lease_left }),
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
                    self.granted(step).give_back_in_doubt(step);
                }
                self.fail(error, step)
            }
        }
    }

    /// Whether a replay finds room, which takes the place of the request.
    fn has_room_for(&self, response: &StoredResponse, step: &Step<'_>) -> bool {
        let bytes = (response.body.len() + response.headers.byte_len()) as u64;
        step.has_room(bytes.saturating_sub(self.request.footprint()))
    }

    fn fail(self, error: StoreError, step: &mut Step<'_>) -> State {
        step.effects.push(Effect::WarnStore(error));
        match step.policy.on_store_error {
            OnStoreError::Reject if error == StoreError::Overloaded => step.refuse(&Problem::Overloaded),
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
        let execution = self.granted(step);
        let GuardedRequest { held, body, .. } = self.request;
        match self.request.call {
            Some(call) => {
                step.effects.push(Effect::Execute(call));
                State::AwaitCall(AwaitCall { execution, held, body, client: Client::Waits })
            }
            None => {
                step.effects.push(Effect::Forward);
                State::AwaitResponse(AwaitResponse { execution })
            }
        }
    }

    fn wait(self, began: Timestamp, lease_until: Timestamp, step: &mut Step<'_>) -> State {
        let now = step.now.get();
        let until = now.after(step.policy.duplicates.wait_timeout);
        let waiting = self.waiting.unwrap_or(WaitPeriod { since: now, until });
        let (operation, request, fingerprint) = (self.request.name.operation, self.request, self.fingerprint);
        let turn = AwaitTurn { request, fingerprint, waiting, began, lease_until };
        // It was asking when its time was over. Where each tick has it ask again, none would find it waiting.
        if turn.waiting.until <= now {
            return turn.has_waited_in_vain(step);
        }
        step.effects.push(Effect::Hold);
        step.effects.push(Effect::Wait { operation, recheck: lease_until });
        State::AwaitTurn(turn)
    }
}

impl AwaitTurn {
    pub(super) fn on(self, event: Event<'_>, step: &mut Step<'_>) -> State {
        let operation = self.request.name.operation;
        match event {
            Event::Woken => step.claim(self.request, self.fingerprint, Some(self.waiting)),
            Event::NoRoomToWait(no_room) => {
                if no_room == NoRoom::OverShare {
                    step.count(Counter::RequestsOverShare);
                    step.over_share(Scarce::Places);
                }
                self.give_up(step)
            }
            Event::Tick if self.waiting.until <= step.now.get() => {
                step.effects.push(Effect::StopWaiting(operation));
                self.has_waited_in_vain(step)
            }
            // Envoy itself answers, by a timeout of its own.
            Event::ResponseHeaders { headers, .. } => {
                step.effects.push(Effect::StopWaiting(operation));
                step.effects.push(Effect::Waited(step.now.get().since(self.waiting.since)));
                step.mark(Status::InFlight, headers);
                State::Finished
            }
            Event::Gone { .. } => {
                step.effects.push(Effect::StopWaiting(operation));
                step.effects.push(Effect::Waited(step.now.get().since(self.waiting.since)));
                step.tell(Status::InFlight);
                State::Finished
            }
            _ => State::AwaitTurn(self),
        }
    }

    fn has_waited_in_vain(self, step: &mut Step<'_>) -> State {
        step.count(Counter::RequestsWaitTimeouts);
        self.give_up(step)
    }

    fn give_up(self, step: &mut Step<'_>) -> State {
        step.effects.push(Effect::Waited(step.now.get().since(self.waiting.since)));
        let (age, lease_left) = (step.now.get().since(self.began), self.lease_until.since(step.now.get()));
        step.refuse(&Problem::RequestInFlight { age, lease_left })
    }
}
