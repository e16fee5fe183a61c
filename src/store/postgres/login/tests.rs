//! Who is let in, and by whom.

use super::*;
use crate::store::postgres::speech::{self, authentication, error, message, parameter, ready, welcome};

fn login(password: Option<&str>) -> PostgresLogin {
    PostgresLogin::new(password.map(|password| Arc::new(Credentials::new(password.to_owned()))), 7)
}

/// What is sent until the server is heard out, or the login fails.
fn hear(login: &mut PostgresLogin, mut bytes: &[u8]) -> Result<(Vec<Vec<u8>>, bool), Unwelcome> {
    let mut said = Vec::new();
    loop {
        let (taken, step) = login.hear(bytes)?;
        bytes = &bytes[taken..];
        match step {
            LoginStep::Listen if taken == 0 => return Ok((said, false)),
            LoginStep::Listen => {}
            LoginStep::Say(bytes) => said.push(bytes),
            LoginStep::Welcome => return Ok((said, true)),
        }
    }
}

fn refused(error: PostgresError) -> Unwelcome {
    StoreError::from(error).into()
}

fn asks_for_proof() -> Vec<u8> {
    authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
}

/// A login that has been asked for its proof, and the server's part of the nonce.
fn asked_for_proof() -> (PostgresLogin, Vec<u8>) {
    let mut login = login(Some("secret"));
    let (said, _) = hear(&mut login, &asks_for_proof()).unwrap();
    let first = said[0].split(|byte| *byte == b',').next_back().unwrap();
    let says = [first, b"more,s=c2FsdA==,i=2"].concat();
    (login, authentication(11, &says))
}

#[test]
fn a_server_that_trusts_asks_for_nothing() {
    assert_eq!(hear(&mut login(None), &welcome()), Ok((vec![], true)));
    assert_eq!(hear(&mut login(Some("secret")), &welcome()), Ok((vec![], true)));
}

#[test]
fn however_the_bytes_are_cut_the_end_is_the_same() {
    let bytes = [speech::message(b'N', b"SNOTICE\0\0"), welcome()].concat();
    for length in 0..bytes.len() {
        let (mut login, mut taken) = (login(None), 0);
        let mut is_welcome = false;
        for end in [length, bytes.len()] {
            while let Ok((more, step)) = login.hear(&bytes[taken..end]) {
                taken += more;
                is_welcome = step == LoginStep::Welcome;
                if more == 0 || is_welcome {
                    break;
                }
            }
        }
        assert!(is_welcome && taken == bytes.len(), "cut at {length}");
    }
}

#[test]
fn a_password_is_sent_as_it_is_to_a_server_that_asks_for_that() {
    let mut login = login(Some("secret"));
    assert_eq!(hear(&mut login, &authentication(3, b"")), Ok((vec![message(b'p', b"secret\0")], false)));
    assert_eq!(hear(&mut login, &welcome()), Ok((vec![], true)));
}

#[test]
fn both_sides_prove_that_they_know_the_password() {
    let (mut login, continued) = asked_for_proof();
    let (said, _) = hear(&mut login, &continued).unwrap();
    assert!(said[0].starts_with(b"p") && said[0][5..].starts_with(b"c=biws,r="), "{said:?}");
    // That the server's proof is taken is shown with one that has the password (`scram`, and real servers).
    let forged = authentication(12, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(hear(&mut login, &forged), Err(refused(PostgresError::Impostor)));
}

#[test]
fn a_server_that_leaves_its_proof_out_is_an_impostor() {
    let (mut login, continued) = asked_for_proof();
    assert_eq!(hear(&mut login.clone(), &welcome()), Err(refused(PostgresError::Impostor)));
    hear(&mut login, &continued).unwrap();
    assert_eq!(hear(&mut login, &welcome()), Err(refused(PostgresError::Impostor)));
}

#[test]
fn without_a_password_none_is_given() {
    for asks in [authentication(3, b""), asks_for_proof()] {
        assert_eq!(hear(&mut login(None), &asks), Err(refused(PostgresError::PasswordMissing)));
    }
}

#[test]
fn what_a_password_would_be_weak_by_is_refused() {
    for asks in [authentication(5, b"salt"), authentication(7, b""), authentication(10, b"OAUTHBEARER\0\0")] {
        assert_eq!(hear(&mut login(Some("secret")), &asks), Err(refused(PostgresError::Method)));
    }
}

#[test]
fn a_standby_leads_to_another_server() {
    let says = [authentication(0, b""), parameter("in_hot_standby", "on")].concat();
    let elsewhere = Unwelcome { error: PostgresError::ReadOnly.into(), others_may_welcome: true };
    assert_eq!(hear(&mut login(None), &says), Err(elsewhere));
}

#[test]
fn an_error_refuses_at_any_moment() {
    for before in [vec![], authentication(0, b""), speech::message(b'N', b"SNOTICE\0\0")] {
        let says = [before, error("FATAL", "3D000")].concat();
        let expected = PostgresError::Authentication(super::super::SqlState(*b"3D000"));
        assert_eq!(hear(&mut login(None), &says), Err(refused(expected)));
    }
}

#[test]
fn what_is_no_login_is_none() {
    for says in [
        b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        b"-ERR unknown command\r\n".to_vec(),
        // Nobody has let it in.
        ready(),
        parameter("server_version", "15.18"),
        authentication(11, b"r=x"),
        authentication(12, b"v=x"),
        message(b'R', b"\0"),
        [authentication(0, b""), authentication(0, b"")].concat(),
    ] {
        let refused = hear(&mut login(Some("secret")), &says);
        assert!(refused.is_err(), "{says:?}");
    }
    let endless = message(b'S', &vec![b'x'; 1 << 20]);
    assert_eq!(hear(&mut login(None), &endless[..LONGEST + 1]), Err(refused(PostgresError::Malformed)));
}

#[test]
fn the_password_is_not_shown() {
    let (login, _) = asked_for_proof();
    assert!(!format!("{login:?}").contains("secret"));
}
