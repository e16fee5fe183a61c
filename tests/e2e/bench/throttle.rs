//! A DynamoDB that throttles: a proxy in front of a dynalite, which answers some calls by itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use tokio::net::TcpListener;

use super::dynamodb::send;

/// What DynamoDB says if more is asked of a table than it has capacity for.
const THROTTLED: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level with the UpdateTable API."}"#;

/// Passes on what it does not throttle, and ends with the test.
#[derive(Debug)]
pub(crate) struct Throttle {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Which calls are throttled next, by their names, and how many of them.
    next: Option<(&'static str, usize)>,
    throttled: usize,
}

impl Plan {
    fn throttles(&mut self, target: &str) -> bool {
        let Some((name, left)) = &mut self.next else { return false };
        let is_meant = *left > 0 && target.ends_with(*name);
        *left -= usize::from(is_meant);
        self.throttled += usize::from(is_meant);
        is_meant
    }
}

impl Throttle {
    pub(crate) async fn in_front_of(dynalite: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port on 127.0.0.1");
        let address = listener.local_addr().expect("a listener has an address");
        let plan = Arc::<Mutex<Plan>>::default();
        let router = Router::new().fallback(answer).with_state((dynalite, Arc::clone(&plan)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, plan }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next so many calls with this name are throttled.
    pub(crate) fn throttle(&self, name: &'static str, calls: usize) {
        self.plan.lock().expect("nobody panics while they hold this").next = Some((name, calls));
    }

    /// How many were throttled.
    pub(crate) fn throttled(&self) -> usize {
        self.plan.lock().expect("nobody panics while they hold this").throttled
    }
}

async fn answer(
    State((dynalite, plan)): State<(SocketAddr, Arc<Mutex<Plan>>)>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default().to_owned();
    if plan.lock().expect("nobody panics while they hold this").throttles(&target) {
        return (StatusCode::BAD_REQUEST, THROTTLED.into());
    }
    let is_signed = headers.contains_key("authorization");
    let passed_on = tokio::task::spawn_blocking(move || send(dynalite, &target, &body, is_signed));
    match passed_on.await {
        Ok(Ok(response)) => (StatusCode::from_u16(response.status).expect("a status"), response.body),
        _ => (StatusCode::BAD_GATEWAY, Vec::new()),
    }
}
