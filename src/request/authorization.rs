//! The `Authorization` field: its scheme, and what of it stays the same from one attempt to the next.

/// Makes the field's scheme one of lower case: a scheme counts without case (RFC 9110, section 11.1). A field without a
/// space has no scheme that could be told from a credential, and stays as it is.
pub(super) fn ignore_case_of_scheme(field: &mut [u8]) {
    if let Some(length) = split(field).map(|(scheme, _)| scheme.len())
        && let Some(scheme) = field.get_mut(..length)
    {
        scheme.make_ascii_lowercase();
    }
}

/// The field's scheme, if a field of that scheme has other bytes in each attempt: a signature over the time, a nonce or
/// a counter.
pub(super) fn changing_scheme(field: &[u8]) -> Option<&'static str> {
    let (scheme, _) = split(field)?;
    CHANGING.into_iter().find(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
}

const CHANGING: [&str; 20] = [
    "ACS3-HMAC-SHA256",
    "AWS",
    AWS4_ECDSA,
    AWS4_HMAC,
    DIGEST,
    "EG1-HMAC-SHA256",
    "GOOG4-HMAC-SHA256",
    "GOOG4-RSA-SHA256",
    "Hawk",
    "HMAC",
    "HMAC-SHA256",
    "MAC",
    "Negotiate",
    "NTLM",
    OAUTH,
    "SDK-HMAC-SHA256",
    "SharedKey",
    "SharedKeyLite",
    "Signature",
    "TC3-HMAC-SHA256",
];

const AWS4_ECDSA: &str = "AWS4-ECDSA-P256-SHA256";
const AWS4_HMAC: &str = "AWS4-HMAC-SHA256";
const DIGEST: &str = "Digest";
const OAUTH: &str = "OAuth";

/// The parts of the field that say who is calling and stay the same from one attempt to the next, after its scheme;
/// `None` if the scheme has no such parts, or if the field is not exactly as the scheme's specification has it.
///
/// What verifies the field is another program. Wherever two programs could read a field in two ways (a parameter given
/// twice, an escape in a quoted string), there are no such parts: nobody may be taken for whom the other did not see.
pub(super) fn stable_parts(field: &[u8]) -> Option<Vec<&[u8]>> {
    let scheme = changing_scheme(field)?;
    let (_, parameters) = split(field)?;
    let parameters = Parameters::read(parameters)?;
    let parts = match scheme {
        // KEY/DATE/REGION/SERVICE/aws4_request, and without the region if it is asymmetric.
        AWS4_HMAC => vec![access_key(parameters.get("credential")?, 5)?],
        AWS4_ECDSA => vec![access_key(parameters.get("credential")?, 4)?],
        // RFC 5849, section 3.1: no token, or an empty one, where the client acts for itself.
        OAUTH => vec![
            parameters.get("oauth_consumer_key").filter(|key| !key.is_empty())?,
            parameters.get("oauth_token").unwrap_or_default(),
        ],
        // RFC 7616, section 3.4: exactly one of the two forms of the name.
        DIGEST => {
            let (form, name) = match (parameters.get("username"), parameters.get("username*")) {
                (Some(name), None) => ("username", name),
                (None, Some(name)) => ("username*", name),
                _ => return None,
            };
            vec![parameters.get("realm")?, form.as_bytes(), name]
        }
        _ => return None,
    };
    Some([scheme.as_bytes()].into_iter().chain(parts).collect())
}

fn access_key(credential: &[u8], parts: usize) -> Option<&[u8]> {
    let all: Vec<&[u8]> = credential.split(|byte| *byte == b'/').collect();
    let (key, last) = (*all.first()?, *all.last()?);
    (all.len() == parts && last == b"aws4_request" && !key.is_empty()).then_some(key)
}

/// The scheme and what comes behind the space after it.
fn split(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = field.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = field.split_at_checked(space)?;
    (!scheme.is_empty()).then_some((scheme, rest))
}

/// `name=value` pairs between commas (RFC 9110, section 11.4).
struct Parameters<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Parameters<'a> {
    /// Reads a list in which each name stands once and which can be read in one way only.
    fn read(mut rest: &'a [u8]) -> Option<Self> {
        let mut parameters: Vec<(&[u8], &[u8])> = Vec::new();
        loop {
            rest = rest.trim_ascii_start();
            let (name, after) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'=')?)?;
            let (value, after) = value(after.strip_prefix(b"=")?)?;
            let is_repeated = parameters.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            if !is_name(name) || is_repeated || parameters.len() == MOST_PARAMETERS {
                return None;
            }
            parameters.push((name, value));
            match after.trim_ascii_start() {
                [] => return Some(Self(parameters)),
                [b',', next @ ..] => rest = next,
                _ => return None,
            }
        }
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.0.iter().find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| *value)
    }
}

/// A value, quoted or not, and what comes behind it.
fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, rest) = match bytes.strip_prefix(b"\"") {
        Some(quoted) => {
            let (value, rest) = quoted.split_at_checked(quoted.iter().position(|byte| *byte == b'"')?)?;
            (value, rest.strip_prefix(b"\"")?)
        }
        None => {
            let ends = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
            bytes.split_at_checked(bytes.iter().position(ends).unwrap_or(bytes.len()))?
        }
    };
    let is_plain = !value.iter().any(|byte| matches!(byte, b'\\' | b'"') || byte.is_ascii_control());
    is_plain.then_some((value, rest))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'*'))
}

/// More than any scheme has; each is compared with those before it.
const MOST_PARAMETERS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGV4: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                         SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6";

    fn parts(field: &str) -> Option<Vec<String>> {
        let parts = stable_parts(field.as_bytes())?;
        Some(parts.into_iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect())
    }

    fn owned(parts: &[&str]) -> Option<Vec<String>> {
        Some(parts.iter().map(|part| (*part).to_owned()).collect())
    }

    #[test]
    fn a_scheme_counts_without_case_and_a_credential_with_it() {
        let plain = |field: &str| {
            let mut field = field.as_bytes().to_vec();
            ignore_case_of_scheme(&mut field);
            String::from_utf8(field).unwrap()
        };
        assert_eq!(plain("Bearer AbC"), "bearer AbC");
        assert_eq!(plain("bearer AbC"), "bearer AbC");
        assert_eq!(plain("BASIC QWxh ZGRpbg=="), "basic QWxh ZGRpbg==");
        // Without a scheme, what is there may be the credential.
        for field in ["", "AbC", " AbC", "Bearer"] {
            assert_eq!(plain(field), field);
        }
    }

    #[test]
    fn schemes_that_sign_the_time_change_with_each_attempt() {
        for field in [
            SIGV4,
            "oauth oauth_nonce=\"1\"",
            "DIGEST nonce=1",
            "HMAC-SHA256 SignedHeaders=x",
            "Hawk id=1",
            "EG1-HMAC-SHA256 client_token=a;timestamp=b",
            "hmac username=\"a\", signature=\"b\"",
            "ACS3-HMAC-SHA256 Credential=a,Signature=b",
        ] {
            assert!(changing_scheme(field.as_bytes()).is_some(), "{field}");
        }
        for field in ["Bearer AWS4-HMAC-SHA256", "Basic T0F1dGg=", "OAuth2 token", "Digest", "", " Digest x"] {
            assert_eq!(changing_scheme(field.as_bytes()), None, "{field}");
        }
    }

    #[test]
    fn a_signature_of_aws_is_of_an_access_key() {
        assert_eq!(parts(SIGV4), owned(&["AWS4-HMAC-SHA256", "AKIDEXAMPLE"]));
        let later =
            "aws4-hmac-sha256 Credential=AKIDEXAMPLE/20160101/eu-west-1/s3/aws4_request,SignedHeaders=host,Signature=0";
        assert_eq!(parts(later), parts(SIGV4));
        let asymmetric =
            "AWS4-ECDSA-P256-SHA256 Credential=AKIDEXAMPLE/20150830/iam/aws4_request, SignedHeaders=host, Signature=1";
        assert_eq!(parts(asymmetric), owned(&["AWS4-ECDSA-P256-SHA256", "AKIDEXAMPLE"]));
        for credential in ["", "AKID", "/1/2/3/aws4_request", "A/1/2/3/4/aws4_request", "A/1/2/3/aws5_request"] {
            assert_eq!(parts(&format!("AWS4-HMAC-SHA256 Credential={credential}, Signature=1")), None, "{credential}");
        }
    }

    #[test]
    fn a_request_of_oauth_1_is_of_a_consumer_and_a_token() {
        let field = |rest: &str| format!("OAuth realm=\"Photos\", oauth_consumer_key=\"dpf43f3p2l4k3l03\",\r\n {rest}");
        let field = |rest: &str| field(rest).replace("\r\n", "");
        let one = field(
            "oauth_token=\"nnch734d\", oauth_timestamp=\"137131202\", oauth_nonce=\"chapoH\", oauth_signature=\"a%3D\"",
        );
        let two = field(
            "oauth_token=\"nnch734d\", oauth_timestamp=\"137131299\", oauth_nonce=\"other\", oauth_signature=\"b%3D\"",
        );
        assert_eq!(parts(&one), owned(&["OAuth", "dpf43f3p2l4k3l03", "nnch734d"]));
        assert_eq!(parts(&one), parts(&two));
        assert_eq!(parts(&field("oauth_nonce=\"1\"")), parts(&field("oauth_token=\"\"")));
        assert_eq!(parts("OAuth oauth_token=\"nnch734d\""), None);
    }

    #[test]
    fn a_request_of_digest_is_of_a_name_in_a_realm() {
        let digest = "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                      algorithm=MD5, nonce=\"7ypf/xlj9XXwfDPE\", nc=00000001, cnonce=\"f2/wE4q7\", qop=auth, \
                      response=\"8ca523f5\"";
        assert_eq!(parts(digest), owned(&["Digest", "http-auth@example.org", "username", "Mufasa"]));
        assert_eq!(parts(&digest.replace("00000001", "00000002").replace("8ca", "9db")), parts(digest));
        assert_eq!(
            parts("Digest username*=UTF-8''J%C3%A4s%C3%B8n, realm=\"r\""),
            owned(&["Digest", "r", "username*", "UTF-8''J%C3%A4s%C3%B8n"]),
        );
        assert_eq!(parts("Digest username=\"a\", nonce=\"1\""), None);
        assert_eq!(parts("Digest username=\"a\", username*=\"b\", realm=\"r\""), None);
    }

    #[test]
    fn what_two_programs_may_read_in_two_ways_has_no_stable_parts() {
        for parameters in [
            "username=\"ann\", username=\"bob\"",
            "username=\"ann\", Username=\"bob\"",
            "username=\"ann\\\", realm=\"r\", x=\"",
            "username=\"ann\"x",
            "username=\"ann",
            "username=ann bob",
            "username=an\"n",
            ", username=\"ann\"",
            "username=\"ann\",",
            "username =\"ann\"",
            "username%65=\"ann\"",
            "username",
            "",
        ] {
            assert_eq!(parts(&format!("Digest realm=\"r\", {parameters}")), None, "{parameters}");
        }
        let many: Vec<String> = (0..40).map(|number| format!("p{number}=1")).collect();
        assert_eq!(parts(&format!("Digest username=a, realm=r, {}", many.join(", "))), None);
    }

    #[test]
    fn other_schemes_have_no_stable_parts() {
        for field in ["Bearer a", "Basic a", "HMAC-SHA256 Credential=a&Signature=b", "Hawk id=\"a\"", "a", ""] {
            assert_eq!(parts(field), None, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(field in prop::collection::vec(any::<u8>(), 0..64), scheme in 0..CHANGING.len()) {
            let _ = stable_parts(&field);
            let field = [CHANGING[scheme].as_bytes(), b" ", &field].concat();
            let _ = stable_parts(&field);
            let mut plain = field.clone();
            ignore_case_of_scheme(&mut plain);
            prop_assert_eq!(plain.to_ascii_lowercase(), field.to_ascii_lowercase());
        }
    }
}
