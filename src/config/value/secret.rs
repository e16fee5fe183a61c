//! Secrets.

use std::fmt;

use serde::Deserialize;

use super::text::Text;
use crate::config::error::{ConfigError, JsonPath};
use crate::config::json::Node;

/// The environment variables of the host that the filter is shown, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Text that neither `Debug` nor an error shows, or the name of an environment variable that holds it.
///
/// What is written is looked at only when it is [revealed](Self::reveal): the errors of serde show what they find.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(in crate::config) struct Secret(Node);

impl Secret {
    /// The text; `path` is where the configuration has it.
    pub(in crate::config) fn reveal(
        &self,
        path: JsonPath,
        environment: Environment<'_>,
    ) -> Result<String, ConfigError> {
        let name: String = match &self.0 {
            Node::Text(text) if !text.is_empty() => return Ok(text.clone()),
            variable @ Node::Object(_) => match variable.read::<VariableDocument>() {
                Ok(variable) => variable.env.into(),
                Err(error) => return Err(error.within(path)),
            },
            _ => return Err(ConfigError::new(path, "a hidden value", "text that is not empty, or {\"env\": NAME}")),
        };
        environment(&name).filter(|value| !value.is_empty()).ok_or_else(|| {
            ConfigError::new(
                path,
                format!("the environment variable {name}, which is not set in the filter's VM"),
                format!(
                    "one that Envoy is started with and that vm_config.environment_variables.host_env_keys of the Wasm \
                     filter lists (\"{name}\"; Istio's WasmPlugin: vmConfig.env with valueFrom HOST; Envoy Gateway: \
                     env.hostKeys), in each filter with this vm_id"
                ),
            )
        })
    }

    /// Itself, or the secrets that are listed in its place; each with its path.
    pub(in crate::config) fn entries(self, path: JsonPath) -> Vec<(JsonPath, Self)> {
        match self.0 {
            Node::List(secrets) => {
                let entry = |(index, secret)| (path.clone().entry(index), Self(secret));
                secrets.into_iter().enumerate().map(entry).collect()
            }
            _ => vec![(path, self)],
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a secret is, instead of the secret.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct VariableDocument {
    env: Text,
}
