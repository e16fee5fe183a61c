//! Free text.

use std::fmt;

use crate::config::Environment;
use crate::config::error::{ConfigError, JsonPath};
use crate::config::json::Node;
use crate::config::read::{Object, Read, read_as_object};

/// Text that is not empty and bears no control character: names of clusters, prefixes, patterns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::config) struct Text(String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Read for Text {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        let text = node.text().filter(|text| is_plain_text(text));
        text.map(|text| Self(text.to_owned()))
            .ok_or_else(|| node.refused("text that is not empty, without control characters"))
    }
}

/// Text that neither `Debug` nor an error shows, or the name of an environment variable that holds it.
#[derive(Clone, Eq, PartialEq)]
pub(in crate::config) enum Secret {
    Plain(String),
    Variable(String),
}

impl Secret {
    /// The text; `path` is where the configuration has it.
    pub(in crate::config) fn reveal(self, path: JsonPath, environment: Environment<'_>) -> Result<String, ConfigError> {
        let name = match self {
            Self::Plain(text) => return Ok(text),
            Self::Variable(name) => name,
        };
        environment(&name).filter(|value| !value.is_empty()).ok_or_else(|| ConfigError::Conflict {
            path,
            found: format!("the environment variable {name}, which is not set in the filter's VM"),
            allowed: format!(
                "one that Envoy is started with and that vm_config.environment_variables.host_env_keys of the Wasm \
                 filter lists (\"{name}\"; Istio's WasmPlugin: vmConfig.env with valueFrom HOST; Envoy Gateway: \
                 env.hostKeys), in each filter with this vm_id"
            ),
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Read for Secret {
    fn read(node: &Node) -> Result<Self, ConfigError> {
        match node {
            Node::Object(_) => Ok(Self::Variable(VariableDocument::read(node)?.env.into())),
            _ => match node.text() {
                Some(text) if !text.is_empty() => Ok(Self::Plain(text.to_owned())),
                _ => Err(ConfigError::invalid_value("a hidden value", "text that is not empty, or {\"env\": NAME}")),
            },
        }
    }
}

/// Where a secret is, instead of the secret.
#[derive(Debug)]
struct VariableDocument {
    env: Text,
}

read_as_object!(VariableDocument, "an object": env);

fn is_plain_text(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}
