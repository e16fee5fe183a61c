//! Why Redis could not do what it was asked, told apart by what Envoy and Redis say.

use super::entry::Unreadable;
use crate::{record::CodecError, store::dialect::Failure};

/// What went wrong, and what an operator can do about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// `NOAUTH`, `WRONGPASS`, `NOPERM`, `DENIED` (protected mode), or a command within the script that the user may not
    /// run.
    #[error(
        "Redis refuses the login or the command: check store.redis.username, password and database, and (without a password) \
         protected-mode, and that the ACL of the user allows the commands and keys that docs/redis.md lists"
    )]
    Authentication,
    /// The reply ends in the middle.
    #[error(
        "a reply of Redis was cut off: a connection for one call loses long replies; keep store.redis.max_record at 32KiB, \
         or let connections persist (store.redis.connections)"
    )]
    Cut,
    /// Something else is stored under the key.
    #[error("a key with store.redis.prefix holds something that idemgate did not write; give it a prefix of its own")]
    Foreign,
    /// `LOADING`, `CLUSTERDOWN`, `MASTERDOWN`, `TRYAGAIN`, `BUSY`, and no room for another client.
    #[error(
        "Redis is not ready: it loads its data, fails over, runs a slow script, or has maxclients connections; it \
         should pass by itself"
    )]
    Loading,
    /// What came back is no reply of Redis.
    #[error("what answers in place of Redis does not speak its protocol: check what store.redis.cluster leads to")]
    Malformed,
    /// `MOVED`, `ASK`, `CROSSSLOT`.
    #[error("this is a Redis Cluster: it needs redis_proxy in between, examples/redis-cluster")]
    Moved,
    /// `OOM`.
    #[error("Redis is out of memory: raise maxmemory, or shorten ttl; keep maxmemory-policy at noeviction")]
    OutOfMemory,
    /// Envoy's `redis_proxy` says that it failed.
    #[error("Envoy's redis_proxy got no answer from Redis: check its cluster and op_timeout")]
    Proxy,
    /// `READONLY`, `NOREPLICAS`, `MISCONF`.
    #[error("Redis takes no writes: a read-only replica answers, or it cannot persist; lead the cluster to the master")]
    ReadOnly,
    /// Envoy did not make the call.
    #[error(
        "Envoy cannot call store.redis.cluster: there is no such cluster or no host in it, or its circuit breaker is \
         open (raise max_connections and max_pending_requests)"
    )]
    Rejected,
    /// The connection broke before the reply was there.
    #[error("the connection to Redis broke before it answered")]
    Reset,
    /// Any other error of Redis.
    #[error("Redis refuses the script: it must be Redis 5 or newer, or Valkey, and allow EVAL")]
    Script,
    /// No reply in time.
    #[error(
        "Redis did not answer within store.redis.timeout: it is overloaded or paused, or the network is; if it never \
         answers on persistent connections, store.redis.cluster lacks the role store_stream"
    )]
    TimedOut,
    /// No connection.
    #[error("Redis cannot be reached: check the hosts of store.redis.cluster, its TLS, and the network")]
    Unreachable,
    /// A record that this release cannot read.
    #[error("a record cannot be read: {0}; let the older release's records expire, or use another prefix")]
    Unreadable(CodecError),
}

impl RedisError {
    /// The word by which metrics and logs tell it from others.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Cut => "cut",
            Self::Foreign => "foreign",
            Self::Loading => "loading",
            Self::Malformed => "malformed",
            Self::Moved => "moved",
            Self::OutOfMemory => "out_of_memory",
            Self::Proxy => "proxy",
            Self::ReadOnly => "read_only",
            Self::Rejected => "rejected",
            Self::Reset => "reset",
            Self::Script => "script",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::certain(match unreadable {
            Unreadable::Foreign => RedisError::Foreign,
            Unreadable::Codec(error) => RedisError::Unreadable(error),
        })
    }
}

impl Failure {
    /// What Envoy says in place of a reply, by status and text.
    pub(super) fn of_local_reply(status: u16, text: &[u8]) -> Self {
        let says = |words: &str| says(text, words);
        match status {
            // Reasons that precede the request; over TLS also a certificate that does not fit.
            503 if ["connection failure", "connection timeout", "no healthy upstream"].into_iter().any(says) => {
                Self::certain(RedisError::Unreachable)
            }
            503 if says("overflow") => Self::certain(RedisError::Rejected),
            503 => Self::doubtful(RedisError::Reset),
            504 => Self::doubtful(RedisError::TimedOut),
            _ => Self::doubtful(RedisError::Malformed),
        }
    }

    /// What an error reply says. Redis refuses a command before it begins, or a script at its first write.
    pub(super) fn of_error_reply(text: &[u8]) -> Self {
        let words = || text.split(|byte| *byte == b' ');
        // Before Redis 7 the error of a command in a script stands inside that of the script, behind a dash.
        let inner = || words().skip(1).find_map(|word| word.strip_prefix(b"-"));
        let code = match words().next().unwrap_or_default() {
            b"ERR" => inner().unwrap_or(b"ERR"),
            code => code,
        };
        let error = match code {
            b"NOAUTH" | b"WRONGPASS" | b"NOPERM" | b"DENIED" => RedisError::Authentication,
            b"LOADING" | b"CLUSTERDOWN" | b"MASTERDOWN" | b"TRYAGAIN" | b"BUSY" => RedisError::Loading,
            b"MOVED" | b"ASK" | b"CROSSSLOT" => RedisError::Moved,
            b"OOM" => RedisError::OutOfMemory,
            b"READONLY" | b"NOREPLICAS" | b"MISCONF" => RedisError::ReadOnly,
            b"WRONGTYPE" => RedisError::Foreign,
            // Texts of Envoy's redis_proxy, which has no codes.
            b"upstream" | b"no" => return Self::doubtful(RedisError::Proxy),
            _ if says(text, "max number of clients") => RedisError::Loading,
            _ if says(text, "user executing the script can't") => RedisError::Authentication,
            _ => RedisError::Script,
        };
        Self::certain(error)
    }
}

fn says(text: &[u8], words: &str) -> bool {
    text.windows(words.len()).any(|window| window == words.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_redis_does_not_allow_this_user_is_a_matter_of_the_user() {
        // Redis 7.0 has a code for what it refuses before a script, and none for what it refuses in one.
        for text in [
            "NOPERM this user has no permissions to run the 'eval' command",
            "DENIED Redis is running in protected mode because protected mode is enabled and no password is set",
            "ERR The user executing the script can't run this command or subcommand script: d3c21d, on @user_script:1.",
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
        ] {
            assert_eq!(
                Failure::of_error_reply(text.as_bytes()),
                Failure::certain(RedisError::Authentication),
                "{text}"
            );
        }
        let busy = Failure::of_error_reply(b"ERR max number of clients reached");
        assert_eq!(busy, Failure::certain(RedisError::Loading));
        let other = Failure::of_error_reply(b"ERR unknown command 'EVAL'");
        assert_eq!(other, Failure::certain(RedisError::Script));
    }

    #[test]
    fn the_error_of_a_command_counts_also_where_that_of_its_script_stands_around_it() {
        // The form of Redis 5 and 6.
        for (code, error) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", RedisError::OutOfMemory),
            ("READONLY You can't write against a read only replica.", RedisError::ReadOnly),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", RedisError::Foreign),
        ] {
            let text = format!("ERR Error running script (call to f_6b1b): @user_script:1: @user_script: 1: -{code} ");
            assert_eq!(Failure::of_error_reply(text.as_bytes()), Failure::certain(error), "{text}");
        }
    }
}
