//! Texts as they are compared: what looks the same is the same.
//!
//! Compatibility forms (full-width, mathematical letters, ligatures) are taken apart, letters made small, accents and characters
//! without width dropped, and letters of other scripts that look like Latin ones replaced by these. Terms and texts go the same
//! way, so a term in Cyrillic still meets itself. Words are then separated by one space; emoji stand for themselves.

use icu_normalizer::properties::CanonicalCombiningClassMap;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};

/// Joins emoji to one picture.
pub(crate) const JOINER: char = '\u{200d}';

/// A text that was not yet cut into words: letters are compared, separators still tell what was between them.
pub(crate) struct Loose(Vec<char>);

impl Loose {
    pub(crate) fn of(text: &str) -> Loose {
        if text.is_ascii() {
            return Loose(text.chars().map(|c| c.to_ascii_lowercase()).collect());
        }
        let apart: Vec<char> = DecomposingNormalizer::new_nfkd().normalize_iter(text.chars()).collect();
        let latin = beside_latin(&apart);
        let mut out: Vec<char> = Vec::with_capacity(apart.len());
        for (at, &c) in apart.iter().enumerate() {
            if c == JOINER {
                let next = apart[at + 1..].iter().find(|c| !is_dropped(**c));
                if out.last().is_some_and(|&c| is_symbol(c)) && next.is_some_and(|&c| is_symbol(c)) {
                    out.push(c);
                }
                continue;
            }
            if is_dropped(c) {
                continue;
            }
            if latin[at]
                && let Some(letter) = capital(c)
            {
                out.push(letter);
                continue;
            }
            for small in c.to_lowercase().filter(|c| !is_dropped(*c)) {
                match look(small) {
                    Look::Same => out.push(small),
                    Look::Like(letters) => out.extend(letters.chars()),
                }
            }
        }
        Loose(ComposingNormalizer::new_nfc().normalize_iter(out.into_iter()).collect())
    }

    /// The characters.
    pub(crate) fn chars(&self) -> &[char] {
        &self.0
    }

    /// Words between single spaces, none at the ends; emoji that touch, or have only separators between them, stand together.
    pub(crate) fn words(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 8);
        let (mut last, mut apart) = (None::<Class>, false);
        for &c in &self.0 {
            let class = class(c);
            match class {
                Class::Between => apart = true,
                Class::Word | Class::Symbol => {
                    let space = match last {
                        None => false,
                        Some(last) => last != class || (apart && class == Class::Word),
                    };
                    if space {
                        out.push(' ');
                    }
                    out.push(c);
                    (last, apart) = (Some(class), false);
                }
            }
        }
        out
    }
}

/// A text in words.
pub(crate) fn words(text: &str) -> String {
    Loose::of(text).words()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Symbol,
    Between,
}

fn class(c: char) -> Class {
    if is_word(c) {
        Class::Word
    } else if c == JOINER || is_symbol(c) {
        Class::Symbol
    } else {
        Class::Between
    }
}

/// A letter, a digit, or a mark that belongs to the letter before it.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || (!c.is_ascii() && CanonicalCombiningClassMap::new().get_u8(c) != 0)
}

/// Pictures that stand for themselves.
pub(crate) fn is_symbol(c: char) -> bool {
    matches!(c,
        '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{25a0}'..='\u{27bf}' | '\u{2900}'..='\u{297f}'
        | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{1f000}'..='\u{1faff}')
}

/// One half of a flag.
pub(crate) fn is_flag_half(c: char) -> bool {
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}')
}

/// Scripts that put no spaces between words: a term may begin and end anywhere.
pub(crate) fn has_no_spaces(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Korean words take their particles without a space.
pub(crate) fn is_korean(c: char) -> bool {
    matches!(c, '\u{ac00}'..='\u{d7a3}')
}

/// Characters without width, directions, variants of emoji, and the accents of scripts that are read without them.
fn is_dropped(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{0640}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{0300}'..='\u{036f}' | '\u{0483}'..='\u{0489}' | '\u{0591}'..='\u{05bd}' | '\u{05bf}' | '\u{05c1}'..='\u{05c2}'
        | '\u{05c4}'..='\u{05c5}' | '\u{05c7}' | '\u{064b}'..='\u{065f}' | '\u{0670}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Which characters stand in a word that has Latin letters, too.
fn beside_latin(chars: &[char]) -> Vec<bool> {
    let mut latin = vec![false; chars.len()];
    let of_word = |c: char| c.is_alphabetic() || is_dropped(c);
    let mut at = 0;
    while at < chars.len() {
        let length = chars[at..].iter().take_while(|c| of_word(**c)).count();
        let end = at + length;
        let mixed = chars[at..end].iter().any(char::is_ascii_alphabetic);
        latin[at..end].fill(mixed);
        at = end.max(at + 1);
    }
    latin
}

/// Greek capitals that look like another Latin letter than their small forms do; meant so within a Latin word only.
fn capital(c: char) -> Option<char> {
    Some(match c {
        'Η' => 'h',
        'Ν' => 'n',
        'Υ' => 'y',
        _ => return None,
    })
}

enum Look {
    Same,
    Like(&'static str),
}

/// The Latin letters that a small letter looks like, or stands for.
fn look(c: char) -> Look {
    Look::Like(match c {
        // Latin letters that no accent can be taken from.
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ð' | 'đ' | 'ɖ' | 'ɗ' | 'ᴅ' => "d",
        'ø' | 'ᴏ' => "o",
        'ł' | 'ʟ' | 'ɭ' => "l",
        'ı' | 'ɪ' | 'ɩ' => "i",
        'ħ' | 'ʜ' => "h",
        'ŧ' | 'ᴛ' => "t",
        'ŋ' | 'ɴ' => "n",
        'ƒ' | 'ꜰ' => "f",
        'ɑ' | 'ᴀ' => "a",
        'ɡ' | 'ɢ' => "g",
        'ʙ' => "b",
        'ᴄ' => "c",
        'ᴇ' | 'ǝ' | 'ə' => "e",
        'ᴊ' | 'ȷ' => "j",
        'ᴋ' => "k",
        'ᴍ' => "m",
        'ᴘ' => "p",
        'ʀ' => "r",
        'ꜱ' => "s",
        'ᴜ' => "u",
        'ᴠ' => "v",
        'ᴡ' => "w",
        'ʏ' => "y",
        'ᴢ' => "z",
        // Cyrillic.
        'а' => "a",
        'в' => "b",
        'с' => "c",
        'ԁ' => "d",
        'е' | 'ҽ' => "e",
        'һ' | 'н' => "h",
        'і' => "i",
        'ј' => "j",
        'к' => "k",
        'ӏ' => "l",
        'м' => "m",
        'о' => "o",
        'р' => "p",
        'ԛ' => "q",
        'ѕ' => "s",
        'т' => "t",
        'ѵ' => "v",
        'ԝ' => "w",
        'х' => "x",
        'у' | 'ү' => "y",
        // Greek.
        'α' => "a",
        'β' => "b",
        'ϲ' => "c",
        'ε' => "e",
        'η' => "n",
        'ι' => "i",
        'ϳ' => "j",
        'κ' => "k",
        'μ' => "m",
        'ν' => "v",
        'ο' => "o",
        'ρ' => "p",
        'τ' => "t",
        'υ' => "u",
        'χ' => "x",
        'γ' => "y",
        'ζ' => "z",
        'ω' => "w",
        // One sigma, wherever it stands.
        'ς' => "σ",
        // Armenian.
        'օ' => "o",
        'ս' => "u",
        'հ' => "h",
        'ո' => "n",
        // Letters in squares and circles that are no compatibility forms.
        '\u{1f150}'..='\u{1f169}' => letter(c, 0x1f150),
        '\u{1f170}'..='\u{1f189}' => letter(c, 0x1f170),
        _ => return Look::Same,
    })
}

fn letter(c: char, first: u32) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    let at = (u32::from(c) - first) as usize;
    LETTERS.get(at..=at).unwrap_or("")
}

/// What a text says when letters that were pulled apart are put together and digits in words are read as the letters that they
/// look like; nothing where it says the same. Two answers where a `1` may be an `i` or an `l`.
pub(crate) fn disguised(loose: &Loose) -> Vec<String> {
    if !may_hide(&loose.0) {
        return Vec::new();
    }
    let (tokens, mut changed) = tokens(&loose.0);
    let mut reads = vec![String::new()];
    for (at, token) in tokens.iter().enumerate() {
        let leet = token.len() > 1 && leet(token);
        changed |= leet;
        let two = leet && token.contains(&'1') && reads.len() == 1;
        if two {
            reads.push(reads[0].clone());
        }
        for (which, read) in reads.iter_mut().enumerate() {
            if at > 0 {
                read.push(' ');
            }
            let one = if which == 0 { 'i' } else { 'l' };
            read.extend(token.iter().map(|&c| if leet { plain(c, one) } else { c }));
        }
    }
    if changed { reads } else { Vec::new() }
}

/// What people put between the letters of one word.
const WITHIN: [char; 12] = ['.', '-', '_', '*', '\'', '’', '~', '^', '|', '·', '•', '‐'];

/// Whether it can say anything else: most texts cannot, and are spared the rest.
fn may_hide(chars: &[char]) -> bool {
    let at = |place: Option<usize>| place.and_then(|place| chars.get(place)).copied().unwrap_or(' ');
    // Words of one letter, one after another.
    let mut alone = 0;
    for (place, &c) in chars.iter().enumerate() {
        let (before, after) = (at(place.checked_sub(1)), at(place.checked_add(1)));
        // Of signs in a word of letters and signs one at least stands beside a letter.
        if plain(c, 'i') != c && (before.is_alphabetic() || after.is_alphabetic()) {
            return true;
        }
        if is_word(c) {
            if is_word(before) || is_word(after) {
                alone = 0;
            } else {
                alone += 1;
                if alone == 4 {
                    return true;
                }
            }
        } else if WITHIN.contains(&c) && is_word(before) && is_word(after) {
            return true;
        }
    }
    false
}

/// Words with what stands within them, joined where they were pulled apart; true when any was. Emoji keep words apart.
fn tokens(chars: &[char]) -> (Vec<Vec<char>>, bool) {
    let is_part = |at: usize| {
        let before = at > 0 && is_word(chars[at - 1]);
        let after = chars.get(at + 1).is_some_and(|c| is_word(*c));
        match chars[at] {
            '@' | '!' | '€' => before && after,
            '$' => chars.get(at + 1).is_some_and(|c| c.is_alphabetic()),
            c => is_word(c),
        }
    };
    let mut found: Vec<Vec<char>> = Vec::new();
    let mut changed = false;
    // Separators since the last word.
    let mut between: Vec<char> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        if !is_part(at) {
            between.push(chars[at]);
            at += 1;
            continue;
        }
        let start = at;
        while at < chars.len() && is_part(at) {
            at += 1;
        }
        let word = &chars[start..at];
        match (found.last_mut(), between.as_slice()) {
            (Some(last), [one]) if WITHIN.contains(one) => {
                last.extend(word);
                changed = true;
            }
            _ => {
                found.extend(between.iter().find(|c| is_symbol(**c)).map(|&c| vec![c]));
                found.push(word.to_vec());
            }
        }
        between.clear();
    }
    // Letters with spaces between them: four at least, as three are initials.
    let mut joined: Vec<Vec<char>> = Vec::new();
    let mut at = 0;
    while at < found.len() {
        let single = found[at..].iter().take_while(|word| word.len() == 1 && is_word(word[0])).count();
        if single >= 4 && found[at..at + single].iter().any(|word| word[0].is_alphabetic()) {
            joined.push(found[at..at + single].concat());
            changed = true;
            at += single;
        } else {
            joined.push(std::mem::take(&mut found[at]));
            at += 1;
        }
    }
    (joined, changed)
}

/// A word with signs for letters: at least two letters, and more than signs, and no other digits, so that numbers with a letter or two
/// stay what they are.
fn leet(word: &[char]) -> bool {
    let signs = word.iter().filter(|&&c| plain(c, 'i') != c).count();
    let letters = word.iter().filter(|c| c.is_alphabetic()).count();
    signs > 0 && letters >= 2 && letters > signs && word.iter().all(|&c| !plain(c, 'i').is_numeric())
}

fn plain(sign: char, one: char) -> char {
    match sign {
        '0' => 'o',
        '1' | '!' => one,
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        '8' => 'b',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_folds_to_the_same() {
        let same: [(&str, &[&str]); 9] = [
            (
                "escort",
                &[
                    "ESCORT",
                    "Еscоrt",
                    "ｅｓｃｏｒｔ",
                    "𝐞𝐬𝐜𝐨𝐫𝐭",
                    "ᴇꜱᴄᴏʀᴛ",
                    "e\u{200b}sc\u{ad}ort",
                    "ésçört",
                    "🅴🆂🅲🅾🆁🆃",
                ],
            ),
            ("rent", &["RΕΝΤ", "RЕNТ", "rent\u{feff}"]),
            (
                "full service",
                &["Full --- Service!", "full\u{a0}\u{2003}service", "full\tservice\n", "«full/service»"],
            ),
            ("losegeld", &["Lösegeld", "LO\u{308}SEGELD"]),
            ("strasse", &["Straße", "STRASSE"]),
            ("визa", &["виза", "ВИЗА", "визa"]),
            ("νυχτα", &["ΝΥΧΤΑ", "νύχτα"]),
            ("🍕", &["🍕\u{fe0f}"]),
            ("👋", &["👋🏽"]),
        ];
        for (term, texts) in same {
            let wanted = words(term);
            for text in texts {
                assert_eq!(words(text), wanted, "`{text}` and `{term}`");
            }
        }
        assert_ne!(words("escort"), words("escorts"));
        assert_eq!(words("비자 수수료"), "비자 수수료", "Korean syllables are put together again");
        assert_eq!(words("a🍕b 🧀 🍼"), "a 🍕 b 🧀🍼");
        assert_eq!(words("👨\u{200d}👩\u{200d}👧 x\u{200d}y"), "👨\u{200d}👩\u{200d}👧 xy");
        assert_eq!(words("  ... "), "");
    }

    #[test]
    fn digits_in_words_are_read_as_letters_and_numbers_are_left_alone() {
        let read = |text: &str| disguised(&Loose::of(text));
        assert_eq!(read("3sc0rt tonight"), ["escort tonight"]);
        assert_eq!(read("m@ssage $ex"), ["massage sex"]);
        assert_eq!(read("cal1"), ["cali", "call"]);
        assert_eq!(read("e s c o r t"), ["escort"]);
        assert_eq!(read("e.s.c-o_r*t, es.cort"), ["escort escort"]);
        for plain in [
            "invoice 5301",
            "room 12b",
            "A1D5 0042",
            "DE89 3704 0044",
            "$100",
            "hello world",
            "J R R",
            "5 4 3 2 1",
            "we pay @ noon",
        ] {
            assert!(read(plain).is_empty(), "{plain}: {:?}", read(plain));
        }
    }
}
