//! What is sent, and what is made of every reply; the rules themselves are held against servers in `tests/dynamodb_store.rs`.

use proptest::prelude::*;
use serde_json::json;

use super::{clock::seconds_of, *};
use crate::store::{Claimed, Renewed, Settled, base64, calls::*, inquiry::Progress};

fn store() -> DynamoDbStore {
    DynamoDbStore::new(DynamoDbConfig::new("aws".to_owned(), "idemgate".to_owned()))
}

fn asked(call: &Call) -> Inquiry {
    let mut inquiry = store().inquire(call, NOW).expect("a call that can be made");
    inquiry.ask(NOW);
    inquiry
}

fn reply(status: u16, body: &str) -> Heard<'_> {
    Heard::Reply { status, body: body.as_bytes(), ahead: Some(0) }
}

fn error(name: &str, message: &str) -> String {
    json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": message}).to_string()
}

#[test]
fn each_failure_has_its_kind_and_is_asked_again_exactly_if_dynamodb_may_have_done_it() {
    use DynamoDbError as E;

    const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
    let local = |status, text: &str| (status, format!("{RESET}{text}"));
    let service = |status, name, message| (status, error(name, message));
    for ((status, body), error, is_doubtful) in [
        (local(503, "remote connection failure"), E::Unreachable, false),
        (local(503, "connection timeout"), E::Unreachable, false),
        ((503, "no healthy upstream".to_owned()), E::Unreachable, false),
        (local(503, "overflow"), E::Rejected, false),
        (local(503, "connection termination"), E::Reset, true),
        ((504, "upstream request timeout".to_owned()), E::TimedOut, true),
        ((413, "Payload Too Large".to_owned()), E::TooLarge, false),
        ((502, "<html>".to_owned()), E::Malformed, true),
        ((200, String::new()), E::Malformed, true),
        ((200, "<html>".to_owned()), E::Malformed, true),
        ((200, "{\"Item\": {}}".to_owned()), E::Malformed, true),
        ((200, "{\"ok\": true}".to_owned()), E::Malformed, true),
        ((200, "[]".to_owned()), E::Malformed, true),
        ((200, "{".to_owned()), E::Malformed, true),
        ((400, "{}".to_owned()), E::Malformed, true),
        ((0, String::new()), E::Malformed, true),
        (service(400, "AccessDeniedException", ""), E::Denied, false),
        (service(400, "MissingAuthenticationTokenException", ""), E::Unsigned, false),
        (service(403, "MissingAuthenticationToken", ""), E::Unsigned, false),
        (service(400, "InvalidSignatureException", "Signature expired"), E::Signature, false),
        (service(400, "IncompleteSignatureException", ""), E::Signature, false),
        (service(400, "ExpiredTokenException", ""), E::Signature, false),
        (service(400, "UnrecognizedClientException", ""), E::Signature, false),
        (service(400, "ResourceNotFoundException", ""), E::NoTable, false),
        (service(400, "ValidationException", "The provided key element does not match the schema"), E::WrongKey, false),
        (service(400, "ValidationException", "Item size has exceeded the maximum allowed size"), E::TooLarge, false),
        (service(400, "ValidationException", "Invalid expression"), E::Request, false),
        (service(400, "ItemCollectionSizeLimitExceededException", ""), E::WrongKey, false),
        (service(413, "RequestEntityTooLargeException", ""), E::TooLarge, false),
        (service(400, "SerializationException", ""), E::Request, false),
        (service(500, "InternalServerError", ""), E::Internal, true),
        (service(500, "InternalFailure", ""), E::Internal, true),
        (service(503, "ServiceUnavailable", ""), E::Internal, true),
        (service(400, "RequestAbortedException", ""), E::Internal, true),
        (service(400, "SomethingNewException", ""), E::Internal, true),
    ] {
        let told = asked(&claim()).hear(reply(status, &body), NOW);
        let error = StoreError::DynamoDb(error);
        let expected = if is_doubtful {
            Progress::Again(error)
        } else {
            Progress::Answered(Answer::Claimed(Claimed::Failed(error)))
        };
        assert_eq!(told, expected, "{status} {body}");
        assert!(StoreError::KINDS.contains(&error.kind()));
    }
    let silent = |heard| asked(&claim()).hear(heard, NOW);
    let failed = Claimed::Failed(StoreError::DynamoDb(E::Rejected));
    assert_eq!(silent(Heard::NotMade), Progress::Answered(Answer::Claimed(failed)));
    assert_eq!(silent(Heard::Nothing), Progress::Again(StoreError::DynamoDb(E::Reset)));
}

#[test]
fn what_is_throttled_is_asked_again_after_a_rest_and_within_its_time() {
    for (name, error) in [
        ("ProvisionedThroughputExceededException", DynamoDbError::Throttled),
        ("ThrottlingException", DynamoDbError::Throttled),
        ("RequestLimitExceeded", DynamoDbError::Throttled),
        ("TransactionConflictException", DynamoDbError::Conflict),
        ("ReplicatedWriteConflictException", DynamoDbError::Conflict),
    ] {
        let (body, error) = (self::error(name, ""), StoreError::DynamoDb(error));
        let mut inquiry = asked(&claim());
        assert_eq!(inquiry.hear(reply(400, &body), NOW), Progress::Later(error), "{name}");
        assert!(!inquiry.is_due(NOW));
        let later = NOW.after(Duration::from_millis(50));
        assert!(inquiry.is_due(later));
        inquiry.ask(later);
        assert_eq!(inquiry.hear(reply(400, &body), later), Progress::Later(error));
        let late = NOW.after(store().timeout());
        inquiry.ask(late);
        let failed = Progress::Answered(Answer::Claimed(Claimed::Failed(error)));
        assert_eq!(inquiry.hear(reply(400, &body), late), failed, "its time is over, and nothing was done");
        assert_eq!(inquiry.give_up(), Answer::Claimed(Claimed::Failed(error)));

        let mut settling = asked(&completed());
        assert_eq!(settling.hear(reply(400, &body), NOW), Progress::Later(error));
        let renewed = asked(&renew()).hear(reply(400, &body), NOW);
        assert_eq!(renewed, Progress::Answered(Answer::Renewed(Renewed::Failed(error))));
    }
}

#[test]
fn a_doubt_is_not_forgotten_over_being_throttled() {
    let mut inquiry = asked(&claim());
    inquiry.hear(Heard::Nothing, NOW);
    inquiry.ask(NOW);
    let body = error("ThrottlingException", "");
    assert!(matches!(inquiry.hear(reply(400, &body), NOW), Progress::Later(_)));
    let late = NOW.after(store().timeout());
    inquiry.ask(late);
    assert!(matches!(inquiry.hear(reply(400, &body), late), Progress::Answered(Answer::Claimed(Claimed::InDoubt(_)))));
}

#[test]
fn a_claim_that_was_granted_by_a_wrong_clock_and_cannot_be_set_right_is_given_back() {
    let mut inquiry = asked(&claim());
    let heard = Heard::Reply { status: 200, body: b"{}", ahead: Some(60_000) };
    assert_eq!(inquiry.hear(heard, NOW), Progress::Anew);
    assert!(!inquiry.is_new_claim(), "it may have been granted");
    inquiry.ask(NOW);
    let denied = error("AccessDeniedException", "");
    let told = inquiry.hear(reply(400, &denied), NOW);
    assert!(matches!(told, Progress::Answered(Answer::Claimed(Claimed::InDoubt(_)))), "{told:?}");
}

#[test]
fn a_clock_that_is_different_each_time_comes_to_an_end() {
    for call in [claim(), renew(), completed()] {
        let mut inquiry = asked(&call);
        let ends = (1..10_i64).find(|round| {
            let heard = Heard::Reply { status: 200, body: b"{}", ahead: Some(round * 60_000) };
            let told = inquiry.hear(heard, NOW);
            inquiry.ask(NOW);
            told != Progress::Anew
        });
        assert!(ends.is_some(), "{call:?}");
    }
}

#[test]
fn a_date_says_by_how_much_its_clock_is_ahead() {
    for (date, millis) in [
        ("Tue, 14 Nov 2023 22:13:20 GMT", Some(0)),
        ("Tue, 14 Nov 2023 22:13:21 GMT", Some(1000)),
        ("Tue, 14 Nov 2023 22:13:00 GMT", Some(-20_000)),
        ("yesterday", None),
        ("", None),
    ] {
        assert_eq!(ahead(date.as_bytes(), NOW), millis, "{date}");
    }
    assert_eq!(ahead(b"\xff", NOW), None);
}

#[test]
fn each_call_names_its_target_and_debug_shows_no_response() {
    for (call, target) in [
        (claim(), "DynamoDB_20120810.PutItem"),
        (renew(), "DynamoDB_20120810.UpdateItem"),
        (completed(), "DynamoDB_20120810.UpdateItem"),
    ] {
        let store = store();
        let mut inquiry = store.inquire(&call, NOW).unwrap();
        let (fields, body) = store.call(inquiry.ask(NOW).0);
        assert!(fields.contains(&("x-amz-target", target)) && fields.contains(&(":method", "POST")));
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["TableName"], "idemgate");
        assert!(!format!("{inquiry:?}").contains("TableName"));
    }
}

proptest! {
    #[test]
    fn dates_are_read_as_the_crate_reads_them(seconds in 0_u64..7_258_118_400) {
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
        prop_assert_eq!(seconds_of(&date), i64::try_from(seconds).ok());
    }

    #[test]
    fn any_text_is_a_date_or_not(date in ".{0,40}|[A-Z][a-z]{2}, [0-9]{0,3} [A-Z][a-z]{2} [0-9]{0,20} [0-9:]{0,9} GMT") {
        let _ = ahead(date.as_bytes(), NOW);
    }
}

/// Items as they are, but for one attribute.
fn items() -> impl Strategy<Value = serde_json::Value> {
    let attribute = prop_oneof![
        "[a-z]{0,3}".prop_map(|text| json!({"S": text})),
        any::<u64>().prop_map(|number| json!({"N": number.to_string()})),
        "[0-9.eE+-]{0,8}".prop_map(|number| json!({"N": number})),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| json!({"B": base64::encode(&bytes)})),
        Just(json!({"BOOL": true})),
        Just(json!(null)),
    ];
    prop::collection::btree_map("[ksoflebx]", attribute, 0..8).prop_map(|item| json!(item))
}

proptest! {
    #[test]
    fn whatever_answers_nothing_but_a_receipt_grants_and_nothing_but_a_record_replays(
        status in prop_oneof![1 => Just(200_u16), 3 => Just(400), 1 => any::<u16>()],
        body in prop_oneof![
            "[{}\":,a-zA-Z0-9 ]{0,60}",
            items().prop_map(|item| json!({"Item": item}).to_string()),
            items().prop_map(|item| {
                json!({"__type": "x#ConditionalCheckFailedException", "Item": item}).to_string()
            }),
        ],
        ahead in prop_oneof![Just(None), any::<i64>().prop_map(Some)],
    ) {
        let heard = Heard::Reply { status, body: body.as_bytes(), ahead };
        match asked(&claim()).hear(heard, NOW) {
            Progress::Answered(Answer::Claimed(Claimed::Granted)) => {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert_eq!((status, body), (200, json!({})));
            }
            Progress::Answered(Answer::Claimed(claimed)) => {
                prop_assert!(matches!(claimed, Claimed::Failed(_)), "{:?}", claimed);
            }
            _ => {}
        }
        if let Progress::Answered(Answer::Settled(settlement)) = asked(&completed()).hear(heard, NOW)
            && settlement.settled == Settled::Completed
        {
            prop_assert_eq!(status, 200);
        }
    }

    #[test]
    fn any_bytes_are_read_as_a_request_or_not(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Some(request) = Request::read(&bytes) {
            let _ = (request.owner(), request.written_at(NOW));
        }
        let _ = store().call(&bytes);
    }
}
