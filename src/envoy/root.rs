//! The root context: which role a configuration has, its callbacks, and its end.

use std::{cell::Cell, rc::Rc};

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use super::{
    admin::{Admin, AdminStream},
    announcement::announce,
    call_end::CallEnd,
    filter::Filter,
    host::{self, BufferType, KnownRoot},
    store_stream::StoreStream,
    stream::Stream,
    unconfigured::Unconfigured,
};
use crate::config::{Config, Guard, Plugin};

/// The root context of one configuration in one worker.
#[derive(Debug)]
pub(super) struct Root {
    context: KnownRoot,
    role: Role,
    life: Life,
}

/// What the streams of the configuration are.
#[derive(Clone, Debug)]
enum Role {
    /// It has none, or what it has was refused.
    Unconfigured,
    /// Requests of clients.
    Filter(Rc<Filter>),
    /// Requests of operators.
    Admin(Rc<Admin>),
    /// Connections to a store.
    StoreStream,
}

/// Whether the configuration is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Life {
    InUse,
    /// No longer, and calls are still under way.
    Draining,
    Over,
}

impl Root {
    pub(super) fn new(context_id: u32) -> Self {
        Self { context: KnownRoot::new(context_id), role: Role::Unconfigured, life: Life::InUse }
    }

    fn start_filter(&self, config: Config, text: &[u8]) -> Option<Role> {
        for warning in config.warnings() {
            log::warn!("idemgate: {warning}");
        }
        let (summary, now) = (config.summary(), host::now());
        let filter = Filter::start(config, self.context.id(), now)
            .inspect_err(|error| log::error!("idemgate: cannot start: {error}"))
            .ok()?;
        host::follow_log_level();
        if !filter.has_capacity() {
            log::warn!(
                "idemgate: store.shared_data.max_entries was raised beyond what the table in use was laid out for; it \
                 takes effect in full after a restart of Envoy or with a new vm_id"
            );
        }
        announce(text, &summary, now);
        Some(Role::Filter(Rc::new(filter)))
    }

    /// Lets the host drop a configuration that was kept for its calls alone.
    fn finish_draining(&mut self) {
        if self.life == Life::Draining && self.has_no_calls() {
            // A stream may have been left in effect.
            let _ = host::set_effective_context(self.context.id());
            self.end();
            host::done();
        }
    }

    fn end(&mut self) {
        match &self.role {
            Role::Filter(filter) => filter.close_connections(),
            Role::Admin(admin) => admin.close_connections(self.context.id()),
            Role::StoreStream | Role::Unconfigured => {}
        }
        host::cancel_left_streams(self.context.id());
        self.life = Life::Over;
    }

    fn has_no_calls(&self) -> bool {
        match &self.role {
            Role::Filter(filter) => filter.has_no_calls(),
            Role::Admin(admin) => admin.is_idle(),
            Role::StoreStream | Role::Unconfigured => true,
        }
    }
}

impl Context for Root {
    /// Takes in the answer to a call of its own; without fields there is none.
    fn on_http_call_response(&mut self, token: u32, fields: usize, body_size: usize, _: usize) {
        let (answer, now) = (CallEnd { fields, body_size }, host::now());
        match &self.role {
            Role::Filter(filter) => filter.on_call_answered(token, answer, now),
            Role::Admin(admin) => admin.hear(self.context.id(), token, answer, now),
            Role::StoreStream | Role::Unconfigured => {}
        }
        self.finish_draining();
    }

    /// Takes in what has come over a connection to the store.
    fn on_grpc_stream_message(&mut self, stream: u32, size: usize) {
        let (bytes, now) = (host::buffer(BufferType::GrpcReceiveBuffer, 0, size), host::now());
        match &self.role {
            Role::Filter(filter) => filter.on_received(stream, &bytes, now),
            Role::Admin(admin) => admin.on_received(self.context.id(), stream, &bytes, now),
            Role::StoreStream | Role::Unconfigured => {}
        }
        self.finish_draining();
    }

    /// A connection to the store has ended.
    fn on_grpc_stream_close(&mut self, stream: u32, _: u32) {
        let (text, now) = (host::status_text(), host::now());
        match &self.role {
            Role::Filter(filter) => filter.on_stream_closed(stream, &text, now),
            Role::Admin(admin) => admin.on_stream_closed(self.context.id(), stream, &text, now),
            Role::StoreStream | Role::Unconfigured => {}
        }
        self.finish_draining();
    }

    /// The configuration is no longer used. Calls under way keep it alive, so that their responses are stored.
    fn on_done(&mut self) -> bool {
        if let Role::Filter(filter) = &self.role {
            filter.retire();
        }
        self.life = Life::Draining;
        if self.has_no_calls() {
            self.end();
        }
        self.life == Life::Over
    }
}

impl RootContext for Root {
    /// Puts the configuration, of `size` bytes, to work; `false` if it is refused.
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::buffer(BufferType::PluginConfiguration, 0, size);
        let plugin = Plugin::parse(&text, &host::variable).map_err(|error| error.to_string());
        if plugin.as_ref().is_ok_and(|plugin| !has_vm_for(plugin)) {
            // Seen in a worker alone. Envoy lets requests pass that fall under what a worker has refused, so it is taken.
            log::error!("idemgate: configuration refused: {NO_VM}");
            self.role = Role::Unconfigured;
            return true;
        }
        let role = match plugin {
            Ok(Plugin::Filter(config)) => self.start_filter(*config, &text),
            Ok(Plugin::Admin { config, guard }) => start_admin(*config, guard, &text),
            Ok(Plugin::StoreStream) => Some(Role::StoreStream),
            Err(error) => {
                log::error!("idemgate: configuration refused: {error}");
                None
            }
        };
        let is_accepted = role.is_some();
        self.role = role.unwrap_or(Role::Unconfigured);
        is_accepted
    }

    /// Does what time alone brings about.
    fn on_tick(&mut self) {
        host::cancel_left_streams(self.context.id());
        let now = host::now();
        match &self.role {
            Role::Filter(filter) => {
                filter.on_tick(now);
                host::follow_log_level();
            }
            Role::Admin(admin) => admin.tick(self.context.id(), now),
            Role::StoreStream | Role::Unconfigured => {}
        }
        self.finish_draining();
    }

    /// Takes in what others have left in its mailbox.
    fn on_queue_ready(&mut self, queue: u32) {
        let now = host::now();
        match &self.role {
            Role::Filter(filter) => filter.on_queue_ready(queue, now),
            Role::Admin(admin) => {
                // What is in it says no more than that there is work.
                while host::dequeue(queue).is_some() {}
                admin.begin_work(self.context.id(), now);
            }
            Role::StoreStream | Role::Unconfigured => {}
        }
        self.finish_draining();
    }

    /// A stream that falls under its configuration.
    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.role {
            Role::Filter(filter) => Box::new(Stream::new(context_id, Rc::clone(filter))),
            Role::Admin(admin) => Box::new(AdminStream::new(context_id, Rc::clone(admin))),
            Role::StoreStream => Box::new(StoreStream::default()),
            Role::Unconfigured => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Whether this VM may serve the plugin: a stream to a store calls the VM of its role while the VM of the filter calls the
/// host, so that one VM for both would be called while it is at work, and die of it.
fn has_vm_for(plugin: &Plugin) -> bool {
    thread_local! {
        /// Whether the VM is for streams, once it has something to do.
        static IS_FOR_STREAMS: Cell<Option<bool>> = const { Cell::new(None) };
    }
    let is_for_streams = *plugin == Plugin::StoreStream;
    let is_free = IS_FOR_STREAMS.get().is_none_or(|of_others| of_others == is_for_streams);
    if is_free {
        IS_FOR_STREAMS.set(Some(is_for_streams));
    }
    is_free
}

const NO_VM: &str = "role store_stream and other configurations of the module have one vm_id; give the filter with the role \
                     store_stream a vm_id of its own";

/// Puts an admin to work, whose configuration is this text.
fn start_admin(config: Config, guard: Guard, text: &[u8]) -> Option<Role> {
    let (summary, now) = (format!("role admin, guard {}, {}", guard.word(), config.store.summary()), host::now());
    let admin =
        Admin::start(config, guard, now).inspect_err(|error| log::error!("idemgate: cannot start: {error}")).ok()?;
    host::set_tick_period(Admin::TICK);
    announce(text, &summary, now);
    Some(Role::Admin(Rc::new(admin)))
}
