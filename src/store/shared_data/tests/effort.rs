//! No cliff: what one request asks of the host does not depend on how full the table is, nor with what.

use std::time::Duration;

use super::{fixture::*, memory::Host};
use crate::{
    config::{ENTRY_BYTES, OnFull, SharedDataConfig},
    store::{Claimed, Ending, Settled},
    time::Timestamp,
};

/// How many calls one operation may take, its claim and its end together, whatever the table holds: one with all that it
/// searches, and all that it gives up.
const MOST: usize = 200;

/// How many take a place each, and to how many the search of one that finds nothing goes.
const FEW: usize = 35;
const SEARCH: usize = 50;

/// What fills a table.
struct Load {
    name: &'static str,
    limits: SharedDataConfig,
    /// How an operation ends: the size of its response, or none that is kept.
    ends: fn(u32) -> Option<usize>,
    /// How many calls an operation takes on average, at most, once the table is full.
    mean: usize,
}

/// Gets and sets of each operation: of its claim, and of its end if it was granted.
fn calls(load: &Load, operations: u32) -> Vec<usize> {
    let host = Host::default();
    let store = open(&host, load.limits);
    let calls = (0..operations).map(|number| {
        let now = Timestamp::from_millis(NOW.as_millis() + u64::from(number));
        store.memory.hook(|_| Ok(()));
        match store.claim_at(number, 1, now) {
            Claimed::Granted => {
                let settled = match (load.ends)(number) {
                    Some(size) => store.complete_at(number, 1, size, now),
                    None => store.settle_at(number, 1, Ending::NotKept(200), now),
                };
                assert!(matches!(settled, Settled::Completed | Settled::NotKept), "{settled:?}");
            }
            claimed => assert_eq!(claimed, Claimed::Full, "{number}"),
        }
        store.memory.unhook()
    });
    let calls = calls.collect();
    store.give_back_room().unwrap();
    store.check(&host);
    calls
}

#[test]
fn an_operation_takes_no_more_calls_in_a_full_table_than_in_an_empty_one() {
    /// As few bytes as the entries take alone, so that both end at once, and bytes first for any response.
    const TIGHT: SharedDataConfig = SharedDataConfig { max_entries: 2000, max_bytes: 2000 * ENTRY_BYTES, ..ROOMY };
    /// The bytes end long before the entries, as no configuration may have it any more.
    const SHORT: SharedDataConfig = SharedDataConfig { max_entries: 20_000, ..TIGHT };
    const LONG: SharedDataConfig = SharedDataConfig { max_bytes: 1 << 30, ..TIGHT };
    const YOUNG: Duration = Duration::from_hours(1);
    let rejects = |limits| SharedDataConfig { on_full: OnFull::Reject, ..limits };
    let keeps = |limits| SharedDataConfig { keep_at_least: YOUNG, ..limits };
    let seldom = |number: u32| number.is_multiple_of(50).then_some(500);
    let loads = [
        Load { name: "entries end first", limits: LONG, ends: |_| Some(500), mean: FEW },
        Load { name: "bytes end first", limits: TIGHT, ends: |_| Some(500), mean: FEW },
        Load { name: "bytes end first, large responses", limits: TIGHT, ends: |_| Some(20_000), mean: SEARCH },
        Load { name: "bytes end long before", limits: SHORT, ends: |_| Some(500), mean: SEARCH },
        Load { name: "tombstones only", limits: TIGHT, ends: |_| None, mean: FEW },
        Load { name: "tombstones only, bytes end long before", limits: SHORT, ends: |_| None, mean: SEARCH },
        Load { name: "few responses among tombstones", limits: TIGHT, ends: seldom, mean: FEW },
        Load { name: "few responses, bytes end long before", limits: SHORT, ends: seldom, mean: SEARCH },
        Load { name: "all too young", limits: keeps(LONG), ends: |_| Some(500), mean: SEARCH },
        Load { name: "all too young, for want of bytes", limits: keeps(TIGHT), ends: |_| Some(500), mean: SEARCH },
        Load { name: "few responses, too young", limits: keeps(TIGHT), ends: seldom, mean: SEARCH },
        Load { name: "rejects, entries", limits: rejects(LONG), ends: |_| Some(500), mean: SEARCH },
        Load { name: "rejects, bytes", limits: rejects(TIGHT), ends: |_| Some(500), mean: SEARCH },
        Load { name: "rejects, tombstones", limits: rejects(TIGHT), ends: |_| None, mean: SEARCH },
    ];
    for load in &loads {
        let calls = calls(load, 3 * TIGHT.max_entries);
        let (early, late) = (&calls[..500], &calls[2 * TIGHT.max_entries as usize..]);
        let [(early_mean, early_most), (late_mean, late_most)] = [early, late].map(|calls| {
            let most = calls.iter().copied().max().unwrap_or_default();
            (calls.iter().sum::<usize>() / calls.len(), most)
        });
        let figures = format!(
            "{}: {early_mean} calls on average and {early_most} at most early, {late_mean} and {late_most} late",
            load.name
        );
        println!("{figures}");
        assert!(early_most <= MOST && late_most <= MOST, "{figures}");
        assert!(early_mean <= FEW && late_mean <= load.mean, "{figures}");
    }
}
