//! What is made of every reply, and when a call is asked again.

use proptest::prelude::*;

use super::*;
use crate::{
    config::RedisConfig,
    record::{Claim, Owner},
    request::Fingerprint,
    store::{
        Call, Ending,
        calls::*,
        redis::{
            RedisError, RedisStore,
            resp::{self, Value},
        },
        remote::RemoteStore as _,
    },
};

const PATIENCE: Duration = Duration::from_millis(500);
const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

fn inquiry_of(config: RedisConfig, call: &Call) -> Inquiry {
    RedisStore::new(config).inquire(call, NOW).expect("a call that can be made")
}

fn config() -> RedisConfig {
    RedisConfig { connections: 0, ..RedisConfig::new("redis".to_owned()) }
}

fn asked(call: &Call) -> Inquiry {
    let mut inquiry = inquiry_of(config(), call);
    inquiry.ask(NOW);
    inquiry
}

fn reply(body: &[u8]) -> Heard<'_> {
    Heard::Reply { status: 200, body, ahead: None }
}

fn says(status: u16, body: &str) -> Heard<'_> {
    Heard::Reply { status, body: body.as_bytes(), ahead: None }
}

#[test]
fn each_failure_has_its_kind_and_is_asked_again_exactly_if_redis_may_have_done_it() {
    let reset = |reason: &str| format!("{RESET}{reason}");
    let texts = [reset("remote connection failure"), reset("connection timeout"), reset("overflow"), reset("")];
    let [refused, too_late, overflow, broken] = texts.each_ref().map(String::as_str);
    for (heard, error, is_doubtful) in [
        (Heard::NotMade, RedisError::Rejected, false),
        (Heard::Nothing, RedisError::Reset, true),
        (says(503, refused), RedisError::Unreachable, false),
        (says(503, too_late), RedisError::Unreachable, false),
        (says(503, "no healthy upstream"), RedisError::Unreachable, false),
        (says(503, overflow), RedisError::Rejected, false),
        (says(503, broken), RedisError::Reset, true),
        (says(504, "upstream request timeout"), RedisError::TimedOut, true),
        (says(500, "Internal Server Error"), RedisError::Malformed, true),
        (says(0, ""), RedisError::Malformed, true),
        (reply(b""), RedisError::Cut, true),
        (reply(b"*3\r\n:1\r\n:2\r\n$100\r\nabc"), RedisError::Cut, true),
        (reply(b"HTTP/1.1 400 Bad Request\r\n"), RedisError::Malformed, true),
        (reply(b":1\r\n:1\r\n"), RedisError::Malformed, true),
        (reply(b":0\r\n"), RedisError::Malformed, true),
        (reply(b"+OK\r\n"), RedisError::Malformed, true),
        (reply(b"-upstream failure\r\n"), RedisError::Proxy, true),
        (reply(b"-no upstream host\r\n"), RedisError::Proxy, true),
        (reply(b"-NOAUTH Authentication required.\r\n"), RedisError::Authentication, false),
        (reply(b"-WRONGPASS invalid\r\n"), RedisError::Authentication, false),
        (reply(b"-NOPERM no\r\n"), RedisError::Authentication, false),
        (reply(b"-OOM command not allowed\r\n"), RedisError::OutOfMemory, false),
        (reply(b"-READONLY no\r\n"), RedisError::ReadOnly, false),
        (reply(b"-MISCONF no\r\n"), RedisError::ReadOnly, false),
        (reply(b"-NOREPLICAS no\r\n"), RedisError::ReadOnly, false),
        (reply(b"-LOADING wait\r\n"), RedisError::Loading, false),
        (reply(b"-CLUSTERDOWN wait\r\n"), RedisError::Loading, false),
        (reply(b"-MASTERDOWN wait\r\n"), RedisError::Loading, false),
        (reply(b"-TRYAGAIN wait\r\n"), RedisError::Loading, false),
        (reply(b"-BUSY wait\r\n"), RedisError::Loading, false),
        (reply(b"-MOVED 1 127.0.0.1:1\r\n"), RedisError::Moved, false),
        (reply(b"-ASK 1 127.0.0.1:1\r\n"), RedisError::Moved, false),
        (reply(b"-WRONGTYPE no\r\n"), RedisError::Foreign, false),
        (reply(b"-ERR unknown command\r\n"), RedisError::Script, false),
        (reply(b"-\r\n"), RedisError::Script, false),
        (reply(b"*3\r\n:1\r\n:1\r\n$5\r\nhello\r\n"), RedisError::Foreign, false),
    ] {
        let error = StoreError::Redis(error);
        let progress = asked(&claim()).hear(heard, NOW);
        if is_doubtful {
            assert_eq!(progress, Progress::Again(error), "{heard:?}");
        } else {
            assert_eq!(progress, Progress::Answered(Answer::Claimed(Claimed::Failed(error))), "{heard:?}");
        }
    }
}

#[test]
fn a_claim_that_meets_one_in_flight_learns_how_long_that_one_has_run_by_its_own_clock() {
    let fingerprint = Fingerprint::from_bytes([9; 32]);
    let owner = Owner::new(7);
    let Call::Claim(claimed) = claim() else { panic!("{:?}", claim()) };
    let mut first = inquiry_of(config(), &Call::Claim(Claim { owner, ..claimed }));
    let values = resp::decode_all(first.ask(NOW).0, 1).unwrap();
    let [Value::Array(Some(parts))] = &values[..] else { panic!("{values:?}") };
    let Some(Value::Bulk(Some(tail))) = parts.last() else { panic!("{parts:?}") };
    let head = [b"1i".as_slice(), &owner.to_bytes(), fingerprint.as_bytes(), b"1700000000000"].concat();
    let value = [head.as_slice(), tail].concat();
    let found = [format!("*3\r\n:9000\r\n:90000\r\n${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    for (later, age) in [(0, 0), (400, 400)].map(|(later, age)| (later, Duration::from_millis(age))) {
        let progress = asked(&claim()).hear(reply(&found), NOW.after(Duration::from_millis(later)));
        let claimed = Claimed::InFlight { age, lease_left: Duration::from_secs(9) };
        assert_eq!(progress, Progress::Answered(Answer::Claimed(claimed)));
    }
    // The other Envoy's clock is ahead.
    let progress = asked(&claim()).hear(reply(&found), NOW.before(Duration::from_secs(5)));
    let claimed = Claimed::InFlight { age: Duration::ZERO, lease_left: Duration::from_secs(9) };
    assert_eq!(progress, Progress::Answered(Answer::Claimed(claimed)));
}

#[test]
fn nothing_at_the_end_of_its_time_is_a_timeout_and_before_it_a_reset() {
    let heard_after = |time| asked(&claim()).hear(Heard::Nothing, NOW.after(time));
    assert_eq!(heard_after(PATIENCE / 2), Progress::Again(StoreError::Redis(RedisError::TimedOut)));
    assert_eq!(heard_after(PATIENCE / 4), Progress::Again(StoreError::Redis(RedisError::Reset)));
}

#[test]
fn a_claim_is_asked_three_times_at_most_and_within_its_time() {
    let mut inquiry = inquiry_of(config(), &claim());
    let (first, timeout) = inquiry.ask(NOW);
    let first = first.to_vec();
    assert_eq!(timeout, PATIENCE / 2);
    let late = NOW.after(PATIENCE / 2);
    assert!(matches!(inquiry.hear(Heard::Nothing, late), Progress::Again(_)));
    let (second, timeout) = inquiry.ask(late);
    assert_eq!((second, timeout), (first.as_slice(), PATIENCE / 2), "the same owner's");
    let doubt = |error| Progress::Answered(Answer::Claimed(Claimed::InDoubt(StoreError::Redis(error))));
    assert_eq!(inquiry.hear(Heard::Nothing, NOW.after(PATIENCE)), doubt(RedisError::TimedOut));

    let mut inquiry = inquiry_of(config(), &claim());
    for _ in 0..2 {
        inquiry.ask(NOW);
        assert!(matches!(inquiry.hear(Heard::Nothing, NOW), Progress::Again(_)));
    }
    let (_, timeout) = inquiry.ask(NOW);
    assert!(timeout <= PATIENCE);
    assert_eq!(inquiry.hear(Heard::Nothing, NOW), doubt(RedisError::Reset));
}

#[test]
fn a_doubt_is_not_forgotten_over_a_later_certainty() {
    let mut inquiry = asked(&claim());
    inquiry.hear(Heard::Nothing, NOW);
    inquiry.ask(NOW);
    let error = StoreError::Redis(RedisError::Rejected);
    assert_eq!(inquiry.hear(Heard::NotMade, NOW), Progress::Answered(Answer::Claimed(Claimed::InDoubt(error))));
}

#[test]
fn the_end_of_an_execution_is_tried_ever_more_rarely_as_long_as_it_would_be_kept() {
    let mut inquiry = inquiry_of(config(), &completed());
    let mut now = NOW;
    let mut rests = Vec::new();
    let mut delays = 0;
    let answer = loop {
        let (_, timeout) = inquiry.ask(now);
        // As long as somebody waits, no attempt takes longer than that.
        let expected = if delays == 0 { NOW.after(PATIENCE).since(now) } else { PATIENCE };
        assert_eq!(timeout, expected);
        assert!(!inquiry.is_due(now), "it is under way");
        match inquiry.hear(says(503, "no healthy upstream"), now) {
            Progress::Later(error) => assert_eq!(error, StoreError::Redis(RedisError::Unreachable)),
            Progress::Answered(answer) => break answer,
            other => panic!("{other:?}"),
        }
        let begun = now;
        while !inquiry.is_due(now) {
            now = now.after(Duration::from_millis(10));
            delays += usize::from(inquiry.becomes_delayed(now));
        }
        rests.push(now.since(begun).as_millis());
    };
    assert_eq!(rests[..6], [50, 100, 200, 400, 800, 1000]);
    let late = rests.iter().position(|rest| *rest != 1000 && *rest > 800).expect("longer rests");
    assert!(rests[5..late].iter().all(|rest| *rest == 1000));
    assert!(
        (29..=31).contains(&rests[..late].iter().map(|rest| rest / 1000).sum::<u128>()),
        "as long as the claim lives"
    );
    assert!(rests[late..].is_sorted() && rests[late] >= 7_500 && rests.last() == Some(&10_000), "{rests:?}");
    assert_eq!(answer, Answer::Settled(Settled::Failed(StoreError::Redis(RedisError::Unreachable)).into()));
    assert!(now >= NOW.after(TTL) && now <= NOW.after(TTL + Duration::from_secs(10)));
    assert_eq!(delays, 1, "said once");
}

/// When the end of an execution is given up that is told each second that it cannot be written.
fn given_up_after(call: &Call) -> Duration {
    let mut inquiry = inquiry_of(config(), call);
    (0..)
        .map(|seconds| NOW.after(Duration::from_secs(seconds)))
        .find_map(|now| {
            inquiry.ask(now);
            matches!(inquiry.hear(reply(b"-NOREPLICAS no\r\n"), now), Progress::Answered(_)).then(|| now.since(NOW))
        })
        .unwrap()
}

#[test]
fn what_is_late_may_be_asked_before_it_is_due_but_once_a_second() {
    let mut inquiry = asked(&completed());
    let now = NOW.after(2 * LEASE);
    inquiry.ask(now);
    assert!(inquiry.is_late(now) && !inquiry.has_rested(now), "it is under way");
    inquiry.hear(reply(b"-NOREPLICAS no\r\n"), now);
    assert!(!inquiry.has_rested(now.after(Duration::from_millis(999))));
    let rested = now.after(Duration::from_secs(1));
    assert!(inquiry.has_rested(rested) && !inquiry.is_due(rested));
    assert!(inquiry.is_due(now.after(Duration::from_secs(10))));
}

#[test]
fn an_unknown_outcome_is_recorded_for_as_long_as_the_claim_does_not_say_the_same() {
    assert_eq!(given_up_after(&settle(Ending::Unknown)), LEASE);
    for ending in [Ending::Released, Ending::NotKept(201)] {
        assert_eq!(given_up_after(&settle(ending)), TTL);
    }
}

/// The milliseconds for which the record is to be kept, as they are sent at `now`.
fn keep_sent(call: &Call, now: Timestamp) -> u64 {
    let mut inquiry = inquiry_of(config(), call);
    let values = resp::decode_all(inquiry.ask(now).0, 1).unwrap();
    let [Value::Array(Some(parts))] = &values[..] else { panic!("{values:?}") };
    let Some(Value::Bulk(Some(keep))) = parts.get(7) else { panic!("{parts:?}") };
    std::str::from_utf8(keep).unwrap().parse().unwrap()
}

#[test]
fn no_clock_of_a_worker_says_how_long_a_record_is_kept() {
    for ending in [completed(), settle(Ending::NotKept(503))] {
        for now in [NOW, NOW.after(LEASE), NOW.after(2 * TTL)] {
            assert_eq!(keep_sent(&ending, now), 600_000);
        }
    }
    // The mark of a release is of use for a lease.
    assert_eq!(keep_sent(&settle(Ending::Released), NOW.after(2 * LEASE)), 30_000);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_attempt_waiting() {
    let mut inquiry = asked(&completed());
    inquiry.hear(says(503, "no healthy upstream"), NOW);
    assert!(!inquiry.is_due(NOW));
    assert!(inquiry.is_due(Timestamp::from_millis(NOW.as_millis() - 3_600_000)));
}

#[test]
fn only_the_end_of_an_execution_is_ever_delayed_and_not_before_its_time() {
    let mut inquiry = asked(&completed());
    assert!(!inquiry.becomes_delayed(NOW.after(PATIENCE - Duration::from_millis(1))));
    assert!(inquiry.becomes_delayed(NOW.after(PATIENCE)));
    assert!(!inquiry.becomes_delayed(NOW.after(PATIENCE)));
    assert!(!asked(&claim()).becomes_delayed(NOW.after(LEASE)));
}

#[test]
fn a_renewal_is_asked_once() {
    let renew = Call::Renew { operation: OPERATION, owner: OWNER, lease: LEASE, ttl: LEASE };
    for (body, renewed) in [
        (&b":1\r\n"[..], Renewed::Extended),
        (b":0\r\n", Renewed::Fenced),
        (b":2\r\n", Renewed::Failed(StoreError::Redis(RedisError::Malformed))),
        (b"", Renewed::Failed(StoreError::Redis(RedisError::Cut))),
    ] {
        assert_eq!(asked(&renew).hear(reply(body), NOW), Progress::Answered(Answer::Renewed(renewed)));
    }
}

#[test]
fn what_ran_without_its_login_is_in_doubt_and_the_password_is_in_no_text() {
    let config = RedisConfig { password: Some("s3cret".to_owned()), database: 3, ..config() };
    let mut inquiry = inquiry_of(config.clone(), &claim());
    assert!(inquiry.ask(NOW).0.windows(6).any(|window| window == b"s3cret"));
    let error = StoreError::Redis(RedisError::Authentication);
    assert_eq!(inquiry.hear(reply(b"-ERR no password is set\r\n+OK\r\n:1\r\n"), NOW), Progress::Again(error));
    assert_eq!(
        inquiry.hear(reply(b"+OK\r\n+OK\r\n:1\r\n"), NOW),
        Progress::Answered(Answer::Claimed(Claimed::Granted))
    );
    for text in [format!("{:?}", RedisStore::new(config)), format!("{inquiry:?}")] {
        let bytes = format!("{:?}", b"s3cret");
        assert!(!text.contains("s3cret") && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_answers_nothing_but_a_one_grants_and_nothing_but_a_record_replays(
        status in prop_oneof![3 => Just(200_u16), 1 => any::<u16>()],
        body in prop_oneof![
            "[-+:$*0-9a-z\r\n]{0,40}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(|value| {
                [b"*3\r\n:5\r\n:9\r\n$", value.len().to_string().as_bytes(), b"\r\n1c", &value, b"\r\n"].concat()
            }),
        ],
    ) {
        let heard = Heard::Reply { status, body: &body, ahead: None };
        match asked(&claim()).hear(heard, NOW) {
            Progress::Answered(Answer::Claimed(Claimed::Granted)) => {
                prop_assert_eq!((status, body.as_slice()), (200, &b":1\r\n"[..]));
            }
            Progress::Answered(Answer::Claimed(claimed)) => {
                prop_assert!(matches!(claimed, Claimed::Failed(_)), "{:?}", claimed);
            }
            progress => prop_assert!(matches!(progress, Progress::Again(_)), "{:?}", progress),
        }
        match asked(&completed()).hear(heard, NOW) {
            Progress::Answered(answer) => {
                prop_assert!(status == 200 && (body == b":1\r\n" || body == b":0\r\n"), "{:?}", answer);
            }
            progress => prop_assert!(matches!(progress, Progress::Later(_)), "{:?}", progress),
        }
    }
}
