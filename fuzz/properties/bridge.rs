//! The bridge's reading of a call: where the request and its reply end, however they are cut.

use std::rc::Rc;

use idemgate::store::redis::{
    Passing,
    bridge::{Conversation, Refusal},
    resp::decode_all,
};

use super::{Seed, input::Input};

/// A byte, a request that is so long, and a reply: what is answered is the whole reply, exactly when there are as many
/// values as commands.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let length = usize::from(input.byte());
    let (request, reply) = (input.take(length), input.rest());
    let whole = converse(&[request], &[reply]);
    let chunks = |bytes| <[u8]>::chunks(bytes, 5).collect::<Vec<_>>();
    match (&whole, converse(&[request], &chunks(reply))) {
        // What is wrong further on is not looked at once it is certain that there is too much.
        (Err(_), Err(refusal)) => assert!(!refusal.to_string().contains(char::is_control)),
        (whole, cut) => assert_eq!(*whole, cut),
    }
    let Ok(answer) = whole else { return };
    let commands = commands(request).expect("commands were asked");
    let values = decode_all(reply, commands);
    assert_eq!(answer.is_some(), values.is_ok(), "{commands} commands, {values:?}");
    assert!(answer.is_none_or(|answer| answer == reply), "another reply");
}

pub fn seeds() -> Vec<Seed> {
    let seed = |request: &str, reply: &str| [&[request.len() as u8], request.as_bytes(), reply.as_bytes()].concat();
    vec![
        ("eval", seed("*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n", "*3\r\n:1\r\n:2\r\n$1\r\nx\r\n")),
        ("line", seed("PING\r\n", "+PONG\r\n")),
        ("login", seed("*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n*1\r\n$4\r\nINFO\r\n", "+OK\r\n+PONG\r\n")),
        ("select", seed("*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", "+OK\r\n")),
        ("too_many", seed("*1\r\n$4\r\nINFO\r\n", "+PONG\r\n+PONG\r\n")),
    ]
}

/// What comes of these pieces of a request and of a reply; `None` if the reply is not whole.
fn converse(request: &[&[u8]], reply: &[&[u8]]) -> Result<Option<Vec<u8>>, Refusal> {
    let mut conversation = Conversation::new(Rc::new(Passing::new("idemgate:".to_owned())));
    request.iter().try_for_each(|piece| conversation.ask(piece))?;
    if let Some(early) = conversation.end_asking()? {
        panic!("{early:?} came before it was answered");
    }
    let mut answer = None;
    for piece in reply {
        if answer.is_some() {
            return Err(Refusal::TooMany);
        }
        answer = conversation.answer(piece)?;
    }
    Ok(answer)
}

/// How many commands a request consists of.
fn commands(request: &[u8]) -> Option<usize> {
    (1..=request.len()).find(|count| decode_all(request, *count).is_ok())
}
