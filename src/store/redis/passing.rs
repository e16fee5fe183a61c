//! Which commands a bridge passes on: those of this filter alone, about its own records.
//!
//! A request that reaches a bridge speaks to Redis with the rights of Envoy. A listener or a route that leads there by mistake is
//! then no way to other data, nor to other scripts.

use super::{
    bridge::Refusal,
    resp::{RespToken, read_token},
    script::Scripts,
};

/// What is passed on.
#[derive(Debug)]
pub struct Passing {
    scripts: Scripts,
    prefix: String,
}

/// The command under way, as far as it decides.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Its first words.
    words: Vec<Vec<u8>>,
    /// How many words it still lacks.
    lacking: usize,
}

impl Passing {
    /// The filter's commands, about keys that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: String) -> Self {
        Self { scripts: Scripts::new(), prefix }
    }

    /// Goes on with whole tokens of commands: each array of bulk strings.
    pub(super) fn check(&self, begun: &mut Begun, tokens: &[u8]) -> Result<(), Refusal> {
        let mut rest = tokens;
        while let Ok((token, behind)) = read_token(rest) {
            match token {
                RespToken::Array(length) => *begun = Begun { words: Vec::new(), lacking: length },
                RespToken::Bulk(word) => self.check_word(begun, word)?,
                _ => return Err(Refusal::NotCommands),
            }
            rest = behind;
        }
        Ok(())
    }

    fn check_word(&self, begun: &mut Begun, word: &[u8]) -> Result<(), Refusal> {
        begun.lacking = begun.lacking.saturating_sub(1);
        if begun.words.len() < KEY + 1 {
            begun.words.push(word.to_vec());
        }
        let is_whole = begun.lacking == 0;
        let words: Vec<&[u8]> = begun.words.iter().map(Vec::as_slice).collect();
        let is_ours = match *words.as_slice() {
            [b"AUTH", ..] => true,
            [b"INFO"] => is_whole,
            [b"EVAL", script, b"1", key, ..] => {
                self.scripts.have(script) && key.strip_prefix(self.prefix.as_bytes()).is_some_and(names_operation)
            }
            // The rest decides.
            [b"EVAL", _, b"1"] | [b"EVAL", _] | [b"EVAL"] => !is_whole,
            [name, ..] if name.eq_ignore_ascii_case(b"SELECT") => return Err(Refusal::ChoosesDatabase),
            _ => false,
        };
        if is_ours { Ok(()) } else { Err(Refusal::NotOurs) }
    }
}

/// Whether this is what stands behind the prefix of a key: an operation's hash, or that of a shadow.
fn names_operation(key: &[u8]) -> bool {
    const DIGITS: usize = 64;
    let hash = key.strip_prefix(b"shadow:").unwrap_or(key);
    hash.len() == DIGITS && hash.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The place of the key among the words of a command: behind `EVAL`, the script, and the number of keys.
const KEY: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::resp::push_command;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn check(commands: &[&[&[u8]]]) -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| push_command(&mut bytes, command));
        Passing::new("idemgate:".to_owned()).check(&mut Begun::default(), &bytes)
    }

    fn key(prefix: &str) -> String {
        format!("{prefix}{HASH}")
    }

    #[test]
    fn the_filters_own_commands_pass_behind_a_login_or_without() {
        let scripts = Scripts::new();
        for script in [&scripts.claim, &scripts.renew, &scripts.settle, &scripts.look, &scripts.amend] {
            for prefix in ["idemgate:", "idemgate:shadow:"] {
                let key = key(prefix);
                let eval: &[&[u8]] = &[b"EVAL", script.as_bytes(), b"1", key.as_bytes(), b"owner", b"EVAL"];
                assert_eq!(check(&[eval]), Ok(()));
                assert_eq!(check(&[&[b"AUTH", b"secret"], eval]), Ok(()));
                assert_eq!(check(&[&[b"AUTH", b"user", b"SELECT"], eval]), Ok(()));
            }
        }
        assert_eq!(check(&[&[b"INFO"]]), Ok(()));
    }

    #[test]
    fn nothing_else_does() {
        let claim = &Scripts::new().claim;
        let eval = |script: &str, keys: &str, key: &str| {
            check(&[&[b"EVAL", script.as_bytes(), keys.as_bytes(), key.as_bytes(), b"x"]])
        };
        assert_eq!(eval(claim, "1", &key("idemgate:")), Ok(()));
        for refused in [
            eval("return redis.call('FLUSHALL')", "1", &key("idemgate:")),
            eval(&format!("{claim} "), "1", &key("idemgate:")),
            eval(claim, "2", &key("idemgate:")),
            eval(claim, "0", &key("idemgate:")),
            eval(claim, "1", &key("")),
            eval(claim, "1", &key("other:")),
            eval(claim, "1", &key("idemgate:other:")),
            eval(claim, "1", "idemgate:"),
            eval(claim, "1", &key("idemgate:").to_uppercase()),
            eval(claim, "1", "session:1"),
            check(&[&[b"EVAL", claim.as_bytes(), b"1"]]),
            check(&[&[b"EVAL"]]),
            check(&[&[b"SET", b"a", b"b"]]),
            check(&[&[b"DEL", key("idemgate:").as_bytes()]]),
            check(&[&[b"INFO", b"commandstats"]]),
            check(&[&[b"eval", claim.as_bytes(), b"1", key("idemgate:").as_bytes()]]),
            check(&[&[b""]]),
            check(&[&[b"AUTH", b"secret"], &[b"KEYS", b"*"]]),
            check(&[&[b"EVAL", claim.as_bytes(), b"1", key("idemgate:").as_bytes()], &[b"FLUSHALL"]]),
        ] {
            assert_eq!(refused, Err(Refusal::NotOurs));
        }
    }

    #[test]
    fn a_connection_that_others_share_is_not_led_into_another_database() {
        let claim = &Scripts::new().claim;
        let key = key("idemgate:");
        let eval: &[&[u8]] = &[b"EVAL", claim.as_bytes(), b"1", key.as_bytes()];
        for select in [[b"select".as_slice(), b"3"], [b"SELECT", b"3"]] {
            assert_eq!(check(&[&select, eval]), Err(Refusal::ChoosesDatabase));
            assert_eq!(check(&[&[b"AUTH", b"secret"], &select, eval]), Err(Refusal::ChoosesDatabase));
        }
    }
}
