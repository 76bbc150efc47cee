//! Random transactions: few keys, one of them hot; bursts of ties; NULLs; refunds and reversals; several partitions out
//! of order within and beyond their lateness. Times are whole units apart, or a microsecond beside, so that rows stand
//! exactly on the ends of windows.

use std::sync::Arc;

use arrow::array::{
    Array, BooleanArray, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

/// Canonical columns of every row.
pub const COLUMNS: [&str; 25] = [
    "tx_id",
    "event_time",
    "utc_offset_minutes",
    "local_time",
    "entry_type",
    "method",
    "amount",
    "currency",
    "amount_base",
    "fee_amount",
    "debtor_account",
    "debtor_customer",
    "debtor_external",
    "creditor_account",
    "creditor_customer",
    "creditor_external",
    "mcc",
    "merchant_id",
    "city",
    "latitude",
    "device_id",
    "memo",
    "batch_line",
    "feed",
    "source_offset",
];

/// Begin of the time that rows lie in, microseconds UTC: a day, a week and a month begin there in Berlin (1 June 2026),
/// a month in UTC, and the two days on which Berlin changes its clocks.
pub const STARTS: [i64; 4] = [1_780_264_800, 1_780_272_000, 1_774_738_800, 1_792_879_200];

/// One transaction. Accounts and the like are numbers, so that a failing case prints on one line.
#[derive(Debug, Clone)]
pub struct Row {
    /// Unique; not in the order of time.
    pub id: u32,
    /// Microseconds UTC.
    pub time: i64,
    /// Index into the case's partitions.
    pub partition: usize,
    pub debtor: Option<u8>,
    pub creditor: Option<u8>,
    pub external: bool,
    pub entry_type: &'static str,
    pub method: &'static str,
    /// Hundredths.
    pub amount: i64,
    pub no_base: bool,
    pub fee: Option<i64>,
    pub mcc: Option<&'static str>,
    pub merchant: Option<u8>,
    pub city: Option<&'static str>,
    pub latitude: Option<i8>,
    pub device: Option<u8>,
    pub memo: Option<&'static str>,
    pub line: Option<i32>,
    pub night: Option<bool>,
    /// Added to find out whether keys of others matter: its keys begin with U.
    pub unrelated: bool,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub struct Partition {
    pub feed: &'static str,
    pub lateness_micros: i64,
}

/// Partitions, and rows in the order in which they arrive; only the order within a partition means anything.
pub fn draw(rng: &mut ChaCha8Rng, unit: i64, start: i64) -> (Vec<Partition>, Vec<Row>) {
    let partitions: Vec<Partition> = (0..rng.random_range(1..=4))
        .map(|p| Partition {
            feed: if p % 2 == 0 { "bank" } else { "card" },
            lateness_micros: unit * [0, 1, 3, 8].choose(rng).unwrap(),
        })
        .collect();
    let count = if rng.random_bool(0.25) { rng.random_range(250..450) } else { rng.random_range(1..220) };
    let span = *[12, 40, 90].choose(rng).unwrap();
    let mut ids: Vec<u32> = (0..count).collect();
    ids.shuffle(rng);
    let mut rows: Vec<Row> = Vec::new();
    for id in ids {
        let mut row = one(rng, id, unit, start, span, partitions.len());
        // A burst: the same time, and often the same payer, as another row.
        if !rows.is_empty() && rng.random_bool(0.15) {
            let other = rows.choose(rng).unwrap();
            row.time = other.time;
            if rng.random_bool(0.6) {
                row.debtor = other.debtor;
            }
        }
        rows.push(row);
    }
    // Arrival: by time, and sometimes later than it may be.
    let mut arrivals: Vec<(i64, usize)> = rows
        .iter()
        .enumerate()
        .map(|(n, row)| {
            let lateness = partitions[row.partition].lateness_micros;
            let delay = match rng.random_range(0..20) {
                0..=13 => rng.random_range(0..=lateness),
                14..=16 => lateness,
                17 => lateness + 1,
                18 => lateness + unit,
                _ => rng.random_range(0..=lateness + 6 * unit),
            };
            (row.time + delay, n)
        })
        .collect();
    arrivals.sort_unstable();
    (partitions, arrivals.into_iter().map(|(_, n)| rows[n].clone()).collect())
}

fn one(rng: &mut ChaCha8Rng, id: u32, unit: i64, start: i64, span: i64, partitions: usize) -> Row {
    let beside = if unit > 1 { *[-1, 0, 0, 0, 0, 1].choose(rng).unwrap() } else { 0 };
    let account = |rng: &mut ChaCha8Rng| match rng.random_range(0..20) {
        0..=2 => None,
        3..=10 => Some(0),
        _ => Some(rng.random_range(0..5)),
    };
    let few = |rng: &mut ChaCha8Rng, known: f64| rng.random_bool(known).then(|| rng.random_range(0..3_u8));
    let text = |rng: &mut ChaCha8Rng, known: f64, words: &[&'static str]| {
        rng.random_bool(known).then(|| *words.choose(rng).unwrap())
    };
    Row {
        id,
        time: start + (rng.random_range(0..span) - span / 3) * unit + beside,
        partition: rng.random_range(0..partitions),
        debtor: account(rng),
        creditor: account(rng),
        external: rng.random_bool(0.1),
        entry_type: ["booking", "booking", "booking", "booking", "refund", "reversal", "authorisation"]
            .choose(rng)
            .unwrap(),
        method: ["cash", "transfer", "card"].choose(rng).unwrap(),
        amount: *[0, 1, 100, 250, 333, 1_000, 99_999].choose(rng).unwrap() + rng.random_range(0..3),
        no_base: rng.random_bool(0.08),
        fee: rng.random_bool(0.4).then(|| rng.random_range(0..500)),
        mcc: text(rng, 0.5, &["5812", "7011", "5411"]),
        merchant: few(rng, 0.6),
        city: text(rng, 0.7, &["x", "y", "z"]),
        latitude: rng.random_bool(0.6).then(|| rng.random_range(-3..4)),
        device: few(rng, 0.7),
        memo: text(rng, 0.5, &["club", "gift"]),
        line: rng.random_bool(0.6).then(|| rng.random_range(0..4)),
        night: rng.random_bool(0.8).then(|| rng.random_bool(0.5)),
        unrelated: false,
    }
}

/// Which rows are late, from the definition alone: a row is late when its own partition has already shown a row later than
/// its time and the lateness together.
pub fn late(partitions: &[Partition], rows: &[Row]) -> Vec<bool> {
    rows.iter()
        .enumerate()
        .map(|(n, row)| {
            let limit = row.time + partitions[row.partition].lateness_micros;
            rows[..n].iter().any(|earlier| earlier.partition == row.partition && earlier.time > limit)
        })
        .collect()
}

/// Rows of keys that no other row has, in a partition of their own.
pub fn unrelated(rng: &mut ChaCha8Rng, like: &[Row], partition: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = like.iter().filter(|_| rng.random_bool(0.5)).cloned().collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row.id = 100_000 + n as u32;
        row.partition = partition;
        row.unrelated = true;
    }
    rows
}

/// Rows as the engine and DataFusion take them.
pub fn batch(partitions: &[Partition], rows: &[&Row]) -> RecordBatch {
    let text = |f: &dyn Fn(&Row) -> Option<String>| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(|row| f(row)).collect::<StringArray>())
    };
    let amounts = |f: &dyn Fn(&Row) -> Option<i64>| -> Arc<dyn Array> {
        let all: Decimal128Array = rows.iter().map(|row| f(row).map(|v| i128::from(v) * 100)).collect();
        Arc::new(all.with_precision_and_scale(20, 4).unwrap())
    };
    let flags = |f: &dyn Fn(&Row) -> Option<bool>| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(|row| f(row)).collect::<BooleanArray>())
    };
    let key = |row: &Row, kind: &str, number: Option<u8>| {
        let unrelated = if row.unrelated { "U" } else { "" };
        number.map(|number| format!("{unrelated}{kind}{number}"))
    };
    // Two accounts a customer; of one account the customer is not known.
    let customer = |row: &Row, account: Option<u8>| key(row, "C", account.filter(|&a| a != 3).map(|a| a / 2));
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.time)).collect();
    let local: TimestampMicrosecondArray = rows
        .iter()
        .map(|row| row.night.map(|night| day(row.time) + if night { 0 } else { 12 * 3_600_000_000 }))
        .collect();
    let offsets: arrow::array::Int64Array = rows.iter().map(|row| Some(i64::from(row.id))).collect();
    let columns: Vec<(&str, Arc<dyn Array>)> = vec![
        ("tx_id", text(&|row| Some(format!("t{:06}", row.id)))),
        ("event_time", Arc::new(times.with_timezone("UTC"))),
        ("utc_offset_minutes", Arc::new(Int32Array::from(vec![Some(60); rows.len()]))),
        ("local_time", Arc::new(local)),
        ("entry_type", text(&|row| Some(row.entry_type.into()))),
        ("method", text(&|row| Some(row.method.into()))),
        ("amount", amounts(&|row| Some(row.amount))),
        ("currency", text(&|_| Some("EUR".into()))),
        ("amount_base", amounts(&|row| (!row.no_base).then_some(row.amount))),
        ("fee_amount", amounts(&|row| row.fee)),
        ("debtor_account", text(&|row| key(row, "A", row.debtor))),
        ("debtor_customer", text(&|row| customer(row, row.debtor))),
        ("debtor_external", flags(&|_| None)),
        ("creditor_account", text(&|row| key(row, "A", row.creditor))),
        ("creditor_customer", text(&|row| customer(row, row.creditor))),
        ("creditor_external", flags(&|row| Some(row.external))),
        ("mcc", text(&|row| row.mcc.map(Into::into))),
        ("merchant_id", text(&|row| key(row, "M", row.merchant))),
        ("city", text(&|row| row.city.map(Into::into))),
        (
            "latitude",
            Arc::new(
                rows.iter().map(|row| row.latitude.map(|l| f64::from(l) / 2.0)).collect::<Float64Array>(),
            ),
        ),
        ("device_id", text(&|row| key(row, "D", row.device))),
        ("memo", text(&|row| row.memo.map(Into::into))),
        ("batch_line", Arc::new(rows.iter().map(|row| row.line).collect::<Int32Array>())),
        ("feed", text(&|row| Some(partitions[row.partition].feed.into()))),
        ("source_offset", Arc::new(offsets)),
    ];
    assert!(columns.iter().map(|(name, _)| *name).eq(COLUMNS));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

/// The UTC day's begin.
fn day(time: i64) -> i64 {
    time.div_euclid(86_400_000_000) * 86_400_000_000
}

/// A row on one line, for a report.
pub fn line(row: &Row) -> String {
    let word = |o: &Option<&str>| o.unwrap_or("-").to_string();
    let number = |o: Option<i64>| o.map_or("-".into(), |n| n.to_string());
    format!(
        "t{:06} p{} {} A{}>A{}{} {} {} {}.{:02}{} fee {} mcc {} M{} D{} {} lat/2 {} {} line {} night {:?}",
        row.id,
        row.partition,
        row.time,
        number(row.debtor.map(i64::from)),
        number(row.creditor.map(i64::from)),
        if row.external { "(ext)" } else { "" },
        row.entry_type,
        row.method,
        row.amount / 100,
        row.amount % 100,
        if row.no_base { " (no base)" } else { "" },
        number(row.fee),
        word(&row.mcc),
        number(row.merchant.map(i64::from)),
        number(row.device.map(i64::from)),
        word(&row.city),
        number(row.latitude.map(i64::from)),
        word(&row.memo),
        number(row.line.map(i64::from)),
        row.night
    )
}
