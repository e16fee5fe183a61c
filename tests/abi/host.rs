//! The Envoy process around the workers: what they share, and what the test moves and looks at.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    exports::Guest,
    shared_data::SharedData,
    vm::Status,
    worker::{Mailbox, Worker},
};

/// 2026-01-01T00:00:00Z, where every host's clock starts.
const START: Duration = Duration::from_secs(1_767_225_600);

/// One Envoy process. Hosts know nothing of each other, so tests may run side by side.
#[derive(Clone)]
pub(crate) struct Host {
    process: Arc<Process>,
}

/// What differs between the Envoys that a filter may meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Who is in the VMs.
    pub(crate) guest: Guest,
    /// `allow_on_headers_stop_iteration`: body callbacks come while the headers are held.
    pub(crate) body_while_headers_held: bool,
    /// `per_connection_buffer_limit_bytes`: a longer held request body gets Envoy's own 413.
    pub(crate) buffer_limit: usize,
}

impl Settings {
    /// An Envoy with the flag set, and Idemgate in it.
    pub(crate) fn idemgate() -> Self {
        Self { guest: Guest::Idemgate, body_while_headers_held: true, buffer_limit: 1 << 20 }
    }
}

/// Which worker of a host, in the order they were started.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct WorkerId(pub(crate) usize);

/// A filter that refused its configuration; Envoy would then refuse the listener.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What the filter logged while it looked at the configuration.
    pub(crate) log: Vec<LogLine>,
}

/// One line of Envoy's log from the filter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LogLine {
    /// Whose VM wrote it.
    pub(crate) worker: WorkerId,
    /// 0 trace, 1 debug, 2 info, 3 warn, 4 error, 5 critical.
    pub(crate) level: u32,
    /// The text.
    pub(crate) message: String,
}

/// A call to the shared data, as a hook sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SharedDataCall {
    /// Whose VM makes it.
    pub(crate) worker: WorkerId,
    /// Before or after it takes effect.
    pub(crate) moment: Moment,
    /// What it does.
    pub(crate) operation: Operation,
    /// The key.
    pub(crate) key: Vec<u8>,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// The call has had no effect yet.
    Before,
    /// The call is done, the guest has not seen its result yet.
    After,
}

/// What a call to the shared data does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    /// `proxy_get_shared_data`.
    Get,
    /// `proxy_set_shared_data`.
    Set {
        /// The cas that came with it.
        cas: u32,
    },
}

impl Operation {
    /// Whether the call writes.
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::Set { .. })
    }
}

impl Host {
    /// An Envoy with Idemgate in it.
    pub(crate) fn new() -> Self {
        Self::with(Settings::idemgate())
    }

    /// An Envoy of another kind.
    pub(crate) fn with(settings: Settings) -> Self {
        Self { process: Arc::new(Process::new(settings)) }
    }

    /// Starts a worker whose filter has `configuration`.
    pub(crate) fn worker(&self, configuration: &str) -> Worker {
        self.try_worker(configuration).unwrap_or_else(|refused| panic!("the configuration was refused: {refused:?}"))
    }

    /// Starts a worker, or tells why its filter refused the configuration.
    pub(crate) fn try_worker(&self, configuration: &str) -> Result<Worker, Refused> {
        let id = WorkerId(self.process.workers.fetch_add(1, Ordering::Relaxed));
        let logged = self.log().len();
        Worker::start(&self.process, id, configuration).ok_or_else(|| Refused { log: self.log().split_off(logged) })
    }

    /// The shared data of all workers.
    pub(crate) fn shared_data(&self) -> &SharedData {
        &self.process.shared_data
    }

    /// Moves the clock of all workers on. Ticks come from [`Worker::tick`] alone.
    pub(crate) fn advance(&self, by: Duration) {
        let nanoseconds = u64::try_from(by.as_nanos()).expect("less than 584 years");
        self.process.now.fetch_add(nanoseconds, Ordering::SeqCst);
    }

    /// Time since the Unix epoch.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.process.now.load(Ordering::SeqCst))
    }

    /// The value of a counter or gauge; 0 if it was never defined.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.process.metrics().values.get(name).map_or(0, |metric| metric.value)
    }

    /// Everything that was recorded in a histogram.
    pub(crate) fn histogram(&self, name: &str) -> Vec<u64> {
        self.process.metrics().values.get(name).map_or_else(Vec::new, |metric| metric.samples.clone())
    }

    /// Has calls to a cluster refused as they are made: unknown (`BadArgument`), or without a host or at its limits
    /// (`InternalFailure`).
    pub(crate) fn refuse_calls(&self, cluster: &str, status: Status) {
        lock(&self.process.refused_clusters).insert(cluster.to_owned(), status);
    }

    /// Lets calls to a cluster be made again.
    pub(crate) fn allow_calls(&self, cluster: &str) {
        lock(&self.process.refused_clusters).remove(cluster);
    }

    /// The names of all queues that were ever registered.
    pub(crate) fn queues(&self) -> Vec<String> {
        lock(&self.process.queues).iter().map(|queue| String::from_utf8_lossy(&queue.name).into_owned()).collect()
    }

    /// Puts a message into a queue, as a worker of any age could.
    pub(crate) fn enqueue(&self, queue: &str, message: &[u8]) {
        let token = self.process.resolve_queue(queue.as_bytes()).expect("a queue");
        self.process.enqueue(token, message).expect("a queue");
    }

    /// Everything the filters logged.
    pub(crate) fn log(&self) -> Vec<LogLine> {
        lock(&self.process.log).clone()
    }

    /// Calls `hook` before and after each shared-data call of any worker, on that worker's thread, with no lock
    /// held: it may run other workers, whose calls then come to it as well.
    pub(crate) fn on_shared_data(&self, hook: impl Fn(&SharedDataCall) + Send + Sync + 'static) {
        lock(&self.process.hooks).every = Some(Arc::new(hook));
    }

    /// Runs `action` once, at the first shared-data call that `matches`: a chosen interleaving.
    pub(crate) fn once_at(
        &self,
        matches: impl Fn(&SharedDataCall) -> bool + Send + 'static,
        action: impl FnOnce() + Send + 'static,
    ) {
        lock(&self.process.hooks).once.push((Box::new(matches), Box::new(action)));
    }
}

/// What all workers of a host share.
pub(crate) struct Process {
    pub(crate) settings: Settings,
    pub(crate) shared_data: SharedData,
    now: AtomicU64,
    workers: AtomicUsize,
    metrics: Mutex<Metrics>,
    log: Mutex<Vec<LogLine>>,
    queues: Mutex<Vec<Queue>>,
    refused_clusters: Mutex<BTreeMap<String, Status>>,
    hooks: Mutex<Hooks>,
}

/// The type of a metric, as `proxy_define_metric` numbers it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Default)]
struct Metrics {
    /// An id is an index; a name that is defined twice has two ids and one value.
    ids: Vec<String>,
    values: BTreeMap<String, Metric>,
}

#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    value: u64,
    samples: Vec<u64>,
}

/// A queue's token is its index plus 1: 0 is "not found".
struct Queue {
    name: Vec<u8>,
    owner: Arc<Mailbox>,
    values: VecDeque<Vec<u8>>,
}

type Hook = Arc<dyn Fn(&SharedDataCall) + Send + Sync>;
type Matches = Box<dyn Fn(&SharedDataCall) -> bool + Send>;
type Once = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Hooks {
    every: Option<Hook>,
    once: Vec<(Matches, Once)>,
}

impl Process {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            shared_data: SharedData::new(),
            now: AtomicU64::new(u64::try_from(START.as_nanos()).expect("before 2554")),
            workers: AtomicUsize::new(0),
            metrics: Mutex::default(),
            log: Mutex::default(),
            queues: Mutex::default(),
            refused_clusters: Mutex::default(),
            hooks: Mutex::default(),
        }
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// Keeps a log line.
    pub(crate) fn write_log(&self, line: LogLine) {
        lock(&self.log).push(line);
    }

    /// Runs the hooks that a shared-data call concerns.
    pub(crate) fn run_hooks(&self, call: &SharedDataCall) {
        let (once, every) = {
            let mut hooks = lock(&self.hooks);
            let first = hooks.once.iter().position(|(matches, _)| matches(call));
            (first.map(|index| hooks.once.remove(index).1), hooks.every.clone())
        };
        if let Some(action) = once {
            action();
        }
        if let Some(hook) = every {
            hook(call);
        }
    }

    /// `proxy_define_metric`.
    pub(crate) fn define_metric(&self, kind: MetricKind, name: &str) -> u32 {
        let mut metrics = self.metrics();
        metrics.values.entry(name.to_owned()).or_insert_with(|| Metric { kind, value: 0, samples: Vec::new() });
        metrics.ids.push(name.to_owned());
        u32::try_from(metrics.ids.len() - 1).expect("few metrics")
    }

    /// `proxy_increment_metric`.
    pub(crate) fn increment_metric(&self, id: u32, by: i64) -> Result<(), Status> {
        self.change_metric(id, |metric| {
            match metric.kind {
                MetricKind::Counter if by > 0 => metric.value = metric.value.wrapping_add_signed(by),
                MetricKind::Gauge => metric.value = metric.value.wrapping_add_signed(by),
                MetricKind::Counter | MetricKind::Histogram => return Err(Status::BadArgument),
            }
            Ok(())
        })
    }

    /// `proxy_record_metric`.
    pub(crate) fn record_metric(&self, id: u32, value: u64) -> Result<(), Status> {
        self.change_metric(id, |metric| {
            match metric.kind {
                MetricKind::Counter => metric.value = metric.value.wrapping_add(value),
                MetricKind::Gauge => metric.value = value,
                MetricKind::Histogram => metric.samples.push(value),
            }
            Ok(())
        })
    }

    /// `proxy_get_metric`.
    pub(crate) fn metric(&self, id: u32) -> Result<u64, Status> {
        let mut value = 0;
        self.change_metric(id, |metric| {
            value = metric.value;
            if metric.kind == MetricKind::Histogram { Err(Status::BadArgument) } else { Ok(()) }
        })?;
        Ok(value)
    }

    /// `proxy_register_shared_queue`: the last one to register a name is woken for it; values stay.
    pub(crate) fn register_queue(&self, name: &[u8], owner: Arc<Mailbox>) -> u32 {
        let mut queues = lock(&self.queues);
        let index = match queues.iter().position(|queue| queue.name == name) {
            Some(index) => {
                queues[index].owner = owner;
                index
            }
            None => {
                queues.push(Queue { name: name.to_vec(), owner, values: VecDeque::new() });
                queues.len() - 1
            }
        };
        u32::try_from(index + 1).expect("few queues")
    }

    /// `proxy_resolve_shared_queue`.
    pub(crate) fn resolve_queue(&self, name: &[u8]) -> Result<u32, Status> {
        let index = lock(&self.queues).iter().position(|queue| queue.name == name).ok_or(Status::NotFound)?;
        Ok(u32::try_from(index + 1).expect("few queues"))
    }

    /// `proxy_enqueue_shared_queue`: the owner's `on_queue_ready` runs as soon as its thread is free.
    pub(crate) fn enqueue(&self, token: u32, value: &[u8]) -> Result<(), Status> {
        let owner = self.with_queue(token, |queue| {
            queue.values.push_back(value.to_vec());
            Arc::clone(&queue.owner)
        })?;
        owner.wake(token);
        Ok(())
    }

    /// `proxy_dequeue_shared_queue`.
    pub(crate) fn dequeue(&self, token: u32) -> Result<Vec<u8>, Status> {
        self.with_queue(token, |queue| queue.values.pop_front())?.ok_or(Status::Empty)
    }

    /// Why calls to a cluster are refused, if they are.
    pub(crate) fn refusal_of_calls(&self, cluster: &str) -> Option<Status> {
        lock(&self.refused_clusters).get(cluster).copied()
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        lock(&self.metrics)
    }

    fn change_metric(&self, id: u32, change: impl FnOnce(&mut Metric) -> Result<(), Status>) -> Result<(), Status> {
        let mut metrics = self.metrics();
        let name = usize::try_from(id).ok().and_then(|id| metrics.ids.get(id)).ok_or(Status::NotFound)?.clone();
        change(metrics.values.get_mut(&name).ok_or(Status::NotFound)?)
    }

    fn with_queue<R>(&self, token: u32, work: impl FnOnce(&mut Queue) -> R) -> Result<R, Status> {
        let index = usize::try_from(token).ok().and_then(|token| token.checked_sub(1)).ok_or(Status::NotFound)?;
        lock(&self.queues).get_mut(index).map(work).ok_or(Status::NotFound)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("settings", &self.process.settings).finish_non_exhaustive()
    }
}

/// A lock that a failed test on another thread does not take along.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
