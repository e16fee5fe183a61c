//! Patterns of routes, against a naive reading of what they mean.

use idemgate::{config::Config, headers::Headers};

use super::{Seed, input::Input, texts};

/// Three lines and a text: two patterns, one over authorities, and what is matched.
///
/// A pattern matches what it means; and a second route is refused only if the first one matches all that it does.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let [first, second, host] = [input.line(), input.line(), input.line()];
    // A naive reading takes its time.
    let text = input.take(24);
    if [first, second, host].iter().any(|pattern| pattern.len() > 16) {
        return;
    }
    let [first, second] = [first, second].map(|pattern| Pattern::new("path", pattern, b'/'));
    for pattern in [&first, &second, &Pattern::new("authority", host, b'.')].into_iter().flatten() {
        pattern.check(text);
    }
    if let (Some(first), Some(second)) = (first, second) {
        let both = Config::parse(&configuration(&[&first.route, &second.route]));
        assert!(both.is_ok() || !second.means(text) || first.means(text), "it is not covered");
    }
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("below", "/orders/**\n/orders/*/pay\n*.example.com\n/orders/17/pay"),
        ("covered", "/**/z\n/a/**/z\n**.example.com:8443\n/a/b/c/z"),
        ("escaped", "/%70ay/*%2f*\n/caf%c3%a9/**\n*\n/p%61y/%%32%2Fx?%70"),
        ("host", "**\n/\n[2001:db8::*]:80\n[2001:db8::1]:80"),
        ("many", "/*a*a*a**b\n**a**a**\nA.B.*\naaaa/aaab"),
    ])
}

struct Pattern {
    /// In lower case, if it is over authorities.
    pattern: Vec<u8>,
    separator: u8,
    /// The route as it is configured.
    route: String,
    config: Config,
}

impl Pattern {
    /// `None` if no such pattern is allowed.
    fn new(key: &str, pattern: &[u8], separator: u8) -> Option<Self> {
        let text = serde_json::to_string(std::str::from_utf8(pattern).ok()?).expect("a string");
        let route = format!(r#"{{"match":{{"{key}":{text}}},"policy":{{"ttl":"1h"}}}}"#);
        let config = Config::parse(&configuration(&[&route])).ok()?;
        assert!(!pattern.windows(3).any(|stars| stars == b"***"), "it was to be refused");
        let pattern = if separator == b'.' { pattern.to_ascii_lowercase() } else { normal(pattern) };
        Some(Self { pattern, separator, route, config })
    }

    fn check(&self, text: &[u8]) {
        let found = match self.separator {
            b'.' => self.config.route(b"POST", text, b"/", &Headers::new()),
            _ => self.config.route(b"POST", b"", text, &Headers::new()),
        };
        assert_eq!(found.is_some(), self.means(text), "{} {}", self.pattern.escape_ascii(), text.escape_ascii());
    }

    fn means(&self, text: &[u8]) -> bool {
        if self.separator == b'/' {
            let path = text.split(|byte| *byte == b'?').next().unwrap_or_default();
            return means(&self.pattern, &normal(path), b'/');
        }
        let host = if without_port(&self.pattern) == self.pattern { without_port(text) } else { text };
        means(&self.pattern, &host.to_ascii_lowercase(), b'.')
    }
}

/// A path in which each octet that needs no encoding has none, and all others have upper-case digits.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut normal = Vec::new();
    let mut place = 0;
    while place < path.len() {
        let digits = path.get(place + 1..place + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match digits.filter(|_| path[place] == b'%').map(|digits| std::str::from_utf8(digits).expect("ASCII")) {
            Some(digits) => {
                let octet = u8::from_str_radix(digits, 16).expect("two digits");
                if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
                    normal.push(octet);
                } else {
                    normal.extend(format!("%{octet:02X}").into_bytes());
                }
                place += 3;
            }
            None => {
                normal.push(path[place]);
                place += 1;
            }
        }
    }
    normal
}

fn configuration(routes: &[&str]) -> Vec<u8> {
    format!(r#"{{"routes":[{}]}}"#, routes.join(",")).into_bytes()
}

/// What stands in front of the last colon that is not within brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| b":]".contains(byte)) {
        Some(end) if authority[end] == b':' => &authority[..end],
        _ => authority,
    }
}

/// What a pattern means, said by trying everything.
fn means(pattern: &[u8], text: &[u8], separator: u8) -> bool {
    let splits = |rest: &[u8], allows: &dyn Fn(&[u8]) -> bool| {
        (0..=text.len()).any(|end| allows(&text[..end]) && means(rest, &text[end..], separator))
    };
    match pattern {
        [] => text.is_empty(),
        [first, b'*', b'*', rest @ ..] if *first == separator && rest.first().is_none_or(|next| *next == separator) => {
            splits(rest, &|taken| taken.is_empty() || taken[0] == separator)
        }
        [b'*', b'*', rest @ ..] => splits(rest, &|_| true),
        [b'*', rest @ ..] => splits(rest, &|taken| !taken.contains(&separator)),
        [byte, rest @ ..] => text.first() == Some(byte) && means(rest, &text[1..], separator),
    }
}
