//! The service behind the Envoys: what it makes of a request was decided with the request.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    bench::{Answer, Gate, Lot, Protocol, Seen, Upstream},
    proof::{
        history::AttemptId,
        scenario::Conduct,
        service::{Response, body_of},
    },
    record::{Fact, Record},
};

/// What the service is to make of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intent {
    conduct: Conduct,
    /// How long it works.
    work: Duration,
    /// How long it takes a break in the middle of its answer.
    pause: Duration,
}

/// The header by which the service knows an attempt; it is no part of what is asked for.
pub(crate) const ATTEMPT: &str = "x-attempt";

/// Longer than any timeout of an Envoy.
const TOO_LONG: Duration = Duration::from_millis(2_600);

impl Intent {
    /// What it answers once nothing fails any more.
    pub(crate) const AT_ONCE: Self = Self { conduct: Conduct::Answers, work: Duration::ZERO, pause: Duration::ZERO };

    /// What it answers after so much work.
    pub(crate) fn answers_after(work: Duration) -> Self {
        Self { conduct: Conduct::Answers, work, pause: Duration::ZERO }
    }

    pub(crate) fn draw(lot: &mut Lot) -> Self {
        let conduct = match lot.below(100) {
            0..62 => Conduct::Answers,
            62..82 => Conduct::Refuses,
            82..86 => Conduct::Stumbles,
            86..93 => Conduct::Breaks,
            93..96 => Conduct::AnswersOnce,
            _ => Conduct::TimesOut,
        };
        let work = match lot.below(10) {
            // Longer than a lease may be, which has to be renewed.
            0 => 600 + lot.below(1_300),
            1..5 => lot.below(150),
            _ => lot.below(20),
        };
        let pause = if lot.chance(20) { lot.below(150) } else { 0 };
        Self { conduct, work: Duration::from_millis(work), pause: Duration::from_millis(pause) }
    }
}

/// The intents of the attempts that were sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intents(Arc<Mutex<BTreeMap<AttemptId, Intent>>>);

impl Intents {
    pub(crate) fn insert(&self, attempt: AttemptId, intent: Intent) {
        self.0.lock().unwrap().insert(attempt, intent);
    }

    fn of(&self, attempt: AttemptId) -> Option<Intent> {
        self.0.lock().unwrap().get(&attempt).copied()
    }
}

/// Starts it. Requests that are no attempts are answered too, and not recorded.
pub(crate) fn start(record: Arc<Record>, intents: Intents) -> Upstream {
    let mut upstream = Upstream::shut(Protocol::Http1);
    upstream.directed_by(move |seen| {
        let attempt = attempt_of(seen)?;
        let intent = intents.of(attempt)?;
        record.note(Fact::Ran(attempt));
        Some(work_on(attempt, intent, &record))
    });
    upstream.open();
    upstream
}

fn attempt_of(seen: &Seen) -> Option<AttemptId> {
    std::str::from_utf8(seen.header(ATTEMPT)?).ok()?.parse().ok()
}

fn work_on(attempt: AttemptId, intent: Intent, record: &Arc<Record>) -> Answer {
    let Intent { conduct, work, pause } = intent;
    let (begins, goes_on) = (Gate::closed(), Gate::closed());
    let (record, gates) = (Arc::clone(record), (begins.clone(), goes_on.clone()));
    tokio::spawn(async move {
        sleep(if conduct == Conduct::TimesOut { TOO_LONG } else { work }).await;
        // Before anybody can see it.
        record.note(Fact::Conducted(attempt, conduct));
        gates.0.open();
        sleep(pause).await;
        gates.1.open();
    });
    let answer = match conduct {
        // Half of them in the middle of an answer.
        Conduct::Breaks if attempt.is_multiple_of(2) => Answer::hang_up(),
        Conduct::Breaks => Answer::new(201).header("content-length", "1000").chunk(body_of(attempt)).then_cut(),
        Conduct::TimesOut => Answer::new(504),
        Conduct::Answers => {
            let body = body_of(attempt);
            let (head, tail) = body.split_at(body.len() / 2);
            let answer = answer_of(conduct, attempt).header("content-length", body.len().to_string());
            answer.chunk(head).then_held_by(&goes_on).chunk(tail)
        }
        Conduct::AnswersOnce | Conduct::Refuses | Conduct::Stumbles | Conduct::Unreachable => {
            answer_of(conduct, attempt).body(Response::of(conduct, attempt).body)
        }
    };
    answer.held_by(&begins)
}

/// The head of the answer, as in the simulated worlds.
fn answer_of(conduct: Conduct, attempt: AttemptId) -> Answer {
    let Response { status, headers, .. } = Response::of(conduct, attempt);
    let fields = headers.iter().filter(|(name, _)| !name.starts_with(b":"));
    fields.fold(Answer::new(status), |answer, (name, value)| {
        answer.header(String::from_utf8_lossy(name).into_owned(), value)
    })
}
