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
    /// The server does not say; a user that may not use `INFO` is no reason for an alarm.
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
        match self.info(heard) {
            Ok(Some(info)) => read(&info),
            Ok(None) => vec![Finding::Silent],
            Err(error) => vec![Finding::Failed(error)],
        }
    }

    /// What the same reply says of how much Redis holds; `None` if it does not say.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be asked.
    pub fn usage(&self, heard: Heard<'_>) -> Result<Option<RedisUsage>, StoreError> {
        Ok(self.info(heard)?.map(|info| RedisUsage::read(&info, self.database)))
    }

    /// The reply to `INFO`; `None` if the server does not give it.
    fn info(&self, heard: Heard<'_>) -> Result<Option<String>, StoreError> {
        let error = match heard {
            Heard::NotMade => RedisError::Rejected,
            Heard::Nothing => RedisError::TimedOut,
            Heard::Reply { status: 200, body } => {
                let replies = resp::decode_all(body, self.login.commands + 1).ok();
                match replies.and_then(|mut replies| replies.pop()) {
                    Some(Value::Bulk(Some(info))) => return Ok(Some(String::from_utf8_lossy(&info).into_owned())),
                    Some(Value::Error(text)) => match Failure::of_error_reply(&text).error {
                        // Not allowed by the ACL, or not known to redis_proxy.
                        RedisError::Script => return Ok(None),
                        RedisError::Authentication if text.starts_with(b"NOPERM") => return Ok(None),
                        error => error,
                    },
                    _ => RedisError::Malformed,
                }
            }
            Heard::Reply { status, body } => Failure::of_local_reply(status, body).error,
        };
        Err(StoreError::Redis(error))
    }
}

/// How much a Redis holds: all that it tells at a price that does not depend on how much it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RedisUsage {
    /// All keys in the database.
    pub keys: u64,
    /// Bytes in use.
    pub used_memory: u64,
    /// Bytes that may be used; 0 if there is no limit.
    pub max_memory: u64,
    /// Keys that were thrown away for want of memory since the server was started.
    pub evicted_keys: u64,
}

impl RedisUsage {
    fn read(info: &str, database: u32) -> Self {
        let number = |name: &str| field(info, name).and_then(|value| value.parse().ok()).unwrap_or_default();
        // db0:keys=3,expires=3,avg_ttl=86399000; a database without keys is not mentioned.
        let keys = field(info, &format!("db{database}")).and_then(|line| line.strip_prefix("keys=")?.split(',').next());
        Self {
            keys: keys.and_then(|keys| keys.parse().ok()).unwrap_or_default(),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
            evicted_keys: number("evicted_keys"),
        }
    }
}

/// The value of a line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

fn read(info: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Valkey says both, and is of version 7.2 at least as Redis counts.
    let version = field(info, "redis_version").unwrap_or_default();
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < OLDEST) {
        findings.push(Finding::TooOld(version.to_owned()));
    }
    match field(info, "maxmemory_policy") {
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
    fn a_user_that_may_not_ask_is_not_alarmed() {
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

    #[test]
    fn a_census_says_how_much_its_own_database_holds() {
        let text = "used_memory:1048576\r\nmaxmemory:2097152\r\nevicted_keys:5\r\n# Keyspace\r\ndb0:keys=3,expires=3\r\n\
                    db3:keys=42,expires=42,avg_ttl=1\r\n";
        let usage = |database| {
            let store = RedisStore::new(RedisConfig { database, ..RedisConfig::new("redis".to_owned()) });
            let ok = if database == 0 { "" } else { "+OK\r\n" };
            let reply = [ok.as_bytes(), &info(text)].concat();
            store.usage(Heard::Reply { status: 200, body: &reply })
        };
        let told = |keys| Ok(Some(RedisUsage { keys, used_memory: 1 << 20, max_memory: 2 << 20, evicted_keys: 5 }));
        assert_eq!(usage(0), told(3));
        assert_eq!(usage(3), told(42));
        assert_eq!(usage(4), told(0), "a database without keys is not mentioned");
        let store = RedisStore::new(RedisConfig::new("redis".to_owned()));
        let refused = store.usage(Heard::Reply { status: 200, body: b"-NOPERM no\r\n" });
        assert_eq!(refused, Ok(None));
        assert_eq!(store.usage(Heard::Nothing), Err(StoreError::Redis(RedisError::TimedOut)));
    }
}
