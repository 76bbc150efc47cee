//! Whether a record is one JSON object, by the letter of RFC 8259.
//!
//! Arrow's decoder finds values and leaves it there: it passes over commas that are missing or too many, takes `1-2.e+` for a
//! number, and a line break inside a text for part of it. A damaged record would be read as a sound one with other values.
//! This goes over the bytes once before it, in steps of eight where they are text, and keeps nothing.

/// Levels of lists and objects in one record. No feed needs so many; what reads a record later may not stand more.
pub(crate) const MAX_DEPTH: u32 = 128;

/// Why a record is no JSON object that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsound {
    /// It is not one JSON object, or not JSON at all.
    Grammar,
    /// It is nested deeper than [`MAX_DEPTH`].
    Depth,
}

/// What the helpers give in place of the end of something that is not there; no end is 0.
const NONE: usize = 0;

/// Checks a record; UTF-8 and surrogates of `\u` are not looked at.
pub(crate) fn object(bytes: &[u8]) -> Result<(), Unsound> {
    let mut at = space(bytes, 0);
    if at_of(bytes, at) != b'{' {
        return Err(Unsound::Grammar);
    }
    // A bit a level, the innermost lowest: set for an object.
    let mut levels: u128 = 0;
    let mut depth = 0_u32;
    // `at` stands on the first byte of a value.
    loop {
        at = match at_of(bytes, at) {
            b'"' => text(bytes, at + 1),
            b'-' | b'0'..=b'9' => number(bytes, at),
            open @ (b'{' | b'[') => {
                if depth == MAX_DEPTH {
                    return Err(Unsound::Depth);
                }
                depth += 1;
                levels = levels << 1 | u128::from(open == b'{');
                at = space(bytes, at + 1);
                match (open, at_of(bytes, at)) {
                    (b'{', b'"') => {
                        at = key(bytes, at);
                        if at == NONE {
                            return Err(Unsound::Grammar);
                        }
                        continue;
                    }
                    (b'{', b'}') | (b'[', b']') => {
                        depth -= 1;
                        levels >>= 1;
                        at + 1
                    }
                    (b'[', _) => continue,
                    _ => NONE,
                }
            }
            b't' => literal(bytes, at, b"true"),
            b'f' => literal(bytes, at, b"false"),
            b'n' => literal(bytes, at, b"null"),
            _ => NONE,
        };
        if at == NONE {
            return Err(Unsound::Grammar);
        }
        // A value has ended: what is around it goes on, or ends as well.
        loop {
            at = space(bytes, at);
            if depth == 0 {
                return if at == bytes.len() { Ok(()) } else { Err(Unsound::Grammar) };
            }
            let in_object = levels & 1 == 1;
            match at_of(bytes, at) {
                b',' if in_object => {
                    at = key(bytes, space(bytes, at + 1));
                    if at == NONE {
                        return Err(Unsound::Grammar);
                    }
                    break;
                }
                b',' => {
                    at = space(bytes, at + 1);
                    break;
                }
                b'}' if in_object => at += 1,
                b']' if !in_object => at += 1,
                _ => return Err(Unsound::Grammar),
            }
            depth -= 1;
            levels >>= 1;
        }
    }
}

/// The byte there; behind the end one that begins and ends nothing.
#[inline(always)]
fn at_of(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

#[inline(always)]
fn space(bytes: &[u8], mut at: usize) -> usize {
    // Mostly there is none.
    while at_of(bytes, at) <= b' ' && matches!(at_of(bytes, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// From a member's name to its value.
#[inline(always)]
fn key(bytes: &[u8], at: usize) -> usize {
    if at_of(bytes, at) != b'"' {
        return NONE;
    }
    let end = text(bytes, at + 1);
    if end == NONE {
        return NONE;
    }
    let colon = space(bytes, end);
    if at_of(bytes, colon) != b':' {
        return NONE;
    }
    space(bytes, colon + 1)
}

/// Behind the text whose content begins here.
#[inline(always)]
fn text(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = special(u64::from_le_bytes(*eight));
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            if at_of(bytes, at) == b'"' {
                return at + 1;
            }
            break;
        }
        at += 8;
    }
    text_slowly(bytes, at)
}

/// The same where an escape stands, or the end of the record is near.
#[inline(never)]
fn text_slowly(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => match escape(bytes, at + 1) {
                NONE => return NONE,
                end => at = end,
            },
            None | Some(0..=0x1f) => return NONE,
            Some(_) => {
                at += 1;
                // Back to long steps.
                while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                    match special(u64::from_le_bytes(*eight)) {
                        0 => at += 8,
                        found => {
                            at += (found.trailing_zeros() / 8) as usize;
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// The highest bit of each byte that is a quote, a backslash or a control character; above the first one also of others.
#[inline(always)]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    (quote | backslash | control) & !word & HIGHS
}

fn escape(bytes: &[u8], at: usize) -> usize {
    match at_of(bytes, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at + 1,
        b'u' => match bytes.get(at + 1..at + 5) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => at + 5,
            _ => NONE,
        },
        _ => NONE,
    }
}

#[inline(always)]
fn digits(bytes: &[u8], mut at: usize) -> usize {
    let start = at;
    while at_of(bytes, at).wrapping_sub(b'0') < 10 {
        at += 1;
    }
    if at > start { at } else { NONE }
}

#[inline(always)]
fn number(bytes: &[u8], at: usize) -> usize {
    let start = at + usize::from(at_of(bytes, at) == b'-');
    let mut at = digits(bytes, start);
    if at_of(bytes, start) == b'0' && at > start + 1 {
        return NONE;
    }
    if at != NONE && at_of(bytes, at) == b'.' {
        at = digits(bytes, at + 1);
    }
    if at != NONE && at_of(bytes, at) | 0x20 == b'e' {
        at = digits(bytes, at + 1 + usize::from(matches!(at_of(bytes, at + 1), b'+' | b'-')));
    }
    at
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> usize {
    match bytes.get(at..at + word.len()) {
        Some(found) if found == word => at + word.len(),
        _ => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_of_eight_is_found_wherever_it_stands() {
        for at in 0..8 {
            for byte in 0..=255_u8 {
                let mut word = [b'x', 0x80, 0xff, 0x20, 0x21, 0x23, 0x5b, 0x5d];
                word[at] = byte;
                let found = special(u64::from_le_bytes(word));
                let wanted = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(found != 0, wanted, "{byte:#x}");
                assert!(!wanted || found.trailing_zeros() as usize / 8 == at, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn as_many_levels_as_allowed_and_one_more() {
        let nested = |depth: usize| {
            let lists = depth - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(lists), "]".repeat(lists)).into_bytes()
        };
        assert_eq!(object(&nested(MAX_DEPTH as usize)), Ok(()));
        assert_eq!(object(&nested(MAX_DEPTH as usize + 1)), Err(Unsound::Depth));
        assert_eq!(object(&nested(100_000)), Err(Unsound::Depth));
    }
}
