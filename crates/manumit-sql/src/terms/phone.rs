//! Telephone numbers in texts: digits that can be dialled, and are not just long.

use super::fold::{Loose, is_word};

/// Digits that a number has with its country code, at most (E.164).
const MOST: usize = 15;

/// A telephone number stands in the text: international (`+44 …`, `0049 …`) with a country code that exists, national with a
/// leading zero, or of North America in groups (`(555) 234-5678`). A row of digits without any of these may be an invoice or an
/// account, and is none; nor are digits that letters or further digits touch.
pub(crate) fn has_phone(text: &str) -> bool {
    // Seven digits are the fewest that are looked for.
    if text.chars().filter(|c| c.is_numeric()).count() < 7 {
        return false;
    }
    let loose = Loose::of(text);
    let chars: Vec<char> = loose.chars().iter().map(|&c| digit(c)).collect();
    let mut at = 0;
    while at < chars.len() {
        let begins = chars[at].is_ascii_digit() || matches!(chars[at], '+' | '(');
        let free = at == 0 || !(is_word(chars[at - 1]) || chars[at - 1] == '+');
        if !begins || !free {
            at += 1;
            continue;
        }
        let end = end_of(&chars, at);
        if end < chars.len() && is_word(chars[end]) {
            at = end;
            continue;
        }
        if is_number(&chars[at..end]) {
            return true;
        }
        at = end.max(at + 1);
    }
    false
}

/// Digits of other scripts as ours.
fn digit(c: char) -> char {
    let zero = match c {
        '\u{0660}'..='\u{0669}' => 0x0660,
        '\u{06f0}'..='\u{06f9}' => 0x06f0,
        '\u{0966}'..='\u{096f}' => 0x0966,
        '\u{09e6}'..='\u{09ef}' => 0x09e6,
        '\u{0e50}'..='\u{0e59}' => 0x0e50,
        _ => return c,
    };
    char::from_digit(u32::from(c) - zero, 10).unwrap_or(c)
}

/// Behind the last digit that belongs to what begins here: digits with up to two separators between them.
fn end_of(chars: &[char], start: usize) -> usize {
    let mut end = start + 1;
    let mut at = end;
    let mut gap = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '0'..='9' => (end, gap) = (at, 0),
            ' ' | '.' | '-' | '/' | '(' | ')' | '\u{2010}'..='\u{2013}' if gap < 2 => gap += 1,
            _ => break,
        }
    }
    end
}

fn is_number(chars: &[char]) -> bool {
    let groups: Vec<String> = chars
        .split(|c| !c.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .map(|group| group.iter().collect())
        .collect();
    let digits: String = groups.concat();
    if chars.first() == Some(&'+') {
        return digits.len() >= 8 && digits.len() <= MOST && has_country(&digits);
    }
    if let Some(rest) = digits.strip_prefix("00") {
        return rest.len() >= 8 && rest.len() <= MOST && has_country(rest);
    }
    if digits.starts_with('0') {
        // A date begins with a zero, too, but its first group has two digits; digits without groups may be a customer's number.
        let pairs = groups.len() == 5 && groups.iter().all(|group| group.len() == 2);
        let area = groups[0].len() >= 3;
        let least = if groups.len() > 1 { 9 } else { 10 };
        return (pairs || area) && (least..=12).contains(&digits.len());
    }
    let mut parts: Vec<&str> = groups.iter().map(String::as_str).collect();
    if parts.first() == Some(&"1") {
        parts.remove(0);
    }
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [3, 3, 4] && parts[..2].iter().all(|part| !part.starts_with(['0', '1']))
}

/// The digits begin with a country code that is assigned (ITU-T E.164).
fn has_country(digits: &str) -> bool {
    let code = |length: usize| digits.get(..length).and_then(|code| code.parse::<u16>().ok()).unwrap_or(0);
    let (one, two, three) = (code(1), code(2), code(3));
    matches!(one, 1 | 7)
        || matches!(two, 20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98)
        || matches!(three,
            211..=213 | 216 | 218 | 220..=258 | 260..=269 | 290 | 291 | 297..=299 | 350..=359 | 370..=383 | 385..=387 | 389
            | 420 | 421 | 423 | 500..=509 | 590..=599 | 670 | 672..=683 | 685..=692 | 850 | 852 | 853 | 855 | 856 | 880 | 886
            | 960..=968 | 970..=977 | 992..=996 | 998)
}

#[cfg(test)]
mod tests {
    use super::has_phone;

    #[test]
    fn numbers_that_can_be_dialled_are_found_and_other_digits_are_not() {
        for text in [
            "+44 7700 900123",
            "call 0049 151 23456789",
            "0151-23456789",
            "01 23 45 67 89",
            "(555) 234-5678",
            "1-555-234-5678",
            "text me:+63 917 555 0123!",
            "＋４４ ７７００ ９００１２３",
            "+44\u{200b}7700900123",
            "٠١٥١٢٣٤٥٦٧٨",
        ] {
            assert!(has_phone(text), "{text}");
        }
        for text in [
            "invoice 5551234567",
            "2026-03-31",
            "01.02.2026",
            "DE89370400440532013000",
            "+999 123 4567",
            "order 0815",
            "0123456789a",
            "012345678",
            "tx 12345678901234567890",
            "+123",
            "1,234,567.89",
            "555 123 4567",
            "12:30 14:15 16:45",
            "01.02.2026 10:15",
        ] {
            assert!(!has_phone(text), "{text}");
        }
    }
}
