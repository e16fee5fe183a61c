//! What can be found out about a Redis before it is needed: whether it answers, is new enough, and keeps
//! what it is given.

use super::{RedisError, RedisStore, resp::Value};
use crate::store::{
    StoreError,
    dialect::{Failure, Heard},
    remote::Finding,
};

impl RedisStore {
    /// What the reply to `INFO` says that operators should know.
    pub(super) fn found(&self, heard: Heard<'_>) -> Vec<Finding> {
        match self.info(heard) {
            Ok(Some(info)) => read(&info),
            Ok(None) => vec![SILENT],
            Err(error) => vec![Finding::Failed(error)],
        }
    }

    /// What the same reply says of how much Redis holds, if it does.
    pub(super) fn usage(&self, heard: Heard<'_>) -> Result<Vec<(&'static str, u64)>, StoreError> {
        Ok(self.info(heard)?.map(|info| usage_of(&info, self.database)).unwrap_or_default())
    }

    /// The reply to `INFO`; `None` if the server does not give it.
    fn info(&self, heard: Heard<'_>) -> Result<Option<String>, StoreError> {
        let reply = heard.reply(true, &*self.dialect).and_then(|reply| self.dialect.last_reply(reply));
        match reply.map_err(|failure| failure.error)? {
            Value::Bulk(Some(info)) => Ok(Some(String::from_utf8_lossy(&info).into_owned())),
            Value::Error(text) => match Failure::of_error_reply(&text).error {
                // Not allowed by the ACL, or not known to redis_proxy.
                StoreError::Redis(RedisError::Script) => Ok(None),
                StoreError::Redis(RedisError::Authentication) if text.starts_with(b"NOPERM") => Ok(None),
                error => Err(error),
            },
            _ => Err(RedisError::Malformed.into()),
        }
    }
}

fn usage_of(info: &str, database: u32) -> Vec<(&'static str, u64)> {
    let number = |name: &str| field(info, name).and_then(|value| value.parse().ok()).unwrap_or_default();
    // db0:keys=3,expires=3,avg_ttl=86399000; a database without keys is not mentioned.
    let keys = field(info, &format!("db{database}")).and_then(|line| line.strip_prefix("keys=")?.split(',').next());
    vec![
        ("keys_in_database", keys.and_then(|keys| keys.parse().ok()).unwrap_or_default()),
        ("used_memory_bytes", number("used_memory")),
        ("max_memory_bytes", number("maxmemory")),
        ("evicted_keys", number("evicted_keys")),
    ]
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
        findings.push(too_old(version));
    }
    match field(info, "maxmemory_policy") {
        Some("noeviction") | None => {}
        Some(policy) => findings.push(evicts(policy)),
    }
    findings
}

/// It throws records away for want of memory.
fn evicts(policy: &str) -> Finding {
    Finding::Warning(format!(
        "the maxmemory-policy of Redis is {policy}, so that records may be evicted before their time, and their operations \
         run again; set it to noeviction, and watch the memory"
    ))
}

/// Scripts that read the clock and write need Redis 5.
fn too_old(version: &str) -> Finding {
    Finding::Warning(format!("Redis {version} is too old: idemgate needs Redis 5 or newer, or Valkey"))
}

/// A user that may not use `INFO` is no reason for an alarm.
const SILENT: Finding =
    Finding::Note("Redis does not say which version and maxmemory-policy it has (INFO is refused); see docs/redis.md");

/// The first version whose scripts may read the clock before they write.
const OLDEST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::RedisConfig, store::remote::RemoteStore as _};

    fn findings(reply: &[u8]) -> Vec<Finding> {
        RedisStore::new(RedisConfig::new("redis".to_owned())).findings(Heard::Reply {
            status: 200,
            body: reply,
            ahead: None,
        })
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
            [too_old("4.0.14"), evicts("allkeys-lru")]
        );
    }

    #[test]
    fn a_user_that_may_not_ask_is_not_alarmed() {
        for reply in ["-NOPERM User x has no permissions to run the 'info' command\r\n", "-ERR unknown command\r\n"] {
            assert_eq!(findings(reply.as_bytes()), [SILENT]);
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
            let store =
                RedisStore::new(RedisConfig { database, connections: 0, ..RedisConfig::new("redis".to_owned()) });
            let ok = if database == 0 { "" } else { "+OK\r\n" };
            let reply = [ok.as_bytes(), &info(text)].concat();
            store.usage(Heard::Reply { status: 200, body: &reply, ahead: None })
        };
        let told = |keys| {
            Ok(vec![
                ("keys_in_database", keys),
                ("used_memory_bytes", 1 << 20),
                ("max_memory_bytes", 2 << 20),
                ("evicted_keys", 5),
            ])
        };
        assert_eq!(usage(0), told(3));
        assert_eq!(usage(3), told(42));
        assert_eq!(usage(4), told(0), "a database without keys is not mentioned");
        let store = RedisStore::new(RedisConfig::new("redis".to_owned()));
        let refused = store.usage(Heard::Reply { status: 200, body: b"-NOPERM no\r\n", ahead: None });
        assert_eq!(refused, Ok(vec![]));
        assert_eq!(store.usage(Heard::Nothing), Err(StoreError::Redis(RedisError::TimedOut)));
    }
}
