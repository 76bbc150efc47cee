//! Which field of a sample is which canonical column: guesses from names in the languages that banks use, and from how a value looks.

use serde_json::Value;

/// A field of the sample's records.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// As SQL reads it.
    pub sql: String,
    /// Names from the record down.
    pub path: Vec<String>,
    /// A value of it; `Null` when the sample has none.
    pub value: Value,
}

/// Words that names of a canonical column hold, the likeliest first: English, German, French, Spanish, Italian, Dutch.
const ID: &[&str] = &[
    "transactionid",
    "transaction_id",
    "tx_id",
    "transaktionsnummer",
    "transaktions",
    "ref",
    "id",
    "referenz",
    "reference",
    "référence",
    "referencia",
    "referentie",
    "riferimento",
    "kenmerk",
    "belegnummer",
];
const TIME: &[&str] = &[
    "timestamp",
    "time",
    "booked",
    "booking",
    "date",
    "when",
    "ts",
    "buchung",
    "datum",
    "zeitpunkt",
    "fecha",
    "boekdatum",
    "data operazione",
    "data contabile",
    "horodatage",
];
const CLOCK: &[&str] = &["time", "uhrzeit", "zeit", "heure", "hora", "ora", "tijd", "tijdstip"];
const AMOUNT: &[&str] = &[
    "amount", "betrag", "umsatz", "montant", "importe", "importo", "bedrag", "monto", "valor", "amt",
    "value", "sum", "summe", "minor",
];
const CURRENCY: &[&str] = &[
    "currency",
    "ccy",
    "cur",
    "währung",
    "waehrung",
    "devise",
    "divisa",
    "moneda",
    "valutacode",
    "muntsoort",
    "munt",
];
const DEBTOR: &[&str] = &[
    "debtor",
    "debit",
    "payer",
    "from",
    "src",
    "sender",
    "orig",
    "auftraggeber",
    "zahler",
    "zahlungspflichtig",
    "schuldner",
    "absender",
    "débiteur",
    "debiteur",
    "donneur",
    "émetteur",
    "emetteur",
    "ordenante",
    "deudor",
    "remitente",
    "ordinante",
    "debitore",
    "pagatore",
    "opdrachtgever",
    "betaler",
];
const CREDITOR: &[&str] = &[
    "creditor",
    "credit",
    "payee",
    "to",
    "dst",
    "receiver",
    "recipient",
    "dest",
    "beneficiar",
    "empfänger",
    "empfaenger",
    "begünstigt",
    "beguenstigt",
    "gläubiger",
    "glaeubiger",
    "bénéficiaire",
    "créancier",
    "creancier",
    "acreedor",
    "begunstigde",
    "ontvanger",
    "tegenrekening",
    "gegenkonto",
    "counterparty",
];
const MEMO: &[&str] = &[
    "memo",
    "verwendungszweck",
    "zweck",
    "remittance",
    "note",
    "description",
    "libellé",
    "libelle",
    "motif",
    "concepto",
    "descripción",
    "descripcion",
    "omschrijving",
    "mededeling",
    "causale",
    "descrizione",
    "betreff",
    "purpose",
    "narrative",
    "details",
    "text",
];
/// Words by which a field of a side is its account, and not the name of whom it belongs to.
const ACCOUNT: &[&str] =
    &["iban", "account", "acct", "acc", "konto", "compte", "cuenta", "conto", "rekening", "number", "nummer"];
const NAME: &[&str] = &["name", "nom", "nombre", "nome", "naam"];

/// An expression of the SELECT and what to say of it.
pub(crate) struct Guess {
    pub sql: String,
    pub remark: &'static str,
    /// The field it was made of.
    pub field: Vec<String>,
}

const CHECK: &str = "a guess from the name: check it";

/// The best guess for a canonical column among the fields; `None` where no name tells of it.
pub(crate) fn guess(column: &str, fields: &[Leaf]) -> Option<Guess> {
    Some(match column {
        "tx_id" => plain(first(ID, fields, |_| true)?),
        "event_time" => time(fields)?,
        "amount" => {
            let field = first(AMOUNT, fields, |field| CURRENCY.iter().all(|word| !tells(last(field), word)))?;
            let guess = plain(field);
            match field.value.as_str().and_then(decimal_comma) {
                Some(sql) => Guess {
                    sql: sql.replace("{}", &field.sql),
                    remark: "a guess: which is the decimal sign? No CAST: as a text it is read exactly",
                    ..guess
                },
                None => guess,
            }
        }
        "currency" => plain(first(CURRENCY, fields, |_| true)?),
        "debtor_account" | "creditor_account" => {
            let words = if column == "debtor_account" { DEBTOR } else { CREDITOR };
            let is_account = |field: &Leaf| ACCOUNT.iter().any(|word| says(field, word));
            plain(first(words, fields, is_account).or_else(|| first(words, fields, |_| true))?)
        }
        "debtor_name" | "creditor_name" => {
            let words = if column == "debtor_name" { DEBTOR } else { CREDITOR };
            let is_account = |field: &Leaf| ACCOUNT.iter().any(|word| says(field, word));
            let is_name = |field: &Leaf| {
                let named = NAME.iter().any(|word| tells(last(field), word));
                let alone =
                    words.iter().any(|word| last(field).to_lowercase() == *word) && field.value.is_string();
                (named || alone) && !is_account(field)
            };
            plain(first(words, fields, is_name)?)
        }
        "memo" => plain(first(MEMO, fields, |_| true)?),
        _ => return None,
    })
}

fn plain(field: &Leaf) -> Guess {
    Guess { sql: field.sql.clone(), remark: CHECK, field: field.path.clone() }
}

/// A date, and a clock where another field has it.
fn time(fields: &[Leaf]) -> Option<Guess> {
    // Where date and clock stand apart, the date goes first.
    let dates = |field: &Leaf| field.value.as_str().is_none_or(|text| !is_clock(text));
    let field = first(TIME, fields, dates)?;
    let guess = plain(field);
    let Some((date, rest)) = field.value.as_str().and_then(day_first) else { return Some(guess) };
    let sql = &field.sql;
    let clock = first(CLOCK, fields, |field| field.value.as_str().is_some_and(is_clock));
    let (text, format, remark) = match (rest, clock) {
        ("", Some(clock)) => {
            let seconds = if clock.value.as_str().is_some_and(|text| text.len() > 5) { ":%S" } else { "" };
            (
                format!("{sql} || ' ' || {}", clock.sql),
                format!("{date} %H:%M{seconds}"),
                "a guess: check day and month",
            )
        }
        ("", None) => (
            format!("{sql} || ' 00:00:00'"),
            format!("{date} %H:%M:%S"),
            "a guess: check day and month. No clock was found: leave time_zone out and write … AT TIME ZONE 'UTC'",
        ),
        (rest, _) => {
            let seconds = if rest.len() > 6 { ":%S" } else { "" };
            (sql.clone(), format!("{date} %H:%M{seconds}"), "a guess: check day and month")
        }
    };
    Some(Guess { sql: format!("to_timestamp({text}, '{format}')"), remark, ..guess })
}

/// How `31.03.2026…` is written, and what stands behind the date.
fn day_first(text: &str) -> Option<(String, &str)> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let sign = char::from(*date.as_bytes().get(2)?);
    let digits = |range: std::ops::Range<usize>| date.as_bytes()[range].iter().all(u8::is_ascii_digit);
    let whole = matches!(sign, '.' | '/' | '-') && date.as_bytes()[5] == sign as u8;
    (whole && digits(0..2) && digits(3..5) && digits(6..10)).then(|| (format!("%d{sign}%m{sign}%Y"), rest))
}

fn is_clock(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.len(), 2 | 3)
        && parts.iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
}

/// How an amount with other signs than a decimal point becomes one; `{}` is the field. `None` where it is one.
fn decimal_comma(text: &str) -> Option<&'static str> {
    let amount = text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'-' | b'+'));
    let comma = text.rfind(',').filter(|_| amount)?;
    Some(match text.rfind('.') {
        Some(point) if point > comma => "replace({}, ',', '')",
        _ => "replace(replace({}, '.', ''), ',', '.')",
    })
}

/// Type of an integer that is a time since 1970, by its size.
pub(crate) fn epoch(value: &Value) -> Option<&'static str> {
    match value.as_i64()? {
        1_000_000_000..=9_999_999_999 => Some("\"timestamp_s\""),
        1_000_000_000_000..=9_999_999_999_999 => Some("\"timestamp_ms\""),
        1_000_000_000_000_000..=9_999_999_999_999_999 => Some("\"timestamp_us\""),
        _ => None,
    }
}

fn last(field: &Leaf) -> &str {
    field.path.last().map_or("", String::as_str)
}

/// Any name of the field's path tells a word.
fn says(field: &Leaf, word: &str) -> bool {
    field.path.iter().any(|name| tells(name, word))
}

/// The first field for the first word that is its own name, else that it tells.
fn first<'f>(words: &[&str], fields: &'f [Leaf], fits: impl Fn(&Leaf) -> bool) -> Option<&'f Leaf> {
    let find = |is: &dyn Fn(&Leaf, &str) -> bool| {
        words.iter().find_map(|word| fields.iter().find(|field| fits(field) && is(field, word)))
    };
    find(&|field, word| last(field).to_lowercase() == word).or_else(|| find(&says))
}

/// A name tells what a word stands for: short ones must be a word of it, so that `Paid` is no id and `Total` no receiver.
fn tells(name: &str, word: &str) -> bool {
    if word.len() > 3 {
        return name.to_lowercase().contains(word);
    }
    let mut words = vec![String::new()];
    let mut small = false;
    for letter in name.chars() {
        if !letter.is_alphanumeric() || (letter.is_uppercase() && small) {
            words.push(String::new());
        }
        small = letter.is_lowercase();
        if let Some(word) = words.last_mut()
            && letter.is_alphanumeric()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words.iter().any(|told| told == word)
}
