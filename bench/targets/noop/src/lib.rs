//! A filter that does nothing in the same callbacks as Idemgate: what Envoy's wasm host costs by itself.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Noop))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// The SDK's defaults return at once; Envoy calls them all the same, because the SDK exports every callback.
struct Noop;

impl Context for Noop {}

impl HttpContext for Noop {}
