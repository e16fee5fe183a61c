//! Base64 with padding (RFC 4648, section 4), as SCRAM has it.

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0_u32, |bits, (place, byte)| bits | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).filter(|_| place <= chunk.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

/// `None` for anything that [`encode`] does not write.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let digits = chunk.iter().map_while(|digit| DIGITS.iter().position(|known| known == digit));
        let bits = digits.enumerate().fold(0_u32, |bits, (place, digit)| bits | (digit as u32) << (18 - 6 * place));
        let padding = chunk.iter().rev().take_while(|digit| **digit == b'=').count().min(2);
        bytes.extend(bits.to_be_bytes().get(1..4 - padding)?);
    }
    (encode(&bytes) == text).then_some(bytes)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
