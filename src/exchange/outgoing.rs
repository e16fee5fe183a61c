//! A reply of the filter's own on its way to the client.
//!
//! To Envoy it is a local reply: the route's `response_headers_to_add` are added to it, `local_reply_config` may rewrite
//! it, and every filter of the chain sees it, those behind this one first. What they did to the upstream's response
//! is part of what is stored; what they do again to the reply is put back here.

use std::sync::Arc;

use super::reply::Reply;
use crate::headers::Headers;

/// A reply that was handed to the host, and has not passed by whole.
#[derive(Clone, Debug)]
pub struct Outgoing {
    reply: Arc<Reply>,
    body: BodyPassage,
}

/// How far the body has passed by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BodyPassage {
    /// Nothing of it.
    Awaited,
    /// The same, and it is not what was sent: other filters have changed its coding.
    Recoded,
    /// What was sent.
    AsSent,
    /// It was put in the place of the first piece.
    PutBack,
}

impl Outgoing {
    pub(super) fn new(reply: Arc<Reply>) -> Self {
        Self { reply, body: BodyPassage::Awaited }
    }

    /// As long as its client reads it.
    pub(super) fn footprint(&self) -> u64 {
        self.reply.footprint()
    }

    /// Whether a head of this many fields and bytes (names and values, `:status` included) is the one that was sent.
    ///
    /// Looking at the fields themselves would cost more than all else that a reply still costs. A value that was
    /// replaced by one of the same length is therefore not noticed.
    #[must_use]
    pub fn is_as_sent(&self, fields: usize, bytes: usize) -> bool {
        let Reply { headers, body, .. } = &*self.reply;
        let (mut own_fields, mut own_bytes) = (headers.len() + 1, headers.byte_len() + STATUS.len() + STATUS_DIGITS);
        if !body.is_empty() {
            own_fields += 1;
            own_bytes += CONTENT_LENGTH.len() + digits(body.len());
        }
        (fields, bytes) == (own_fields, own_bytes)
    }

    /// The `content-length` of the body, in bytes, if there is one. It is to be set anew in any case: a body that was changed
    /// may be announced by a number of as many digits, and it is put back when its fields have gone.
    #[must_use]
    pub fn content_length(&self) -> Option<usize> {
        Some(self.reply.body.len()).filter(|length| *length > 0)
    }

    /// The fields that the reply is to have where those `found` at it are others: those that were sent, with their values
    /// and in their order and number, behind those with other names.
    pub fn put_back_fields(&mut self, found: &Headers, end_of_stream: bool) -> Option<Headers> {
        let own = &self.reply.headers;
        let is_own = |name: &[u8]| own.iter().any(|(other, _)| name.eq_ignore_ascii_case(other));
        let has_body = !self.reply.body.is_empty() && !end_of_stream;
        let mut fields = Headers::with_capacity(found.len() + own.len(), found.byte_len() + own.byte_len());
        fields.push(STATUS, itoa::Buffer::new().format(self.reply.status));
        if let Some(length) = self.content_length().filter(|_| has_body) {
            fields.push(CONTENT_LENGTH, itoa::Buffer::new().format(length));
        }
        for (name, value) in found.iter().filter(|(name, _)| !is_own(name)) {
            match name.to_ascii_lowercase().as_slice() {
                name if name == STATUS.as_bytes() || name == CONTENT_LENGTH.as_bytes() => {}
                // The body is put back as it was, so it has no other coding.
                b"content-encoding" | b"transfer-encoding" => self.body = BodyPassage::Recoded,
                // Envoy gives a local reply that has a body a media type.
                b"content-type" => {}
                _ => fields.push(name, value),
            }
        }
        own.iter().for_each(|(name, value)| fields.push(name, value));
        let is_whole = found.len() == fields.len()
            && found.get(STATUS) == fields.get(STATUS)
            && found.get(CONTENT_LENGTH) == fields.get(CONTENT_LENGTH)
            && found.iter().filter(|(name, _)| is_own(name)).eq(own.iter());
        (!is_whole).then_some(fields)
    }

    /// What a piece of `size` bytes of the body is to be instead, if it is not what was sent.
    pub fn put_back_body(&mut self, size: usize, end_of_stream: bool) -> Option<&[u8]> {
        let body = &*self.reply.body;
        match self.body {
            BodyPassage::AsSent => None,
            BodyPassage::Awaited if end_of_stream && size == body.len() => {
                self.body = BodyPassage::AsSent;
                None
            }
            BodyPassage::Awaited | BodyPassage::Recoded => {
                self.body = BodyPassage::PutBack;
                Some(body)
            }
            BodyPassage::PutBack => Some(&[]),
        }
    }
}

/// How many digits `number` has.
fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

const STATUS: &str = ":status";

/// A status code has three (RFC 9110, section 15).
const STATUS_DIGITS: usize = 3;

/// Announces the length of a body (RFC 9110, section 8.6).
pub const CONTENT_LENGTH: &str = "content-length";

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(fields: &[(&str, &str)], body: &str) -> Outgoing {
        let headers = fields.iter().copied().collect();
        Outgoing::new(Arc::new(Reply { status: 201, headers, body: body.as_bytes().to_vec().into(), details: "" }))
    }

    /// Whether these fields, as the host tells their number and size, pass as they are; and what is put back.
    fn passes(reply: &mut Outgoing, found: &[(&str, &str)], end_of_stream: bool) -> (bool, Option<Headers>) {
        let found: Headers = found.iter().copied().collect();
        (reply.is_as_sent(found.len(), found.byte_len()), reply.put_back_fields(&found, end_of_stream))
    }

    #[test]
    fn what_was_sent_passes_as_it_is() {
        let fields = [("content-type", "a/b"), ("vary", "x"), ("vary", "y")];
        let sent =
            |length| [(":status", "201"), ("content-length", length)].into_iter().chain(fields).collect::<Vec<_>>();
        assert_eq!(passes(&mut reply(&fields, "0123456789"), &sent("10"), false), (true, None));
        let without_body: Vec<_> = [(":status", "201")].into_iter().chain(fields).collect();
        assert_eq!(passes(&mut reply(&fields, ""), &without_body, true), (true, None));
    }

    #[test]
    fn fields_of_the_reply_are_put_back_and_others_stay() {
        let fields = [("vary", "x"), ("access-control-allow-origin", "https://a"), ("vary", "y")];
        let found = [
            (":status", "200"),
            ("content-length", "9"),
            ("content-type", "text/plain"),
            ("strict-transport-security", "max-age=1"),
            ("access-control-allow-origin", "https://a,https://a"),
            ("vary", "x"),
        ];
        let (is_as_sent, put_back) = passes(&mut reply(&fields, "body"), &found, false);
        assert!(!is_as_sent);
        let expected = [(":status", "201"), ("content-length", "4"), ("strict-transport-security", "max-age=1")];
        assert_eq!(put_back, Some(expected.into_iter().chain(fields).collect()));
    }

    #[test]
    fn what_others_add_is_no_reason_to_write_the_fields_again() {
        let found = [(":status", "201"), ("content-length", "4"), ("x-added", "1"), ("content-type", "a/b")];
        assert_eq!(passes(&mut reply(&[("content-type", "a/b")], "body"), &found, false), (false, None));
    }

    #[test]
    fn a_type_that_envoy_adds_is_taken_off() {
        let found = [(":status", "201"), ("content-length", "4"), ("content-type", "text/plain")];
        let (_, put_back) = passes(&mut reply(&[], "body"), &found, false);
        assert_eq!(put_back, Some(Headers::from_iter([(":status", "201"), ("content-length", "4")])));
    }

    #[test]
    fn a_body_is_put_back_whole_in_its_first_piece() {
        let as_sent = &mut reply(&[], "body");
        assert_eq!(as_sent.put_back_body(4, true), None);
        for pieces in
            [vec![(5, true)], vec![(4, false), (1, true)], vec![(0, false), (4, false), (0, true)], vec![(0, true)]]
        {
            let reply = &mut reply(&[], "body");
            let passed: Vec<Vec<u8>> = pieces
                .iter()
                .map(|(size, end)| reply.put_back_body(*size, *end).map_or(vec![b'?'; *size], <[u8]>::to_vec))
                .collect();
            assert_eq!(passed.concat(), b"body", "{pieces:?}");
        }
        // A body where there is none to be.
        assert_eq!(reply(&[], "").put_back_body(3, true), Some(b"".as_slice()));
        assert_eq!(reply(&[], "").put_back_body(0, true), None);
    }

    #[test]
    fn a_body_in_another_coding_is_put_back_whatever_its_length() {
        let reply = &mut reply(&[], "body");
        let found = [(":status", "201"), ("content-encoding", "gzip"), ("vary", "accept-encoding")];
        let (_, put_back) = passes(reply, &found, false);
        let expected = [(":status", "201"), ("content-length", "4"), ("vary", "accept-encoding")];
        assert_eq!(put_back, Some(Headers::from_iter(expected)));
        assert_eq!(reply.put_back_body(4, true), Some(b"body".as_slice()));
    }
}
