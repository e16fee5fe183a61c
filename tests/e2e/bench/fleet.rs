//! Several Envoys in front of one upstream, with one store between them.

use std::net::SocketAddr;

use super::bootstrap::Backends;
use super::envoy::Envoy;
use super::upstream::{Door, Upstream};
use super::{Protocol, Setup};

/// Two Envoys with two workers each.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) envoys: [Envoy; 2],
    pub(crate) upstream: Upstream,
}

impl Fleet {
    /// Both of the same `setup`, and with a store at these addresses.
    pub(crate) async fn start(setup: &Setup, store: Vec<SocketAddr>) -> Self {
        Self::of([setup, setup], store).await
    }

    /// Each of its own setup.
    pub(crate) async fn of([one, other]: [&Setup; 2], store: Vec<SocketAddr>) -> Self {
        let upstream = Upstream::with_door(Protocol::Http1, Door::Open);
        let backends = Backends { store, upstream: upstream.address() };
        let envoys = [Envoy::start(one, backends.clone()).await, Envoy::start(other, backends).await];
        Self { envoys, upstream }
    }
}
