//! What can be found out about a Redis before it is needed: whether it answers, is new enough, and keeps
//! what it is given.

use super::{Failure, Heard, RedisError, RedisStore, resp, resp::Value};
use crate::store::StoreError;

/// What an operator should know. None of it keeps the filter from its work.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Finding {
    /// It throws records away for want of memory.
    #[error(
        "the maxmemory-policy of Redis is {0}, so that records may be evicted before their time, and their operations \
         run again; set it to noeviction, and watch the memory"
    )]
    Evicts(String),
    /// Scripts that read the clock and write need Redis 5.
    #[error("Redis {0} is too old: idemgate needs Redis 5 or newer, or Valkey")]
    TooOld(String),
    /// The server does not say; whoever may not use `INFO` need not worry the operator.
    #[error("Redis does not say which version and maxmemory-policy it has (INFO is refused); see docs/redis.md")]
    Silent,
    /// It cannot be asked.
    #[error("{0}")]
    Failed(StoreError),
}

impl RedisStore {
    /// The bytes that ask for what there is to know.
    #[must_use]
    pub fn checkup(&self) -> Vec<u8> {
        let mut bytes = self.login.bytes.clone();
        resp::push_command(&mut bytes, &[b"INFO"]);
        bytes
    }

    /// What the reply to [`checkup`](Self::checkup) says.
    #[must_use]
    pub fn findings(&self, heard: Heard<'_>) -> Vec<Finding> {
        let body = match heard {
            Heard::NotMade => return vec![Finding::Failed(StoreError::Redis(RedisError::Rejected))],
            Heard::Nothing => return vec![Finding::Failed(StoreError::Redis(RedisError::TimedOut))],
            Heard::Reply { status: 200, body } => body,
            Heard::Reply { status, body } => {
                return vec![Finding::Failed(StoreError::Redis(Failure::of_local_reply(status, body).error))];
            }
        };
        match resp::decode_all(body, self.login.commands + 1).ok().and_then(|mut replies| replies.pop()) {
            Some(Value::Bulk(Some(info))) => read(&String::from_utf8_lossy(&info)),
            Some(Value::Error(text)) => match Failure::of_error_reply(&text).error {
                // Not allowed by the ACL, or not known to redis_proxy.
                RedisError::Script => vec![Finding::Silent],
                RedisError::Authentication if text.starts_with(b"NOPERM") => vec![Finding::Silent],
                error => vec![Finding::Failed(StoreError::Redis(error))],
            },
            _ => vec![Finding::Failed(StoreError::Redis(RedisError::Malformed))],
        }
    }
}

fn read(info: &str) -> Vec<Finding> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let mut findings = Vec::new();
    // Valkey says both, and is of version 7.2 at least as Redis counts.
    let version = field("redis_version").unwrap_or_default();
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < OLDEST) {
        findings.push(Finding::TooOld(version.to_owned()));
    }
    match field("maxmemory_policy") {
        Some("noeviction") | None => {}
        Some(policy) => findings.push(Finding::Evicts(policy.to_owned())),
    }
    findings
}

/// The first version whose scripts may read the clock before they write.
const OLDEST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedisConfig;

    fn findings(reply: &[u8]) -> Vec<Finding> {
        RedisStore::new(RedisConfig::new("redis".to_owned())).findings(Heard::Reply { status: 200, body: reply })
    }

    fn info(text: &str) -> Vec<u8> {
        format!("${}\r\n{text}\r\n", text.len()).into_bytes()
    }

    #[test]
    fn a_server_as_it_should_be_gives_no_cause_for_words() {
        assert_eq!(findings(&info("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n")), []);
    }

    #[test]
    fn what_may_cost_an_execution_is_named() {
        assert_eq!(
            findings(&info("redis_version:4.0.14\r\nmaxmemory_policy:allkeys-lru\r\n")),
            [Finding::TooOld("4.0.14".to_owned()), Finding::Evicts("allkeys-lru".to_owned())]
        );
    }

    #[test]
    fn whoever_may_not_ask_is_not_alarmed() {
        for reply in ["-NOPERM User x has no permissions to run the 'info' command\r\n", "-ERR unknown command\r\n"] {
            assert_eq!(findings(reply.as_bytes()), [Finding::Silent]);
        }
    }

    #[test]
    fn what_every_request_would_meet_is_said_before_the_first_one() {
        for (reply, error) in [
            ("-NOAUTH Authentication required.\r\n", RedisError::Authentication),
            ("-LOADING Redis is loading the dataset in memory\r\n", RedisError::Loading),
            ("HTTP/1.1 400 Bad Request\r\n", RedisError::Malformed),
        ] {
            assert_eq!(findings(reply.as_bytes()), [Finding::Failed(StoreError::Redis(error))], "{reply}");
        }
    }
}
