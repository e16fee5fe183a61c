//! Shadow mode: every decision is taken, recorded and counted, and nobody on the wire notices.
//!
//! The states are those of an exchange that acts. Two things differ. What an exchange does to the messages is
//! left out. And nothing is kept back, so the upstream may answer before it is decided whether this request
//! would have run at all: its answer is kept until then.

use super::{effect::Effect, event::Event, machine::Machine, outcome::Evidence, state::State};
use crate::{headers::Headers, time::Now};

/// What an exchange in shadow mode has besides its state.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    early: Option<Early>,
}

/// A response that came before the decision.
#[derive(Clone, Debug)]
struct Early {
    /// `None` if the stream ended without a response.
    head: Option<EarlyHead>,
    /// Its first bytes, as far as they are of interest.
    body: Vec<u8>,
    /// Whether there was no memory for more of it.
    is_cut: bool,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct EarlyHead {
    status: u16,
    headers: Headers,
    evidence: Evidence,
}

#[derive(Clone, Debug)]
enum End {
    /// The response ended.
    Complete,
    /// The stream ended.
    Gone(Evidence),
}

impl Shadow {
    /// Takes `event` in as the machine would, and leaves the wire alone.
    pub(super) fn observe(&mut self, machine: &mut Machine, event: Event<'_>, now: &Now, effects: &mut Vec<Effect>) {
        let mut all = Vec::new();
        let is_undecided = matches!(machine.state, State::AwaitBody(_) | State::AwaitClaim(_));
        // A request that has no end is never claimed for.
        let is_over = matches!((&machine.state, &event), (State::AwaitBody(_), Event::Gone { .. }));
        let event = if is_undecided && !is_over {
            let limit = usize::try_from(machine.policy.limits.response_body).unwrap_or(usize::MAX);
            self.keep(event, limit, machine.room)
        } else {
            Some(event)
        };
        if let Some(event) = event {
            machine.advance(event, now, &mut all);
        }
        match machine.state {
            State::AwaitBody(_) | State::AwaitClaim(_) => {}
            State::AwaitResponse(_) => {
                if let Some(early) = self.early.take() {
                    early.catch_up(machine, now, &mut all);
                }
            }
            // It would not have run. If its answer or its end came before that was known, nothing more comes of it.
            _ => {
                if self.early.take().is_some() {
                    machine.state = State::Finished;
                }
            }
        }
        effects.extend(all.into_iter().filter(|effect| !touches_the_wire(effect)));
    }

    /// Whether the body of a response that came early is of interest.
    pub(super) fn captures(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.head.is_some() && early.end.is_none())
    }

    pub(super) fn footprint(&self) -> u64 {
        self.early.as_ref().map_or(0, |early| early.body.capacity() as u64)
    }

    /// Keeps what belongs to the response, as far as there is room; hands back what does not.
    fn keep<'a>(&mut self, event: Event<'a>, limit: usize, room: u64) -> Option<Event<'a>> {
        match (event, &mut self.early) {
            (Event::ResponseHeaders { status, headers, evidence, end_of_stream }, None) => {
                self.early = Some(Early {
                    head: Some(EarlyHead { status, headers: headers.clone(), evidence: evidence.clone() }),
                    body: Vec::new(),
                    is_cut: false,
                    end: end_of_stream.then_some(End::Complete),
                });
            }
            (Event::ResponseBody { chunk, end_of_stream }, Some(early)) => {
                // One byte over the limit says that it is over.
                let rest = limit.saturating_add(1).saturating_sub(early.body.len());
                let chunk = chunk.get(..rest).unwrap_or(chunk);
                if chunk.len() as u64 > room {
                    early.is_cut = true;
                    // Where there is no room, one byte is too much as well.
                    early.body.extend(chunk.first());
                } else if !early.is_cut {
                    early.body.extend_from_slice(chunk);
                }
                if end_of_stream {
                    early.end = Some(End::Complete);
                }
            }
            (Event::ResponseTrailers, Some(early)) => early.end = Some(End::Complete),
            (Event::Gone { evidence }, Some(early)) => {
                early.end.get_or_insert_with(|| End::Gone(evidence.clone()));
            }
            (Event::Gone { evidence }, None) => {
                let end = Some(End::Gone(evidence.clone()));
                self.early = Some(Early { head: None, body: Vec::new(), is_cut: false, end });
            }
            (Event::ResponseHeaders { .. } | Event::ResponseBody { .. } | Event::ResponseTrailers, _) => {}
            (event, _) => return Some(event),
        }
        None
    }
}

impl Early {
    /// Hands in what came before the decision.
    fn catch_up(self, machine: &mut Machine, now: &Now, effects: &mut Vec<Effect>) {
        let Self { head, body, is_cut, end } = self;
        if is_cut {
            // What there is of it is not kept as if it were the whole.
            machine.room = 0;
        }
        if let Some(EarlyHead { status, headers, evidence }) = head {
            let event = Event::ResponseHeaders { status, headers: &headers, evidence: &evidence, end_of_stream: false };
            machine.advance(event, now, effects);
            let end_of_stream = matches!(end, Some(End::Complete));
            machine.advance(Event::ResponseBody { chunk: &body, end_of_stream }, now, effects);
        }
        if let Some(End::Gone(evidence)) = end {
            machine.advance(Event::Gone { evidence: &evidence }, now, effects);
        }
    }
}

/// Whether somebody besides the operator would notice.
fn touches_the_wire(effect: &Effect) -> bool {
    match effect {
        Effect::Call(_)
        | Effect::Count(_)
        | Effect::Notice(_)
        | Effect::Tell(_)
        | Effect::Waited(_)
        | Effect::WarnStore(_) => false,
        Effect::AddResponseHeader(..)
        | Effect::Execute(_)
        | Effect::Forward
        | Effect::ForwardResponse
        | Effect::Hold
        | Effect::HoldResponse
        | Effect::RemoveRequestHeader(_)
        | Effect::RemoveResponseHeader(_)
        | Effect::Reply(_)
        | Effect::StopWaiting(_)
        | Effect::Wait { .. }
        | Effect::Wake { .. } => true,
    }
}
