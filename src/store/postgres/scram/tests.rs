//! Against the RFC's own example, and against a client that others have written.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;

// RFC 7677, section 3.
const PASSWORD: &str = "pencil";
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn credentials(password: &str) -> Arc<Credentials> {
    Arc::new(Credentials::new(password.to_owned()))
}

fn begun(credentials: &Arc<Credentials>, user: &str, nonce: &str) -> Scram {
    Scram {
        credentials: Arc::clone(credentials),
        said: format!("n={user},r={nonce}"),
        nonce: nonce.to_owned(),
        expected: None,
    }
}

fn proven() -> Scram {
    let mut scram = begun(&credentials(PASSWORD), "user", NONCE);
    assert_eq!(scram.prove(SERVER_FIRST.as_bytes()), Ok(CLIENT_FINAL.to_owned()));
    scram
}

#[test]
fn the_example_of_the_rfc_comes_out() {
    assert_eq!(proven().verify(SERVER_FINAL.as_bytes()), Ok(()));
}

#[test]
fn a_server_that_has_not_proven_itself_is_none() {
    let changed = SERVER_FINAL.replace("v=6r", "v=7r");
    for says in [changed.as_str(), "v=", "", "e=invalid-proof", &format!("{SERVER_FINAL} "), "v=6rriTRBi23WpRR/wtup+"] {
        assert_eq!(proven().verify(says.as_bytes()), Err(ScramError::Impostor), "{says}");
    }
    let mut scram = begun(&credentials(PASSWORD), "user", NONCE);
    assert_eq!(scram.verify(SERVER_FINAL.as_bytes()), Err(ScramError::Impostor), "before it was asked to");
    let mut scram = proven();
    assert_eq!(scram.verify(SERVER_FINAL.as_bytes()), Ok(()));
    assert_eq!(scram.verify(SERVER_FINAL.as_bytes()), Err(ScramError::Impostor), "once more");
}

#[test]
fn what_a_server_may_not_say_is_refused() {
    for (says, error) in [
        (SERVER_FIRST.replace(NONCE, "another"), ScramError::Impostor),
        // It has to add a part of its own.
        (format!("r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), ScramError::Impostor),
        (SERVER_FIRST.replace("==", "="), ScramError::Malformed),
        (SERVER_FIRST.replace("i=4096", "i=0"), ScramError::Malformed),
        (SERVER_FIRST.replace("i=4096", "i=1000001"), ScramError::Malformed),
        (SERVER_FIRST.replace("i=4096", "i=-1"), ScramError::Malformed),
        (SERVER_FIRST.replace(",i=4096", ""), ScramError::Malformed),
        (format!("m=more,{SERVER_FIRST}"), ScramError::Malformed),
        (String::new(), ScramError::Malformed),
    ] {
        let mut scram = begun(&credentials(PASSWORD), "user", NONCE);
        assert_eq!(scram.prove(says.as_bytes()), Err(error), "{says}");
    }
}

#[test]
fn keys_are_derived_once_for_a_salt_and_a_number_of_rounds() {
    let credentials = credentials(PASSWORD);
    let first = credentials.salted(b"salt", 3);
    let kept = |credentials: &Credentials| {
        let derived = credentials.derived.lock().unwrap();
        derived.as_ref().map(|derived| (derived.salt.clone(), derived.rounds))
    };
    assert_eq!(kept(&credentials), Some((b"salt".to_vec(), 3)));
    // What is kept is used: nobody else would say this.
    credentials.derived.lock().unwrap().as_mut().unwrap().salted = [7; 32];
    assert_eq!(credentials.salted(b"salt", 3), [7; 32]);
    assert_ne!(credentials.salted(b"salt", 4), [7; 32]);
    assert_eq!(kept(&credentials), Some((b"salt".to_vec(), 4)));
    assert_eq!(credentials.salted(b"salt", 3), first);
}

#[test]
fn each_login_has_a_nonce_of_its_own_and_no_password_is_shown() {
    let credentials = credentials("s3cret");
    let scram = Scram::new(Arc::clone(&credentials), &[1; 18]);
    assert_eq!(scram.first(), "n,,n=,r=AQEBAQEBAQEBAQEBAQEBAQEB");
    assert_ne!(Scram::new(Arc::clone(&credentials), &[2; 18]).first(), scram.first());
    let shown = format!("{credentials:?} {scram:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn base64_is_written_and_read_as_others_do() {
    for (bytes, text) in [
        (b"".as_slice(), ""),
        (b"f", "Zg=="),
        (b"fo", "Zm8="),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg=="),
        (b"\xff\xef\xbe", "/+++"),
    ] {
        assert_eq!(base64::encode(bytes), text);
        assert_eq!(base64::decode(text).as_deref(), Some(bytes));
    }
    for text in ["Zg", "Zg=", "Zh==", "Z===", "====", "Zm9v=", "Z g=", "Zg==Zg==", "é==="] {
        assert_eq!(base64::decode(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn both_sides_say_what_others_say(
        password in "[ -~]{1,100}",
        salt in prop::collection::vec(any::<u8>(), 1..70),
        rounds in 1_u32..40,
    ) {
        let mut other = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let first = String::from_utf8(other.message().to_vec()).unwrap();
        let nonce = first.strip_prefix("n,,n=,r=").unwrap();
        let mut scram = begun(&credentials(&password), "", nonce);
        prop_assert_eq!(scram.first(), first.clone());
        let says = format!("r={nonce}more,s={},i={rounds}", base64::encode(&salt));
        other.update(says.as_bytes()).unwrap();
        let proof = scram.prove(says.as_bytes()).unwrap();
        prop_assert_eq!(proof.as_bytes(), other.message());
        let expected = format!("v={}", base64::encode(&scram.expected.unwrap()));
        prop_assert!(other.finish(expected.as_bytes()).is_ok());
        prop_assert_eq!(scram.verify(expected.as_bytes()), Ok(()));
    }

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,12}") {
        prop_assert_eq!(base64::decode(&base64::encode(&bytes)), Some(bytes));
        if let Some(bytes) = base64::decode(&text) {
            prop_assert_eq!(base64::encode(&bytes), text);
        }
    }
}
