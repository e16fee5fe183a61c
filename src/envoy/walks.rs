//! Walks through the table, which operators ask for: one at a time in each worker, and only so far in each tick, since
//! the worker has requests to serve meanwhile. Who asks for the same walk before it begins shares it.

use std::collections::VecDeque;

use crate::{request::OperationPrefix, store::shared_data::TableScan};

/// The walks that were asked for; `R` is who asked.
#[derive(Debug)]
pub(super) struct Walks<R> {
    current: Option<Walk<R>>,
    waiting: VecDeque<Walk<R>>,
    /// How many more stretches this tick may have.
    stretches_left: u32,
}

/// A walk, and for whom it is.
#[derive(Debug)]
pub(super) struct Walk<R> {
    pub(super) scan: TableScan,
    /// The operation that is looked for, if not all are to be counted.
    pub(super) sought: Option<OperationPrefix>,
    pub(super) requests: Vec<R>,
}

impl<R> Default for Walks<R> {
    fn default() -> Self {
        Self { current: None, waiting: VecDeque::new(), stretches_left: STRETCHES }
    }
}

impl<R> Walks<R> {
    /// Orders a walk. One that has begun may be past what the request wants to see, so it is not joined; nor is one for
    /// which as many wait as may be answered in one call of the host's.
    pub(super) fn order(&mut self, sought: Option<OperationPrefix>, request: R) {
        let may_join = |walk: &&mut Walk<R>| walk.sought == sought && walk.requests.len() < MOST_REQUESTS;
        match self.waiting.iter_mut().find(may_join) {
            Some(walk) => walk.requests.push(request),
            None => self.waiting.push_back(Walk { scan: TableScan::new(sought), sought, requests: vec![request] }),
        }
    }

    /// Goes on for a stretch, which `scan` walks: `true` from it is the end, and then the walk is given back. Who is
    /// gone needs none.
    pub(super) fn go_on(
        &mut self,
        is_gone: impl Fn(&R) -> bool,
        scan: impl FnOnce(&mut TableScan) -> bool,
    ) -> Option<Walk<R>> {
        let is_wanted = |walk: &Walk<R>| !walk.requests.iter().all(&is_gone);
        self.waiting.retain(is_wanted);
        let mut walk = self.current.take().filter(is_wanted).or_else(|| self.waiting.pop_front())?;
        let may_go_on = self.stretches_left > 0;
        self.stretches_left = self.stretches_left.saturating_sub(1);
        if may_go_on && scan(&mut walk.scan) {
            return Some(walk);
        }
        self.current = Some(walk);
        None
    }

    /// Notes that a tick has passed.
    pub(super) fn tick(&mut self) {
        self.stretches_left = STRETCHES;
    }

    /// Whether there is something to go on with in this tick.
    pub(super) fn may_go_on(&self) -> bool {
        self.stretches_left > 0 && !self.is_idle()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }
}

/// How many share a walk at most: they are answered together, and replies nest in the host (`turns.rs`).
const MOST_REQUESTS: usize = 32;

/// How many stretches one tick has at most: 65,536 buckets, which hold a quarter of a million records, and a tenth of the
/// worker's time if they are asked for without a pause.
const STRETCHES: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn never_gone(_: &u8) -> bool {
        false
    }

    /// Goes on until nothing may; how many stretches that took, and for whom the walks were that ended.
    fn run(walks: &mut Walks<u8>, stretches_of_a_walk: u32) -> (u32, Vec<Vec<u8>>) {
        let (mut stretches, mut ended) = (0, Vec::new());
        while walks.may_go_on() {
            let end = |_: &mut TableScan| {
                stretches += 1;
                stretches % stretches_of_a_walk == 0
            };
            ended.extend(walks.go_on(never_gone, end).map(|walk| walk.requests));
        }
        (stretches, ended)
    }

    #[test]
    fn those_who_ask_for_the_same_share_a_walk_unless_it_has_begun() {
        let prefix = OperationPrefix::parse("01234567");
        let mut walks = Walks::default();
        walks.order(None, 1);
        walks.order(prefix, 2);
        walks.order(None, 3);
        assert!(walks.go_on(never_gone, |_| false).is_none());
        walks.order(None, 4);
        walks.order(prefix, 5);
        let (stretches, ended) = run(&mut walks, 2);
        assert_eq!(ended, [vec![1, 3], vec![2, 5], vec![4]]);
        assert_eq!(stretches, 6, "one at a time");
        assert!(walks.is_idle());
    }

    #[test]
    fn a_tick_has_so_many_stretches_whatever_is_asked_for() {
        let mut walks = Walks::default();
        for request in 0..100 {
            walks.order(OperationPrefix::parse(&format!("{request:08x}")), request);
        }
        for tick in 1..=3 {
            let (stretches, ended) = run(&mut walks, 8);
            assert_eq!((stretches, ended.len()), (STRETCHES, 4), "tick {tick}");
            let mut goes_on = false;
            assert!(walks.go_on(never_gone, |_| std::mem::replace(&mut goes_on, true)).is_none());
            assert!(!goes_on, "beyond what the tick may have");
            walks.tick();
        }
    }

    #[test]
    fn no_more_share_a_walk_than_may_be_answered_together() {
        let mut walks = Walks::default();
        (0..100).for_each(|request| walks.order(None, request));
        let (_, ended) = run(&mut walks, 1);
        assert_eq!(ended.iter().map(Vec::len).collect::<Vec<_>>(), [32, 32, 32, 4]);
    }

    #[test]
    fn nobody_walks_for_those_who_are_gone() {
        let mut walks = Walks::default();
        (0..3).for_each(|request| walks.order(OperationPrefix::parse(&format!("{request:08x}")), request));
        assert!(walks.go_on(never_gone, |_| false).is_none());
        let walk = walks.go_on(|request| *request != 2, |_| true).unwrap();
        assert_eq!(walk.requests, [2]);
        assert!(walks.is_idle());
    }
}
