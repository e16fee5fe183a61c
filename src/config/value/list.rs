//! Lists.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Unexpected, Visitor};

/// A list of at least `MIN` entries that are all different: a repeated one is a mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct List<T, const MIN: usize = 0>(Vec<T>);

impl<T, const MIN: usize> List<T, MIN> {
    pub(in crate::config) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::config) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    /// The entries, each as the type that the request path uses.
    pub(in crate::config) fn into_values<U: From<T>>(self) -> Vec<U> {
        self.0.into_iter().map(U::from).collect()
    }
}

impl<'de, T: Deserialize<'de> + PartialEq, const MIN: usize> Deserialize<'de> for List<T, MIN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

struct Entries<T, const MIN: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + PartialEq, const MIN: usize> Visitor<'de> for Entries<T, MIN> {
    type Value = List<T, MIN>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if MIN == 0 { "a list" } else { "a list that is not empty" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if let Some(first) = list.iter().position(|other| *other == entry) {
                let found = format!("the same entry at [{first}] and [{}]", list.len());
                return Err(A::Error::invalid_value(Unexpected::Other(&found), &"each entry once"));
            }
            list.push(entry);
        }
        if list.len() < MIN {
            return Err(A::Error::invalid_value(Unexpected::Other("an empty list"), &self));
        }
        Ok(List(list))
    }
}
