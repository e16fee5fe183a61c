//! What a filter's configuration says.

use std::sync::Arc;

use super::policy::Policy;
use super::routes::Route;
use super::store::StoreConfig;
use crate::headers::Headers;
use crate::normal_form;

/// Everything that a filter's configuration says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// How requests are guarded that fall under no route.
    pub policy: Arc<Policy>,
    /// Other policies for some requests; the first that matches counts.
    pub routes: Vec<Route>,
    /// Where the records are kept.
    pub store: StoreConfig,
    /// How many bytes a worker takes besides those.
    pub memory: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: Arc::default(), routes: Vec::new(), store: StoreConfig::default(), memory: DEFAULT_MEMORY }
    }
}

/// `limits.memory`, unless it is set.
pub(super) const DEFAULT_MEMORY: u64 = 256 << 20;

impl Config {
    /// The route that a request falls under, by its place in [`routes`](Self::routes); `None` if there is none.
    ///
    /// All are as the request has them; the query of `path` does not count. `authority` and `headers` are only looked at if
    /// some route looks at them ([`Route::looks_at_authority`], [`Route::looks_at_headers`]).
    #[must_use]
    pub fn route(&self, method: &[u8], authority: &[u8], path: &[u8], headers: &Headers) -> Option<usize> {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let (method, path) = (normal_form::method(method), normal_form::path(path));
        self.routes.iter().position(|route| route.matches(&method, authority, &path, headers))
    }

    /// The policy that a request falls under.
    #[must_use]
    pub fn policy_for(&self, method: &[u8], authority: &[u8], path: &[u8], headers: &Headers) -> &Policy {
        let route = self.route(method, authority, path, headers).and_then(|index| self.routes.get(index));
        route.map_or(&self.policy, |route| &route.policy)
    }
}
