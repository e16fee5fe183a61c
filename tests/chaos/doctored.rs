//! Histories that were changed to say what must not be. The judge has to find each out: what cannot fail proves
//! nothing.

use crate::{
    judge::judge,
    plan::Deployment,
    proof::{
        history::{Asked, Promise, Told, Word},
        service::body_of,
    },
    record::{Entry, Fact},
};

/// What can be done to a history in which a replay was heard when nothing failed any more.
#[derive(Clone, Copy, Debug)]
enum Doctoring {
    /// The operation of the replay runs once more.
    AnotherExecution,
    /// One bit of the replay is another one.
    ChangedBody,
    /// A field of the replay is not there.
    LostField,
    /// The replay is that of another operation.
    AnotherAnswer,
    /// Who asks after that is told that nobody knows.
    ForgottenAnswer,
    /// Who asks after that is never told.
    NoEnd,
}

impl Doctoring {
    const ALL: [(Self, Promise); 6] = [
        (Self::AnotherExecution, Promise::AtMostOnce),
        (Self::ChangedBody, Promise::Replay),
        (Self::LostField, Promise::Replay),
        (Self::AnotherAnswer, Promise::Replay),
        (Self::ForgottenAnswer, Promise::Replay),
        (Self::NoEnd, Promise::ClaimEnds),
    ];

    /// The doctored history; None if it has too little in it for that.
    fn of(self, entries: &[Entry]) -> Option<Vec<Entry>> {
        let mut entries = entries.to_vec();
        // What ran before the records were lost may run again.
        let lost = entries.iter().rposition(|entry| matches!(entry.fact, Fact::RecordsLost)).unwrap_or_default();
        let began_later: Vec<Vec<u8>> = entries[lost..]
            .iter()
            .filter(|entry| matches!(entry.fact, Fact::Began { .. }))
            .filter_map(|entry| entry.fact.attempt().map(body_of))
            .collect();
        let replay = entries.iter().rposition(|entry| match &entry.fact {
            Fact::Heard(_, told) => told.word == Word::Replayed && began_later.contains(&told.body),
            _ => false,
        })?;
        let asked = asked_in(&entries, &entries[replay])?;
        let other = entries.iter().find(|entry| {
            is_replay(&entry.fact) && asked_in(&entries, entry).is_some_and(|other| other.key != asked.key)
        });
        let other = match other.map(|entry| &entry.fact) {
            Some(Fact::Heard(_, told)) => Some(told.clone()),
            _ => None,
        };
        match (self, &mut entries[replay].fact) {
            (Self::ChangedBody, Fact::Heard(_, told)) => *told.body.last_mut()? ^= 1,
            (Self::LostField, Fact::Heard(_, told)) => drop(told.fields.pop()?),
            (Self::AnotherAnswer, Fact::Heard(_, told)) => *told = other?,
            _ => {}
        }
        let at = entries.last()?.at;
        let attempt = entries.iter().filter(|entry| matches!(entry.fact, Fact::Began { .. })).count();
        let facts = match self {
            Self::AnotherExecution => vec![Fact::Ran(attempt)],
            Self::ForgottenAnswer => vec![Fact::Heard(attempt, unknown())],
            Self::NoEnd => vec![Fact::Stuck(attempt)],
            Self::ChangedBody | Self::LostField | Self::AnotherAnswer => return Some(entries),
        };
        entries.push(Entry { at, fact: Fact::Began { attempt, asked, envoy: 0 } });
        entries.extend(facts.into_iter().map(|fact| Entry { at, fact }));
        Some(entries)
    }
}

/// Fails unless each doctored version of a history that keeps every promise is found out; how many there were.
pub(crate) fn assert_each_doctored_is_found_out(deployment: &Deployment, entries: &[Entry]) -> u64 {
    let mut found = 0;
    for (doctoring, promise) in Doctoring::ALL {
        let Some(doctored) = doctoring.of(entries) else { continue };
        let broken = judge(deployment, &doctored).err().map(|verdict| verdict.breach.promise);
        assert_eq!(broken, Some(promise), "{doctoring:?}");
        found += 1;
    }
    found
}

/// How many versions there are of a history with enough in it.
pub(crate) const VERSIONS: u64 = Doctoring::ALL.len() as u64;

fn is_replay(fact: &Fact) -> bool {
    matches!(fact, Fact::Heard(_, told) if told.word == Word::Replayed)
}

fn asked_in(entries: &[Entry], entry: &Entry) -> Option<Asked> {
    let number = entry.fact.attempt()?;
    entries.iter().find_map(|entry| match entry.fact {
        Fact::Began { attempt, asked, .. } if attempt == number => Some(asked),
        _ => None,
    })
}

fn unknown() -> Told {
    let body = br#"{"type":"urn:idemgate:outcome-unknown"}"#.to_vec();
    Told { word: Word::Unknown, status: 409, fields: Vec::new(), body }
}

/// Two keys; each runs once and is replayed once.
pub(crate) fn small_history() -> Vec<Entry> {
    use crate::proof::{scenario::Conduct, service::Response};

    let mut entries = Vec::new();
    for (key, [first, retry]) in [[0, 1], [2, 3]].into_iter().enumerate() {
        let asked = Asked { caller: 0, key: key as u8 + 1, body: 0 };
        let told =
            Told { word: Word::Replayed, status: 201, fields: Response::replayed_fields(first), body: body_of(first) };
        let executed = Told { word: Word::Executed, ..told.clone() };
        let facts = [
            Fact::Began { attempt: first, asked, envoy: 0 },
            Fact::Ran(first),
            Fact::Conducted(first, Conduct::Answers),
            Fact::Heard(first, executed),
            Fact::Began { attempt: retry, asked, envoy: 0 },
            Fact::Heard(retry, told),
        ];
        entries.extend(facts.into_iter().map(|fact| Entry { at: 10, fact }));
    }
    entries
}

#[test]
fn a_small_history_is_as_promised_and_each_doctored_version_of_it_is_not() {
    let deployment = crate::plan::Plan::of_seed(0).deployment;
    let entries = small_history();
    judge(&deployment, &entries).unwrap_or_else(|verdict| panic!("{verdict}"));
    assert_eq!(assert_each_doctored_is_found_out(&deployment, &entries), VERSIONS);
}
