//! What the log says of a configuration that is put to work.

use std::time::Duration;

use crate::host::Host;

const FILTER: &str =
    r#"{"mode": "shadow", "routes": [{"match": {"path": "/payments"}, "policy": {"mode": "enforce"}}]}"#;
const ADMIN: &str = r#"{"role": "admin", "guard": "loopback"}"#;

/// The lines that say what is on, without the version.
fn told(host: &Host) -> Vec<String> {
    let start = concat!("idemgate ", env!("CARGO_PKG_VERSION"), " is on: ");
    let log = host.log();
    let lines = log.iter().filter_map(|line| Some((line.level, line.message.strip_prefix(start)?)));
    lines.inspect(|(level, _)| assert_eq!(*level, 2)).map(|(_, line)| line.to_owned()).collect()
}

#[test]
fn what_is_on_is_told_once_for_all_workers_and_again_after_a_change() {
    let host = Host::new();
    let _first = [(); 3].map(|()| host.worker(FILTER));
    let filter = "mode shadow, store shared_data, 1 route (1 enforce), callers by header authorization";
    assert_eq!(told(&host), [filter]);

    // An admin in the same VM is told of besides, whichever of the two each worker loads first.
    let _admins = [(); 3].map(|()| host.worker(ADMIN));
    let _second = [(); 3].map(|()| host.worker(FILTER));
    let admin = "role admin, guard loopback, store shared_data";
    assert_eq!(told(&host), [filter, admin]);

    let _changed = [(); 3].map(|()| host.worker("{}"));
    let changed = "mode enforce, store shared_data, no routes, callers by header authorization";
    assert_eq!(told(&host), [filter, admin, changed]);

    // What comes back later is a change, too.
    host.advance(Duration::from_secs(10));
    let _back = [(); 3].map(|()| host.worker(FILTER));
    assert_eq!(told(&host), [filter, admin, changed, filter]);
}

#[test]
fn a_configuration_that_is_refused_is_not_said_to_be_on() {
    let host = Host::new();
    assert!(host.try_worker(r#"{"mode": "on"}"#).is_err());
    assert_eq!(told(&host), <[String; 0]>::default());
}
