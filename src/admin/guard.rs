//! Who may ask: decided before anything else of a request is looked at.

use std::net::IpAddr;

use crate::{config::Guard, headers::Headers};

/// Where a request comes from, as the host tells it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The address that it came to (`destination.address`).
    pub to: Option<&'a [u8]>,
    /// The address that it came from (`source.address`), which `x-forwarded-for` may have changed.
    pub from: Option<&'a [u8]>,
    /// Whether the metadata of the listener says that it is guarded.
    pub is_declared: bool,
    /// The fields of the request.
    pub headers: &'a Headers,
}

/// Why a request is refused. `Display` is what it is told, and what is logged.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A browser sent it for a web page.
    #[error(
        "This admin answers no request that a web page has sent. Ask it with curl, or type the URL into the browser \
         yourself."
    )]
    WebPage,
    /// It came from another machine, or by way of a proxy.
    #[error(
        "This admin answers only requests that come from a loopback address, straight to it. Ask it from the machine or \
         the pod that Envoy runs on."
    )]
    FromElsewhere,
    /// It was meant for another host: a web page may have sent it from a browser on this machine.
    #[error("This admin answers only requests for localhost or a loopback address. Use such a URL.")]
    OtherHost,
    /// The listener is bound to another address.
    #[error(
        "This admin has the guard \"loopback\", and its listener was reached at another address. Bind the listener to \
         127.0.0.1, ::1 or a Unix socket; or guard it by filters of your own and use \"guard\": \"filters\"."
    )]
    ToElsewhere,
    /// The listener does not vouch for filters.
    #[error(
        "This admin has the guard \"filters\", and its listener does not declare that filters guard it. Put filters that \
         authenticate and authorize operators before it, and declare so in the listener's metadata: filter_metadata: \
         {{idemgate: {{admin: true}}}}."
    )]
    Undeclared,
}

impl Origin<'_> {
    /// Whether `guard` lets the request in.
    ///
    /// A listener on a loopback address is reached from its machine alone, and that is what counts. The host says so by
    /// the addresses of the connection, which no client can choose unless a listener filter, such as `proxy_protocol`,
    /// lets it. The others keep out what a proxy or a browser on that machine would bring in.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn check(&self, guard: Guard) -> Result<(), Refusal> {
        match guard {
            Guard::Filters if self.is_declared => {}
            Guard::Filters => return Err(Refusal::Undeclared),
            Guard::Loopback => self.check_loopback()?,
        }
        self.check_page()
    }

    /// Keeps out what a web page of another origin makes a browser send: the page cannot read the answer, but it can let
    /// the worker walk through all records, and again. The browser says so in fields that no page can change.
    fn check_page(&self) -> Result<(), Refusal> {
        let host = self.headers.get(":authority").unwrap_or_default();
        let is_own = |origin: &[u8]| {
            let schemes = [b"http://".as_slice(), b"https://"];
            schemes
                .into_iter()
                .filter_map(|scheme| origin.strip_prefix(scheme))
                .any(|own| own.eq_ignore_ascii_case(host))
        };
        let is_near = |site: &[u8]| site == b"same-origin" || site == b"none";
        if self.headers.get_all("origin").all(is_own) && self.headers.get_all("sec-fetch-site").all(is_near) {
            return Ok(());
        }
        Err(Refusal::WebPage)
    }

    fn check_loopback(&self) -> Result<(), Refusal> {
        let to = self.to.unwrap_or_default();
        if !is_socket(to) && !is_loopback(to) {
            return Err(Refusal::ToElsewhere);
        }
        // Who comes over a Unix socket has no address.
        let from = self.from.unwrap_or_default();
        let is_nameless = is_socket(to) && (from.is_empty() || is_socket(from));
        let mut forwarders =
            self.headers.get_all("x-forwarded-for").flat_map(|value| value.split(|byte| *byte == b','));
        let is_forwarded = PROXY_FIELDS.iter().any(|name| self.headers.get(name).is_some());
        if is_forwarded
            || !(is_nameless || is_loopback(from))
            || !forwarders.all(|address| is_loopback(address.trim_ascii()))
        {
            return Err(Refusal::FromElsewhere);
        }
        let host = self.headers.get(":authority").unwrap_or_default();
        if host_of(host).is_some_and(|host| host.eq_ignore_ascii_case(b"localhost")) || is_loopback(host) {
            return Ok(());
        }
        Err(Refusal::OtherHost)
    }
}

/// What proxies add. `x-forwarded-for` is looked into, since Envoy itself may add it; so does it `x-forwarded-proto`.
const PROXY_FIELDS: [&str; 4] = ["forwarded", "via", "x-forwarded-host", "x-real-ip"];

/// Whether this is the path of a Unix socket, or an abstract one. Within Envoy, addresses begin with `envoy://`: whence
/// a request came there cannot be told.
fn is_socket(address: &[u8]) -> bool {
    matches!(address.first(), Some(b'/' | b'@'))
}

/// Whether this is an IP address of the loopback interface, with or without a port.
fn is_loopback(address: &[u8]) -> bool {
    let host = host_of(address).and_then(|host| std::str::from_utf8(host).ok());
    match host.and_then(|host| host.parse().ok()) {
        Some(IpAddr::V4(address)) => address.is_loopback(),
        Some(IpAddr::V6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// An address without its port and brackets; `None` if it has anything else around the host.
fn host_of(address: &[u8]) -> Option<&[u8]> {
    let is_port = |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let (host, rest) = match address.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|byte| *byte == b']')?;
            let host = rest.get(..end).filter(|host| host.contains(&b':'))?;
            (host, rest.get(end + 1..)?)
        }
        // An IPv6 address without brackets has more colons than one, and no port.
        None if address.iter().filter(|byte| **byte == b':').count() == 1 => {
            address.split_at_checked(address.iter().position(|byte| *byte == b':')?)?
        }
        None => (address, &b""[..]),
    };
    match rest.split_first() {
        None => Some(host),
        Some((b':', port)) if is_port(port) => Some(host),
        Some(_) => None,
    }
}
