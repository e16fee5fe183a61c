//! One call over pooled connections: how many commands the request has, and when their replies are all there.
//!
//! Envoy's TCP upstream closes its half of a connection where the request ends, and `redis_proxy` and Redis drop a
//! client that has done so. So the bridge keeps the end of the request back, and has to find the end of the answer by
//! itself: it is where as many values have come as commands were sent. This is the part of it that knows Redis and no
//! proxy.

use super::resp::{Counter, RespError, chooses_database};

/// The request and the reply of one call, as they come.
#[derive(Debug)]
pub struct Conversation {
    commands: Counter,
    /// The beginning of what the counter of commands waits for the rest of.
    unread: Vec<u8>,
    is_asked: bool,
    values: Counter,
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
            Self::NotResp | Self::TooLarge | Self::TooMany => 502,
        }
    }
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// Nothing has been said.
    #[must_use]
    pub fn new() -> Self {
        Self {
            commands: Counter::of_commands(),
            unread: Vec::new(),
            is_asked: false,
            values: Counter::of_values(),
            reply: Vec::new(),
            counted: 0,
        }
    }

    /// More of the request, which may be passed on.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotCommands`], [`Refusal::ChoosesDatabase`]
    pub fn ask(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.commands.count() == 0 && self.unread.is_empty() && chooses_database(bytes) {
            return Err(Refusal::ChoosesDatabase);
        }
        self.unread.extend_from_slice(bytes);
        let done = self.commands.advance(&self.unread).map_err(|_| Refusal::NotCommands)?;
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

    /// Redis has said its last word: what there is of its reply.
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
        let mut conversation = Conversation::new();
        conversation.ask(b"*1\r\n$4\r\nPING\r\n").unwrap();
        assert_eq!(conversation.answer(b"+PONG\r\n"), Ok(None));
        assert_eq!(conversation.end_asking(), Ok(Some(b"+PONG\r\n".to_vec())));
    }

    #[test]
    fn a_connection_that_others_share_is_not_led_into_another_database() {
        let command = |parts: &[&[u8]]| {
            let mut bytes = Vec::new();
            push_command(&mut bytes, parts);
            bytes
        };
        let request = |commands: &[&Vec<u8>]| -> Vec<u8> { commands.iter().copied().flatten().copied().collect() };
        let auth = &command(&[b"AUTH", b"user", b"SELECT"]);
        let (select, eval) = (&command(&[b"select", b"3"]), &command(&[b"EVAL", b"SELECT", b"0"]));
        for refused in [request(&[select, eval]), request(&[auth, select, eval])] {
            assert_eq!(Conversation::new().ask(&refused), Err(Refusal::ChoosesDatabase));
        }
        for passed in [request(&[eval]), request(&[auth, eval])] {
            assert_eq!(Conversation::new().ask(&passed), Ok(()));
        }
    }

    #[test]
    fn a_request_of_anything_but_whole_commands_is_refused() {
        for request in [&b""[..], b"*1\r\n$4\r\nPIN", b"*1\r\n", b"*1\r\n$4\r\nPING\r\n*"] {
            let mut conversation = Conversation::new();
            assert_eq!(conversation.ask(request), Ok(()), "{}", request.escape_ascii());
            assert_eq!(conversation.end_asking(), Err(Refusal::NotCommands), "{}", request.escape_ascii());
        }
        for request in [&b"P"[..], b"{\"json\": true}", b"*0\r\n", b"*1\r\n:1\r\n", b"*1\r\n$4\r\nPINGPING\r\n"] {
            assert_eq!(Conversation::new().ask(request), Err(Refusal::NotCommands), "{}", request.escape_ascii());
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
        assert_eq!(Conversation::new().answer(b"\x15\x03"), Err(Refusal::NotResp));
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
            let mut conversation = Conversation::new();
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

    /// So many commands were sent.
    fn asked(commands: usize) -> Conversation {
        let mut conversation = Conversation::new();
        for number in 0..commands {
            let mut command = Vec::new();
            push_command(&mut command, &[b"GET", number.to_string().as_bytes()]);
            // In two pieces, as pieces fall where they like.
            let (head, tail) = command.split_at(7 + number);
            conversation.ask(head).unwrap();
            conversation.ask(tail).unwrap();
        }
        assert_eq!(conversation.end_asking(), Ok(None));
        conversation
    }
}
