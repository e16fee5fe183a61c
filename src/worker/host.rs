//! What a worker asks of its host.

use std::time::Duration;

use crate::{
    exchange::{Counter, DetachedCall, Notice, Reply, Status},
    record::Mailbox,
    request::OperationId,
    store::{Answer, Call, StoreError, inquiry::Inquiry, pool::Streams},
    time::Timestamp,
};

/// The number of an exchange. Unlike those of streams, these are never used twice in a worker; the lower one goes
/// first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExchangeId(pub u64);

/// The host calls of a worker. In Envoy they are proxy-wasm's; in a test they are the test's.
///
/// No call comes back into the worker before it has returned: what follows from a reply, a resume or a call to a cluster,
/// a failure included, is an event of its own.
pub trait Host: Streams {
    /// Makes a stream the one that replies, resumes, fields and access logs are about; `false` if it is over.
    fn enter_stream(&mut self, stream: u32) -> bool;

    /// Answers the client of the stream.
    fn reply(&mut self, reply: &Reply);

    /// Lets the request of the stream go on.
    fn resume_request(&mut self);

    /// Lets the response of the stream go on.
    fn resume_response(&mut self);

    /// Takes a field out of the request of the stream.
    fn remove_request_header(&mut self, name: &str);

    /// Takes a field out of the response of the stream.
    fn remove_response_header(&mut self, name: &str);

    /// Adds a field to the response of the stream.
    fn add_response_header(&mut self, name: &str, value: &str);

    /// How many bytes of the stream's request have arrived, handed over or not.
    fn bytes_received(&mut self) -> u64;

    /// Tells the stream's access log how the request ended.
    fn log_status(&mut self, status: Status, operation: Option<OperationId>, is_shadow: bool);

    /// Asks the store that decides, or the one of shadow mode.
    fn ask_store(&mut self, call: Call, is_shadow: bool, now: Timestamp) -> StoreReply;

    /// Sends a question of this exchange to the remote store over a connection of its own; the token that its answer will
    /// have, or `None` if the call cannot be made.
    fn call_store(&mut self, exchange: ExchangeId, question: &[u8], timeout: Duration) -> Option<u32>;

    /// Makes the detached call of this exchange, the same way.
    fn call_upstream(&mut self, exchange: ExchangeId, job: &DetachedCall, timeout: Duration) -> Option<u32>;

    /// Tells a worker that an execution of the operation has ended.
    fn wake(&mut self, worker: Mailbox, operation: &OperationId);

    /// Has [`Worker::on_messages`](super::Worker::on_messages) called soon, outside of any stream.
    fn call_back(&mut self);

    /// A clock in microseconds, to measure with.
    fn micros(&mut self) -> u64;

    /// Counts, logs or measures what happened.
    fn report(&mut self, report: Report<'_>, now: Timestamp);
}

/// What a store makes of a call.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once; a box would cost each question an allocation"
)]
pub enum StoreReply {
    /// It answers.
    Answered(Answer),
    /// It is to be asked this, by a call.
    Asks(Inquiry),
}

/// What happened that operators may want to know.
#[derive(Debug)]
pub enum Report<'a> {
    /// Something is counted of a request.
    Counted(Counter, About),
    /// The store has answered a claim after this time.
    ClaimTook(Duration, About),
    /// A request has waited this long.
    WaitTook(Duration, About),
    /// By how many the number of requests that wait has changed.
    Waiting(i64),
    /// By how many the number of detached calls under way has changed.
    Calls(i64),
    /// Something is not as it should be, which is to be said once.
    Notice(Notice),
    /// The store failed, and the exchange has counted that.
    StoreFailed {
        /// Why.
        error: StoreError,
        /// Whether it is the store of shadow mode.
        is_shadow: bool,
    },
    /// An attempt failed that no exchange is told about.
    AttemptFailed {
        /// Why.
        error: StoreError,
        /// Whether it was about the store of shadow mode.
        is_shadow: bool,
    },
    /// A detached call to this cluster cannot be made.
    CallRefused(&'a str),
    /// The host holds the bodies of requests back whose headers are held.
    BodyWithheld,
}

/// Whom a report is about.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Which exchange.
    pub exchange: ExchangeId,
    /// Its route, by the number that the host has given.
    pub route: usize,
    /// What the store was asked about last.
    pub operation: Option<OperationId>,
    /// Whether what the exchange decides is not carried out.
    pub is_shadow: bool,
}
