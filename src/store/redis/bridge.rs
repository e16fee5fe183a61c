//! One call over pooled connections: how many commands the request has, and when their replies are all there.
//!
//! Envoy's TCP upstream closes its half of a connection where the request ends, and `redis_proxy` and Redis drop a
//! client that has done so. So the bridge keeps the end of the request back, and has to find the end of the answer by
//! itself: it is where as many values have come as commands were sent. This is the part of it that knows Redis and no
//! proxy.

use std::rc::Rc;

use super::{
    passing::{Begun, Passing},
    resp::{RespError, ValueCounter},
};

/// The request and the reply of one call, as they come.
#[derive(Debug)]
pub struct Conversation {
    passing: Rc<Passing>,
    begun: Begun,
    commands: ValueCounter,
    /// The beginning of what the counter of commands waits for the rest of.
    unread: Vec<u8>,
    is_asked: bool,
    values: ValueCounter,
    reply: Vec<u8>,
    /// How much of the reply is counted.
    counted: usize,
}

/// Why the caller gets no reply of Redis. `Display` is what it gets instead, as text.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The last bytes came together with the end, which could not be kept back without them.
    #[error(
        "idemgate's redis_bridge cannot keep back the end of a request that comes together with its last bytes: call \
         the bridge over HTTP/1.1"
    )]
    EndWithData,
    /// The request has come over a socket.
    #[error(
        "idemgate's redis_bridge takes nothing from a socket: lead to it by an internal listener alone, as in \
         examples/redis-pooled/envoy.yaml"
    )]
    FromSocket,
    /// It is no command of the filter's, or not about its records.
    #[error(
        "idemgate's redis_bridge passes no commands on but those of a filter of its own release, about keys with its own \
         prefix, which is \"idemgate:\" unless {{\"role\": \"redis_bridge\", \"prefix\": …}} says otherwise"
    )]
    NotOurs,
    /// The connection would be in that database for everybody else who shares it, too.
    #[error(
        "idemgate's redis_bridge passes no SELECT on, because pooled connections are shared: leave \
         store.redis.database at 0, and tell records apart by store.redis.prefix"
    )]
    ChoosesDatabase,
    /// What was sent is not commands.
    #[error(
        "idemgate's redis_bridge takes a POST whose body is one or more Redis commands, each an array of bulk strings"
    )]
    NotCommands,
    /// What came back is not RESP.
    #[error("idemgate's redis_bridge got an answer that is not RESP: does its route lead to Redis or redis_proxy?")]
    NotResp,
    /// The reply is larger than Envoy's answer to a call can be.
    #[error("idemgate's redis_bridge got a reply of more than 32 MiB")]
    TooLarge,
    /// There were more replies than commands.
    #[error("idemgate's redis_bridge got more replies than it had sent commands")]
    TooMany,
}

impl Refusal {
    /// The status of the answer that says so.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::ChoosesDatabase | Self::EndWithData | Self::NotCommands => 400,
            Self::FromSocket | Self::NotOurs => 403,
            Self::NotResp | Self::TooLarge | Self::TooMany => 502,
        }
    }
}

impl Conversation {
    /// Nothing has been said.
    #[must_use]
    pub fn new(passing: Rc<Passing>) -> Self {
        Self {
            passing,
            begun: Begun::default(),
            commands: ValueCounter::of_commands(),
            unread: Vec::new(),
            is_asked: false,
            values: ValueCounter::of_values(),
            reply: Vec::new(),
            counted: 0,
        }
    }

    /// More of the request, which may be passed on.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotCommands`], [`Refusal::NotOurs`], [`Refusal::ChoosesDatabase`]
    pub fn ask(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.unread.extend_from_slice(bytes);
        let done = self.commands.advance(&self.unread).map_err(|_| Refusal::NotCommands)?;
        // What was passed on of a word before all of it had come is not carried out without the rest.
        self.passing.check(&mut self.begun, self.unread.get(..done).unwrap_or_default())?;
        self.unread.drain(..done);
        Ok(())
    }

    /// The end of the request, which is not to be passed on. The whole reply, if it was faster.
    ///
    /// # Errors
    ///
    /// [`Refusal`]
    pub fn end_asking(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        if !self.unread.is_empty() || !self.commands.is_between_values() || self.commands.count() == 0 {
            return Err(Refusal::NotCommands);
        }
        self.is_asked = true;
        self.whole_reply()
    }

    /// More of the reply. All of it, if this was the last piece.
    ///
    /// # Errors
    ///
    /// [`Refusal`]
    pub fn answer(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        if bytes.len() > LARGEST_REPLY.saturating_sub(self.reply.len()) {
            return Err(Refusal::TooLarge);
        }
        self.reply.extend_from_slice(bytes);
        let uncounted = self.reply.get(self.counted..).unwrap_or_default();
        self.counted += self.values.advance(uncounted).map_err(|_: RespError| Refusal::NotResp)?;
        self.whole_reply()
    }

    /// Redis has ended the connection: what there is of its reply.
    pub fn end_answering(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply)
    }

    /// Whether all was asked, and something is still to be answered.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.is_asked
    }

    fn whole_reply(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        if !self.is_asked || self.values.count() < self.commands.count() {
            return Ok(None);
        }
        let is_whole = self.values.count() == self.commands.count()
            && self.counted == self.reply.len()
            && self.values.is_between_values();
        if is_whole { Ok(Some(self.end_answering())) } else { Err(Refusal::TooMany) }
    }
}

/// What Envoy hands over as the answer to a call (its async client's default).
const LARGEST_REPLY: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::redis::resp::push_command;

    #[test]
    fn a_reply_is_whole_when_each_command_has_its_value() {
        let mut conversation = asked(2);
        assert_eq!(conversation.answer(b"+OK\r\n$5\r\nab"), Ok(None));
        assert_eq!(conversation.answer(b"c\r\n\r"), Ok(None));
        assert_eq!(conversation.answer(b"\n"), Ok(Some(b"+OK\r\n$5\r\nabc\r\n\r\n".to_vec())));
    }

    #[test]
    fn an_array_is_one_value() {
        let mut conversation = asked(1);
        assert_eq!(conversation.answer(b"*2\r\n:1\r\n"), Ok(None));
        assert!(conversation.answer(b"*0\r\n").unwrap().is_some());
    }

    #[test]
    fn a_reply_that_is_faster_than_the_end_of_its_request_waits_for_it() {
        let mut conversation = conversation();
        conversation.ask(b"*1\r\n$4\r\nINFO\r\n").unwrap();
        assert_eq!(conversation.answer(b"+PONG\r\n"), Ok(None));
        assert_eq!(conversation.end_asking(), Ok(Some(b"+PONG\r\n".to_vec())));
    }

    #[test]
    fn a_request_of_anything_but_whole_commands_is_refused() {
        for request in [&b""[..], b"*1\r\n$4\r\nINF", b"*1\r\n", b"*1\r\n$4\r\nINFO\r\n*"] {
            let mut conversation = conversation();
            assert_eq!(conversation.ask(request), Ok(()), "{}", request.escape_ascii());
            assert_eq!(conversation.end_asking(), Err(Refusal::NotCommands), "{}", request.escape_ascii());
        }
        for request in [&b"P"[..], b"{\"json\": true}", b"*0\r\n", b"*1\r\n:1\r\n", b"*1\r\n$4\r\nINFOINFO\r\n"] {
            assert_eq!(conversation().ask(request), Err(Refusal::NotCommands), "{}", request.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_the_filters_is_refused_before_it_is_whole_in_whatever_pieces_it_comes() {
        let mut request = Vec::new();
        push_command(&mut request, &[b"AUTH", b"secret"]);
        push_command(&mut request, &[b"SET", b"idemgate:x", b"forged"]);
        for size in 1..request.len() {
            let mut conversation = conversation();
            let refused = request.chunks(size).position(|piece| conversation.ask(piece).is_err());
            let passed = refused.map_or(request.len(), |pieces| pieces * size);
            assert!(passed < request.len() - b"$6\r\nforged\r\n".len(), "{passed} bytes passed in pieces of {size}");
        }
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        for reply in [&b"+OK\r\n:1\r\n"[..], b"+OK\r\n:", b"+OK\r\n*1\r\n"] {
            assert_eq!(asked(1).answer(reply), Err(Refusal::TooMany), "{}", reply.escape_ascii());
        }
    }

    #[test]
    fn an_answer_that_is_not_resp_is_refused_at_once() {
        assert_eq!(asked(1).answer(b"HTTP/1.1 400 Bad Request\r\n"), Err(Refusal::NotResp));
        assert_eq!(conversation().answer(b"\x15\x03"), Err(Refusal::NotResp));
    }

    #[test]
    fn what_came_of_a_reply_that_ends_early_is_handed_over() {
        let mut conversation = asked(2);
        conversation.answer(b"+OK\r\n$100\r\nabc").unwrap();
        assert_eq!(conversation.end_answering(), b"+OK\r\n$100\r\nabc");
    }

    #[test]
    fn a_reply_has_a_largest_size() {
        let mut conversation = asked(1);
        assert_eq!(conversation.answer(b"$40000000\r\n"), Ok(None));
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..31 {
            assert_eq!(conversation.answer(&piece), Ok(None));
        }
        assert_eq!(conversation.answer(&piece), Err(Refusal::TooLarge));
    }

    proptest! {
        #[test]
        fn replies_are_whole_at_their_last_byte_and_not_before(
            lengths in prop::collection::vec(prop::option::of(0_usize..50), 1..5),
            pieces in prop::collection::vec(1_usize..30, 1..30),
        ) {
            let mut reply = Vec::new();
            for length in &lengths {
                match length {
                    Some(length) => reply.extend_from_slice(format!("${length}\r\n{}\r\n", "\n".repeat(*length)).as_bytes()),
                    None => reply.extend_from_slice(b"$-1\r\n"),
                }
            }
            let mut conversation = asked(lengths.len());
            let mut rest = reply.as_slice();
            for size in pieces.into_iter().cycle() {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                rest = behind;
                let answered = conversation.answer(piece).unwrap();
                if rest.is_empty() {
                    prop_assert_eq!(answered, Some(reply));
                    break;
                }
                prop_assert_eq!(answered, None);
            }
        }

        #[test]
        fn any_bytes_are_answered_with_themselves_or_refused(
            request in prop::collection::vec(prop::sample::select(b"*$1\r\nx".as_slice()), 0..30),
            reply in prop::collection::vec(prop::sample::select(b"+-:$*1\r\nx".as_slice()), 0..30),
        ) {
            let mut conversation = conversation();
            if conversation.ask(&request).and_then(|()| conversation.end_asking()).is_err() {
                return Ok(());
            }
            match conversation.answer(&reply) {
                Ok(Some(answer)) => prop_assert_eq!(answer, reply),
                Ok(None) => prop_assert_eq!(conversation.end_answering(), reply),
                Err(refusal) => prop_assert_eq!(refusal.status(), 502),
            }
        }
    }

    fn conversation() -> Conversation {
        Conversation::new(Rc::new(Passing::new("idemgate:".to_owned())))
    }

    /// The conversation after this number of commands was sent.
    fn asked(commands: usize) -> Conversation {
        let mut conversation = conversation();
        for number in 0..commands {
            let mut command = Vec::new();
            push_command(&mut command, &[b"AUTH", number.to_string().as_bytes()]);
            // In two pieces, as pieces fall where they like.
            let (head, tail) = command.split_at(7 + number);
            conversation.ask(head).unwrap();
            conversation.ask(tail).unwrap();
        }
        assert_eq!(conversation.end_asking(), Ok(None));
        conversation
    }
}
