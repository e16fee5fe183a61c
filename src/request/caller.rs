//! Whose request it is.

use std::fmt;

use super::digest::{Digest, Short};
use crate::{
    config::{CallerPolicy, IdentitySource},
    headers::Headers,
};

/// The identity a key belongs to, as a hash of all identity sources that the request has.
///
/// Two callers never share a key; the credentials themselves are not kept.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Caller([u8; 32]);

impl Caller {
    /// Who sends `headers`, by the sources of `policy`; `property` reads an Envoy attribute.
    ///
    /// Every source that is present counts, with its position and name, so that neither the same value
    /// in another header nor a value split over two sources is the same caller. All lines of a repeated
    /// header count, in order. An empty value says nothing about who is calling, so it counts as absent.
    /// Requests without any identity share one anonymous caller where the policy lets them pass.
    ///
    /// # Errors
    ///
    /// [`CallerUnknown`] if the policy requires an identity and no source is present.
    pub fn identify(
        policy: &CallerPolicy,
        headers: &Headers,
        mut property: impl FnMut(&[String]) -> Option<Vec<u8>>,
    ) -> Result<Self, CallerUnknown> {
        let mut digest = Digest::new("caller 3");
        let mut known = false;
        for (position, source) in policy.identity.iter().enumerate() {
            known |= match source {
                IdentitySource::Header(name) => {
                    let mut values = headers.get_all(name).filter(|value| !value.is_empty()).peekable();
                    let present = values.peek().is_some();
                    if present {
                        digest.number(position);
                        digest.part(b"header");
                        digest.part(name.as_bytes());
                        digest.list(values);
                    }
                    present
                }
                IdentitySource::Property(path) => {
                    let value = property(path).filter(|value| !value.is_empty());
                    if let Some(value) = &value {
                        digest.number(position);
                        digest.part(b"property");
                        digest.list(path.iter().map(String::as_bytes));
                        digest.part(value);
                    }
                    value.is_some()
                }
            };
        }
        if known || !policy.required { Ok(Self(digest.blake3())) } else { Err(CallerUnknown) }
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(test)]
    pub(super) const fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Caller({})", Short(&self.0))
    }
}

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
        Caller::identify(policy, &fields.iter().copied().collect(), |_| None).unwrap()
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
        };

        assert_eq!(by_subject("ann"), by_subject("ann"));
        assert_ne!(by_subject("ann"), by_subject("bob"));
    }

    #[test]
    fn a_header_is_not_an_attribute_of_that_name() {
        let by_header = by_headers(&optional(vec![header("sub")]), &[("sub", "ann")]);
        let by_attribute =
            Caller::identify(&optional(vec![attribute(&["sub"])]), &Headers::new(), |_| Some(b"ann".to_vec())).unwrap();

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
        let empty = Caller::identify(&policy, &Headers::from_iter([("x-user", "")]), |_| Some(Vec::new())).unwrap();

        assert_eq!(empty, by_headers(&policy, &[]));
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
    fn the_encoding_is_the_one_that_stores_hold() {
        // A new release must find the operations of the one before it.
        let policy = optional(vec![header("authorization"), header("x-user"), attribute(&["metadata", "sub"])]);
        let headers = Headers::from_iter([("x-user", "ann")]);
        let caller = Caller::identify(&policy, &headers, |_| Some(b"42".to_vec())).unwrap();
        let hex: String = caller.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "20cf590df31295ad0e8377bfff0bc1e2fa00c90464be3c82214132c78d0d2512");
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
                Caller::identify(&policy, &a.chain(b).collect(), |_| None).unwrap()
            };
            prop_assert_eq!(left == right, identify(&left) == identify(&right));
        }
    }
}
