//! Envoy's shared data, one host call at a time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use idemgate::store::{
    StoreError,
    shared_data::{Cas, SharedMemory, Written},
};

use super::law::Deed;

/// The geometry of the table: written once, before anything happens, and never changed.
pub(crate) const TABLE: &str = "idemgate/v1/table";
/// Entries and bytes in use.
pub(crate) const TOTALS: &str = "idemgate/v1/totals";
/// What the keys of the index begin with.
pub(crate) const BUCKET: &str = "idemgate/v1/i";

/// The shared data of one Envoy, by the rules of its host (proxy-wasm-cpp-host, `shared_data.cc`).
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedData {
    values: BTreeMap<Arc<str>, (Arc<[u8]>, u32)>,
    last_cas: u32,
}

/// A host call that is about to be carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Get { key: Arc<str> },
    Set { key: Arc<str>, value: Arc<[u8]>, cas: u32 },
}

/// What the host said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Found { key: Arc<str>, value: Option<(Arc<[u8]>, u32)> },
    Wrote { done: bool },
}

impl Access {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Get { key } | Self::Set { key, .. } => key,
        }
    }
}

impl SharedData {
    pub(crate) fn value(&self, key: &str) -> Option<&Arc<[u8]>> {
        self.values.get(key).map(|(value, _)| value)
    }

    /// Carries out one host call.
    pub(crate) fn carry_out(&mut self, access: &Access) -> Said {
        match access {
            Access::Get { key } => Said::Found { key: Arc::clone(key), value: self.values.get(key).cloned() },
            Access::Set { key, value, cas } => Said::Wrote { done: self.set(key, value, *cas) },
        }
    }

    /// A `cas` of zero overwrites whatever is there; any other counts only where the key is there.
    fn set(&mut self, key: &Arc<str>, value: &Arc<[u8]>, cas: u32) -> bool {
        if self.values.get(key).is_some_and(|(_, current)| cas != 0 && cas != *current) {
            return false;
        }
        self.last_cas += 1;
        self.values.insert(Arc::clone(key), (Arc::clone(value), self.last_cas));
        true
    }

    /// Hashes what can make a difference: the values, and not the numbers of their versions.
    pub(crate) fn hash_values(&self, hasher: &mut impl Hasher) {
        for (key, (value, _)) in &self.values {
            (key, value).hash(hasher);
        }
    }

    /// The same for what a worker was told: of versions only which are the same, and which still the current ones.
    pub(crate) fn hash_tape(&self, tape: &[Said], hasher: &mut impl Hasher) {
        for said in tape {
            match said {
                Said::Found { key, value } => {
                    value.as_ref().map(|(value, _)| value).hash(hasher);
                    let current = self.values.get(key).map(|(_, cas)| *cas);
                    (said.version() == current).hash(hasher);
                    first_of(said.version(), tape).hash(hasher);
                }
                Said::Wrote { done } => done.hash(hasher),
            }
        }
    }

    /// The same for what a worker remembers that is at work with this tape. It makes no difference any more if the
    /// version is gone, and the worker has not read it just now.
    pub(crate) fn hash_remembered(&self, (version, held): (Cas, impl Hash), tape: &[Said], hasher: &mut impl Hasher) {
        let is_current = self.values.values().any(|(_, cas)| *cas == version.0);
        let was_read = first_of(Some(version.0), tape);
        if is_current || was_read.is_some() {
            (held, is_current, was_read).hash(hasher);
        }
    }
}

/// Where on the tape a version stands first.
fn first_of(version: Option<u32>, tape: &[Said]) -> Option<usize> {
    tape.iter().position(|said| version.is_some() && said.version() == version)
}

impl Said {
    /// The version of what was found.
    fn version(&self) -> Option<u32> {
        match self {
            Self::Found { value, .. } => value.as_ref().map(|(_, cas)| *cas),
            Self::Wrote { .. } => None,
        }
    }
}

/// What a callback sees of the shared data: the answers that are on the tape, and nothing more.
///
/// The store is ordinary code that runs from its first line to its last. To stop it between two host
/// calls, it is run from the beginning with the answers so far; at the first host call to which there is
/// none yet, every call is refused, what the run came to is thrown away, and the host call is what the
/// worker does next. The code is deterministic, so the next run comes back to the same place.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    tape: &'a [Said],
    played: Cell<usize>,
    table: &'a Arc<[u8]>,
    /// A mutation: insert-if-absent overwrites.
    inserts_blindly: bool,
    deed: Cell<Option<Deed>>,
    next: RefCell<Option<(Access, Option<Deed>)>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(tape: &'a [Said], table: &'a Arc<[u8]>, inserts_blindly: bool) -> Self {
        Self { tape, played: Cell::new(0), table, inserts_blindly, deed: Cell::default(), next: RefCell::default() }
    }

    /// Notes in whose name the host is called from here on.
    pub(crate) fn act(&self, deed: Option<Deed>) {
        self.deed.set(deed);
    }

    /// The host call that the callback has come to, and in whose name; `None` if it ran to its end.
    pub(crate) fn into_next(self) -> Option<(Access, Option<Deed>)> {
        self.next.into_inner()
    }

    fn play(&self, access: impl FnOnce() -> Access) -> Result<&Said, StoreError> {
        if let Some(said) = self.tape.get(self.played.get()) {
            self.played.set(self.played.get() + 1);
            return Ok(said);
        }
        let deed = self.deed.get();
        self.next.borrow_mut().get_or_insert_with(|| (access(), deed));
        Err(StoreError::Host(NOT_YET))
    }

    /// The version of the bucket that the callback reads first, if it has got so far.
    pub(crate) fn bucket_version(&self) -> Option<Cas> {
        let is_bucket = |said: &&Said| matches!(said, Said::Found { key, .. } if key.starts_with(BUCKET));
        self.tape.iter().find(is_bucket).and_then(Said::version).map(Cas)
    }
}

/// No status of the host's.
const NOT_YET: u32 = 999;

impl SharedMemory for &Session<'_> {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        if key == TABLE {
            return Ok(Some((self.table.to_vec(), Cas(1))));
        }
        match self.play(|| Access::Get { key: key.into() })? {
            Said::Found { value, .. } => Ok(value.as_ref().map(|(value, cas)| (value.to_vec(), Cas(*cas)))),
            Said::Wrote { .. } => panic!("the code read where it wrote before: it is not deterministic"),
        }
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        if key == TABLE {
            return Ok(Written::Lost);
        }
        let cas = if self.inserts_blindly && cas == Cas::NEVER_ISSUED { 0 } else { cas.0 };
        match self.play(|| Access::Set { key: key.into(), value: value.into(), cas })? {
            Said::Wrote { done } => Ok(if *done { Written::Done } else { Written::Lost }),
            Said::Found { .. } => panic!("the code wrote where it read before: it is not deterministic"),
        }
    }
}

/// Shared data with nobody else at work on it.
#[derive(Debug, Default)]
pub(crate) struct Alone(pub(crate) RefCell<SharedData>);

impl SharedMemory for &Alone {
    fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Cas)>, StoreError> {
        Ok(self.0.borrow().values.get(key).map(|(value, cas)| (value.to_vec(), Cas(*cas))))
    }

    fn set(&self, key: &str, value: &[u8], cas: Cas) -> Result<Written, StoreError> {
        let done = self.0.borrow_mut().set(&key.into(), &value.into(), cas.0);
        Ok(if done { Written::Done } else { Written::Lost })
    }
}
