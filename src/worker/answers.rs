//! What a worker does with the answers to calls.

use super::{
    host::{Host, Report},
    inquiries::PendingInquiry,
    state::Worker,
};
use crate::{
    exchange::{CallFailure, Event},
    headers::Headers,
    store::{
        Answer, Claimed, Renewed, Settled,
        dialect::Heard,
        inquiry::Progress,
        pool::{Answered, Pool},
    },
    time::Timestamp,
};

/// What came of a detached call.
#[derive(Debug)]
pub struct CallAnswer<'a> {
    /// The status code.
    pub status: u16,
    /// All fields.
    pub headers: &'a Headers,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Worker {
    /// Takes in what came of a question to the store.
    pub fn on_store_answer(&mut self, host: &mut impl Host, token: u32, heard: Heard<'_>, now: Timestamp) {
        let Some(mut pending) = self.inquiries.answered(token) else { return };
        self.work(host, now, |worker, host| {
            if matches!(heard, Heard::Reply { status: 200, .. }) {
                worker.inquiries.note_reply(now);
            }
            let progress = pending.inquiry.hear(heard, now);
            worker.go_on(host, pending, progress, now);
        });
    }

    /// Takes in what has come over a stream to the store.
    pub fn on_received(&mut self, host: &mut impl Host, stream: u32, bytes: &[u8], now: Timestamp) {
        self.turns.begin();
        self.work(host, now, |worker, host| {
            if let Some(pool) = &mut worker.pool {
                pool.on_received(host, stream, bytes, now);
            }
        });
    }

    /// Takes in that a stream to the store has ended, and what the host says of it.
    pub fn on_stream_closed(&mut self, host: &mut impl Host, stream: u32, text: &[u8], now: Timestamp) {
        self.work(host, now, |worker, _| {
            if let Some(pool) = &mut worker.pool {
                pool.on_closed(stream, text, now);
            }
        });
    }

    /// Takes in what came of the next question over a persistent connection; `false` if there is none.
    pub(super) fn hear_next(&mut self, host: &mut impl Host, now: Timestamp) -> bool {
        let Some((ticket, answered)) = self.pool.as_mut().and_then(Pool::next_answer) else { return false };
        if let Some(mut pending) = self.inquiries.answered(ticket) {
            if matches!(answered, Answered::Reply(_)) {
                self.inquiries.note_reply(now);
            }
            let progress = pending.inquiry.hear(answered.heard(), now);
            self.go_on(host, pending, progress, now);
        }
        true
    }

    /// Takes in what came of a detached call; `None` if it ended without an answer.
    pub fn on_call_answer(&mut self, host: &mut impl Host, token: u32, answer: Option<CallAnswer<'_>>, now: Timestamp) {
        let Some(exchange) = self.calls.answered(token) else { return };
        self.work(host, now, |worker, host| {
            host.report(Report::Calls(-1), now);
            let event = match answer {
                Some(CallAnswer { status, headers, body }) => Event::CallAnswered { status, headers, body },
                None => Event::CallFailed(CallFailure::Reset),
            };
            worker.drive_from_root(host, exchange, event, now);
        });
    }

    /// Goes on with a question as its last attempt says.
    pub(super) fn go_on(
        &mut self,
        host: &mut impl Host,
        mut pending: PendingInquiry,
        progress: Progress,
        now: Timestamp,
    ) {
        let is_shadow = pending.is_shadow;
        match progress {
            Progress::Answered(answer) => self.tell_answer(host, &pending, answer, now),
            Progress::Anew => self.inquiries.order_again(pending),
            Progress::Again(error) => {
                host.report(Report::AttemptFailed { error, is_shadow }, now);
                self.inquiries.order_again(pending);
            }
            Progress::Later(error) => {
                host.report(Report::AttemptFailed { error, is_shadow }, now);
                if pending.inquiry.is_release() && self.inquiries.are_full() {
                    let given_up = Answer::Settled(Settled::Failed(error).into());
                    return self.tell_answer(host, &pending, given_up, now);
                }
                if pending.inquiry.becomes_delayed(now) {
                    self.drive_from_root(host, pending.asker, Event::Answered(Answer::Delayed), now);
                }
                self.inquiries.rest(pending, self.memory.limit_of_records());
            }
        }
    }

    /// Hands the store's answer to whom it is for, and to those whom it concerns besides.
    fn tell_answer(&mut self, host: &mut impl Host, pending: &PendingInquiry, answer: Answer, now: Timestamp) {
        let (is_over, was_written) = (says_that_it_is_over(&answer), says_that_it_was_written(&answer));
        if let Answer::Claimed(claimed) = &answer {
            self.inquiries.conclude(pending, claimed, now);
        }
        if was_written {
            self.inquiries.note_write(now);
        }
        if let Answer::Renewed(Renewed::Failed(error)) = answer
            && !self.exchanges.contains_key(&pending.asker)
        {
            // The execution has ended meanwhile.
            host.report(Report::AttemptFailed { error, is_shadow: pending.is_shadow }, now);
        }
        self.drive_from_root(host, pending.asker, Event::Answered(answer), now);
        if is_over && !pending.is_shadow {
            self.waiting_room.call(&pending.inquiry.operation());
        }
    }
}

/// Whether the store has just written what it was asked to.
fn says_that_it_was_written(answer: &Answer) -> bool {
    match answer {
        Answer::Claimed(claimed) => *claimed == Claimed::Granted,
        Answer::Settled(ended) => !matches!(ended.settled, Settled::Failed(_) | Settled::Fenced),
        Answer::Renewed(renewed) => *renewed == Renewed::Extended,
        Answer::Delayed => false,
    }
}

/// Whether nobody has to wait any longer for the execution that the store was asked about.
fn says_that_it_is_over(answer: &Answer) -> bool {
    match answer {
        Answer::Claimed(claimed) => match claimed {
            Claimed::Completed { .. } | Claimed::NotKept { .. } | Claimed::Unknown { .. } => true,
            Claimed::Granted
            | Claimed::KeyReused
            | Claimed::InFlight { .. }
            | Claimed::Full
            | Claimed::OverShare(_)
            | Claimed::Failed(_)
            | Claimed::InDoubt(_) => false,
        },
        Answer::Settled(ended) => !matches!(ended.settled, Settled::Failed(_)),
        Answer::Renewed(_) | Answer::Delayed => false,
    }
}
