//! Forms (`multipart/form-data`): they count without their boundary, against a naive reading of whole bodies.

use idemgate::{
    config::{BodyFingerprint, FingerprintPolicy},
    headers::Headers,
    request::{Fingerprint, FingerprintBuilder, Target},
};

use super::{Seed, input::Input, texts};

/// Two bodies, each with a boundary of its own, have one fingerprint exactly if they are forms of the same parts, or no
/// forms and the same in all. How a body is cut does not matter.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (one, other) = (boundary(input.line()), boundary(input.line()));
    let length = usize::from(input.byte());
    let (body, rest) = (input.take(length), input.rest());
    let renamed = replace(body, one.as_bytes(), other.as_bytes());
    for second in [rest, &renamed, body] {
        let (read, read_second) = (read(&one, body), read(&other, second));
        let is_same = match (&read, &read_second) {
            (None, None) => one == other && body == second,
            (read, read_second) => read == read_second,
        };
        assert_eq!(fingerprint(&one, &[body]) == fingerprint(&other, &[second]), is_same, "{read:?} {read_second:?}");
    }
    let (start, end) = body.split_at(body.len() / 2);
    assert_eq!(fingerprint(&one, &[start, end]), fingerprint(&one, &[body]));
    assert_eq!(fingerprint(&one, &body.chunks(1).collect::<Vec<_>>()), fingerprint(&one, &[body]));
}

pub fn seeds() -> Vec<Seed> {
    texts([
        ("empty", "b\nc\n\u{7}--b--\r\n"),
        ("epilogue", "b\nc\n\u{1f}--b\r\nn: v\r\n\r\n1\r\n--b--\r\nepilogue"),
        (
            "form",
            "b\nc\n\u{2e}--b\r\nn: v\r\n\r\n1\r\n--b\r\nm: w\r\n\r\n\r\n\r\n--b--\r\n--c\r\nn: v\r\n\r\n1\r\n--c--\r\n",
        ),
        ("lines", "b\nc\n\u{14}--b\nn: v\n\n1\n--b--\n--b--"),
        ("prefix", "b\nbb\n\u{20}--b\r\nn: v\r\n\r\n1\r\n--bb\r\n--b--\r\n"),
    ])
}

fn boundary(line: &[u8]) -> String {
    let text: String =
        line.iter().filter(|byte| byte.is_ascii_alphanumeric()).take(70).map(|byte| char::from(*byte)).collect();
    if text.is_empty() { "b".to_owned() } else { text }
}

fn fingerprint(boundary: &str, chunks: &[&[u8]]) -> Fingerprint {
    let policy =
        FingerprintPolicy { query: true, body: BodyFingerprint::Raw, headers: vec!["content-type".to_owned()] };
    let target = Target { method: b"POST", authority: b"api.example", path: b"/", query: None };
    let headers = Headers::from_iter([("content-type", format!("multipart/form-data; boundary={boundary}"))]);
    let mut builder = FingerprintBuilder::new(&policy, &target, &headers);
    chunks.iter().for_each(|chunk| builder.body(chunk));
    builder.finish()
}

/// The texts between the delimiters and behind the last, if the body is a form.
fn read(boundary: &str, body: &[u8]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let mut rest = [b"\r\n", body].concat();
    let mut texts = Vec::new();
    loop {
        let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
        let after = rest.split_off(at + delimiter.len());
        rest.truncate(at);
        texts.push(std::mem::replace(&mut rest, after));
        match rest.strip_prefix(b"--") {
            Some(epilogue) if epilogue.is_empty() || epilogue.starts_with(b"\r\n") => {
                return Some((texts, epilogue.to_vec()));
            }
            None if rest.starts_with(b"\r\n") => {}
            _ => return None,
        }
    }
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while let Some((first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            replaced.extend_from_slice(to);
            rest = after;
        } else {
            replaced.push(*first);
            rest = others;
        }
    }
    replaced
}
