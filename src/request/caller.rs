//! Whose request it is.

use std::fmt;

use super::{
    attribute, authorization,
    digest::{Digest, Short},
};
use crate::{
    config::{CallerPolicy, IdentitySource},
    headers::Headers,
};

/// The identity a key belongs to, as a hash of all identity sources that the request has.
///
/// Two callers never share a key; the credentials themselves are not kept.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Caller([u8; 32]);

impl Caller {
    /// Who sends `headers`, by the sources of `policy`; `property` reads an Envoy attribute.
    ///
    /// Every source that is present counts, with its position and name, so that neither the same value
    /// in another header nor a value split over two sources is the same caller. All lines of a repeated
    /// header count, in order. An empty value, map or list says nothing about who is calling, so it counts as absent.
    /// Requests without any identity share one anonymous caller where the policy lets them pass.
    ///
    /// # Errors
    ///
    /// [`CallerUnknown`] if the policy requires an identity and no source is present.
    pub fn identify(
        policy: &CallerPolicy,
        headers: &Headers,
        mut property: impl FnMut(&[String]) -> Option<Vec<u8>>,
    ) -> Result<Identified, CallerUnknown> {
        let mut digest = Digest::new("caller 4");
        let mut known = false;
        let mut changing = None;
        for (position, source) in policy.identity.iter().enumerate() {
            known |= match source {
                IdentitySource::Header(name) => {
                    let values = present(headers, name);
                    let is_present = values.clone().next().is_some();
                    if is_present {
                        digest.number(position);
                        digest.part(b"header");
                        digest.part(name.as_bytes());
                        if name == AUTHORIZATION {
                            changing = changing.or_else(|| values.clone().find_map(authorization::changing_scheme));
                            digest.list_in_form(values, authorization::ignore_case_of_scheme);
                        } else {
                            digest.list(values);
                        }
                    }
                    is_present
                }
                IdentitySource::Credential => {
                    let values = present(headers, AUTHORIZATION);
                    let (first, second) = (values.clone().next(), values.clone().nth(1));
                    if let Some(field) = first {
                        digest.number(position);
                        // Of several fields it is not known which one was verified, so that all count.
                        if let Some(parts) = authorization::stable_parts(field).filter(|_| second.is_none()) {
                            digest.part(b"credential");
                            digest.list(parts.into_iter());
                        } else {
                            changing = changing.or_else(|| values.clone().find_map(authorization::changing_scheme));
                            digest.part(b"authorization");
                            digest.list_in_form(values, authorization::ignore_case_of_scheme);
                        }
                    }
                    first.is_some()
                }
                IdentitySource::Property(path) => {
                    let value = property(path).filter(|value| !attribute::is_empty(value));
                    if let Some(value) = &value {
                        digest.number(position);
                        digest.part(b"property");
                        digest.list(path.iter());
                        digest.part(&attribute::canonical(value));
                    }
                    value.is_some()
                }
            };
        }
        let doubt = if known { changing.map(Doubt::ChangingCredentials) } else { Some(Doubt::Anonymous) };
        if known || !policy.required {
            Ok(Identified { caller: Self(digest.blake3()), doubt })
        } else {
            Err(CallerUnknown)
        }
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The caller with this hash.
    #[must_use]
    pub const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Caller({})", Short(&self.0))
    }
}

/// A caller, and what the operator should know of how it was told from others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identified {
    /// Who it is.
    pub caller: Caller,
    /// Why it may not be told apart as the operator expects.
    pub doubt: Option<Doubt>,
}

impl Identified {
    /// Whether it is one with all others that have no identity.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.doubt == Some(Doubt::Anonymous)
    }
}

/// Why a caller may not be told apart as the operator expects.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// The request has no identity: it is the same caller as all others that have none.
    #[error(
        "a guarded request has none of the identities that caller.identity names: all such requests are one caller, and \
         one client is shown the answer to another's request with the same key. Authentication may have removed the \
         header, as jwt_authn and Istio do: name what it verified in caller.identity, and set caller.required. This is \
         said once; idemgate.requests.caller_absent counts them all"
    )]
    Anonymous,
    /// An `Authorization` field of this scheme is another one in each attempt: a retry is another caller.
    #[error(
        "the Authorization header of the scheme {0} differs in each attempt, and is part of caller.identity: a retry is \
         another caller, and runs again. Name what authentication verified in caller.identity, or, for AWS4-*, OAuth and \
         Digest, {{\"authorization\": \"credential\", \"verified\": true}}. This is said once per scheme"
    )]
    ChangingCredentials(&'static str),
}

/// The values of a header that say something.
fn present<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> + Clone {
    headers.get_all(name).filter(|value| !value.is_empty())
}

const AUTHORIZATION: &str = "authorization";

/// The policy requires an identity, and the request has none.
///
/// Its text is the `detail` of the problem: it names no source, since how callers are told apart is the
/// operator's business.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "An idempotency key belongs to a caller, and this request does not say who is calling. \
     Nothing was executed. Send the request again with your credentials."
)]
pub struct CallerUnknown;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(name: &str) -> IdentitySource {
        IdentitySource::Header(name.to_owned())
    }

    fn attribute(path: &[&str]) -> IdentitySource {
        IdentitySource::Property(path.iter().map(|part| (*part).to_owned()).collect())
    }

    fn optional(identity: Vec<IdentitySource>) -> CallerPolicy {
        CallerPolicy { identity, required: false }
    }

    fn by_headers(policy: &CallerPolicy, fields: &[(&str, &str)]) -> Caller {
        Caller::identify(policy, &fields.iter().copied().collect(), |_| None).unwrap().caller
    }

    #[test]
    fn the_same_credentials_are_the_same_caller() {
        let policy = optional(vec![header("authorization")]);
        let ann = by_headers(&policy, &[("authorization", "Bearer ann")]);

        assert_eq!(ann, by_headers(&policy, &[("accept", "*/*"), ("authorization", "Bearer ann")]));
        assert_ne!(ann, by_headers(&policy, &[("authorization", "Bearer bob")]));
    }

    #[test]
    fn every_source_that_is_present_counts() {
        let policy = optional(vec![header("authorization"), header("x-tenant")]);
        let both = by_headers(&policy, &[("authorization", "ann"), ("x-tenant", "north")]);

        assert_ne!(both, by_headers(&policy, &[("authorization", "ann"), ("x-tenant", "south")]));
        assert_ne!(both, by_headers(&policy, &[("authorization", "ann")]));
        assert_ne!(both, by_headers(&policy, &[("x-tenant", "north")]));
    }

    #[test]
    fn a_value_counts_with_the_source_it_came_from() {
        let policy = optional(vec![header("x-user"), header("x-tenant")]);

        assert_ne!(by_headers(&policy, &[("x-user", "ann")]), by_headers(&policy, &[("x-tenant", "ann")]));
        assert_ne!(
            by_headers(&policy, &[("x-user", "an"), ("x-tenant", "na")]),
            by_headers(&policy, &[("x-user", "ann"), ("x-tenant", "a")]),
        );
    }

    #[test]
    fn equal_values_under_two_policies_are_two_callers() {
        let by_user = optional(vec![header("x-user")]);
        let by_tenant = optional(vec![header("x-tenant")]);
        let fields = [("x-user", "ann"), ("x-tenant", "ann")];

        assert_ne!(by_headers(&by_user, &fields), by_headers(&by_tenant, &fields));
    }

    #[test]
    fn every_line_of_a_repeated_header_counts() {
        let policy = optional(vec![header("authorization")]);
        let callers = [
            by_headers(&policy, &[("authorization", "a")]),
            by_headers(&policy, &[("authorization", "a"), ("authorization", "a")]),
            by_headers(&policy, &[("authorization", "aa")]),
            by_headers(&policy, &[("authorization", "a"), ("authorization", "b")]),
            by_headers(&policy, &[("authorization", "b"), ("authorization", "a")]),
        ];
        for (index, caller) in callers.iter().enumerate() {
            assert!(!callers[..index].contains(caller), "caller {index} equals one before it");
        }
    }

    #[test]
    fn an_attribute_identifies_the_caller() {
        let policy = optional(vec![attribute(&["metadata", "sub"])]);
        let by_subject = |subject: &str| {
            Caller::identify(&policy, &Headers::new(), |path| {
                assert_eq!(path, ["metadata", "sub"]);
                Some(subject.as_bytes().to_vec())
            })
            .unwrap()
            .caller
        };

        assert_eq!(by_subject("ann"), by_subject("ann"));
        assert_ne!(by_subject("ann"), by_subject("bob"));
    }

    #[test]
    fn a_header_is_not_an_attribute_of_that_name() {
        let by_header = by_headers(&optional(vec![header("sub")]), &[("sub", "ann")]);
        let by_attribute =
            Caller::identify(&optional(vec![attribute(&["sub"])]), &Headers::new(), |_| Some(b"ann".to_vec()))
                .unwrap()
                .caller;

        assert_ne!(by_header, by_attribute);
    }

    #[test]
    fn without_identity_all_share_the_anonymous_caller() {
        let by_user = optional(vec![header("x-user")]);
        let by_subject = optional(vec![attribute(&["sub"])]);

        assert_eq!(by_headers(&by_user, &[]), by_headers(&by_subject, &[]));
        assert_ne!(by_headers(&by_user, &[]), by_headers(&by_user, &[("x-user", "ann")]));
    }

    #[test]
    fn an_empty_value_counts_as_absent() {
        let policy = optional(vec![header("x-user"), attribute(&["sub"])]);
        let empty =
            Caller::identify(&policy, &Headers::from_iter([("x-user", "")]), |_| Some(Vec::new())).unwrap().caller;

        assert_eq!(empty, by_headers(&policy, &[]));
        let no_entries = Caller::identify(&policy, &Headers::new(), |_| Some(vec![0; 4])).unwrap().caller;
        assert_eq!(no_entries, by_headers(&policy, &[]));
    }

    #[test]
    fn a_required_caller_that_is_absent_is_refused() {
        let policy = CallerPolicy { identity: vec![header("x-user"), attribute(&["sub"])], required: true };
        let identify =
            |fields: &[(&str, &str)]| Caller::identify(&policy, &fields.iter().copied().collect::<Headers>(), |_| None);

        assert_eq!(identify(&[]), Err(CallerUnknown));
        assert_eq!(identify(&[("x-user", "")]), Err(CallerUnknown));
        assert!(identify(&[("x-user", "ann")]).is_ok());
    }

    #[test]
    fn any_bytes_identify_a_caller() {
        let policy = optional(vec![header("x-user")]);
        let headers = |value: &[u8]| Headers::from_iter([(b"x-user".to_vec(), value.to_vec())]);
        let identify = |value: &[u8]| Caller::identify(&policy, &headers(value), |_| None).unwrap();

        assert_ne!(identify(b"Ren\xe9"), identify(b"Ren\xe8"));
    }

    #[test]
    fn debug_does_not_show_the_credentials() {
        let policy = optional(vec![header("authorization")]);
        let debug = format!("{:?}", by_headers(&policy, &[("authorization", "secret")]));

        assert!(!debug.contains("secret"));
        assert_eq!(debug.len(), "Caller(000000000000)".len());
    }

    #[test]
    fn the_scheme_of_authorization_counts_without_case_and_other_fields_count_as_they_are() {
        let policy = optional(vec![header("authorization")]);
        let ann = by_headers(&policy, &[("authorization", "Bearer aNN")]);
        assert_eq!(ann, by_headers(&policy, &[("authorization", "bearer aNN")]));
        assert_eq!(ann, by_headers(&policy, &[("authorization", "BEARER aNN")]));
        assert_ne!(ann, by_headers(&policy, &[("authorization", "Bearer ann")]));

        let policy = optional(vec![header("x-user")]);
        assert_ne!(by_headers(&policy, &[("x-user", "Ann B")]), by_headers(&policy, &[("x-user", "ann B")]));
    }

    #[test]
    fn a_map_is_the_same_caller_in_any_order() {
        // {"b": "2", "a": "1"} and the other way round, as Envoy serialises them.
        let lengths = [1, 0, 0, 0, 1, 0, 0, 0];
        let map = |contents: &[u8]| [&[2, 0, 0, 0], &lengths[..], &lengths, contents].concat();
        let policy = optional(vec![attribute(&["jwt"])]);
        let identify = |value: &[u8]| Caller::identify(&policy, &Headers::new(), |_| Some(value.to_vec())).unwrap();

        let ann = identify(&map(b"b\x002\0a\x001\0"));
        assert_eq!(ann, identify(&map(b"a\x001\0b\x002\0")));
        assert_ne!(ann, identify(&map(b"a\x002\0b\x001\0")));
    }

    #[test]
    fn a_credential_is_the_same_caller_in_each_attempt() {
        let policy = optional(vec![IdentitySource::Credential]);
        let digest =
            |name: &str, count: u8| format!("Digest username=\"{name}\", realm=\"r\", nonce=\"n\", nc={count}");
        let by = |field: &str| by_headers(&policy, &[("authorization", field)]);

        assert_eq!(by(&digest("ann", 1)), by(&digest("ann", 2)));
        assert_ne!(by(&digest("ann", 1)), by(&digest("bob", 1)));
        // A field that says two things, or that is not the only one, counts as a whole.
        let twice = digest("ann", 1) + ", username=\"bob\"";
        assert_ne!(by(&twice), by(&digest("ann", 1)));
        let two = [("authorization", digest("ann", 1)), ("authorization", digest("bob", 1))];
        let two = two.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_ne!(by_headers(&policy, &two), by(&digest("ann", 1)));
        // So does one of another scheme, as it does under the header's own name.
        assert_eq!(by("Bearer ann"), by("bearer ann"));
        assert_ne!(by("Bearer ann"), by("Bearer bob"));
    }

    #[test]
    fn a_value_cannot_pass_for_a_credential() {
        let policy = optional(vec![IdentitySource::Credential]);
        let by = |field: &str| by_headers(&policy, &[("authorization", field)]);
        assert_ne!(by("OAuth oauth_consumer_key=\"a\", oauth_token=\"b\""), by("OAuth a b"));
    }

    #[test]
    fn what_the_operator_should_know_is_told() {
        let doubt = |identity: Vec<IdentitySource>, fields: &[(&str, &str)]| {
            let headers: Headers = fields.iter().copied().collect();
            Caller::identify(&optional(identity), &headers, |_| Some(b"ann".to_vec())).unwrap().doubt
        };
        let signed = ("authorization", "aws4-hmac-sha256 Credential=A/1/2/3/aws4_request, Signature=1");
        let changing = Some(Doubt::ChangingCredentials("AWS4-HMAC-SHA256"));

        assert_eq!(doubt(vec![header("authorization")], &[]), Some(Doubt::Anonymous));
        assert_eq!(doubt(vec![header("authorization")], &[("authorization", "")]), Some(Doubt::Anonymous));
        assert_eq!(doubt(Vec::new(), &[("authorization", "Bearer a")]), Some(Doubt::Anonymous));
        assert_eq!(doubt(vec![header("authorization")], &[("authorization", "Bearer a")]), None);
        assert_eq!(doubt(vec![header("authorization")], &[signed]), changing);
        assert_eq!(doubt(vec![attribute(&["sub"]), header("authorization")], &[signed]), changing);
        assert_eq!(doubt(vec![attribute(&["sub"])], &[signed]), None);
        assert_eq!(doubt(vec![header("x-user")], &[signed, ("x-user", "Digest a")]), None);
        assert_eq!(doubt(vec![IdentitySource::Credential], &[signed]), None);
        assert_eq!(doubt(vec![IdentitySource::Credential], &[signed, signed]), changing);
        let azure = ("authorization", "HMAC-SHA256 SignedHeaders=x-ms-date&Signature=1");
        assert_eq!(doubt(vec![IdentitySource::Credential], &[azure]), Some(Doubt::ChangingCredentials("HMAC-SHA256")),);
    }

    #[test]
    fn the_encoding_is_the_one_that_stores_hold() {
        // A new release must find the operations of the one before it. Made outside of this crate.
        let hex = |policy: &CallerPolicy, fields: &[(&str, &str)], attribute: &[u8]| -> String {
            let headers = fields.iter().copied().collect();
            let caller = Caller::identify(policy, &headers, |_| Some(attribute.to_vec())).unwrap().caller;
            caller.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let policy = optional(vec![header("authorization"), header("x-user"), attribute(&["metadata", "sub"])]);
        assert_eq!(
            hex(&policy, &[("x-user", "ann")], b"42"),
            "0397c94d879e502b2251441bee044a1fd956838777025ae986f83bd59c988f82",
        );
        assert_eq!(
            hex(&optional(vec![header("authorization")]), &[("authorization", "Bearer AbC")], b""),
            "b00d93316120bd18c09502e460c2a08308c275b2cbf02570ec5d54a53a7373b3",
        );
        let oauth = ("authorization", "OAuth oauth_nonce=\"1\", oauth_token=\"tk\", oauth_consumer_key=\"ck\"");
        assert_eq!(
            hex(&optional(vec![IdentitySource::Credential]), &[oauth], b""),
            "4dac7d4ab7704bb8bfceecb1e440dd649f03d16fdf67a4ba50bd8aa2bf16a3d5",
        );
        let map = b"\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0b\x002\0a\x001\0";
        assert_eq!(
            hex(&optional(vec![attribute(&["jwt"])]), &[], map),
            "ee62a9be9565532719ff2243eee1d4875b65afe79566c427f0366acd75da3ca1",
        );
    }

    /// The header lines of one request: values of `x-a` and of `x-b`.
    fn lines() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
        let values = || prop::collection::vec("[ab]{1,2}", 0..3);
        (values(), values())
    }

    proptest! {
        #[test]
        fn callers_are_equal_exactly_if_their_identities_are(left in lines(), right in lines()) {
            let policy = optional(vec![header("x-a"), header("x-b")]);
            let identify = |(a, b): &(Vec<String>, Vec<String>)| {
                let a = a.iter().map(|value| ("x-a", value.as_str()));
                let b = b.iter().map(|value| ("x-b", value.as_str()));
                Caller::identify(&policy, &a.chain(b).collect(), |_| None).unwrap().caller
            };
            prop_assert_eq!(left == right, identify(&left) == identify(&right));
        }
    }
}
