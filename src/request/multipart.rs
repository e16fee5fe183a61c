//! The body of a form (`multipart/form-data`, RFC 7578) as it counts in a fingerprint: without its boundary.
//!
//! Clients make up a new boundary for each attempt. What a form says is the text between its delimiters: the parts with
//! their fields and bytes, what precedes the first and what follows the last.

use memchr::memchr_iter;

/// Hashes a form piece by piece. It keeps no more of the body than a delimiter is long.
#[derive(Clone)]
pub(super) struct FormHasher {
    hasher: Box<blake3::Hasher>,
    /// How many bytes the present segment has in the hash.
    segment: u64,
    /// CRLF, two hyphens and the boundary (RFC 2046, section 5.1.1).
    delimiter: Vec<u8>,
    /// What came last and may be the beginning of a delimiter.
    tail: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// Delimiters are looked for.
    Open,
    /// The last delimiter has been seen.
    Closed,
    /// A boundary stands where it separates nothing.
    Malformed,
}

impl FormHasher {
    pub(super) fn new(boundary: &[u8]) -> Self {
        Self {
            hasher: Box::default(),
            segment: 0,
            delimiter: [b"\r\n--", boundary].concat(),
            // The first delimiter may begin the body, as if a line had ended before it.
            tail: b"\r\n".to_vec(),
            state: State::Open,
        }
    }

    pub(super) fn update(&mut self, chunk: &[u8]) {
        if self.state != State::Open {
            return self.add(chunk);
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(chunk);
        let rest = self.take_delimiters(&tail, false);
        tail.drain(..tail.len().saturating_sub(rest));
        self.tail = tail;
    }

    /// The hash of a form that is whole; else the one of the body with its boundary, which is the same for the same bytes
    /// only.
    pub(super) fn finish(mut self) -> (&'static str, blake3::Hash) {
        let tail = std::mem::take(&mut self.tail);
        self.take_delimiters(&tail, true);
        self.end_segment(Mark::End);
        if self.state == State::Closed {
            return ("form", self.hasher.finalize());
        }
        self.hasher.update(&self.delimiter);
        ("no form", self.hasher.finalize())
    }

    /// Hashes what `bytes` can be told of, and says how many at their end have to wait for more.
    fn take_delimiters(&mut self, mut bytes: &[u8], is_all: bool) -> usize {
        let delimiter = self.delimiter.len();
        while self.state == State::Open {
            let Some((segment, found)) = self.find_delimiter(bytes).and_then(|at| bytes.split_at_checked(at)) else {
                let waiting = if is_all { 0 } else { bytes.len().min(delimiter.saturating_sub(1)) };
                let (known, waiting) = bytes.split_at_checked(bytes.len() - waiting).unwrap_or((bytes, &[]));
                self.add(known);
                return waiting.len();
            };
            let after = found.get(delimiter..).unwrap_or_default();
            // The line break is left to the next delimiter, which it may begin.
            let (mark, taken) = match after {
                [b'\r', b'\n', ..] => (Mark::Part, 0),
                [b'-', b'-', b'\r', b'\n', ..] => (Mark::Close, 2),
                [b'-', b'-'] if is_all => (Mark::Close, 2),
                _ if !is_all && (b"\r\n".starts_with(after) || b"--\r\n".starts_with(after)) => {
                    self.add(segment);
                    return found.len();
                }
                _ => {
                    self.state = State::Malformed;
                    break;
                }
            };
            self.add(segment);
            self.end_segment(mark);
            bytes = after.get(taken..).unwrap_or_default();
            if mark == Mark::Close {
                self.state = State::Closed;
            }
        }
        self.add(bytes);
        0
    }

    fn find_delimiter(&self, bytes: &[u8]) -> Option<usize> {
        memchr_iter(b'\r', bytes).find(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(&self.delimiter)))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.segment += bytes.len() as u64;
    }

    /// The length stands behind the segment: it is known only then, and read from the end nothing is ambiguous.
    fn end_segment(&mut self, mark: Mark) {
        self.hasher.update(&self.segment.to_le_bytes()).update(&[mark as u8]);
        self.segment = 0;
    }
}

/// What ends a segment.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(u8)]
enum Mark {
    Part,
    Close,
    End,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(boundary: &str, body: &[u8]) -> (&'static str, blake3::Hash) {
        let mut form = FormHasher::new(boundary.as_bytes());
        form.update(body);
        form.finish()
    }

    /// A form of `parts` as a client writes it.
    fn form(boundary: &str, parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
        format!("{parts}--{boundary}--\r\n")
    }

    const NAME: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n1";
    const FILE: &str =
        "Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\nContent-Type: text/plain\r\n\r\n\r\n--";

    #[test]
    fn a_form_is_the_same_with_another_boundary() {
        for parts in [&[] as &[&str], &[NAME], &[NAME, FILE], &[FILE, "", "\r\n"]] {
            let (kind, first) = hash("first", form("first", parts).as_bytes());
            assert_eq!(kind, "form", "{parts:?}");
            assert_eq!(hash("x--", form("x--", parts).as_bytes()), (kind, first), "{parts:?}");
        }
    }

    #[test]
    fn every_byte_of_a_part_counts() {
        let whole = hash("b", form("b", &[NAME, FILE]).as_bytes());
        for other in [
            form("b", &[FILE, NAME]),
            form("b", &[NAME]),
            form("b", &[NAME, FILE, ""]),
            form("b", &[NAME, &FILE.to_lowercase()]),
            form("b", &[NAME, &format!("{FILE} ")]),
            format!(" {}", form("b", &[NAME, FILE])),
            format!("\r\n{}", form("b", &[NAME, FILE])),
            format!("{}epilogue", form("b", &[NAME, FILE])),
            form("b", &[NAME, FILE]).trim_end().to_owned(),
        ] {
            assert_ne!(hash("b", other.as_bytes()), whole, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_form_counts_with_its_boundary() {
        let whole = form("b", &[NAME]);
        for body in [
            "",
            "--b\r\n",
            "--b\r\n\r\n1\r\n--b-",
            "--b\r\n\r\n1\r\n--b--x",
            "--b \r\n\r\n1\r\n--b--",
            "x--b\r\n\r\n1",
            "--b\n\n1\n--b--\n",
            &whole.replacen("--b\r", "--bb\r", 1),
        ] {
            let (kind, first) = hash("b", body.as_bytes());
            assert_eq!(kind, "no form", "{body:?}");
            let renamed = body.replace("--b", "--c");
            assert_ne!(hash("c", renamed.as_bytes()).1, first, "{body:?}");
            assert_ne!(hash("b", format!("{body}\n").as_bytes()).1, first, "{body:?}");
            assert_eq!(hash("b", body.as_bytes()).1, first, "{body:?}");
        }
    }

    /// Its fields and its bytes.
    type Part = (Vec<(String, Vec<u8>)>, Vec<u8>);

    /// The parts as another reader finds them.
    fn parts(boundary: &str, body: Vec<u8>) -> Result<Vec<Part>, multer::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut form = multer::Multipart::with_reader(body.as_slice(), boundary);
            let mut parts = Vec::new();
            while let Some(part) = form.next_field().await? {
                let fields = part.headers().iter();
                let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
                parts.push((fields, part.bytes().await?.to_vec()));
            }
            Ok(parts)
        })
    }

    /// The bytes of delimiters.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("\r\n"),
            Just("--"),
            Just("b"),
            Just("c"),
            Just("-"),
            Just("\n"),
            Just("x"),
            Just("\r\n--b"),
            Just("--b\r\n"),
            Just("\r\n--b--\r\n"),
            Just("\r\n--b\r\n"),
            Just("a: 1\r\n\r\n"),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn how_a_body_is_cut_does_not_matter(body in body(), cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let mut form = FormHasher::new(b"b");
            let mut rest = body.as_slice();
            for cut in cuts {
                let (chunk, others) = rest.split_at(cut.min(rest.len()));
                form.update(chunk);
                rest = others;
            }
            form.update(rest);
            prop_assert_eq!(form.finish(), hash("b", &body));
        }

        #[test]
        fn equal_forms_have_equal_parts_for_another_reader(one in body(), other in body()) {
            let renamed: Vec<u8> = other.iter().map(|byte| if *byte == b'b' { b'c' } else { *byte }).collect();
            for (other, boundary) in [(&other, "b"), (&renamed, "c")] {
                if hash("b", &one) == hash(boundary, other)
                    && let (Ok(one), Ok(other)) = (parts("b", one.clone()), parts(boundary, other.clone()))
                {
                    prop_assert_eq!(one, other);
                }
            }
        }

        #[test]
        fn another_reader_finds_equal_parts_in_what_has_equal_hashes_and_no_others(
            one in prop::collection::vec("[a-c:-]{0,3}", 0..3),
            other in prop::collection::vec("[a-c:-]{0,3}", 0..3),
        ) {
            let written = |boundary: &str, parts: &[String]| {
                let parts: Vec<String> = parts.iter().map(|part| format!("n: v\r\n\r\n{part}")).collect();
                form(boundary, &parts.iter().map(String::as_str).collect::<Vec<_>>()).into_bytes()
            };
            let (one, other) = (written("xyz", &one), written("XYZ", &other));
            let is_same = parts("xyz", one.clone()).unwrap() == parts("XYZ", other.clone()).unwrap();
            prop_assert_eq!(hash("xyz", &one) == hash("XYZ", &other), is_same);
        }
    }
}
