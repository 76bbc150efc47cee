//! A small project of its own, whose cases are tried, failed and mutated.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::PathBuf;

use manumit_cases::{Outcome, Suite, Tester, Tried, mutate, suites};
use manumit_rules::Sources;

const INDICATOR: &str = r#"
id = "many-senders"
version = 1
status = "draft"
title = "Many senders of small amounts"
severity = "medium"
exploitation = ["sexual"]
references = ["FINTRAC-2021-28"]
false_positives = ["people who collect for a gift"]
subject = "account"
over = "entries"
where = "entry_type = 'booking'"
when = "direction = 'in' AND amount_base <= $small AND senders >= $min_senders"
explain = "{senders} different senders within 30 days"
[features]
senders = "count(DISTINCT counterparty) FILTER (WHERE direction = 'in') OVER 30 days"
[params.min_senders]
value = 4
unit = "accounts"
source = "judgement"
[params.small]
value = 800
unit = "base currency"
source = "judgement"
"#;

const NIGHT: &str = r#"
id = "night-inflow"
version = 1
status = "draft"
title = "Money at night"
severity = "low"
exploitation = ["any"]
references = ["FINTRAC-2016-12"]
false_positives = ["night workers"]
subject = "account"
when = "direction = 'in' AND is_night(local_time)"
explain = "paid at {local_time}"
"#;

const TYPOLOGY: &str = r#"
id = "collector"
version = 1
status = "draft"
title = "Collector of small payments"
severity = "high"
exploitation = ["sexual"]
references = ["FINTRAC-2021-28"]
false_positives = ["class organisers"]
fiu_keywords = []
subject = "account"
within = "14 days"
gate = "many-senders"
summary = "This account collects many small payments from different people."
[[corroborator]]
indicator = "night-inflow"
points = 20
at_least = 2
[[exclude]]
when = "customer.segment = 'business'"
words = "the customer is a registered business"
[roles]
subject = "possible_facilitator"
payers = "possible_buyer"
"#;

const CASES: &str = r#"
[setting]
time_zone = "Europe/Berlin"
[accounts.collector]
customer = "C1"
[customers.C1]
segment = "person"

[[case]]
id = "four-at-night"
title = "Four strangers pay late in the evening"
transactions = '''
label   | when        | times   | from      | to        | amount    | method
clients | day 1 22:30 | 4 daily | payer-{n} | collector | 150 / 800 | p2p
# what becomes of it
passed  | day 6 08:00 |         | collector | driver    | 500       | transfer
'''
[[case.alert]]
subject = "collector"
role = "possible_facilitator"
score = [70, 70]
indicators = ["many-senders", "night-inflow"]
by = "day 4"

[[near_miss]]
of = "four-at-night"
id = "three-senders"
because = "three are a family"
set = { rows = "clients", times = "3 daily" }

[[near_miss]]
of = "four-at-night"
id = "by-day"
because = "there is no sign of a service at night"
set = { rows = "clients", when = "day 1 12:30" }

[[near_miss]]
of = "four-at-night"
id = "a-business"
because = "a registered business sells to many"
customers.C1 = { segment = "business" }

[[case]]
id = "gift"
title = "A present for a colleague"
because = "by day, and all on one day"
transactions = '''
when        | times             | from      | to   | amount
day 1 12:00 | 9 every 5 minutes | friend-{n}| eve  | 20
'''
"#;

fn project(cases: &str) -> Sources {
    let files = [
        ("rules/indicators/many-senders.toml", INDICATOR),
        ("rules/indicators/night-inflow.toml", NIGHT),
        ("rules/typologies/x/collector/typology.toml", TYPOLOGY),
        ("rules/typologies/x/collector/cases.toml", cases),
    ];
    Sources::from_files(files.map(|(path, text)| (PathBuf::from(path), text.to_string())))
}

fn tried(cases: &str) -> (Suite, Vec<Tried>) {
    tried_of(&project(cases))
}

fn tried_of(sources: &Sources) -> (Suite, Vec<Tried>) {
    let suite = suites(sources).unwrap_or_else(|faults| panic!("{faults}")).remove(0);
    let tester = Tester::new(sources).unwrap_or_else(|faults| panic!("{faults}"));
    let tried = tester.try_suite(&suite, 7).unwrap_or_else(|error| panic!("{error}"));
    (suite, tried)
}

#[test]
fn cases_and_near_misses_end_as_wanted_in_all_five_ways() {
    let (suite, tried) = tried(CASES);
    insta::assert_snapshot!("as_wanted", manumit_cases::text(&suite, &tried, true));
    assert!(tried.iter().all(|one| one.outcome == Outcome::AsWanted));
}

#[test]
fn what_is_not_as_wanted_is_told_with_what_was_seen() {
    let wrong = CASES
        .replace("score = [70, 70]", "score = [80, 90]")
        .replace("times = \"3 daily\"", "times = \"5 daily\"")
        .replace("by = \"day 4\"", "by = \"day 2\"")
        .replace("role = \"possible_facilitator\"", "role = \"possible_victim\"");
    let (suite, tried) = tried(&wrong);
    insta::assert_snapshot!("not_as_wanted", manumit_cases::text(&suite, &tried, false));
    insta::assert_snapshot!("junit", manumit_cases::junit(&[(suite, tried)]));
}

#[test]
fn faults_of_a_case_file_name_the_place_and_the_mend() {
    let faulty = r#"
[setting]
time_zone = "Europe/Berln"
[accounts.collector]
opened = "day -400"
[customers.C1]
born_on = "long ago"

[[case]]
id = "one"
title = "Faults of all kinds"
transactions = '''
when         | times    | from | to | amount  | metod | country
day 1 25:00  |          | a    | b  | 150     | p2p   | DE
'''
[[case.alert]]
subject = "b"
score = "high"
indicators = ["x"]

[[case]]
id = "two"
title = "More of them"
transactions = '''
when         | times    | from | to | amount  | method | country | memo
day 1 25:00  |          | a    | b  | 150     | p2p    | DE      |
day 1 12:00  | 3 yearly | a    | b  | 150     | p2p    | DE      |
day 1 12:00  |          | a    | b  | -150    | ptp    | de      | a | b
day 1 12:00  |          | a    | b  |         | p2p    | DE      | a \| b
'''

[[near_miss]]
of = "three"
id = "four"
because = "nobody knows"
leave_out = "clients"
"#;
    let faults = suites(&project(faulty)).unwrap_err();
    insta::assert_snapshot!("faults", faults.to_string());
}

#[test]
fn a_near_miss_changes_one_fact_and_a_raising_case_has_one() {
    let two = CASES.replace("times = \"3 daily\" }", "times = \"3 daily\", amount = \"5\" }");
    let none = CASES.split("[[near_miss]]").next().unwrap().to_string();
    let both = CASES.replace("customers.C1 = {", "leave_out = \"passed\"\ncustomers.C1 = {");
    let told: Vec<String> =
        [two, none, both].iter().map(|cases| suites(&project(cases)).unwrap_err().to_string()).collect();
    insta::assert_snapshot!("near_misses", told.join("\n\n"));
}

#[test]
fn mutation_tells_which_thresholds_the_cases_do_not_hold() {
    let sources = project(CASES);
    let suites = suites(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    let all = mutate(&sources, &suites).unwrap_or_else(|faults| panic!("{faults}"));
    let told: Vec<String> = all
        .iter()
        .map(|one| {
            let noticed = if one.noticed_by.is_some() { "noticed" } else { "NOT NOTICED" };
            format!("{noticed}: {}:{}: {}", one.change.file.display(), one.change.line, one.change.words)
        })
        .collect();
    insta::assert_snapshot!("mutations", told.join("\n"));
    // The edges of the cases: four senders, 800, twice at night.
    for held in ["`4` becomes `5`", "`4` becomes `3`", "`800` becomes `640`", "`2` becomes `1`"] {
        let of = all.iter().filter(|one| one.change.words.starts_with(held)).collect::<Vec<_>>();
        assert!(!of.is_empty(), "{held}");
    }
    // Nothing in the cases is told of windows: nobody pays weeks apart.
    let missed = all.iter().filter(|one| one.noticed_by.is_none()).count();
    assert!(missed > 0 && missed * 2 < all.len(), "{missed} of {}", all.len());
}

#[test]
fn facts_of_one_case_are_not_known_in_another() {
    let other = CASES.replace(
        "id = \"gift\"",
        "id = \"gift\"\ncustomers.C1 = { segment = \"business\" }\naccounts.eve = { customer = \"C1\" }",
    );
    let (_, tried) = tried(&other);
    assert!(tried.iter().all(|one| one.outcome == Outcome::AsWanted));
}

/// Firms may have more payers: from eight on for them, and not for the rest.
const BY_SEGMENT: &str = r#"[params.min_senders]
value = 4
unit = "accounts"
source = "judgement"
[[params.min_senders.segment]]
when = "customer.segment = 'business' AND account.country = 'DE'"
value = 6
source = "judgement: firms are paid by more people"
"#;

const FIRMS: &str = r#"
[setting]
time_zone = "Europe/Berlin"
[accounts.shop]
customer = "C1"
country = "DE"
[accounts.other]
customer = "C2"
country = "AT"
[customers.C1]
segment = "business"
[customers.C2]
segment = "business"

[[case]]
id = "six-for-a-firm"
title = "A firm is paid by six at night"
transactions = '''
label   | when        | times   | from      | to   | amount    | method
clients | day 1 22:30 | 6 daily | payer-{n} | shop | 150 / 800 | p2p
'''
[[case.alert]]
subject = "shop"
score = [70, 70]
indicators = ["many-senders", "night-inflow"]
by = "day 6"

[[near_miss]]
of = "six-for-a-firm"
id = "five"
because = "five pay every firm"
set = { rows = "clients", times = "5 daily" }

[[case]]
id = "four-elsewhere"
title = "The segment is of one country"
transactions = '''
label   | when        | times   | from      | to    | amount | method
clients | day 1 22:30 | 4 daily | payer-{n} | other | 150    | p2p
'''
[[case.alert]]
subject = "other"
score = [70, 70]
indicators = ["many-senders", "night-inflow"]
by = "day 4"

[[near_miss]]
of = "four-elsewhere"
id = "here"
because = "in this country it is the firms' own number that counts"
accounts.other = { country = "DE" }
"#;

#[test]
fn a_threshold_that_differs_by_segment_holds_in_all_five_ways_and_is_mutated() {
    let own = "[params.min_senders]\nvalue = 4\nunit = \"accounts\"\nsource = \"judgement\"\n";
    let indicator = INDICATOR.replace(own, BY_SEGMENT);
    assert_ne!(indicator, INDICATOR);
    let typology = TYPOLOGY.replace("customer.segment = 'business'", "account.kind = 'client_account'");
    let files = [
        ("rules/indicators/many-senders.toml", indicator.as_str()),
        ("rules/indicators/night-inflow.toml", NIGHT),
        ("rules/typologies/x/collector/typology.toml", &typology),
        ("rules/typologies/x/collector/cases.toml", FIRMS),
    ];
    let sources = Sources::from_files(files.map(|(path, text)| (PathBuf::from(path), text.to_string())));
    let (suite, tried) = tried_of(&sources);
    assert!(
        tried.iter().all(|one| one.outcome == Outcome::AsWanted),
        "{}",
        manumit_cases::text(&suite, &tried, true)
    );
    let tester = Tester::new(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    let words = manumit_rules::explain(tester.rules(), "many-senders").unwrap();
    let told = "[threshold 4, 6 where customer.segment = 'business' AND account.country = 'DE' accounts; source: judgement; where";
    assert!(words.contains(told), "{words}");
    let mutations = mutate(&sources, &[suite]).unwrap_or_else(|faults| panic!("{faults}"));
    let of_segment: Vec<String> = mutations
        .iter()
        .map(|one| one.change.words.clone())
        .filter(|words| words.contains("value = 6") || words.contains("'DE'"))
        .collect();
    assert!(of_segment.len() >= 3, "{of_segment:?}");
}
