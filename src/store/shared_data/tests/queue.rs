//! The queue of responses, which only hints: in order as a rule, bounded always, and never in the way.

use super::{
    super::{Cas, SharedMemory, queue::Queue, slots, slots::BucketIndex},
    fixture::*,
    memory::{Host, Worker},
};
use crate::{
    config::{OnFull, SharedDataConfig},
    store::StoreError,
    time::Timestamp,
};

const LIMITS: SharedDataConfig = SharedDataConfig { max_entries: 4096, ..ROOMY };

/// With responses of this number of bytes a segment has four.
const SIZE: u32 = 1024;

/// A worker with its end of the queue.
struct End {
    queue: Queue,
    memory: Worker,
}

impl End {
    fn new(host: &Host, limits: SharedDataConfig) -> Self {
        Self { queue: Queue::new(limits.max_entries.div_ceil(slots::BUCKET_LOAD), &limits), memory: host.worker() }
    }

    fn push_sized(&self, numbers: impl IntoIterator<Item = u32>, bytes: u32) {
        for number in numbers {
            self.queue.push(BucketIndex(number), bytes, ended(), &self.memory).unwrap();
        }
    }

    fn push(&self, numbers: impl IntoIterator<Item = u32>) {
        self.push_sized(numbers, SIZE);
    }

    fn pop_at(&self, now: Timestamp) -> Option<u32> {
        self.queue.pop(now, &self.memory).unwrap().map(|index| index.0)
    }

    /// All that it hands out.
    fn drain(&self) -> Vec<u32> {
        std::iter::from_fn(|| self.pop_at(NOW)).collect()
    }
}

#[test]
fn what_was_pushed_first_comes_first_over_all_workers() {
    let host = Host::default();
    let (one, other) = (End::new(&host, LIMITS), End::new(&host, LIMITS));
    one.push([1, 2, 3, 4]);
    other.push([5, 6, 7, 8]);
    one.push([9, 10, 11, 12]);

    assert_eq!(other.drain(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert!(one.drain().is_empty());
}

#[test]
fn nothing_is_handed_out_twice() {
    let host = Host::default();
    let (one, other) = (End::new(&host, LIMITS), End::new(&host, LIMITS));
    one.push(0..16);
    let mut popped: Vec<_> = (0..8).flat_map(|_| [one.pop_at(NOW), other.pop_at(NOW)]).map(Option::unwrap).collect();
    popped.sort_unstable();

    assert_eq!(popped, (0..16).collect::<Vec<_>>());
    assert_eq!((one.pop_at(NOW), other.pop_at(NOW)), (None, None));
}

#[test]
fn small_responses_are_written_by_the_dozen_and_large_ones_one_by_one() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    end.push_sized(0..31, 10);
    assert!(end.drain().is_empty());
    end.push_sized([31], 10);
    assert_eq!(end.drain(), (0..32).collect::<Vec<_>>());
    end.push_sized([40], 4096);
    assert_eq!(end.drain(), [40]);
}

#[test]
fn what_has_ended_is_passed_over() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    for number in 0..8 {
        let expires = NOW.after(MOMENT * if number < 6 { 1 } else { 3 });
        end.queue.push(BucketIndex(number), SIZE, expires, &end.memory).unwrap();
    }
    assert_eq!(end.pop_at(NOW.after(MOMENT * 2)), Some(6));
    assert_eq!(end.pop_at(NOW.after(MOMENT * 3)), None);
}

#[test]
fn a_queue_of_what_has_ended_is_passed_over_a_part_at_a_time() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    end.push(0..200);
    end.memory.hook(|_| Ok(()));
    assert_eq!(end.pop_at(ended()), None);
    let calls = end.memory.unhook();
    assert_eq!(calls, 4 * 3);
    assert_eq!(end.pop_at(NOW), Some(4 * 4));
}

#[test]
fn without_room_the_oldest_are_lost_and_the_keys_stay_as_few() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    let segments = 4096 / 32 + 256;
    end.push(0..4 * (segments + 10));
    assert_eq!(host.values().len(), segments as usize + 1);
    assert_eq!(end.drain(), (4 * 10..4 * (segments + 10)).collect::<Vec<_>>());
}

#[test]
fn numbers_may_begin_anew() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    let last = [(u32::MAX - 1).to_le_bytes(); 2].concat();
    end.memory.set(slots::QUEUE, &last, Cas::NEVER_ISSUED).unwrap();
    end.push(0..16);
    assert_eq!(end.drain(), (0..16).collect::<Vec<_>>());
}

#[test]
fn a_worker_that_stops_before_any_call_costs_its_own_segment_alone() {
    for stops_at in 0..4 {
        let host = Host::default();
        let (dying, other) = (End::new(&host, LIMITS), End::new(&host, LIMITS));
        other.push(0..4);
        dying.push(4..7);
        dying.memory.hook(move |access| if access.number < stops_at { Ok(()) } else { Err(StoreError::Contended) });
        assert!(dying.queue.push(BucketIndex(7), SIZE, ended(), &dying.memory).is_err(), "at {stops_at}");
        other.push(8..12);
        assert_eq!(other.drain(), [0, 1, 2, 3, 8, 9, 10, 11], "at {stops_at}");
    }
}

#[test]
fn what_others_do_between_two_calls_of_a_worker_loses_nothing() {
    for point in 0..4 {
        let host = Host::default();
        let (one, other) = (End::new(&host, LIMITS), End::new(&host, LIMITS));
        one.push(0..3);
        one.memory.hook(move |access| {
            if access.number == point {
                other.push(10..14);
            }
            Ok(())
        });
        one.push([3]);
        one.memory.unhook();
        let mut left = one.drain();
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2, 3, 10, 11, 12, 13], "at {point}");
    }
}

#[test]
fn who_reads_a_segment_before_it_is_written_finds_an_empty_one() {
    let host = Host::default();
    let (writer, reader) = (End::new(&host, LIMITS), End::new(&host, LIMITS));
    let rounds = 4096 / 32 + 256;
    // Every key has been used once, so that an old segment lies where the new one will.
    writer.push(0..4 * rounds);
    writer.drain();
    writer.memory.hook(move |access| {
        // The ends are moved, and the segment is not there.
        if access.writes && access.key != slots::QUEUE {
            assert_eq!(reader.pop_at(NOW), None);
        }
        Ok(())
    });
    writer.push(10_000..10_004);
    writer.memory.unhook();
    assert!(writer.drain().is_empty());
}

#[test]
fn a_queue_that_cannot_be_read_is_empty_and_begins_anew() {
    let host = Host::default();
    let end = End::new(&host, LIMITS);
    end.push(0..4);
    host.overwrite(slots::QUEUE, b"damaged");
    assert!(end.drain().is_empty());
    end.push(4..8);
    assert_eq!(end.drain(), [4, 5, 6, 7]);
}

#[test]
fn tables_that_do_without_have_no_queue() {
    for limits in
        [SharedDataConfig { max_entries: 64, ..LIMITS }, SharedDataConfig { on_full: OnFull::Reject, ..LIMITS }]
    {
        let host = Host::default();
        let end = End::new(&host, limits);
        end.push(0..100);
        assert!(end.drain().is_empty());
        assert!(host.values().is_empty());
    }
}
