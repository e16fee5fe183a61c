//! One worker's VM as its host sees it: contexts, the callback that runs, and what the guest asked for meanwhile.
//!
//! The state is thread-local like the SDK's own. No borrow of it is held while the guest runs, and none while a
//! test's hook runs, so that either may come back through `imports.rs` or wait for another worker.

use std::{any::Any, cell::RefCell, collections::BTreeMap, fmt, panic, sync::Arc};

use crate::{
    exchange::{self, Exchange},
    exports::{self, Guest},
    fields::Fields,
    host::{Process, WorkerId},
    meter,
};

/// The status words of proxy-wasm 0.2.1 that this host answers with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Where the guest is: the callback that Envoy would be in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Callback {
    Start,
    Configure,
    Tick,
    QueueReady,
    CallResponse,
    CreateStream,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    Log,
    Done,
    Delete,
}

/// What a filter must not do to Envoy. Breaking a rule fails the test as soon as the callback is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// Envoy recurses and the whole process dies (FACTS: `send_http_response` in `on_log`).
    ReplyAfterTheEnd,
    /// The second reply wins, or the stream hangs on older Envoys.
    ReplyTwice,
    /// The reply goes out and the request goes on to the upstream all the same.
    ReplyAndResume,
    /// The response has begun: Envoy can only cut it off.
    ReplyAfterResponseHeaders,
    /// There is no stream to answer; nothing happens and the request hangs.
    ReplyWithoutStream,
    /// The status is not one of a final response.
    ReplyStatus,
    /// Envoy drops every field of a map it cannot read, or of one above 1,024 pairs or 1 MiB.
    HeaderMapForm,
    /// Envoy has let go of the map: `BadArgument`, on which the SDK panics, or silently no fields at all.
    HeadersOutsideTheirPhase,
    /// Access-log maps are read-only.
    HeadersWrittenInLog,
    /// The buffer is gone, or dangling.
    BodyOutsideItsPhase,
    /// A response whose held part outgrows the buffer is cut off after its 200 went out; behind held headers Envoy still
    /// has another answer.
    PauseInResponseBody,
    /// Envoys before 1.40.0 lose the piece that follows (envoy#46841).
    ResumePartOfBody,
    /// The resume is lost and the stream hangs.
    ResumeThenPause,
    /// `BadArgument`: counters only grow.
    CounterIncrement,
    /// Envoy nests what it carries out behind a callback, and the answers to calls that fail at once, until the stack of
    /// V8 overflows.
    TooMuchAtOnce,
    /// The context would stay for ever, as nothing calls `proxy_done`.
    DoneRefused,
    /// Older Envoys look for the effective context among the roots that wait, and find no stream there.
    DoneOfAnotherContext,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReplyAfterTheEnd => "a local reply after the stream's end segfaults Envoy",
            Self::ReplyTwice => "a stream is answered once",
            Self::ReplyAndResume => "a request is answered or resumed, never both",
            Self::ReplyAfterResponseHeaders => "no local reply once the response headers went to the client",
            Self::ReplyWithoutStream => "a local reply needs a stream as its effective context",
            Self::ReplyStatus => "a local reply has a final status, 200 to 599",
            Self::HeaderMapForm => "a header map is well formed, with at most 1024 pairs and 1 MiB",
            Self::HeadersOutsideTheirPhase => "headers are touched in their own phase only",
            Self::HeadersWrittenInLog => "header maps are read-only in on_log",
            Self::BodyOutsideItsPhase => "a response body is read in its own callback only",
            Self::PauseInResponseBody => "a response whose headers are out is held no further than the buffer goes",
            Self::ResumePartOfBody => "a request part of whose body is held goes on in its own callbacks only",
            Self::ResumeThenPause => "a callback that resumes its stream does not pause it",
            Self::CounterIncrement => "a counter grows by more than 0",
            Self::TooMuchAtOnce => "no more than some dozens of replies, resumes and calls are asked for at a time",
            Self::DoneRefused => "on_done returns true",
            Self::DoneOfAnotherContext => "proxy_done has the draining root as its effective context",
        })
    }
}

/// A call that the filter made to a cluster and that waits for its answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Callout {
    /// What the guest knows it by.
    pub(crate) token: u32,
    /// Envoy's name of the cluster.
    pub(crate) cluster: String,
    /// Request headers, pseudo-headers included.
    pub(crate) headers: Fields,
    /// Request body.
    pub(crate) body: Vec<u8>,
    /// Request trailers.
    pub(crate) trailers: Fields,
    /// 0 is none.
    pub(crate) timeout_ms: u32,
}

/// What the guest asked for in a callback and gets when that is over, as Envoy defers it.
#[derive(Debug)]
enum Deferred {
    Reply(u32, LocalReply),
    ResumeRequest(u32),
    ResumeResponse(u32),
    DeleteRoot,
}

/// How far the end of the root context has got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum End {
    #[default]
    Ahead,
    /// Its `on_done` asked for time.
    Draining,
    /// It is deleted.
    Over,
}

/// The arguments of `proxy_send_local_response`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) details: Option<String>,
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
}

/// One VM.
pub(crate) struct Vm {
    pub(crate) process: Arc<Process>,
    pub(crate) id: WorkerId,
    pub(crate) root: u32,
    pub(crate) streams: BTreeMap<u32, Exchange>,
    pub(crate) configuration: Vec<u8>,
    pub(crate) tick_period_ms: u32,
    pub(crate) callouts: BTreeMap<u32, Callout>,
    pub(crate) call_answer: Option<(Fields, Vec<u8>)>,
    pub(crate) end: End,
    next_context: u32,
    next_token: u32,
    running: Option<(u32, Callback)>,
    effective: u32,
    deferred: Vec<Deferred>,
    /// Calls to clusters in the callback that runs.
    calls_asked: usize,
    broken: Vec<String>,
    in_hook: bool,
    hook_panic: Option<Box<dyn Any + Send>>,
}

/// What [`Rule::TooMuchAtOnce`] allows: a tenth of what Envoy was seen to survive.
const MOST_AT_ONCE: usize = 33;

thread_local! {
    static VM: RefCell<Option<Vm>> = const { RefCell::new(None) };
}

/// Gives this thread its VM.
pub(crate) fn install(process: Arc<Process>, id: WorkerId) {
    VM.with_borrow_mut(|vm| *vm = Some(Vm::new(process, id)));
}

/// This thread's VM; the thread must have one.
pub(crate) fn with<R>(work: impl FnOnce(&mut Vm) -> R) -> R {
    try_with(work).expect("this thread has no VM: run the closure on a worker")
}

/// This thread's VM, if there is one, the thread is not at its end, and nobody is at work on it: the panic hook may
/// come here from anywhere.
pub(crate) fn try_with<R>(work: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    VM.try_with(|vm| vm.try_borrow_mut().ok()?.as_mut().map(work)).ok().flatten()
}

/// Runs one callback of the guest, then what it asked for; fails the test if the guest broke a rule.
pub(crate) fn call<R>(context: u32, callback: Callback, export: impl FnOnce() -> R) -> R {
    with(|vm| vm.enter(context, callback));
    let result = {
        let _guest = meter::guest();
        export()
    };
    let (deferred, broken, hook_panic) = with(Vm::leave);
    if let Some(payload) = hook_panic {
        panic::resume_unwind(payload);
    }
    assert!(broken.is_empty(), "the filter broke a rule of its host in {callback:?}: {}", broken.join("; "));
    for action in deferred {
        match action {
            Deferred::Reply(stream, reply) => exchange::local_reply(stream, reply),
            Deferred::ResumeRequest(stream) => exchange::resume_request(stream),
            Deferred::ResumeResponse(stream) => exchange::resume_response(stream),
            Deferred::DeleteRoot => delete_root(),
        }
    }
    result
}

impl Vm {
    fn new(process: Arc<Process>, id: WorkerId) -> Self {
        Self {
            process,
            id,
            root: 0,
            streams: BTreeMap::new(),
            configuration: Vec::new(),
            tick_period_ms: 0,
            callouts: BTreeMap::new(),
            call_answer: None,
            end: End::Ahead,
            next_context: 1,
            next_token: 1,
            running: None,
            effective: 0,
            deferred: Vec::new(),
            calls_asked: 0,
            broken: Vec::new(),
            in_hook: false,
            hook_panic: None,
        }
    }

    /// The id of the next context; root contexts and streams share one sequence.
    pub(crate) fn next_context(&mut self) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        id
    }

    /// Notes whether a test's hook has interrupted the guest.
    pub(crate) fn set_in_hook(&mut self, in_hook: bool) {
        self.in_hook = in_hook;
    }

    /// Whether the guest's own code is running, and no hook inside it.
    pub(crate) fn is_guest_code(&self) -> bool {
        self.running.is_some() && !self.in_hook
    }

    /// Whether the guest is running, or waits for a hook.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The callback that runs, if it is one of `context`.
    pub(crate) fn callback_of(&self, context: u32) -> Option<Callback> {
        self.running.filter(|(running, _)| *running == context).map(|(_, callback)| callback)
    }

    /// The stream that host calls are about, with the callback of it that runs.
    pub(crate) fn stream(&mut self) -> Option<(&mut Exchange, Option<Callback>)> {
        let effective = self.effective;
        let callback = self.callback_of(effective);
        self.streams.get_mut(&effective).map(|stream| (stream, callback))
    }

    /// Notes that the guest broke `rule`.
    pub(crate) fn breaks(&mut self, rule: Rule, what: impl fmt::Display) {
        self.broken.push(format!("{rule} ({what})"));
    }

    /// Keeps the panic of a test's hook until the guest is left, as it must not unwind through it.
    pub(crate) fn keep_panic(&mut self, payload: Box<dyn Any + Send>) {
        self.hook_panic.get_or_insert(payload);
    }

    /// `proxy_set_effective_context`.
    pub(crate) fn set_effective(&mut self, context: u32) -> Result<(), Status> {
        if context != self.root && !self.streams.contains_key(&context) {
            return Err(Status::BadArgument);
        }
        self.effective = context;
        Ok(())
    }

    /// `proxy_send_local_response`.
    pub(crate) fn reply(&mut self, reply: LocalReply) -> Result<(), Status> {
        let context = self.effective;
        if !(200..600).contains(&reply.status) {
            self.breaks(Rule::ReplyStatus, reply.status);
        }
        if reply.headers.len() > 1024 {
            self.breaks(Rule::HeaderMapForm, format_args!("{} pairs", reply.headers.len()));
        }
        let asked =
            self.deferred.iter().any(|action| matches!(action, Deferred::Reply(stream, _) if *stream == context));
        let resumed = self.deferred.iter().any(|action| matches!(action, Deferred::ResumeRequest(s) if *s == context));
        let Some((stream, callback)) = self.stream() else {
            self.breaks(Rule::ReplyWithoutStream, format_args!("context {context}"));
            return Ok(());
        };
        let broken = match callback {
            Some(Callback::Log | Callback::Done | Callback::Delete) => Some(Rule::ReplyAfterTheEnd),
            _ if asked || stream.is_replied() => Some(Rule::ReplyTwice),
            _ if resumed => Some(Rule::ReplyAndResume),
            _ if stream.is_response_under_way() => Some(Rule::ReplyAfterResponseHeaders),
            _ => None,
        };
        match broken {
            Some(rule) => self.breaks(rule, format_args!("status {}", reply.status)),
            None => self.deferred.push(Deferred::Reply(context, reply)),
        }
        Ok(())
    }

    /// `proxy_continue_stream` for a request (0) or a response (1).
    pub(crate) fn resume(&mut self, stream_type: u32) -> Result<(), Status> {
        let context = self.effective;
        let asked =
            self.deferred.iter().any(|action| matches!(action, Deferred::Reply(stream, _) if *stream == context));
        let Some((stream, _)) = self.stream() else { return Ok(()) };
        let action = match stream_type {
            0 if asked || stream.is_replied() => {
                self.breaks(Rule::ReplyAndResume, "the request");
                return Ok(());
            }
            0 => Deferred::ResumeRequest(context),
            1 => Deferred::ResumeResponse(context),
            _ => return Err(Status::BadArgument),
        };
        self.deferred.push(action);
        Ok(())
    }

    /// `proxy_done`.
    pub(crate) fn done(&mut self) -> Result<(), Status> {
        if self.effective != self.root {
            self.breaks(Rule::DoneOfAnotherContext, self.effective);
        }
        if self.end != End::Draining {
            return Err(Status::NotFound);
        }
        self.deferred.push(Deferred::DeleteRoot);
        Ok(())
    }

    /// `proxy_http_call`; every cluster can be called, unless the test says otherwise.
    pub(crate) fn http_call(&mut self, call: Callout) -> Result<u32, Status> {
        self.calls_asked += 1;
        if let Some(refusal) = self.process.refusal_of_calls(&call.cluster) {
            return Err(refusal);
        }
        if [":method", ":path", ":authority"].iter().any(|name| call.headers.get(name).is_none()) {
            return Err(Status::BadArgument);
        }
        let token = self.next_token;
        self.next_token += 1;
        self.callouts.insert(token, Callout { token, ..call });
        Ok(token)
    }

    fn enter(&mut self, context: u32, callback: Callback) {
        assert!(self.running.is_none(), "{callback:?} while the guest is in {:?}", self.running);
        self.running = Some((context, callback));
        self.effective = context;
    }

    fn leave(&mut self) -> (Vec<Deferred>, Vec<String>, Option<Box<dyn Any + Send>>) {
        self.running = None;
        let asked = self.deferred.len() + std::mem::take(&mut self.calls_asked);
        if asked > MOST_AT_ONCE {
            self.breaks(Rule::TooMuchAtOnce, asked);
        }
        (std::mem::take(&mut self.deferred), std::mem::take(&mut self.broken), self.hook_panic.take())
    }
}

/// The root context is over.
pub(crate) fn delete_root() {
    let root = with(|vm| {
        vm.end = End::Over;
        vm.root
    });
    call(root, Callback::Delete, || exports::delete(root));
}

/// Starts the VM: `_initialize`, root context, `on_vm_start`, `on_configure`. False if the filter refuses.
pub(crate) fn start(guest: Guest, configuration: &str) -> bool {
    let root = with(|vm| {
        vm.root = vm.next_context();
        vm.configuration = configuration.as_bytes().to_vec();
        vm.root
    });
    call(root, Callback::Start, || {
        exports::initialize(guest);
        exports::context_create(root, 0);
    });
    call(root, Callback::Start, || exports::vm_start(root, 0))
        && call(root, Callback::Configure, || exports::configure(root, configuration.len()))
}
