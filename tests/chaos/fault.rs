//! What can fail.

use std::fmt;

/// A kind of fault. Which of them a plan can have depends on its deployment.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fault {
    /// SIGKILL, and another Envoy in its place.
    EnvoyKilled,
    /// SIGSTOP and SIGCONT: all of its workers stand still.
    EnvoyPaused,
    /// The VM of one worker panics.
    VmPanicked,
    /// One worker stands still inside of its VM, and the others go on.
    VmStalled,
    /// Every core of the machine is busy with something else, more than once.
    Starved,
    /// SIGKILL, or what comes to the same, and a restart with what is on disk, if it keeps anything.
    StoreKilled,
    /// Its operator ends it, and starts it again.
    StoreRestarted,
    /// SIGSTOP and SIGCONT; or `CLIENT PAUSE`, by which connections are served, and commands are not.
    StorePaused,
    /// Redis: `maxmemory` is reached, and nothing may be evicted. PostgreSQL: there is no room for another record on its disk.
    StoreFull,
    /// PostgreSQL: somebody has the whole table for himself.
    TableLocked,
    /// PostgreSQL: whatever connection Envoy has is ended, again and again.
    ConnectionsEnded,
    /// PostgreSQL: others have all connections that it can have.
    ConnectionsTaken,
    /// Each question and each reply takes its time.
    StoreSlow,
    /// Questions are carried out, and connections break before their replies come.
    RepliesLost,
    /// Clients hang up before their body ends.
    LeftUploading,
    /// Clients hang up once they have sent everything.
    LeftWaiting,
    /// Clients hang up when the answer begins to come.
    LeftReading,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::EnvoyKilled,
        Self::EnvoyPaused,
        Self::VmPanicked,
        Self::VmStalled,
        Self::Starved,
        Self::StoreKilled,
        Self::StoreRestarted,
        Self::StorePaused,
        Self::StoreFull,
        Self::TableLocked,
        Self::ConnectionsEnded,
        Self::ConnectionsTaken,
        Self::StoreSlow,
        Self::RepliesLost,
        Self::LeftUploading,
        Self::LeftWaiting,
        Self::LeftReading,
    ];

    /// Whether the store says no, or breaks off, and does not only take its time.
    pub(crate) fn makes_the_store_fail(self) -> bool {
        self.befalls_the_store() && !matches!(self, Self::StorePaused | Self::StoreSlow)
    }

    pub(crate) fn befalls_the_store(self) -> bool {
        matches!(
            self,
            Self::StoreKilled
                | Self::StoreRestarted
                | Self::StorePaused
                | Self::StoreFull
                | Self::TableLocked
                | Self::ConnectionsEnded
                | Self::ConnectionsTaken
                | Self::StoreSlow
                | Self::RepliesLost
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::EnvoyKilled => "Envoy killed",
            Self::EnvoyPaused => "Envoy paused",
            Self::VmPanicked => "VM panics",
            Self::VmStalled => "VM stalls",
            Self::Starved => "no CPU",
            Self::StoreKilled => "store killed",
            Self::StoreRestarted => "store restarted",
            Self::StorePaused => "store paused",
            Self::StoreFull => "store full",
            Self::TableLocked => "table locked",
            Self::ConnectionsEnded => "connections ended",
            Self::ConnectionsTaken => "connections taken",
            Self::StoreSlow => "store slow",
            Self::RepliesLost => "replies lost",
            Self::LeftUploading => "clients leave uploading",
            Self::LeftWaiting => "clients leave waiting",
            Self::LeftReading => "clients leave reading",
        })
    }
}
