//! The codec of everything that is stored.

use idemgate::{
    headers::Headers,
    record::{CodecError, FORMAT_VERSION, Mailbox, Owner, Phase, Record, StoredResponse, decode, encode},
    request::{Fingerprint, OperationId},
    time::Timestamp,
};

use super::{
    Seed,
    sealed::{sealed, unsealed},
};

const OPERATION: OperationId = OperationId::from_bytes([1; 32]);
const OWNER: Owner = Owner::new(7);

/// Bytes as they stand are read only if they are what would be written; and with a checksum that fits, whatever can be
/// read is written and read again as the same.
pub fn check(bytes: &[u8]) {
    match decode::<Record>(bytes) {
        Ok(record) => assert_eq!(encode(&record).as_deref(), Ok(bytes)),
        Err(CodecError::Version(version)) => assert_ne!(version, FORMAT_VERSION),
        Err(_) => {}
    }
    let sealed = sealed(bytes);
    if let Ok(record) = decode::<Record>(&sealed) {
        let written = encode(&record).expect("what was read can be written");
        assert_eq!(decode(&written), Ok(record));
        assert_eq!(decode::<Record>(&written[..written.len() - 1]), Err(CodecError::Damaged));
    }
    // A response has its body behind the checksum.
    let half = bytes.iter().position(|byte| *byte == b'|').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(half);
    let sealed = [super::sealed::sealed(head), body.to_vec()].concat();
    if let Ok(response) = StoredResponse::decode(&sealed, &OPERATION, OWNER) {
        assert_eq!(response.body, body);
        let written = response.encode(&OPERATION, OWNER).expect("what was read can be written");
        assert!(StoredResponse::decode(&written, &OPERATION, OWNER) == Ok(response), "it is read as another response");
        assert!(StoredResponse::decode(&written, &OperationId::from_bytes([2; 32]), OWNER).is_err(), "another's");
        assert!(StoredResponse::decode(&written, &OPERATION, Owner::new(8)).is_err(), "another's");
    }
}

pub fn seeds() -> Vec<Seed> {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let [lease_until, expires] = [30_000, 86_400_000].map(|more| Timestamp::from_millis(at.as_millis() + more));
    let record = |phase| {
        let record = Record { fingerprint: Fingerprint::from_bytes([9; 32]), owner: OWNER, phase };
        unsealed(&encode(&record).expect("a record")).to_vec()
    };
    let headers = Headers::from_iter([("content-type", "application/json"), ("etag", "\"1\"")]);
    let response = StoredResponse { status: 201, headers, body: b"|{\"id\":17}".to_vec() };
    let bytes = response.encode(&OPERATION, OWNER).expect("a response");
    let head = bytes.len() - response.body.len();
    vec![
        ("completed", record(Phase::Completed { status: 201, at, expires, size: 123 })),
        (
            "in_flight",
            record(Phase::InFlight { at, lease_until, expires, watchers: vec![Mailbox(3), Mailbox(70_000)] }),
        ),
        ("not_kept", record(Phase::NotKept { status: 418, at, expires })),
        ("response", [unsealed(&bytes[..head]), &response.body].concat()),
        ("unknown", record(Phase::Unknown { at, lease_until, expires })),
        ("whole", sealed(&record(Phase::Unknown { at, lease_until, expires }))),
    ]
}
