//! A worker: a thread with its own VM, driven from the test or from a closure that runs on it.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use crate::{
    exports,
    fields::Fields,
    host::{Process, WorkerId, lock},
    messages::{Answer, Request, Response},
    stream::Stream,
    vm::{self, Callback, Callout, End},
};

/// The SDK's `set_log_level` sets process-wide state without a lock; a wasm VM has that state to itself.
static INITIALISING: Mutex<()> = Mutex::new(());

/// Runs `work` while no other test starts a VM, which would have the filter log more for a moment.
pub(crate) fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    let _guard = lock(&INITIALISING);
    work()
}

/// A handle to a worker. All clones are the same worker; the last one that is dropped ends the thread.
///
/// Each method returns when the worker has done it, so a test that drives several workers from one thread is
/// deterministic. For true races, give each worker a closure with [`Worker::run`] from a thread of its own.
#[derive(Clone)]
pub(crate) struct Worker {
    id: WorkerId,
    thread: Arc<Thread>,
}

impl Worker {
    /// Starts the thread and its VM; `None` if the filter refuses the configuration.
    pub(crate) fn start(process: &Arc<Process>, id: WorkerId, configuration: &str) -> Option<Self> {
        let worker = Self { id, thread: Arc::new(Thread::spawn(process, id)) };
        let (guest, configuration) = (process.settings.guest, configuration.to_owned());
        let accepted = worker.run(move || {
            let _guard = lock(&INITIALISING);
            vm::start(guest, &configuration)
        });
        accepted.then_some(worker)
    }

    /// Which one it is, as hooks and log lines name it.
    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    /// Runs `work` on the worker's thread and waits for it; its panic becomes this thread's.
    ///
    /// Everything that `work` does with this worker is then done right there, without a switch of threads.
    pub(crate) fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        if self.thread.is_current() {
            assert!(!vm::with(|vm| vm.is_running()), "a hook cannot use the worker whose call it interrupts");
            let result = work();
            deliver_wakes();
            return result;
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.thread.mailbox.send(Box::new(move || {
            let _gone = reply.send(catch_unwind(AssertUnwindSafe(work)));
        }));
        match answer.recv() {
            Ok(Ok(result)) => result,
            Ok(Err(payload)) => resume_unwind(payload),
            Err(_) => panic!("{:?} has crashed", self.id),
        }
    }

    /// A stream whose request is about to come.
    pub(crate) fn stream(&self) -> Stream {
        Stream::new(self)
    }

    /// One whole exchange: the request, `upstream`'s answer if the filter lets the request through, the end.
    pub(crate) fn exchange(&self, request: &Request, upstream: impl FnOnce() -> Response) -> Answer {
        let stream = self.stream();
        if !stream.send(request).is_replied() {
            stream.respond(&upstream());
        }
        stream.finish()
    }

    /// The timer fires; false if the filter has set no tick period, because then it never does.
    pub(crate) fn tick(&self) -> bool {
        self.run(|| {
            let (root, period) = vm::with(|vm| (vm.root, vm.tick_period_ms));
            if period > 0 {
                vm::call(root, Callback::Tick, || exports::tick(root));
            }
            period > 0
        })
    }

    /// After which time the timer fires.
    pub(crate) fn tick_period(&self) -> Duration {
        Duration::from_millis(self.run(|| vm::with(|vm| vm.tick_period_ms)).into())
    }

    /// The calls to clusters that wait for an answer, oldest first.
    pub(crate) fn callouts(&self) -> Vec<Callout> {
        self.run(|| vm::with(|vm| vm.callouts.values().cloned().collect()))
    }

    /// Answers a call. No fields and no body are Envoy's way to say that it was reset.
    pub(crate) fn answer_callout(&self, token: u32, headers: impl Into<Fields>, body: &[u8]) {
        let (headers, body) = (headers.into(), body.to_vec());
        self.run(move || {
            let (count, size) = (headers.len(), body.len());
            let root = vm::with(|vm| {
                vm.callouts.remove(&token).unwrap_or_else(|| panic!("no call {token} waits for an answer"));
                vm.call_answer = Some((headers, body));
                vm.root
            });
            vm::call(root, Callback::CallResponse, || exports::call_response(root, token, count, size, 0));
            vm::with(|vm| vm.call_answer = None);
        });
    }

    /// The VM dies as in a panic or a killed process: no callback runs any more, for none of its streams.
    pub(crate) fn crash(&self) {
        self.thread.stop();
    }

    /// The root context ends as when its listener has drained: `on_done`, then delete. Streams must be over.
    pub(crate) fn shut_down(&self) {
        assert!(self.drain(), "the root context asks for more time");
        self.thread.stop();
    }

    /// Asks the root context to end, as when its listener has drained; false if it asks for time. Streams must be over.
    pub(crate) fn drain(&self) -> bool {
        self.run(|| {
            let (root, live) = vm::with(|vm| (vm.root, vm.streams.len()));
            assert_eq!(live, 0, "streams that are not over");
            let done = vm::call(root, Callback::Done, || exports::done(root));
            if done {
                vm::delete_root();
            } else {
                vm::with(|vm| vm.end = End::Draining);
            }
            done
        })
    }

    /// Whether the root context has been deleted.
    pub(crate) fn is_over(&self) -> bool {
        self.run(|| vm::with(|vm| vm.end == End::Over))
    }

    /// Returns when the worker has done all that it was sent.
    pub(crate) fn rest(&self) {
        // What the first one finds is done behind it.
        self.run(|| {});
        self.run(|| {});
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// How a worker is reached: closures to run, and queues that have something for it.
pub(crate) struct Mailbox {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    wakes: Mutex<VecDeque<u32>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Mailbox {
    /// Has `on_queue_ready` called when the worker's thread is free.
    pub(crate) fn wake(&self, queue: u32) {
        lock(&self.wakes).push_back(queue);
        self.send(Box::new(|| {}));
    }

    fn send(&self, job: Job) {
        // A worker that has crashed takes no mail, like a thread that is gone.
        if let Some(jobs) = lock(&self.jobs).as_ref() {
            let _gone = jobs.send(job);
        }
    }
}

struct Thread {
    id: ThreadId,
    mailbox: Arc<Mailbox>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

thread_local! {
    static MAILBOX: std::cell::OnceCell<Arc<Mailbox>> = const { std::cell::OnceCell::new() };
}

/// The mailbox of the worker that this thread is.
pub(crate) fn mailbox() -> Arc<Mailbox> {
    MAILBOX.with(|mailbox| Arc::clone(mailbox.get().expect("a worker's thread")))
}

impl Thread {
    fn spawn(process: &Arc<Process>, id: WorkerId) -> Self {
        let (sender, jobs) = mpsc::channel::<Job>();
        let mailbox = Arc::new(Mailbox { jobs: Mutex::new(Some(sender)), wakes: Mutex::default() });
        let (process, own_mailbox) = (Arc::clone(process), Arc::clone(&mailbox));
        let work = move || {
            MAILBOX.with(|mailbox| mailbox.set(own_mailbox).unwrap_or_else(|_| panic!("one worker per thread")));
            vm::install(process, id);
            let mut failed: Option<Box<dyn Any + Send>> = None;
            for job in jobs {
                job();
                failed = catch_unwind(deliver_wakes).err().or(failed);
            }
            if let Some(payload) = failed {
                resume_unwind(payload);
            }
        };
        let handle = thread::Builder::new().name(format!("worker {}", id.0)).spawn(work).expect("a thread");
        Self { id: handle.thread().id(), mailbox, handle: Mutex::new(Some(handle)) }
    }

    fn is_current(&self) -> bool {
        thread::current().id() == self.id
    }

    /// Ends the thread after what it has been sent, and passes on what a wake-up failed with.
    fn stop(&self) {
        lock(&self.mailbox.jobs).take();
        let handle = lock(&self.handle).take();
        if let Some(handle) = handle.filter(|_| !self.is_current())
            && let Err(payload) = handle.join()
            && !thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the `on_queue_ready` that waits for this thread, as Envoy's dispatcher does between two events.
fn deliver_wakes() {
    let mailbox = mailbox();
    loop {
        let queue = lock(&mailbox.wakes).pop_front();
        let Some(queue) = queue else { break };
        let root = vm::with(|vm| vm.root);
        vm::call(root, Callback::QueueReady, || exports::queue_ready(root, queue));
    }
}
