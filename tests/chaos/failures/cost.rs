//! What a failure costs: how often each key ran, and what clients were told.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use crate::{
    proof::{
        history::{AttemptId, Told, Word},
        service::{Response, body_of},
    },
    record::{Entry, Fact},
};

/// How often a key may run.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    Once,
    /// Twice if its first execution began in one of these times, in milliseconds; otherwise once.
    TwiceOf(Vec<(u64, u64)>),
    /// Twice, and some of them must: otherwise the scenario shows nothing.
    TwiceAndSome(Vec<(u64, u64)>),
}

#[derive(Debug)]
pub(crate) struct Cost {
    allowed: Allowed,
    /// For each key, when it ran.
    runs: BTreeMap<(u8, u8), Vec<u64>>,
    /// Replays of what was not the answer to that very request.
    wrong: Vec<AttemptId>,
    replays: usize,
    /// Clients that gave up waiting for any answer, and keys for which there was no final one in the end.
    hung: usize,
    /// Connections that ended without an answer.
    cut: usize,
    /// Answers that say so.
    unknown: usize,
    rejected: usize,
    /// The longest time without any answer of the service or a replay of one.
    gap: u64,
    pub(crate) fenced: u64,
    /// Memory of the first Envoy, in MiB, before and after.
    pub(crate) resident: (u64, u64),
    /// What the history checker has found, where it was asked.
    pub(crate) breach: Option<String>,
}

impl Cost {
    pub(crate) const HEAD: &str = "| scenario | keys | executions per key | allowed | replays | wrong replays | hung | notes |\n\
                                   | --- | --- | --- | --- | --- | --- | --- | --- |";

    /// Of what was noted, the last clients having begun to leave at `closed`.
    pub(crate) fn of(entries: &[Entry], closed: u64, allowed: Allowed) -> Self {
        let mut cost = Self {
            allowed,
            runs: BTreeMap::new(),
            wrong: Vec::new(),
            replays: 0,
            hung: 0,
            cut: 0,
            unknown: 0,
            rejected: 0,
            gap: 0,
            fenced: 0,
            resident: (0, 0),
            breach: None,
        };
        let (mut asked, mut ran, mut answered) = (BTreeMap::new(), BTreeMap::new(), None);
        for Entry { at, fact } in entries {
            match fact {
                Fact::Began { attempt, asked: what, .. } => {
                    asked.insert(*attempt, (what.caller, what.key));
                }
                Fact::Ran(attempt) => {
                    ran.insert(body_of(*attempt), *attempt);
                    cost.runs.entry(asked[attempt]).or_default().push(*at);
                }
                Fact::Heard(attempt, told) => {
                    cost.hear(*attempt, told, |run| asked[&run] == asked[attempt], &ran);
                    if matches!(told.word, Word::Executed | Word::Replayed)
                        && let Some(before) = answered.replace(*at).filter(|_| *at <= closed)
                    {
                        cost.gap = cost.gap.max(at - before);
                    }
                }
                Fact::HeardEnvoy(..) => cost.rejected += 1,
                Fact::Cut(_) => cost.cut += 1,
                Fact::Left(..) | Fact::Stuck(_) => cost.hung += 1,
                Fact::Conducted(..) | Fact::Begins(_) | Fact::Ends(_) | Fact::RecordsLost => {}
            }
        }
        cost
    }

    fn hear(
        &mut self,
        attempt: AttemptId,
        told: &Told,
        is_of_its_key: impl Fn(AttemptId) -> bool,
        ran: &BTreeMap<Vec<u8>, AttemptId>,
    ) {
        match told.word {
            Word::Replayed => {
                self.replays += 1;
                let is_right = ran.get(&told.body).is_some_and(|run| {
                    is_of_its_key(*run) && (told.status, &told.fields) == (201, &Response::replayed_fields(*run))
                });
                if !is_right {
                    self.wrong.push(attempt);
                }
            }
            Word::Unknown => self.unknown += 1,
            Word::Rejected => self.rejected += 1,
            _ => {}
        }
    }

    /// Keys that ran more than once.
    fn again(&self) -> impl Iterator<Item = (&(u8, u8), &Vec<u64>)> {
        self.runs.iter().filter(|(_, runs)| runs.len() > 1)
    }

    /// What it costs beyond what is allowed.
    pub(crate) fn excess(&self) -> Option<String> {
        let mut excess = String::new();
        let times: &[(u64, u64)] = match &self.allowed {
            Allowed::Once => &[],
            Allowed::TwiceOf(times) | Allowed::TwiceAndSome(times) => times,
        };
        for (key, runs) in self.again() {
            let is_allowed = times.iter().any(|(from, to)| (*from..=*to).contains(&runs[0]));
            if runs.len() > 2 || !is_allowed {
                let _ = write!(excess, "key {key:?} ran at {runs:?} ms, and may run again only from {times:?}; ");
            }
        }
        if matches!(self.allowed, Allowed::TwiceAndSome(_)) && self.again().next().is_none() {
            excess.push_str("no key ran twice, so that nothing is shown; ");
        }
        if self.runs.len() < 40 {
            excess.push_str("hardly anything was asked for; ");
        }
        if !self.wrong.is_empty() {
            let _ = write!(excess, "wrong replays to {:?}; ", self.wrong);
        }
        if self.hung > 0 {
            let _ = write!(excess, "{} have waited for nothing; ", self.hung);
        }
        if let Some(breach) = &self.breach {
            excess.push_str(breach);
        }
        (!excess.is_empty()).then_some(excess)
    }
}

/// As the rest of a row.
impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = self.again().count();
        let most = self.runs.values().map(Vec::len).max().unwrap_or_default();
        write!(formatter, "| {} | ", self.runs.len())?;
        if again == 0 {
            formatter.write_str("1")?
        } else {
            write!(formatter, "{most} for {again}")?
        }
        let allowed = match self.allowed {
            Allowed::Once => "1",
            Allowed::TwiceOf(_) | Allowed::TwiceAndSome(_) => "2 for some",
        };
        let Self { wrong, replays, hung, cut, unknown, rejected, gap, fenced, resident: (before, after), .. } = self;
        write!(formatter, " | {allowed} | {replays} | {} | {hung} | ", wrong.len())?;
        write!(formatter, "longest gap {:.1} s; told: {rejected} x 503, {unknown} x unknown; ", *gap as f64 / 1e3)?;
        write!(formatter, "{cut} cut, {fenced} fenced; RSS {before} to {after} MiB |")
    }
}

#[test]
fn what_costs_too_much_is_found_out() {
    use crate::{doctored::small_history, proof::history::Asked};

    let excess = |entries: &[Entry], allowed| Cost::of(entries, 0, allowed).excess().unwrap_or_default();
    let again = |entries: &mut Vec<Entry>| {
        let (attempt, asked) = (9, Asked { caller: 0, key: 1, body: 0 });
        let facts = [Fact::Began { attempt, asked, envoy: 0 }, Fact::Ran(attempt)];
        entries.extend(facts.map(|fact| Entry { at: 20, fact }));
    };
    let told = |entries: &mut Vec<Entry>, change: fn(&mut Told)| {
        let replay = entries.iter_mut().rev().find_map(|entry| match &mut entry.fact {
            Fact::Heard(_, told) => Some(told),
            _ => None,
        });
        change(replay.unwrap());
    };
    let history = small_history();
    assert_eq!(excess(&history, Allowed::Once), "hardly anything was asked for; ");
    assert!(excess(&history, Allowed::TwiceAndSome(vec![(0, 100)])).contains("no key ran twice"));

    let mut doctored = history.clone();
    again(&mut doctored);
    assert!(excess(&doctored, Allowed::Once).contains("may run again only from"));
    assert!(excess(&doctored, Allowed::TwiceOf(vec![(11, 100)])).contains("may run again only from"));
    assert!(!excess(&doctored, Allowed::TwiceOf(vec![(10, 10)])).contains("may run again only from"));

    let another = history.iter().find_map(|entry| match &entry.fact {
        Fact::Heard(_, told) => Some(told.body.clone()),
        _ => None,
    });
    for change in [|told: &mut Told| told.body[0] ^= 1, |told: &mut Told| drop(told.fields.pop())] {
        let mut doctored = history.clone();
        told(&mut doctored, change);
        assert!(excess(&doctored, Allowed::Once).contains("wrong replays"));
    }
    let mut doctored = history.clone();
    if let Some(Entry { fact: Fact::Heard(_, told), .. }) = doctored.last_mut() {
        told.body = another.unwrap();
    }
    assert!(excess(&doctored, Allowed::Once).contains("wrong replays"));

    let mut doctored = history;
    doctored.push(Entry { at: 30, fact: Fact::Stuck(3) });
    assert!(excess(&doctored, Allowed::Once).contains("waited for nothing"));
}
