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

/// Checks a record; UTF-8 and surrogates of `\u` are not looked at.
pub(crate) fn object(bytes: &[u8]) -> Result<(), Unsound> {
    let mut at = space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return Err(Unsound::Grammar);
    }
    // A bit a level, the innermost lowest: set for an object.
    let mut levels: u128 = 0;
    let mut depth = 0_u32;
    // `at` stands on the first byte of a value.
    loop {
        match bytes.get(at) {
            Some(b'"') => at = text(bytes, at + 1)?,
            Some(&open @ (b'{' | b'[')) => {
                if depth == MAX_DEPTH {
                    return Err(Unsound::Depth);
                }
                depth += 1;
                levels = levels << 1 | u128::from(open == b'{');
                at = space(bytes, at + 1);
                match (open, bytes.get(at)) {
                    (b'{', Some(b'"')) => {
                        at = key(bytes, at)?;
                        continue;
                    }
                    (b'{', Some(b'}')) | (b'[', Some(b']')) => {
                        at += 1;
                        depth -= 1;
                        levels >>= 1;
                    }
                    (b'[', Some(_)) => continue,
                    _ => return Err(Unsound::Grammar),
                }
            }
            Some(b'-' | b'0'..=b'9') => at = number(bytes, at)?,
            Some(b't') => at = literal(bytes, at, b"true")?,
            Some(b'f') => at = literal(bytes, at, b"false")?,
            Some(b'n') => at = literal(bytes, at, b"null")?,
            _ => return Err(Unsound::Grammar),
        }
        // A value has ended: what is around it goes on, or ends as well.
        loop {
            at = space(bytes, at);
            if depth == 0 {
                return if at == bytes.len() { Ok(()) } else { Err(Unsound::Grammar) };
            }
            match (bytes.get(at), levels & 1) {
                (Some(b','), 1) => {
                    at = key(bytes, space(bytes, at + 1))?;
                    break;
                }
                (Some(b','), _) => {
                    at = space(bytes, at + 1);
                    break;
                }
                (Some(b'}'), 1) | (Some(b']'), 0) => {
                    at += 1;
                    depth -= 1;
                    levels >>= 1;
                }
                _ => return Err(Unsound::Grammar),
            }
        }
    }
}

#[inline]
fn space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// From a member's name to its value.
#[inline]
fn key(bytes: &[u8], at: usize) -> Result<usize, Unsound> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Unsound::Grammar);
    }
    let colon = space(bytes, text(bytes, at + 1)?);
    if bytes.get(colon) != Some(&b':') {
        return Err(Unsound::Grammar);
    }
    Ok(space(bytes, colon + 1))
}

/// Behind the text whose content begins here.
#[inline]
fn text(bytes: &[u8], mut at: usize) -> Result<usize, Unsound> {
    loop {
        while let Some(eight) = bytes.get(at..at + 8) {
            let mut word = [0; 8];
            word.copy_from_slice(eight);
            let found = special(u64::from_le_bytes(word));
            if found != 0 {
                at += (found.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(bytes, at + 1)?,
            None | Some(0..=0x1f) => return Err(Unsound::Grammar),
            Some(_) => at += 1,
        }
    }
}

/// The highest bit of each byte that is a quote, a backslash or a control character; above the first one also of others.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (zero(word ^ ONES * 0x22) | zero(word ^ ONES * 0x5c) | control) & HIGHS
}

fn escape(bytes: &[u8], at: usize) -> Result<usize, Unsound> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => match bytes.get(at + 1..at + 5) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 5),
            _ => Err(Unsound::Grammar),
        },
        _ => Err(Unsound::Grammar),
    }
}

#[inline]
fn number(bytes: &[u8], at: usize) -> Result<usize, Unsound> {
    let digits = |mut at: usize| {
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at > start { Ok(at) } else { Err(Unsound::Grammar) }
    };
    let start = at + usize::from(bytes[at] == b'-');
    let mut at = digits(start)?;
    if bytes[start] == b'0' && at > start + 1 {
        return Err(Unsound::Grammar);
    }
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at = digits(at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-'))))?;
    }
    Ok(at)
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Unsound> {
    match bytes.get(at..at + word.len()) {
        Some(found) if found == word => Ok(at + word.len()),
        _ => Err(Unsound::Grammar),
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
