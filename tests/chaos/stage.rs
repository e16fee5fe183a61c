//! What clients act on: the Envoys where they are at the moment, and the record.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{
    bench::{Lot, Protocol, Request, Response, try_send, try_send_and_leave},
    fault::Fault,
    proof::history::{Asked, AttemptId, Told, Word},
    record::{Fact, Record},
    service::{ATTEMPT, Intent, Intents},
};

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) record: Arc<Record>,
    pub(crate) intents: Intents,
    addresses: Mutex<Vec<SocketAddr>>,
    is_over: AtomicBool,
    /// How long a client waits for an answer before it hangs up; None if it need not.
    patience: Option<Duration>,
}

/// How one attempt is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) asked: Asked,
    pub(crate) envoy: usize,
    pub(crate) protocol: Protocol,
    pub(crate) intent: Intent,
    /// How the client hangs up, and after which time.
    pub(crate) departure: Option<(Fault, Duration)>,
    /// What the request says to the module that can be made to crash.
    pub(crate) crash: Option<&'static str>,
}

impl Attempt {
    /// At one of the Envoys.
    pub(crate) fn draw(asked: Asked, envoys: usize, lot: &mut Lot) -> Self {
        Self {
            asked,
            envoy: lot.below(envoys as u64) as usize,
            protocol: lot.of(&Protocol::BOTH),
            intent: Intent::draw(lot),
            departure: None,
            crash: None,
        }
    }

    /// Perhaps the client hangs up.
    pub(crate) fn or_leaves(mut self, lot: &mut Lot) -> Self {
        let time = Duration::from_millis(lot.below(150));
        self.departure = match lot.below(100) {
            0..5 => Some((Fault::LeftUploading, time)),
            5..15 => Some((Fault::LeftWaiting, time)),
            15..22 => Some((Fault::LeftReading, time)),
            _ => None,
        };
        self
    }
}

impl Stage {
    pub(crate) fn new(record: Arc<Record>, intents: Intents, patience: Option<Duration>) -> Self {
        Self { record, intents, addresses: Mutex::default(), is_over: AtomicBool::new(false), patience }
    }

    /// Those who act on it must leave.
    pub(crate) fn close(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Where the Envoys are from now on.
    pub(crate) fn move_to(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.lock().unwrap() = addresses;
    }

    pub(crate) fn address(&self, envoy: usize) -> SocketAddr {
        self.addresses.lock().unwrap()[envoy]
    }

    /// Makes an attempt, and notes what comes of it; gives the answer, if the filter had a say in it.
    pub(crate) async fn make(&self, attempt: Attempt) -> (AttemptId, Option<Told>) {
        let Attempt { asked, envoy, protocol, intent, departure, .. } = attempt;
        let address = self.address(envoy);
        let number = self.record.begin(asked, envoy);
        self.intents.insert(number, intent);
        let request = request(number, &attempt);
        let departure = departure.or_else(|| Some((Fault::LeftWaiting, self.patience?)));
        let response = match departure {
            Some((stage @ Fault::LeftReading, _)) => {
                let patience = self.patience.unwrap_or(Duration::MAX);
                let has_begun = timeout(patience, try_send_and_leave(address, protocol, &request)).await;
                return self.left(number, stage, has_begun == Ok(true));
            }
            Some((stage @ Fault::LeftUploading, time)) => {
                let is_cut_off = timeout(time, try_send(address, protocol, &request.unfinished())).await.is_ok();
                return self.left(number, stage, !is_cut_off);
            }
            Some((stage, time)) => match timeout(time, try_send(address, protocol, &request)).await {
                Ok(response) => response,
                Err(_) => return self.left(number, stage, true),
            },
            None => try_send(address, protocol, &request).await,
        };
        let told = response.filter(|response| response.complete).map(|response| (response.status, told(response)));
        self.record.note(match &told {
            None => Fact::Cut(number),
            Some((status, None)) => Fact::HeardEnvoy(number, *status),
            Some((_, Some(told))) => Fact::Heard(number, told.clone()),
        });
        (number, told.and_then(|(_, told)| told))
    }

    /// A client is gone, by itself if it did not come too late for that.
    fn left(&self, number: AttemptId, stage: Fault, by_itself: bool) -> (AttemptId, Option<Told>) {
        self.record.note(Fact::Left(number, stage));
        self.record.count(stage, by_itself);
        (number, None)
    }
}

/// Whether what is at this address answers nothing for so long; returns when the time is over.
pub(crate) async fn is_silent(address: SocketAddr, time: Duration) -> bool {
    let end = Instant::now() + time;
    let request = Request::get("/");
    let answered = timeout_at(end, try_send(address, Protocol::Http1, &request)).await;
    sleep_until(end).await;
    !matches!(answered, Ok(Some(_)))
}

/// Whether Envoy does not wait for long where this is asked for.
pub(crate) fn is_impatient(asked: Asked) -> bool {
    asked.key.is_multiple_of(3)
}

/// Each key has a path of its own.
fn request(number: AttemptId, attempt: &Attempt) -> Request {
    let Asked { caller, key, body } = attempt.asked;
    let place = if is_impatient(attempt.asked) { "impatient" } else { "orders" };
    let path = format!("/{place}/{key}");
    let request = Request::post(&path)
        .key(format!("key-{key}"))
        .caller(&format!("caller-{caller}"))
        .body(format!("{{\"amount\":{body}}}"))
        .header(ATTEMPT, number.to_string());
    match attempt.crash {
        Some(moment) => request.header("x-crash-test", moment),
        None => request,
    }
}

/// A whole answer without the fields that Envoy makes anew for each; None if the filter had no say in it.
fn told(response: Response) -> Option<Told> {
    const OF_ENVOY: [&str; 5] = ["connection", "content-length", "date", "server", "transfer-encoding"];
    let is_of_envoy = |name: &str| OF_ENVOY.contains(&name) || name.starts_with("x-envoy-");
    let Response { status, headers, body, .. } = response;
    let fields = headers.into_iter().filter(|(name, _)| !is_of_envoy(name));
    Told::read(status, fields.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())), body)
}

/// Whether a client has no reason to ask again.
pub(crate) fn is_final(told: &Told, retries_unknown: bool) -> bool {
    match told.word {
        Word::KeyReused | Word::NotKept | Word::Replayed => true,
        Word::Executed => told.status < 500,
        Word::Unknown => told.status == 409 && !retries_unknown,
        Word::Bypassed | Word::InFlight | Word::Rejected => false,
    }
}
