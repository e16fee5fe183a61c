//! Persistent connections of one worker to a remote store.
//!
//! Questions are sent one behind the other on a connection and answered in that order. A connection is opened when it is
//! needed, greets the server, and takes questions once the server has welcomed it. So what fails before that is certain:
//! the server was not asked. What is pending on a connection that ends is doubtful, all of it.
//!
//! - Of the connections that are ready the one with the least pending is asked. One more is opened, up to the limit, when
//!   all of them have something pending.
//! - The host has no timer for a question: each has a moment, which is looked at in ticks. If a question has no answer
//!   then, nothing behind it has, and the connection is given up. A second attempt is made on another one.
//! - While the server cannot be reached, attempts become rarer, and questions wait for the next one as long as they may.
//!   A server that is the wrong one just then, as a standby is, is left at once for the next of the cluster.
//! - A connection on which nothing was asked for a while is closed.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    StoreError,
    dialect::{Failure, Heard, Login, LoginStep, Silence, Unwelcome, Wire, WireError},
};
use crate::time::Timestamp;

/// The host's streams of bytes to the store.
pub trait Streams {
    /// Opens one; what is sent before it is connected waits. `None` if the host says at once that there is no way.
    fn open_stream(&mut self) -> Option<u32>;

    /// Sends bytes; `false` if the stream has ended.
    fn send(&mut self, stream: u32, bytes: &[u8]) -> bool;

    /// Gives a stream up: nothing is heard of it any more.
    fn close_stream(&mut self, stream: u32);
}

/// The connections, and the questions on them.
#[derive(Clone, Debug)]
pub struct Pool {
    wire: Arc<dyn Wire>,
    limits: PoolLimits,
    connections: Vec<Connection>,
    /// Those that no connection has taken yet.
    waiting: VecDeque<Question>,
    tickets: u32,
    /// How many connections were tried.
    tried: u64,
    /// How many attempts at a connection have failed since the last one that did not.
    failures: u32,
    /// When the last of those failed, and why.
    failed: Option<(Timestamp, StoreError)>,
    answers: VecDeque<(u32, Answered)>,
}

/// How many connections, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolLimits {
    /// At most.
    pub connections: usize,
    /// How long a connection may take until it is ready.
    pub patience: Duration,
    /// A random number, another one for each worker: they do not all come back at one moment, and nobody can guess what
    /// their logins say.
    pub seed: u128,
}

#[derive(Clone, Debug)]
struct Connection {
    stream: u32,
    stage: Stage,
    /// In the order in which they were sent.
    pending: VecDeque<Question>,
    /// What has come of the next reply.
    received: Vec<u8>,
    /// When it was opened, or when something was asked last.
    used: Timestamp,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The server has not welcomed it yet.
    Opening(Box<dyn Login>),
    Ready,
    /// The server is the wrong one: it answers what it was asked, and is asked nothing more.
    Retiring,
}

/// A question; without its bytes, once it was sent.
#[derive(Clone, Debug)]
struct Question {
    ticket: u32,
    bytes: Vec<u8>,
    asked: Timestamp,
    timeout: Duration,
}

impl Question {
    fn is_late(&self, now: Timestamp) -> bool {
        self.asked.after(self.timeout).has_come(now, self.timeout)
    }
}

/// What became of a question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answered {
    /// The bytes of its reply.
    Reply(Vec<u8>),
    /// There is none.
    Failed(Failure),
}

impl Answered {
    /// As it is heard by who has asked.
    #[must_use]
    pub fn heard(&self) -> Heard<'_> {
        match self {
            Self::Reply(body) => Heard::Reply { status: 200, body, ahead: None },
            Self::Failed(failure) => Heard::Failed(*failure),
        }
    }
}

impl Pool {
    /// No connection yet.
    #[must_use]
    pub fn new(wire: Arc<dyn Wire>, limits: PoolLimits) -> Self {
        Self {
            wire,
            limits,
            connections: Vec::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            tried: 0,
            failures: 0,
            failed: None,
            answers: VecDeque::new(),
        }
    }

    /// Whether a question would be sent at once, and no connection opened because of it.
    #[must_use]
    pub fn is_ready(&self, now: Timestamp) -> bool {
        let are_busy = self.connections.iter().all(|connection| !connection.is_free());
        self.connections.iter().any(Connection::is_ready) && !(are_busy && self.may_open(now))
    }

    /// Asks a question; the ticket of its answer.
    pub fn ask(&mut self, streams: &mut impl Streams, bytes: &[u8], timeout: Duration, now: Timestamp) -> u32 {
        self.tickets = self.tickets.wrapping_add(1);
        let mut question = Question { ticket: self.tickets, bytes: Vec::new(), asked: now, timeout };
        // As a rule: then its bytes need no copy.
        if self.waiting.is_empty()
            && self.is_ready(now)
            && let Some(connection) = self.least_busy()
            && connection.send(streams, bytes, now)
        {
            connection.pending.push_back(question);
            return self.tickets;
        }
        question.bytes = bytes.to_vec();
        self.waiting.push_back(question);
        if self.connections.iter().all(|connection| !connection.is_free()) {
            self.open(streams, now);
        }
        self.send_waiting(streams, now);
        self.tickets
    }

    /// Takes in what has come on a stream; `false` if it is none of these.
    pub fn on_received(&mut self, streams: &mut impl Streams, stream: u32, bytes: &[u8], now: Timestamp) -> bool {
        let Some(place) = self.place_of(stream) else { return false };
        let Some(connection) = self.connections.get_mut(place) else { return false };
        connection.received.extend_from_slice(bytes);
        while let Stage::Opening(login) = &mut connection.stage {
            match login.hear(&connection.received) {
                Ok((taken, step)) => {
                    connection.received.drain(..taken);
                    match step {
                        LoginStep::Listen if taken == 0 => return true,
                        LoginStep::Listen => {}
                        LoginStep::Say(bytes) => {
                            // If it has ended, the host says so in a moment.
                            streams.send(stream, &bytes);
                        }
                        LoginStep::Welcome => connection.stage = Stage::Ready,
                    }
                }
                Err(unwelcome) => {
                    self.drop_connection(streams, place);
                    self.turn_away(streams, unwelcome, now);
                    return true;
                }
            }
            if connection.is_ready() {
                (self.failures, self.failed) = (0, None);
                self.send_waiting(streams, now);
                break;
            }
        }
        self.read(streams, place);
        true
    }

    /// Takes in that a stream has ended, and what the host says of it; `false` if it is none of these.
    pub fn on_closed(&mut self, stream: u32, text: &[u8], now: Timestamp) -> bool {
        let Some(place) = self.place_of(stream) else { return false };
        let connection = self.connections.swap_remove(place);
        if connection.is_opening() {
            let error = self.wire.unreachable(text);
            self.note_failure(error, now);
        } else {
            self.fail(connection.pending, Silence::Reset);
        }
        true
    }

    /// Does what time alone brings about.
    pub fn on_tick(&mut self, streams: &mut impl Streams, now: Timestamp) {
        for place in (0..self.connections.len()).rev() {
            let Some(connection) = self.connections.get(place) else { continue };
            if connection.is_opening() && self.is_slow(connection, now) {
                self.drop_connection(streams, place);
                let error = self.wire.silent(Silence::TimedOut);
                self.note_failure(error, now);
            } else if connection.pending.iter().any(|question| question.is_late(now)) {
                let pending = self.drop_connection(streams, place);
                let (late, others) = pending.into_iter().partition(|question: &Question| question.is_late(now));
                self.fail(late, Silence::TimedOut);
                self.fail(others, Silence::Reset);
            } else if connection.is_free() && connection.used.after(IDLE).has_come(now, IDLE) {
                self.drop_connection(streams, place);
            }
        }
        if self.waiting.iter().any(|question| question.is_late(now)) {
            let (late, others) = mem::take(&mut self.waiting).into_iter().partition(|question| question.is_late(now));
            self.waiting = others;
            let why = self.failed.map(|(_, error)| error);
            self.refuse(late, why.unwrap_or_else(|| self.wire.silent(Silence::TimedOut)));
        }
        if !self.waiting.is_empty() {
            self.open(streams, now);
            self.send_waiting(streams, now);
        }
    }

    /// The next question that has come to its end.
    pub fn next_answer(&mut self) -> Option<(u32, Answered)> {
        self.answers.pop_front()
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether a tick at `now` would do something.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        let is_due = |connection: &Connection| {
            connection.is_opening() && self.is_slow(connection, now)
                || connection.pending.iter().any(|question| question.is_late(now))
        };
        self.connections.iter().any(is_due)
            || self.waiting.iter().any(|question| question.is_late(now))
            || !self.waiting.is_empty() && self.may_open(now)
    }

    /// Closes all connections. To be called when nothing is asked.
    pub fn close(&mut self, streams: &mut impl Streams) {
        self.connections.drain(..).for_each(|connection| streams.close_stream(connection.stream));
    }

    fn place_of(&self, stream: u32) -> Option<usize> {
        self.connections.iter().position(|connection| connection.stream == stream)
    }

    fn is_slow(&self, connection: &Connection, now: Timestamp) -> bool {
        connection.used.after(self.limits.patience).has_come(now, self.limits.patience)
    }

    /// Whether one more connection may be tried now: one at a time, and after failures not at once.
    fn may_open(&self, now: Timestamp) -> bool {
        let rest = self.rest();
        self.connections.len() < self.limits.connections
            && self.connections.iter().all(|connection| !connection.is_opening())
            && self.failed.is_none_or(|(failed, _)| failed.after(rest).has_come(now, rest))
    }

    /// How long to rest after the last failure: twice as long as the time before, less up to a half.
    fn rest(&self) -> Duration {
        let longest =
            FIRST_REST.saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1))).min(LONGEST_REST);
        let mixed = (self.limits.seed as u64 ^ u64::from(self.failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [.., part] = mixed.to_le_bytes();
        longest / 2 + longest / 2 * u32::from(part) / u32::from(u8::MAX)
    }

    fn open(&mut self, streams: &mut impl Streams, now: Timestamp) {
        if self.may_open(now) {
            self.open_now(streams, now);
        }
    }

    fn open_now(&mut self, streams: &mut impl Streams, now: Timestamp) {
        match streams.open_stream() {
            Some(stream) => {
                self.tried = self.tried.wrapping_add(1);
                let (greeting, login) = self.wire.login(self.limits.seed.wrapping_add(self.tried.into()));
                streams.send(stream, &greeting);
                self.connections.push(Connection {
                    stream,
                    stage: Stage::Opening(login),
                    pending: VecDeque::new(),
                    received: Vec::new(),
                    used: now,
                });
            }
            None => self.note_failure(self.wire.silent(Silence::NotMade), now),
        }
    }

    /// Sends what waits, as far as a connection is ready for it.
    fn send_waiting(&mut self, streams: &mut impl Streams, now: Timestamp) {
        while !self.waiting.is_empty() {
            let Some(mut question) = self.waiting.pop_front() else { return };
            let Some(connection) = self.least_busy() else { return self.waiting.push_front(question) };
            if connection.send(streams, &question.bytes, now) {
                question.bytes = Vec::new();
                connection.pending.push_back(question);
            } else {
                self.waiting.push_front(question);
            }
        }
    }

    /// The connection that is to be asked next.
    fn least_busy(&mut self) -> Option<&mut Connection> {
        let ready = self.connections.iter_mut().filter(|connection| connection.is_ready());
        ready.min_by_key(|connection| connection.pending.len())
    }

    /// Takes out the replies that are whole.
    fn read(&mut self, streams: &mut impl Streams, place: usize) {
        let Some(connection) = self.connections.get_mut(place) else { return };
        let mut read = 0;
        let is_sound = loop {
            let rest = connection.received.get(read..).unwrap_or_default();
            let reply = match self.wire.reply_length(rest) {
                _ if rest.is_empty() => break true,
                Ok(length) => rest.get(..length).unwrap_or_default(),
                Err(WireError::Incomplete) => break true,
                Err(WireError::Failed(_)) => break false,
            };
            // Nobody has asked for it: what comes next can be told apart no longer.
            let Some(question) = connection.pending.pop_front() else { break false };
            if self.wire.is_farewell(reply) {
                connection.stage = Stage::Retiring;
            }
            read += reply.len();
            self.answers.push_back((question.ticket, Answered::Reply(reply.to_vec())));
        };
        connection.received.drain(..read);
        let is_over = matches!(connection.stage, Stage::Retiring) && connection.pending.is_empty();
        if !is_sound || is_over {
            let pending = self.drop_connection(streams, place);
            self.fail(pending, Silence::Reset);
        }
    }

    /// Closes a connection; what was pending on it.
    fn drop_connection(&mut self, streams: &mut impl Streams, place: usize) -> VecDeque<Question> {
        let connection = self.connections.swap_remove(place);
        streams.close_stream(connection.stream);
        connection.pending
    }

    /// A server does not let a connection in. Questions wait on if another server may; the first few of those are tried
    /// at once.
    fn turn_away(&mut self, streams: &mut impl Streams, unwelcome: Unwelcome, now: Timestamp) {
        let Unwelcome { error, others_may_welcome } = unwelcome;
        if !others_may_welcome {
            return self.note_failure(error, now);
        }
        self.failures = self.failures.saturating_add(1);
        self.failed = Some((now, error));
        if self.failures <= TRIED_AT_ONCE && !self.waiting.is_empty() {
            self.open_now(streams, now);
        }
    }

    /// Notes that a connection cannot be opened. If there is no other, those that wait for one are told.
    fn note_failure(&mut self, error: StoreError, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.failed = Some((now, error));
        if self.connections.is_empty() {
            let waiting = mem::take(&mut self.waiting);
            self.refuse(waiting, error);
        }
    }

    /// The store was not asked these.
    fn refuse(&mut self, questions: VecDeque<Question>, error: StoreError) {
        let failed = Answered::Failed(Failure { error, is_doubtful: false });
        self.answers.extend(questions.into_iter().map(|question| (question.ticket, failed.clone())));
    }

    /// It may have done these.
    fn fail(&mut self, questions: VecDeque<Question>, silence: Silence) {
        let failed = Answered::Failed(self.wire.silence(silence));
        self.answers.extend(questions.into_iter().map(|question| (question.ticket, failed.clone())));
    }
}

impl Connection {
    /// Sends a question; `false` if the stream has ended; the host says more in a moment.
    fn send(&mut self, streams: &mut impl Streams, bytes: &[u8], now: Timestamp) -> bool {
        self.used = now;
        let is_sent = streams.send(self.stream, bytes);
        if !is_sent {
            self.stage = Stage::Retiring;
        }
        is_sent
    }

    /// Whether it would be asked at once.
    fn is_free(&self) -> bool {
        self.is_ready() && self.pending.is_empty()
    }

    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    fn is_opening(&self) -> bool {
        matches!(self.stage, Stage::Opening(_))
    }
}

/// How long a connection is kept on which nothing is asked.
const IDLE: Duration = Duration::from_secs(60);

/// How many servers that turn a connection away are left for the next at once.
const TRIED_AT_ONCE: u32 = 4;

const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
