//! The root context: configuration, time, wake-ups and the answers to detached calls.

use std::rc::Rc;

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::ContextType,
};

use super::{
    admin::{Admin, AdminStream},
    announcement::announce,
    bridge::{Bridge, BridgeStream},
    driver::drive_from_root,
    filter::Filter,
    guest::Guest,
    host::{self, BufferType, KnownRoot, MapType},
    inquiries::Errand,
    post::BELL,
    store::Store,
    stream::Stream,
    watch_board::POLL,
};
use crate::{
    config::{Config, Guard, Plugin},
    exchange::{CallFailure, Event},
    request::OperationId,
    store::{
        Answer, Claimed, Renewed, Settled,
        redis::{Heard, Progress},
    },
    time::Timestamp,
};

/// The root context of one configuration in one worker.
#[derive(Debug)]
pub(super) struct Root {
    context: KnownRoot,
    filter: Option<Rc<Filter>>,
    /// Its streams are requests of operators.
    admin: Option<Rc<Admin>>,
    /// Its streams are calls to Redis.
    bridge: Option<Rc<Bridge>>,
    life: Life,
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
        Self { context: KnownRoot::new(context_id), filter: None, admin: None, bridge: None, life: Life::InUse }
    }

    /// Puts an admin to work, whose configuration is this text.
    fn administer(&mut self, config: Config, guard: Guard, text: &[u8]) -> bool {
        let summary = format!("role admin, guard {}, {}", guard.word(), config.store.summary());
        match Admin::start(config, guard) {
            Ok(admin) => {
                let _ = host::set_tick_period(u32::try_from(Admin::TICK.as_millis()).unwrap_or(1000));
                announce(text, &summary, host::now());
                self.admin = Some(Rc::new(admin));
                true
            }
            Err(error) => {
                log::error!("idemgate: cannot start: {error}");
                false
            }
        }
    }

    /// Does a piece of work, and then all that it and the streams have left for the root context.
    fn work(&mut self, work: impl FnOnce(&Self, &Filter)) {
        let Some(filter) = self.filter.clone() else { return };
        filter.root_works(true);
        work(self, &filter);
        self.take_turns(&filter);
        filter.show_waiting();
        filter.root_works(false);
        // A guest may have left its own context in effect.
        let _ = host::set_effective_context(self.context.id());
        filter.keep_pace();
        self.finish_draining();
    }

    /// Gives turns to what waits for them, as many as are left: one of each kind after the other, so that no crowd keeps
    /// the others waiting.
    fn take_turns(&self, filter: &Filter) {
        let kinds = [Self::ask_next, Self::call_next, Self::wake_next, Self::tell_next, Self::look_after_next];
        let mut had_nothing = 0;
        for give_turn in kinds.iter().cycle() {
            if had_nothing == kinds.len() || !filter.turns.are_left() {
                break;
            }
            if give_turn(self, filter) {
                filter.turns.take();
                had_nothing = 0;
            } else {
                had_nothing += 1;
            }
        }
    }

    /// Lets the next of those who wait for an execution ask for it again, and those behind it when all other operations
    /// have had a turn, until one has to wait on: it has seen an execution under way, of whose end this worker will be
    /// told, and the others would see nothing else. `false` if nobody is to ask.
    fn wake_next(&self, filter: &Filter) -> bool {
        let Some((operation, guest)) = filter.waiting_room.next_called() else { return false };
        drive_from_root(filter, &guest, Event::Woken, host::now());
        // Either it has to wait on, or the store has yet to say.
        if !filter.waiting_room.has(&operation, &guest) && !guest.exchange.borrow().awaits_claim() {
            filter.waiting_room.call(&operation);
        }
        true
    }

    /// Tells the next one of an answer that no call of its own has brought; `false` if there is none.
    fn tell_next(&self, filter: &Filter) -> bool {
        let Some((guest, answer)) = filter.inquiries.next_to_tell() else { return false };
        self.tell(filter, &guest, Event::Answered(answer), host::now());
        true
    }

    /// Looks after the next one who is to be answered because of the time; `false` if there is none.
    fn look_after_next(&self, filter: &Filter) -> bool {
        let Some(guest) = filter.next_overdue() else { return false };
        let now = host::now();
        if guest.body_is_hopeless(&filter.body_watch, now) {
            log::error!(
                "idemgate: the host does not hand over request bodies while headers are held; set \
                     allow_on_headers_stop_iteration: true in the Wasm filter's config (Envoy 1.36 or newer), or \
                     fingerprint.body: \"none\" with execution.mode: \"inline\" in idemgate's"
            );
            drive_from_root(filter, &guest, Event::BodyWithheld, now);
        }
        self.tell(filter, &guest, Event::Tick, now);
        true
    }

    /// Asks the store the next question that was ordered; `false` if there is none.
    fn ask_next(&self, filter: &Filter) -> bool {
        let Store::Redis(store) = &filter.enforced.store else { return false };
        let Some(errand) = filter.inquiries.next_to_ask() else { return false };
        let now = host::now();
        if errand.inquiry.is_new_claim() && errand.guest.exchange.borrow().is_abandoned() {
            // The client has gone while it waited. Nothing was claimed, and nobody is to be told why.
            filter.inquiries.withdraw(&errand);
            self.tell(filter, &errand.guest, Event::Answered(Answer::Claimed(Claimed::Full)), now);
            return true;
        }
        let _ = host::set_effective_context(self.context.id());
        if let Some(mut errand) = filter.inquiries.ask(store.cluster(), errand, now) {
            let progress = errand.inquiry.hear(Heard::NotMade, now);
            self.go_on(filter, errand, progress, now);
        }
        true
    }

    /// Takes in what came of a question.
    fn go_on(&self, filter: &Filter, mut errand: Errand, progress: Progress, now: Timestamp) {
        match progress {
            Progress::Answered(answer) => {
                let operation = errand.inquiry.operation();
                let is_over = says_that_it_is_over(&answer);
                if let Answer::Claimed(claimed) = &answer {
                    filter.inquiries.conclude(&errand, claimed, now);
                }
                if says_that_it_was_written(&answer) {
                    filter.inquiries.note_write(now);
                }
                self.tell(filter, &errand.guest, Event::Answered(answer), now);
                if is_over && !errand.is_shadow {
                    filter.announce_end(&operation);
                    filter.waiting_room.call(&operation);
                }
            }
            Progress::Again(error) => {
                filter.note_failed_attempt(&errand.guest.route.realm, error, now);
                filter.inquiries.order_again(errand);
            }
            Progress::Later(error) => {
                filter.note_failed_attempt(&errand.guest.route.realm, error, now);
                if errand.inquiry.is_release() && filter.inquiries.are_crowded() {
                    let given_up = Answer::Settled(Settled::Failed(error).into());
                    return self.go_on(filter, errand, Progress::Answered(given_up), now);
                }
                if errand.inquiry.becomes_delayed(now) {
                    drive_from_root(filter, &errand.guest, Event::Answered(Answer::Delayed), now);
                }
                filter.inquiries.rest(errand, filter.memory.limit_of_records());
                filter.ring();
            }
        }
    }

    /// Makes the next call that was ordered; `false` if there is none.
    fn call_next(&self, filter: &Filter) -> bool {
        let Some((guest, job)) = filter.calls.next_ordered() else { return false };
        let _ = host::set_effective_context(self.context.id());
        if filter.calls.make(Rc::clone(&guest), &job, guest.route.policy.execution.timeout) {
            filter.enforced.metrics.add_detached(1);
        } else {
            let now = host::now();
            filter.report_uncallable(&job.cluster, now);
            self.tell(filter, &guest, Event::CallFailed(CallFailure::NotMade), now);
        }
        true
    }

    /// Hands an answer to a guest, and lets go of one that has nothing more to wait for.
    fn tell(&self, filter: &Filter, guest: &Rc<Guest>, event: Event<'_>, now: Timestamp) {
        drive_from_root(filter, guest, event, now);
        if guest.is_finished() {
            filter.dismiss(guest);
        }
    }

    /// Lets the host drop a configuration that was kept for its calls alone.
    fn finish_draining(&mut self) {
        if self.life == Life::Draining && self.has_no_calls() {
            self.life = Life::Over;
            host::done();
        }
    }

    fn has_no_calls(&self) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.calls.are_over() && filter.inquiries.are_over())
            && self.admin.as_ref().is_none_or(|admin| admin.is_idle())
    }

    /// Looks after everything that time alone brings about.
    fn tick(&self, filter: &Filter, now: Timestamp) {
        let mut overdue = Vec::new();
        for guest in filter.due_guests(now) {
            if guest.exchange.borrow().awaits_turn() || guest.body_is_hopeless(&filter.body_watch, now) {
                overdue.push(guest);
            } else {
                self.tell(filter, &guest, Event::Tick, now);
            }
        }
        filter.note_overdue(overdue);
        for guest in filter.redirects.take_overdue(now) {
            guest.abandon(filter);
        }
        // Dead owners wake nobody, nor do those of other Envoys.
        for operation in filter.waiting_room.due(now) {
            if filter.is_remote() {
                filter.waiting_room.postpone(&operation, now.after(POLL));
                if !filter.watch_board.may_poll(&operation, now) {
                    continue;
                }
            }
            filter.waiting_room.call(&operation);
        }
        filter.keep_post(now);
        filter.watch_bell();
        filter.inquiries.rouse(now);
        filter.show_memory();
        for realm in filter.realms() {
            realm.sweep(filter.worker, now);
        }
        host::follow_log_level();
    }
}

impl Context for Root {
    /// Takes in the answer to a call of its own; without fields there is none.
    fn on_http_call_response(&mut self, token: u32, num_headers: usize, body_size: usize, _: usize) {
        if let Some(admin) = &self.admin {
            admin.hear(self.context.id(), token, num_headers, body_size);
            return self.finish_draining();
        }
        self.work(|root, filter| {
            let heard = |body| match num_headers {
                0 => Heard::Nothing,
                _ => Heard::Reply { status: host::status_of(MapType::HttpCallResponseHeaders), body },
            };
            let body = || host::buffer(BufferType::HttpCallResponseBody, 0, body_size);
            if let Some(mut errand) = filter.inquiries.answered(token) {
                let (body, now) = (body(), host::now());
                let heard = heard(&body);
                if matches!(heard, Heard::Reply { status: 200, .. }) {
                    filter.inquiries.hear(now);
                }
                let progress = errand.inquiry.hear(heard, now);
                root.go_on(filter, errand, progress, now);
            } else if let Some(guest) = filter.calls.answered(token) {
                filter.enforced.metrics.add_detached(-1);
                if num_headers == 0 {
                    return root.tell(filter, &guest, Event::CallFailed(CallFailure::Reset), host::now());
                }
                let headers = host::headers(MapType::HttpCallResponseHeaders);
                let status = host::status(&headers);
                let event = Event::CallAnswered { status, headers: &headers, body: body() };
                root.tell(filter, &guest, event, host::now());
            } else {
                filter.checkup.end(filter, token, heard(&body()));
            }
        });
    }

    /// The configuration is no longer used. Calls under way keep it alive, so that their responses are stored.
    fn on_done(&mut self) -> bool {
        if let Some(filter) = &self.filter {
            filter.realms().for_each(|realm| realm.give_back_room());
        }
        self.life = if self.has_no_calls() { Life::Over } else { Life::Draining };
        self.life == Life::Over
    }
}

impl RootContext for Root {
    /// Puts the configuration to work, of which the host has `size` bytes; `false` if it is refused.
    fn on_configure(&mut self, size: usize) -> bool {
        let text = host::buffer(BufferType::PluginConfiguration, 0, size);
        let config = match Plugin::parse(&text, &host::variable) {
            Ok(Plugin::Filter(config)) => *config,
            Ok(Plugin::Admin { config, guard }) => return self.administer(*config, guard, &text),
            Ok(Plugin::RedisBridge { prefix }) => {
                self.bridge = Some(Rc::new(Bridge::new(prefix)));
                return true;
            }
            Err(error) => {
                log::error!("idemgate: configuration refused: {error}");
                return false;
            }
        };
        for warning in config.warnings() {
            log::warn!("idemgate: {warning}");
        }
        let summary = config.summary();
        match Filter::start(config) {
            Ok(filter) => {
                host::follow_log_level();
                if matches!(&filter.enforced.store, Store::SharedData(store) if !store.has_capacity()) {
                    log::warn!(
                        "idemgate: store.shared_data.max_entries was raised beyond what the table in use was laid out \
                         for; it takes effect in full after a restart of Envoy or with a new vm_id"
                    );
                }
                filter.begin_ticks();
                announce(&text, &summary, filter.ticked_at.get());
                self.filter = Some(Rc::new(filter));
                true
            }
            Err(error) => {
                log::error!("idemgate: cannot start: {error}");
                false
            }
        }
    }

    /// Does what time alone brings about.
    fn on_tick(&mut self) {
        if let Some(admin) = &self.admin {
            admin.tick(self.context.id(), host::now());
            return self.finish_draining();
        }
        self.work(|root, filter| {
            filter.turns.begin();
            let now = host::now();
            if filter.has_ticked(now) {
                // First, as long as nothing has put another context in effect.
                filter.checkup.begin(filter, now);
                root.tick(filter, now);
            }
        });
    }

    /// Takes in what others have left in its mailbox.
    fn on_queue_ready(&mut self, queue: u32) {
        if let Some(admin) = &self.admin {
            // What is in it says no more than that there is work.
            while host::dequeue(queue).is_some() {}
            admin.begin_work(self.context.id(), host::now());
            return self.finish_draining();
        }
        self.work(|_, filter| {
            filter.hear_bell();
            while let Some(message) = host::dequeue(queue) {
                if message == BELL {
                    continue;
                }
                filter.turns.begin();
                if let Ok(operation) = <[u8; 32]>::try_from(message) {
                    filter.waiting_room.call(&OperationId::from_bytes(operation));
                }
            }
        });
    }

    /// A stream that falls under its configuration.
    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        if let Some(admin) = &self.admin {
            return Some(Box::new(AdminStream::new(context_id, Rc::clone(admin))));
        }
        if let Some(bridge) = &self.bridge {
            return Some(Box::new(BridgeStream::new(Rc::clone(bridge))));
        }
        Some(Box::new(Stream::new(context_id, self.filter.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Whether the store has just written what it was asked to.
fn says_that_it_was_written(answer: &Answer) -> bool {
    match answer {
        Answer::Claimed(claimed) => *claimed == Claimed::Granted,
        Answer::Settled(ended) => !matches!(ended.settled, Settled::Failed(_) | Settled::Fenced),
        Answer::Renewed(renewed) => *renewed == Renewed::Extended,
        Answer::Delayed => false,
    }
}

/// Whether nobody has to wait any longer for the execution that the store was asked about.
fn says_that_it_is_over(answer: &Answer) -> bool {
    match answer {
        Answer::Claimed(claimed) => match claimed {
            Claimed::Completed { .. } | Claimed::NotKept { .. } | Claimed::Unknown { .. } => true,
            Claimed::Granted
            | Claimed::KeyReused
            | Claimed::InFlight { .. }
            | Claimed::Full
            | Claimed::OverShare(_)
            | Claimed::Failed(_)
            | Claimed::InDoubt(_) => false,
        },
        Answer::Settled(ended) => !matches!(ended.settled, Settled::Failed(_)),
        Answer::Renewed(_) | Answer::Delayed => false,
    }
}
