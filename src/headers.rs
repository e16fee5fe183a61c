//! HTTP fields as the wire carries them: names and values are bytes, order and repetition are kept.
//!
//! RFC 9110, section 5.5, allows any octet above 0x7F in a field value, so nothing here is a `str`:
//! a Latin-1 value must neither be changed nor stop a worker.

use std::{
    fmt,
    hash::{Hash, Hasher},
    iter,
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// Whether a field is for one hop alone, or frames the message (RFC 9110, section 7.6.1): the next hop frames it
/// anew.
pub(crate) fn is_framing(name: &[u8]) -> bool {
    const NAMES: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// The fields of one message, pseudo-headers (`:method`, `:status`, …) included.
///
/// All of them share one buffer: a message has dozens of fields, and every guarded request has its
/// fields read, and every first response and every replay has them copied.
#[derive(Clone, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// How long the names are, a bit for each length that there is: most fields that are asked for are absent, and show it
    /// by this. It is a hint only: names of 64 bytes and more share the bits of shorter ones.
    lengths: u64,
}

/// Where in the buffer a field's name and value are.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// A stretch of the buffer.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    length: usize,
}

impl Headers {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No fields yet, with room for `fields` of them and for `bytes` of names and values.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields), lengths: 0 }
    }

    /// The fields of a message as a host hands them over (proxy-wasm ABI 0.2.1, "serialized map"): the number of
    /// pairs, the sizes of each, then each name and value with a zero byte behind it. The bytes stay where they are.
    /// `None` if they do not add up.
    #[must_use]
    pub fn from_pairs(bytes: Vec<u8>) -> Option<Self> {
        let mut sizes = bytes.as_slice();
        let count = take_u32(&mut sizes)?;
        let mut end = count.checked_mul(8)?.checked_add(4)?;
        if end > bytes.len() {
            return None;
        }
        let mut span = |size: usize| {
            let start = end;
            let stop = start.checked_add(size)?;
            // Behind the zero byte.
            end = stop.checked_add(1)?;
            (end <= bytes.len()).then_some(Span { start, length: size })
        };
        let (mut fields, mut lengths) = (Vec::with_capacity(count), 0);
        for _ in 0..count {
            let (name, value) = (take_u32(&mut sizes)?, take_u32(&mut sizes)?);
            fields.push(Field { name: span(name)?, value: span(value)? });
            lengths |= length_bit(name);
        }
        Some(Self { bytes, fields, lengths })
    }

    /// The value of the first field called `name` (given in lower case).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The values of every field called `name` (given in lower case), in order.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + Clone {
        let may_be_there = self.lengths & length_bit(name.len()) != 0;
        let mut fields = if may_be_there { self.fields.iter() } else { [].iter() };
        iter::from_fn(move || {
            // A dozen fields are looked up for each request. Most others show by the length of their name, in a loop
            // that calls nothing, as it would in iterators where the compiler goes for size.
            for field in fields.by_ref() {
                if field.name.length == name.len() {
                    // Hosts hand names over in lower case, and equal bytes are found equal sooner.
                    let (found, name) = (self.slice(field.name), name.as_bytes());
                    if found == name || found.eq_ignore_ascii_case(name) {
                        return Some(self.slice(field.value));
                    }
                }
            }
            None
        })
    }

    /// Every field as name and value, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (self.slice(field.name), self.slice(field.value)))
    }

    /// Adds a field behind the others.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.lengths |= length_bit(name.as_ref().len());
        let (name, value) = (self.append(name.as_ref()), self.append(value.as_ref()));
        self.fields.push(Field { name, value });
    }

    /// How many fields there are, repeated ones counted each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of all names and values.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.fields.iter().map(|field| field.name.length + field.value.length).sum()
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span { start, length: bytes.len() }
    }

    fn slice(&self, span: Span) -> &[u8] {
        // Every span was made where the bytes were.
        self.bytes.get(span.start..span.start + span.length).unwrap_or_default()
    }
}

/// The bit of names of this length.
fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

fn take_u32(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

/// Headers are equal if their fields are, in the same order.
impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl Hash for Headers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        self.iter().for_each(|field| field.hash(state));
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::new();
        fields.into_iter().for_each(|(name, value)| headers.push(name, value));
        headers
    }
}

impl fmt::Debug for Headers {
    /// Names alone: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

/// As a sequence of pairs of byte strings.
impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(name, value)| (Bytes(name), Bytes(value))))
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs)
    }
}

/// For how many stored fields room is made before they are seen: their number may be damaged.
const MOST_EXPECTED: usize = 64;

/// What a field takes, as a rule.
const FIELD_BYTES: usize = 40;

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pairs of byte strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Headers, A::Error> {
        let fields = pairs.size_hint().unwrap_or_default().min(MOST_EXPECTED);
        let mut headers = Headers::with_capacity(fields, fields * FIELD_BYTES);
        while let Some((name, value)) = pairs.next_element::<(&[u8], &[u8])>()? {
            headers.push(name, value);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_count_and_bytes() {
        let mut headers = Headers::new();
        for (name, value) in [("a", &b"1"[..]), ("B", b"\xe9"), ("a", b""), ("", b"x")] {
            headers.push(name, value);
        }
        let found: Vec<_> = headers.iter().collect();
        assert_eq!(found, [(&b"a"[..], &b"1"[..]), (b"B", b"\xe9"), (b"a", b""), (b"", b"x")]);
        assert_eq!(headers.get("b"), Some(&b"\xe9"[..]));
        assert_eq!(headers.get_all("a").collect::<Vec<_>>(), [&b"1"[..], b""]);
        assert_eq!(headers.get("c"), None);
        assert_eq!((headers.len(), headers.byte_len()), (4, 6));
    }

    #[test]
    fn names_of_any_length_are_found() {
        for length in [0, 1, 63, 64, 65, 127, 128, 200] {
            let name = "n".repeat(length);
            let mut headers = Headers::new();
            assert_eq!(headers.get(&name), None);
            headers.push(&name, "1");
            assert_eq!(headers.get(&name), Some(&b"1"[..]), "{length}");
            assert_eq!(headers.get(&"n".repeat(length + 64)), None, "{length}");
        }
    }

    #[test]
    fn no_value_shows_in_a_log() {
        let headers = Headers::from_iter([("authorization", "Bearer secret")]);
        assert_eq!(format!("{headers:?}"), "[\"authorization\"]");
    }
}
