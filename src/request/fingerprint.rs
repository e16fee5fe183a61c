//! What a request asks for, so that a key that is used again for something else is found out.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    canonical_json::canonicalize,
    digest::{Digest, OpenDigest, Short},
    media_type::{form_boundary, normal_form},
    multipart::FormHasher,
    target::Target,
};
use crate::{
    config::{BodyFingerprint, FingerprintPolicy, PointerTree},
    headers::Headers,
};

/// SHA-256 of what the request asks for; a retry has the same one.
///
/// All of that is in it by its BLAKE3 hash: WebAssembly has no instructions for SHA-256, so that 16 KiB of body would cost
/// a request more than all else together, and BLAKE3, as hard to collide, takes a quarter of the time.
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Fingerprint(#[serde(with = "super::fixed_bytes")] [u8; 32]);

impl Fingerprint {
    /// The fingerprint that a store kept.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of a request with this BLAKE3 hash.
    fn of(request: &[u8; 32]) -> Self {
        Self(Sha256::new_with_prefix("fingerprint 6").chain_update(request).finalize().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({})", Short(&self.0))
    }
}

/// Takes the fingerprint of one request while its body arrives.
///
/// Header values count as they are, but for `content-type`, which counts by what it says. Forms (`multipart/form-data`)
/// count without their boundary, which clients make up anew for each attempt.
#[derive(Clone)]
pub struct FingerprintBuilder(Body);

impl FingerprintBuilder {
    /// The fingerprint of a request for `target` with `headers`, its body still to come.
    #[must_use]
    pub fn new(policy: &FingerprintPolicy, target: &Target<'_>, headers: &Headers) -> Self {
        let mut digest = Digest::new("request 1");
        digest.part(&target.normalized_method());
        digest.part(&target.normalized_authority());
        digest.part(&target.normalized_path());
        digest.optional(target.query.filter(|_| policy.query));
        digest.number(policy.headers.len());
        for name in &policy.headers {
            digest.part(name.as_bytes());
            if name == CONTENT_TYPE {
                digest.list(headers.get_all(name).map(normal_form));
            } else {
                digest.list(headers.get_all(name));
            }
        }
        let mut types = headers.get_all(CONTENT_TYPE);
        let boundary = types.next().filter(|_| types.next().is_none()).and_then(form_boundary);
        Self(match (&policy.body, boundary) {
            (BodyFingerprint::None, _) => Body::None(digest),
            (_, Some(boundary)) => Body::Form(digest, Box::new(FormHasher::new(&boundary))),
            (BodyFingerprint::Raw, None) => {
                digest.part(b"raw");
                Body::Raw(digest.open())
            }
            (BodyFingerprint::Json { ignore }, None) => Body::Json(digest, Vec::new(), ignore.clone()),
        })
    }

    /// Adds the next chunk of the body; how it is cut does not matter.
    ///
    /// Raw bodies and forms are hashed as they come; JSON is kept until [`finish`](Self::finish), so the caller
    /// must stop at its body limit.
    pub fn body(&mut self, chunk: &[u8]) {
        match &mut self.0 {
            Body::Raw(digest) => digest.extend(chunk),
            Body::Form(_, form) => form.update(chunk),
            Body::Json(_, text, _) => text.extend_from_slice(chunk),
            Body::None(_) => {}
        }
    }

    /// The fingerprint of the request with the whole body seen.
    ///
    /// A body that has no canonical form counts by its bytes, and never equals one that has.
    #[must_use]
    pub fn finish(self) -> Fingerprint {
        let (mut request, kind, body) = match self.0 {
            Body::Raw(digest) => return Fingerprint::of(&digest.blake3()),
            Body::None(request) => (request, "none", None),
            Body::Form(request, form) => {
                let (kind, hash) = form.finish();
                (request, kind, Some(hash))
            }
            Body::Json(request, text, ignore) => match canonicalize(&text, &ignore) {
                Some(canonical) => (request, "json", Some(blake3::hash(&canonical))),
                None => (request, "not json", Some(blake3::hash(&text))),
            },
        };
        request.part(kind.as_bytes());
        request.optional(body.as_ref().map(|hash| hash.as_bytes().as_slice()));
        Fingerprint::of(&request.blake3())
    }
}

impl fmt::Debug for FingerprintBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies hold what clients trust the upstream with.
        formatter.debug_struct("FingerprintBuilder").finish_non_exhaustive()
    }
}

const CONTENT_TYPE: &str = "content-type";

/// What is known of the request, and how its body counts.
#[derive(Clone)]
enum Body {
    /// The body stands behind the rest, so that one hash does for both.
    Raw(OpenDigest),
    Form(Digest, Box<FormHasher>),
    /// The text, and what of it does not count.
    Json(Digest, Vec<u8>, PointerTree),
    None(Digest),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Target<'static> =
        Target { method: b"POST", authority: b"api.example", path: b"/orders", query: Some(b"a=1") };

    fn policy(body: BodyFingerprint) -> FingerprintPolicy {
        FingerprintPolicy { query: true, body, headers: vec!["content-type".to_owned(), "accept".to_owned()] }
    }

    fn json() -> BodyFingerprint {
        BodyFingerprint::Json { ignore: PointerTree::default() }
    }

    fn of_body(body: BodyFingerprint, bytes: &[u8]) -> Fingerprint {
        let mut builder = FingerprintBuilder::new(&policy(body), &TARGET, &Headers::new());
        builder.body(bytes);
        builder.finish()
    }

    fn of_target(policy: &FingerprintPolicy, target: Target<'_>) -> Fingerprint {
        FingerprintBuilder::new(policy, &target, &Headers::new()).finish()
    }

    fn of_headers(fields: &[(&str, &str)]) -> Fingerprint {
        FingerprintBuilder::new(&policy(BodyFingerprint::Raw), &TARGET, &fields.iter().copied().collect()).finish()
    }

    #[test]
    fn method_authority_path_and_query_count() {
        let policy = policy(BodyFingerprint::Raw);
        let fingerprint = of_target(&policy, TARGET);

        assert_ne!(fingerprint, of_target(&policy, Target { method: b"PATCH", ..TARGET }));
        assert_ne!(fingerprint, of_target(&policy, Target { authority: b"other.example", ..TARGET }));
        assert_ne!(fingerprint, of_target(&policy, Target { path: b"/refunds", ..TARGET }));
        assert_ne!(fingerprint, of_target(&policy, Target { query: Some(b"a=2"), ..TARGET }));
        assert_eq!(fingerprint, of_target(&policy, Target { authority: b"API.example", ..TARGET }));
        assert_eq!(fingerprint, of_target(&policy, Target { method: b"post", path: b"/%6Frders", ..TARGET }));
    }

    #[test]
    fn no_query_is_not_an_empty_query() {
        let policy = policy(BodyFingerprint::Raw);
        let with = |query| of_target(&policy, Target { query, ..TARGET });
        assert_ne!(with(None), with(Some(b"")));
    }

    #[test]
    fn the_query_does_not_count_where_the_policy_says_so() {
        let policy = FingerprintPolicy { query: false, ..policy(BodyFingerprint::Raw) };
        assert_eq!(of_target(&policy, TARGET), of_target(&policy, Target { query: None, ..TARGET }));
    }

    #[test]
    fn only_the_configured_headers_count() {
        let fingerprint = of_headers(&[("content-type", "application/json")]);

        assert_ne!(fingerprint, of_headers(&[("content-type", "text/plain")]));
        assert_ne!(fingerprint, of_headers(&[("accept", "application/json")]));
        assert_eq!(fingerprint, of_headers(&[("x-attempt", "2"), ("content-type", "application/json")]));
    }

    #[test]
    fn absent_empty_and_repeated_headers_differ() {
        let fingerprints = [
            of_headers(&[]),
            of_headers(&[("accept", "")]),
            of_headers(&[("accept", ""), ("accept", "")]),
            of_headers(&[("accept", "a"), ("accept", "b")]),
            of_headers(&[("accept", "b"), ("accept", "a")]),
            of_headers(&[("accept", "a, b")]),
        ];
        for (index, fingerprint) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..index].contains(fingerprint), "fingerprint {index} equals one before it");
        }
    }

    #[test]
    fn raw_counts_every_byte_of_the_body() {
        assert_eq!(of_body(BodyFingerprint::Raw, b"{\"a\":1}"), of_body(BodyFingerprint::Raw, b"{\"a\":1}"));
        assert_ne!(of_body(BodyFingerprint::Raw, b"{\"a\":1}"), of_body(BodyFingerprint::Raw, b"{\"a\": 1}"));
    }

    #[test]
    fn none_counts_no_byte_of_the_body() {
        assert_eq!(of_body(BodyFingerprint::None, b"a"), of_body(BodyFingerprint::None, b"b"));
    }

    #[test]
    fn json_counts_what_the_body_means() {
        assert_eq!(of_body(json(), br#"{"a":1,"b":2}"#), of_body(json(), br#" { "b" : 2.0 , "\u0061" : 1 } "#));
        assert_ne!(of_body(json(), br#"{"a":1}"#), of_body(json(), br#"{"a":"1"}"#));
    }

    #[test]
    fn json_leaves_out_what_the_policy_ignores() {
        let ignore = BodyFingerprint::Json { ignore: PointerTree::new(&[vec!["sent_at".to_owned()]]) };
        let of = |bytes: &[u8]| of_body(ignore.clone(), bytes);

        assert_eq!(of(br#"{"a":1,"sent_at":"10:00"}"#), of(br#"{"sent_at":"10:01","a":1}"#));
        assert_ne!(of(br#"{"a":1,"sent_at":"10:00"}"#), of(br#"{"a":2,"sent_at":"10:00"}"#));
    }

    #[test]
    fn a_body_that_is_not_json_counts_raw() {
        assert_eq!(of_body(json(), b"a=1&b=2"), of_body(json(), b"a=1&b=2"));
        assert_ne!(of_body(json(), b"a=1&b=2"), of_body(json(), b"b=2&a=1"));
        assert_ne!(of_body(json(), b""), of_body(json(), b"null"));
    }

    #[test]
    fn the_ways_to_count_a_body_never_meet() {
        let fingerprints = [
            of_body(BodyFingerprint::Raw, b"1"),
            of_body(json(), b"1"),
            of_body(BodyFingerprint::None, b"1"),
            of_body(BodyFingerprint::Raw, b"x"),
            of_body(json(), b"x"),
        ];
        for (index, fingerprint) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..index].contains(fingerprint), "fingerprint {index} equals one before it");
        }
    }

    #[test]
    fn debug_does_not_show_the_body() {
        let mut builder = FingerprintBuilder::new(&policy(json()), &TARGET, &Headers::new());
        builder.body(b"secret");
        assert_eq!(format!("{builder:?}"), "FingerprintBuilder { .. }");
    }

    #[test]
    fn the_encoding_is_the_one_that_stores_hold() {
        // A retry must match the record that the release before wrote. Computed apart from this crate.
        let raw = BodyFingerprint::Raw;
        for (kind, body, expected) in [
            (raw, r#"{"a":1}"#, "47b81f9d957e6d889d1df2878eb92686ef8624efa1009ad9e9c17fdd8516e379"),
            (json(), r#"{"a":1}"#, "07d9e2d19ec54475ace3d3e4f7f4251eccf7f226cd1c394753870933fcff0512"),
            (
                json(),
                r#" {"b": "\n", "a": [1.0, 1.50, 9007199254740993]}"#,
                "a0957e2a622dd6a8e7f5c245a016b842a01f70e72e9fc143e8cf9b7533bc0372",
            ),
        ] {
            let fingerprint = of_body(kind, body.as_bytes());
            let hex: String = fingerprint.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn how_the_body_is_cut_does_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6),
            kind in prop::sample::select(vec![BodyFingerprint::Raw, json(), BodyFingerprint::None]),
        ) {
            let mut builder = FingerprintBuilder::new(&policy(kind.clone()), &TARGET, &Headers::new());
            chunks.iter().for_each(|chunk| builder.body(chunk));
            prop_assert_eq!(builder.finish(), of_body(kind, &chunks.concat()));
        }

        #[test]
        fn how_a_json_body_is_cut_does_not_matter(cut in 0_usize..=24) {
            let body = br#"{"b":[1,2.50],"a":"x\""} "#;
            let (head, tail) = body.split_at(cut);
            let mut builder = FingerprintBuilder::new(&policy(json()), &TARGET, &Headers::new());
            builder.body(head);
            builder.body(tail);
            prop_assert_eq!(builder.finish(), of_body(json(), br#"{"a":"x\"","b":[1,2.5]}"#));
        }
    }
}
