//! Header maps as the host keeps and hands them over: bytes, in order, repeated fields included.

use std::fmt;

/// The fields of one message. Names are kept in lower case, as Envoy does.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Fields(Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// The first value of `name`, which is all that `proxy_get_header_map_value` tells.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.first(name.as_bytes())
    }

    /// Every value of `name`, in order.
    pub(crate) fn get_all(&self, name: &str) -> Vec<&[u8]> {
        let name = name.as_bytes().to_ascii_lowercase();
        self.iter().filter(|(field, _)| *field == name).map(|(_, value)| value).collect()
    }

    /// The first value of `name` as text, for assertions.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Like [`Fields::get`], with a name as the guest sends it.
    pub(crate) fn first(&self, name: &[u8]) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        self.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Every field, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// How many fields there are: the argument of the header callbacks.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a field behind the others.
    pub(crate) fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.0.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// Replaces every field called `name` by one, in the first one's place.
    pub(crate) fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        match self.0.iter().position(|(field, _)| *field == name) {
            Some(first) => {
                self.0[first].1 = value.as_ref().to_vec();
                let mut index = 0;
                self.0.retain(|(field, _)| {
                    index += 1;
                    index <= first + 1 || *field != name
                });
            }
            None => self.add(name, value),
        }
    }

    /// Removes every field called `name`.
    pub(crate) fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.0.retain(|(field, _)| *field != name);
    }

    /// The ABI's form: count, lengths of each name and value, then each of them with a NUL behind; all little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = length(self.len()).to_vec();
        for (name, value) in self.iter() {
            bytes.extend(length(name.len()));
            bytes.extend(length(value.len()));
        }
        for (name, value) in self.iter() {
            bytes.extend(name);
            bytes.push(0);
            bytes.extend(value);
            bytes.push(0);
        }
        bytes
    }

    /// Reads the ABI's form; `None` if it is cut short. No bytes at all are no fields.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let count = read_length(bytes, 0)?;
        let mut at = 4 + count * 8;
        let mut take = |size: usize| {
            let part = bytes.get(at..at + size)?.to_vec();
            at += size + 1;
            (at <= bytes.len()).then_some(part)
        };
        let mut fields = Self::default();
        for index in 0..count {
            let name = take(read_length(bytes, 4 + index * 8)?)?;
            let value = take(read_length(bytes, 8 + index * 8)?)?;
            fields.add(name, value);
        }
        Some(fields)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut all = Self::default();
        fields.into_iter().for_each(|(name, value)| all.add(name, value));
        all
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const K: usize> From<[(N, V); K]> for Fields {
    fn from(fields: [(N, V); K]) -> Self {
        fields.into_iter().collect()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii())))
            .finish()
    }
}

fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).expect("a header map under 4 GiB").to_le_bytes()
}

fn read_length(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_abis_form() {
        let fields: Fields = [(":path", &b"/a"[..]), ("x", b""), ("x", b"\xff\0")].into();
        assert_eq!(Fields::decode(&fields.encode()), Some(fields));
        assert_eq!(Fields::decode(&[]), Some(Fields::default()));
    }

    #[test]
    fn a_map_that_is_cut_short_is_refused() {
        let bytes = Fields::from([("name", "value")]).encode();
        for size in 1..bytes.len() {
            assert_eq!(Fields::decode(&bytes[..size]), None, "{size} bytes");
        }
    }

    #[test]
    fn setting_a_repeated_field_leaves_one_in_its_first_place() {
        let mut fields: Fields = [("a", "1"), ("B", "2"), ("c", "3"), ("b", "4")].into();
        fields.set("b", "5");
        assert_eq!(fields, [("a", "1"), ("b", "5"), ("c", "3")].into());
    }
}
