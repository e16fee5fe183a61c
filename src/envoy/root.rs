//! The root context: configuration and time.

use std::rc::Rc;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use super::{
    driver::drive,
    filter::Filter,
    host::{self, Buffer},
    stream::Stream,
};
use crate::{
    config::Config,
    exchange::{Counter, Event, renewal_interval},
    store::shared_data::Sweep,
};

/// The root context of one configuration in one worker.
#[derive(Debug, Default)]
pub(super) struct Root {
    filter: Option<Rc<Filter>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::buffer(Buffer::PluginConfiguration, 0, size);
        let config = match Config::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                log::error!("idemgate: configuration refused: {error}");
                return false;
            }
        };
        match Filter::start(config) {
            Ok(filter) => {
                if !filter.store.has_capacity() {
                    log::warn!(
                        "idemgate: store.shared_data.max_entries was raised beyond what the table in use was laid out \
                         for; it takes effect in full after a restart of Envoy or with a new vm_id"
                    );
                }
                let period = renewal_interval(&filter.policy).min(LONGEST_TICK).as_millis();
                let _ = host::set_tick_period(u32::try_from(period).unwrap_or(1000));
                log::debug!("idemgate {}: configured", env!("CARGO_PKG_VERSION"));
                self.filter = Some(Rc::new(filter));
                true
            }
            Err(error) => {
                log::error!("idemgate: cannot start: {error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(filter) = &self.filter else { return };
        let now = host::now();
        for (context_id, guest) in filter.guests() {
            // A stream that is gone without a trace (its VM's host lost it) is no longer there to act on.
            if host::set_effective_context(context_id).is_err() {
                filter.dismiss(context_id);
                continue;
            }
            let mut exchange = guest.exchange.borrow_mut();
            if exchange.awaits_first_body() && guest.body_is_hopeless(&filter.body_watch, now) {
                log::error!(
                    "idemgate: the host does not hand over request bodies while headers are held; set \
                     allow_on_headers_stop_iteration: true in the Wasm filter's config (Envoy 1.35 or newer), or \
                     fingerprint.body: \"none\" in idemgate's"
                );
                let _ = drive(filter, &mut exchange, Event::BodyWithheld, now);
            }
            let _ = drive(filter, &mut exchange, Event::Tick, now);
        }
        for guest in filter.redirects.take_overdue(filter.policy.lease, now) {
            guest.abandon(filter);
        }
        for guest in filter.redirects.guests() {
            let _ = drive(filter, &mut guest.exchange.borrow_mut(), Event::Tick, now);
        }
        match filter.store.sweep(filter.worker, now) {
            Ok(Sweep::Swept(totals)) => filter.metrics.show(totals),
            Ok(Sweep::NotElected) => {}
            Err(error) => {
                filter.metrics.count(Counter::StoreErrors, 1);
                log::warn!("idemgate: the sweep failed: {error}");
            }
        }
        let tally = filter.store.take_tally();
        filter.metrics.count(Counter::StoreExpired, tally.expired);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.filter.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// The sweep wants to come by now and then, however long the leases are.
const LONGEST_TICK: std::time::Duration = std::time::Duration::from_secs(1);
