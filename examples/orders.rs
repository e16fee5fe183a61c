//! A small orders service that knows nothing about idempotency: every POST that it answers with 201 creates an order.
//!
//! ```text
//! cargo run --example orders              # listens on 127.0.0.1:8080
//! ORDERS_ADDRESS=127.0.0.1:0 ...          # on a free port; the line that it prints says which
//!
//! POST /orders                            # creates an order from a JSON object
//!      ?delay_ms=300                      # answers only after that time
//!      ?fail=2                            # the first two such calls are answered 503 and create nothing
//!      ?scenario=NAME                     # counts the call under that name; `fail` counts by scenario too
//! GET  /orders                            # every order there is
//! GET  /executions                        # how often POST really ran, by scenario
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::var("ORDERS_ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("orders: listening on {}", listener.local_addr()?);

    let routes = Router::new()
        .route("/orders", get(list).post(create))
        .route("/executions", get(executions))
        .with_state(Service::default());
    axum::serve(listener, routes).with_graceful_shutdown(stop_requested()?).await
}

/// Creates an order, unless the caller asked for a failure first; also if the caller hangs up meanwhile, when axum drops
/// what is not spawned.
async fn create(
    State(service): State<Service>,
    Query(wish): Query<Wish>,
    Json(order): Json<Map<String, Value>>,
) -> Response {
    let work = tokio::spawn(service.create(wish, order));
    work.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Every order, in the order of their numbers.
async fn list(State(service): State<Service>) -> Json<Vec<Order>> {
    Json(service.ledger().orders.clone())
}

/// How often POST ran: in all, and by scenario.
async fn executions(State(service): State<Service>) -> Json<Value> {
    let ledger = service.ledger();
    let total: u64 = ledger.runs.values().map(|runs| runs.executed + runs.refused).sum();
    Json(json!({"total": total, "scenarios": ledger.runs}))
}

/// What the query of a POST asks for.
#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    fail: u64,
    #[serde(default = "unnamed_scenario")]
    scenario: String,
}

fn unnamed_scenario() -> String {
    "default".to_owned()
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Ledger>>);

impl Service {
    async fn create(self, wish: Wish, order: Map<String, Value>) -> Response {
        let refused = self.count(&wish);
        tokio::time::sleep(Duration::from_millis(wish.delay_ms)).await;
        if refused {
            let error = json!({"error": "out of order, try again"});
            return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
        }

        let order = self.add(order);
        let location = HeaderValue::from_str(&format!("/orders/{}", order.number));
        let mut response = (StatusCode::CREATED, Json(order)).into_response();
        if let Ok(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }

    /// Counts one run; true if it is to be refused.
    fn count(&self, wish: &Wish) -> bool {
        let mut ledger = self.ledger();
        let runs = ledger.runs.entry(wish.scenario.clone()).or_default();
        let refused = runs.refused < wish.fail;
        if refused {
            runs.refused += 1;
        } else {
            runs.executed += 1;
        }
        refused
    }

    fn add(&self, content: Map<String, Value>) -> Order {
        let mut ledger = self.ledger();
        let order = Order { number: ledger.orders.len() + 1, content };
        ledger.orders.push(order.clone());
        order
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // No method leaves the ledger half changed, so it is whole even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Ledger {
    orders: Vec<Order>,
    runs: BTreeMap<String, Runs>,
}

#[derive(Clone, Serialize)]
struct Order {
    number: usize,
    #[serde(flatten)]
    content: Map<String, Value>,
}

#[derive(Default, Serialize)]
struct Runs {
    /// Went ahead to create an order.
    executed: u64,
    /// Were answered 503 because `fail` asked for it.
    refused: u64,
}

/// Ends when the service is told to stop; calls that are under way are answered first.
fn stop_requested() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
