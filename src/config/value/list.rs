//! Lists.

use crate::config::error::ConfigError;
use crate::config::json::Node;
use crate::config::read::{Read, entries};

/// A list of at least `MIN` entries that are all different: a repeated one is a slip of whoever wrote it.
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

impl<T: Read + PartialEq, const MIN: usize> Read for List<T, MIN> {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let allowed = if MIN == 0 { "a list" } else { "a list that is not empty" };
        let list: Vec<T> = entries(node, allowed)?;
        if list.len() < MIN {
            return Err(ConfigError::invalid_value("an empty list", allowed));
        }
        for (index, entry) in list.iter().enumerate() {
            if let Some(first) = list.iter().take(index).position(|other| other == entry) {
                let found = format!("the same entry at [{first}] and [{index}]");
                return Err(ConfigError::invalid_value(found, "each entry once"));
            }
        }
        Ok(Self(list))
    }
}
