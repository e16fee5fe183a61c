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
    /// SIGKILL, and a restart with what is on disk, if it keeps anything.
    RedisKilled,
    /// SIGSTOP and SIGCONT; or `CLIENT PAUSE`, by which connections are served, and commands are not.
    RedisPaused,
    /// `maxmemory` is reached, and nothing may be evicted.
    RedisFull,
    /// Each command and each reply takes its time.
    RedisSlow,
    /// Commands are carried out, and connections break before their replies come.
    RepliesLost,
    /// Clients hang up before their body ends.
    LeftUploading,
    /// Clients hang up once they have sent everything.
    LeftWaiting,
    /// Clients hang up when the answer begins to come.
    LeftReading,
}

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
        Self::EnvoyKilled,
        Self::EnvoyPaused,
        Self::VmPanicked,
        Self::VmStalled,
        Self::Starved,
        Self::RedisKilled,
        Self::RedisPaused,
        Self::RedisFull,
        Self::RedisSlow,
        Self::RepliesLost,
        Self::LeftUploading,
        Self::LeftWaiting,
        Self::LeftReading,
    ];

    /// Whether the store says no, or breaks off, and does not only take its time.
    pub(crate) fn makes_the_store_fail(self) -> bool {
        matches!(self, Self::RedisKilled | Self::RedisFull | Self::RepliesLost)
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
            Self::RedisKilled => "Redis killed",
            Self::RedisPaused => "Redis paused",
            Self::RedisFull => "Redis full",
            Self::RedisSlow => "Redis slow",
            Self::RepliesLost => "replies lost",
            Self::LeftUploading => "clients leave uploading",
            Self::LeftWaiting => "clients leave waiting",
            Self::LeftReading => "clients leave reading",
        })
    }
}
