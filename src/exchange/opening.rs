//! From a request's headers to the first decision: is it guarded, and may it go on?

use super::{
    call::DetachedCall,
    effect::{Effect, Notice},
    event::{Attributes, Event},
    footprint::HELD_REQUEST,
    problem::Problem,
    reply::own_fields,
    state::{AwaitBody, GuardedRequest, Name, State, Unnamed},
    step::Step,
};
use crate::{
    config::{BodyFingerprint, ExecutionMode, Policy},
    headers::Headers,
    record::{Mailbox, Owner},
    request::{Caller, FingerprintBuilder, Identified, Key, OperationId, Target, UnnamedOperation},
};

impl Step<'_> {
    pub(super) fn on_idle(&mut self, event: Event<'_>) -> State {
        match event {
            Event::RequestHeaders { headers, attribute, owner, mailbox, is_store_remote, end_of_stream } => {
                self.open(headers, attribute, owner, mailbox, is_store_remote, end_of_stream)
            }
            Event::Gone { .. } => State::Finished,
            _ => State::Idle,
        }
    }

    /// Decides on the request's headers.
    fn open(
        &mut self,
        headers: &Headers,
        attributes: &dyn Attributes,
        owner: Owner,
        mailbox: Option<Mailbox>,
        is_store_remote: bool,
        end_of_stream: bool,
    ) -> State {
        if !may_be_guarded(headers, self.policy) {
            self.effects.push(Effect::Forward);
            return State::Finished;
        }
        let key = match Key::find(headers, &self.policy.key) {
            Ok(Some(key)) => Some(key),
            Ok(None) if self.policy.key.pointers.is_empty() && self.policy.key.derive.is_none() => {
                return self.pass_without_key();
            }
            Ok(None) => None,
            Err(reason) => return self.refuse(&Problem::KeyInvalid(reason)),
        };
        let identified = Caller::identify(&self.policy.caller, headers, |path| attributes.get(path)).ok();
        let target = Target::from_headers(headers);
        // What a service sends back of a request is not to speak for the filter.
        let own_fields = own_fields(self.policy).into_iter().filter(|name| headers.get(name).is_some());
        let own_fields = own_fields.map(str::to_owned).collect();
        let name = match (key, identified) {
            (Some(_), None) => return self.refuse(&Problem::CallerUnknown),
            (Some(key), Some(identified)) => {
                let operation = OperationId::new(&identified.caller, &self.policy.resource, &target, &key);
                Name::Known(self.guard(identified, operation, self.policy.ttl, own_fields))
            }
            (None, identified) if !self.may_be_named_by_content(identified.as_ref()) => return self.pass_without_key(),
            (None, identified) => {
                let unnamed =
                    |identified: &Identified| UnnamedOperation::new(&identified.caller, &self.policy.resource, &target);
                let origin = identified.map(|identified| (identified, unnamed(&identified)));
                Name::Open(Box::new(Unnamed { origin, own_fields, text: Vec::new() }))
            }
        };
        self.note_preconditions(headers);
        let call = mailbox.and_then(|_| self.call(headers, attributes));
        let fingerprint = FingerprintBuilder::new(&self.policy.fingerprint, &target, headers);
        let needs_body =
            self.policy.fingerprint.body != BodyFingerprint::None || call.is_some() || matches!(name, Name::Open(_));
        let expects_continue = !end_of_stream && expects_continue(headers);
        // A call has fields of its own.
        let held = HELD_REQUEST + headers.byte_len() as u64 * if call.is_some() { 2 } else { 1 };
        let request = GuardedRequest { name, owner, mailbox, call, held, body: 0, expects_continue };
        let (declared, copies) = (declared_length(headers), request.copies(self.policy));
        let body = if end_of_stream || !needs_body { 0 } else { declared.unwrap_or_default() };
        let limit = self.policy.limits.request_body;
        // What is too large in any case is told so below.
        if body <= limit && !self.has_room(request.reserve() + body.saturating_mul(copies)) {
            return self.refuse(&Problem::MemoryFull);
        }
        if end_of_stream || !needs_body {
            if expects_continue && is_store_remote {
                return self.refuse(&Problem::ExpectationFailed);
            }
            return self.name(request, fingerprint.finish());
        }
        if declared.is_some_and(|length| length > limit) {
            return self.refuse(&Problem::RequestTooLarge { limit });
        }
        if expects_continue {
            return self.refuse(&Problem::ExpectationFailed);
        }
        self.effects.push(Effect::Hold);
        State::AwaitBody(AwaitBody { request, fingerprint, copies })
    }

    /// Tells of what a request makes itself depend on, and no retry is compared by.
    fn note_preconditions(&mut self, headers: &Headers) {
        for name in PRECONDITIONS {
            if headers.get(name).is_some() && !self.policy.fingerprint.headers.iter().any(|counted| counted == name) {
                self.effects.push(Effect::Notice(Notice::Precondition(name)));
            }
        }
    }

    /// The detached call, if the policy wants one, it can be made, and the request has a cluster to go to. One that has
    /// none is answered by Envoy itself, inline.
    fn call(&self, headers: &Headers, attributes: &dyn Attributes) -> Option<DetachedCall> {
        if self.policy.execution.mode != ExecutionMode::Detached {
            return None;
        }
        let of_route = || {
            let path = ["xds", "cluster_name"].map(str::to_owned);
            attributes.get(&path).and_then(|name| String::from_utf8(name).ok()).filter(|name| !name.is_empty())
        };
        DetachedCall::new(self.policy.execution.cluster.clone().or_else(of_route)?, headers, self.policy)
    }
}

/// Whether the policy guards requests like this one, if they have a key.
fn may_be_guarded(headers: &Headers, policy: &Policy) -> bool {
    guards_method(headers, policy) && !is_upgrade(headers) && !is_grpc(headers)
}

fn guards_method(headers: &Headers, policy: &Policy) -> bool {
    let method = headers.get(":method").unwrap_or_default();
    policy.guards_method(method)
}

/// HTTP/1.1 upgrades (RFC 9110, section 7.8) and extended CONNECT (RFC 8441) have no end to wait for.
fn is_upgrade(headers: &Headers) -> bool {
    headers.get("upgrade").is_some() || headers.get(":protocol").is_some()
}

/// gRPC carries its outcome in trailers, and Envoy turns local replies to it into other ones. Nothing else is let through
/// for looking like it: not gRPC-Web, whose messages are ordinary answers, and not a type that only begins so.
fn is_grpc(headers: &Headers) -> bool {
    let mut types = headers.get_all("content-type");
    matches!((types.next(), types.next()), (Some(one), None) if is_grpc_type(one))
}

/// `application/grpc`, with or without `+` and a format, and parameters. Envoy joins two lines by a comma.
fn is_grpc_type(value: &[u8]) -> bool {
    let rest = value.split_at_checked(GRPC.len()).filter(|(start, _)| start.eq_ignore_ascii_case(GRPC));
    rest.is_some_and(|(_, rest)| matches!(rest.trim_ascii_start(), [] | [b'+' | b';', ..]) && !rest.contains(&b','))
}

/// Whether the client waits for a 100 (RFC 9110, section 10.1.1). Envoy answers that by itself and takes the field off,
/// unless `proxy_100_continue` is set.
fn expects_continue(headers: &Headers) -> bool {
    let expectations = headers.get_all("expect").flat_map(|value| value.split(|byte| *byte == b','));
    expectations.map(<[u8]>::trim_ascii).any(|expectation| expectation.eq_ignore_ascii_case(b"100-continue"))
}

fn declared_length(headers: &Headers) -> Option<u64> {
    std::str::from_utf8(headers.get("content-length")?).ok()?.trim().parse().ok()
}

const GRPC: &[u8] = b"application/grpc";

/// Those of RFC 9110, section 13.1, that a request with effects may have.
const PRECONDITIONS: [&str; 3] = ["if-match", "if-none-match", "if-unmodified-since"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_is_a_number_or_nothing() {
        let declared = |value: &str| declared_length(&Headers::from_iter([("content-length", value)]));
        assert_eq!(declared("0"), Some(0));
        assert_eq!(declared(" 1048577 "), Some(1_048_577));
        // The limit is then applied to the body as it arrives.
        for value in ["", "-1", "1e9", "5, 5", "18446744073709551616", "\u{661}"] {
            assert_eq!(declared(value), None, "{value:?}");
        }
        assert_eq!(declared_length(&Headers::from_iter([("content-length", b"\xff".as_slice())])), None);
        assert_eq!(declared_length(&Headers::new()), None);
    }

    #[test]
    fn a_100_is_expected_by_its_word_in_any_case_and_among_others() {
        let expects = |values: &[&str]| expects_continue(&values.iter().map(|value| ("expect", *value)).collect());
        for values in [&["100-continue"] as &[&str], &["100-Continue"], &["a=b, 100-continue"], &["a", "100-continue"]]
        {
            assert!(expects(values), "{values:?}");
        }
        for values in [&[] as &[&str], &[""], &["100-continued"], &["200-ok"], &["\"100-continue\""]] {
            assert!(!expects(values), "{values:?}");
        }
    }

    #[test]
    fn grpc_is_known_by_its_exact_type_in_any_case() {
        let grpc = |value: &[u8]| is_grpc(&Headers::from_iter([("content-type", value)]));
        for value in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC+json; charset=utf-8",
            "application/grpc;a=b",
            "application/grpc ; a=b",
        ] {
            assert!(grpc(value.as_bytes()), "{value}");
        }
        for value in [
            "",
            "application/json",
            "application/grp",
            "application/grpcXjson",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc/json",
            "application/grpc json",
            "application/grpc,application/json",
            "application/grpc+proto, application/json",
            "application/grpc;a=b,application/json",
            " application/grpc",
            "text/application/grpc",
        ] {
            assert!(!grpc(value.as_bytes()), "{value}");
        }
        assert!(!grpc(b"application/grp\xff") && !grpc(b"application/grpc\xff"));
        let two = [("content-type", "application/grpc"), ("content-type", "application/json")];
        assert!(!is_grpc(&Headers::from_iter(two)) && !is_grpc(&Headers::new()));
    }

    #[test]
    fn methods_are_guarded_by_their_name_in_any_case() {
        let policy = Policy::default();
        let guarded = |method: &str| guards_method(&Headers::from_iter([(":method", method)]), &policy);
        assert!(guarded("POST") && guarded("PATCH") && guarded("post") && guarded("PatCH"));
        for method in ["GET", "get", "PUT", "QUERY", "POSTS", "POS", ""] {
            assert!(!guarded(method), "{method}");
        }
        assert!(!guards_method(&Headers::new(), &policy));
    }
}
