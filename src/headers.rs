//! HTTP fields as the wire carries them: names and values are bytes, order and repetition are kept.
//!
//! RFC 9110, section 5.5, allows any octet above 0x7F in a field value, so nothing here is a `str`:
//! a Latin-1 value must neither be changed nor stop a worker.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// The fields of one message, pseudo-headers (`:method`, `:status`, …) included.
///
/// All of them share one buffer: a message has dozens of fields, and every guarded request has its
/// fields read, and every first response and every replay has them copied.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Headers {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

/// Where in the buffer a field is: its name, and right behind it its value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Field {
    start: usize,
    value: usize,
    end: usize,
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
        Self { bytes: Vec::with_capacity(bytes), fields: Vec::with_capacity(fields) }
    }

    /// The value of the first field called `name` (given in lower case).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The values of every field called `name` (given in lower case), in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Every field as name and value, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (self.slice(field.start, field.value), self.slice(field.value, field.end)))
    }

    /// Adds a field behind the others.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_ref());
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value.as_ref());
        self.fields.push(Field { start, value: middle, end: self.bytes.len() });
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
        self.bytes.len()
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        // Every range was made by `push`.
        self.bytes.get(start..end).unwrap_or_default()
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
        let mut headers = Headers::new();
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
    fn no_value_shows_in_a_log() {
        let headers = Headers::from_iter([("authorization", "Bearer secret")]);
        assert_eq!(format!("{headers:?}"), "[\"authorization\"]");
    }
}
