//! JSON Web Tokens (RFC 7519), signed with the secret of `examples/jwt`.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A token with these claims and the issuer's own.
pub(crate) fn token(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["iss"] = json!("https://issuer.example");
    let signed = format!("{}.{}", base64url(br#"{"alg":"HS256"}"#), base64url(claims.to_string().as_bytes()));
    let signature = base64url(&hmac_sha256(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A filter that verifies such tokens and leaves their payload where `metadata` says, under its default settings.
pub(crate) fn jwt_authn() -> Value {
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "issuer": {
                "issuer": "https://issuer.example",
                "local_jwks": { "inline_string": json!({
                    "keys": [{ "kty": "oct", "alg": "HS256", "k": base64url(SECRET) }],
                }).to_string() },
                "payload_in_metadata": "jwt",
            } },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "issuer" } }],
        },
    })
}

const SECRET: &[u8] = b"not-a-secret-the-example-says-it";

/// RFC 2104, with a key shorter than a block.
fn hmac_sha256(message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(SECRET).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 0x3f) as usize]));
        }
    }
    text
}
