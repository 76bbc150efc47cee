//! Rule files as their authors write them: the guide's own examples, both forms of one indicator, and broken ones.

use std::path::{Path, PathBuf};

use manumit_rules::ir::RuleSet;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;

const GUIDE: &str = include_str!("../../rules/README.md");

/// The guide's code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    GUIDE.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

fn with_pack(files: &[(&str, &str)]) -> Result<RuleSet, String> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut sources = Sources::read(root).unwrap();
    sources.extend(Sources::from_files(
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_string())),
    ));
    load(&sources, &Sql::new()).map_err(|faults| faults.to_string())
}

const INDICATOR: &str = "rules/indicators/many-small-senders.toml";
const TYPOLOGY: &str = "rules/typologies/sexual-exploitation/my-collector/typology.toml";

#[test]
fn the_guides_examples_load_beside_the_pack() {
    let toml = blocks("toml");
    let rules = with_pack(&[(INDICATOR, &toml[0]), (TYPOLOGY, &toml[1])]).unwrap_or_else(|e| panic!("{e}"));
    let typology = rules.typologies.iter().find(|t| t.meta.id == "my-collector").unwrap();
    assert_eq!((typology.gate.len(), typology.corroborators.len()), (1, 1));
}

#[test]
fn no_single_indicator_raises_an_alert_unless_its_typology_is_a_draft() {
    let toml = blocks("toml");
    let told = |status: &str, points: u32| {
        let text = toml[1].replacen(
            "status = \"draft\"",
            &format!("status = \"{status}\"\ngate_points = {points}"),
            1,
        );
        with_pack(&[(INDICATOR, &toml[0]), (TYPOLOGY, &text)]).err()
    };
    let refused = told("experimental", 70).unwrap();
    assert!(
        refused.contains("one indicator alone would raise an alert: the gate gives 70 points"),
        "{refused}"
    );
    assert!(
        refused.contains("my-collector/typology.toml") && refused.contains("add a corroborator"),
        "{refused}"
    );
    assert_eq!((told("experimental", 65), told("draft", 70)), (None, None));
}

#[test]
fn the_guides_sequences_load_and_are_explained() {
    let toml = blocks("toml");
    let sequences: Vec<&String> = toml.iter().filter(|text| text.contains("[[step]]")).collect();
    assert_eq!(sequences.len(), 2);
    let mut told = Vec::new();
    for (text, id) in sequences.into_iter().zip(["cash-then-abroad", "paid-down-then-cash"]) {
        let path = format!("rules/indicators/{id}.toml");
        let rules = with_pack(&[(&path, text)]).unwrap_or_else(|e| panic!("{e}"));
        told.push(manumit_rules::explain(&rules, id).unwrap());
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn each_broken_sequence_is_refused_with_its_place_and_the_mend() {
    let toml = blocks("toml");
    let refused = |id: &str, from: &str, to: &str| {
        let text = toml.iter().find(|text| text.contains(&format!("id = \"{id}\""))).unwrap();
        let broken = text.replacen(from, to, 1);
        assert_ne!(&broken, text, "{from} is not in the example");
        let told = with_pack(&[(&format!("rules/indicators/{id}.toml"), &broken)]);
        format!("== {from} -> {to}\n{}", told.err().unwrap_or_else(|| panic!("{to} was taken")))
    };
    let (cash, card) = ("cash-then-abroad", "paid-down-then-cash");
    let last = "direction = 'out' AND counterparty_country <> account.country AND amount_base BETWEEN 0.5 * cash_in.amount_base AND 1.1 * cash_in.amount_base";
    let faults = [
        refused(cash, "within = \"2 days\"", ""),
        refused(cash, "within = \"2 days\"", "within = \"500 days\""),
        refused(cash, "name = \"abroad\"", "name = \"cash_in\""),
        refused(cash, "name = \"cash_in\"", "name = \"method\""),
        refused(cash, "0.5 * cash_in.amount_base", "0.5 * cashin.amount_base"),
        refused(cash, "0.5 * cash_in.amount_base", "0.5 * cash_in.amount_bas"),
        refused(cash, last, "amount_base + cash_in.amount_base > 100"),
        refused(cash, last, "amount_base > cash_in.amount_base + amount"),
        refused(cash, last, "city > cash_in.city"),
        refused(cash, last, "city = cash_in.amount_base"),
        refused(cash, last, "amount_base > cash_in.amount_base OR city = cash_in.city"),
        refused(cash, "paid_in = \"cash_in.amount_base\"", "paid_in = \"cash_in.amount_base - amount_base\""),
        refused(
            cash,
            "paid_in = \"cash_in.amount_base\"",
            "paid_in = \"cash_in.amount_base - abroad.amount_base\"",
        ),
        refused(card, "at_least = 2\n", ""),
        refused(card, "within = \"7 days\"", ""),
        refused(card, "at_least = 2", "at_least = 0"),
        refused(card, "not = true", "not = true\noptional = true"),
        refused(card, "not = true", "not = true\nwithin = \"1 days\""),
        refused(card, "at_least = 2\nwithin = \"7 days\"", "optional = true"),
        refused(card, "0.5 * paid_down.amount_base", "0.5 * bought.amount_base"),
        refused(card, "payments = \"paid_down.count\"", "payments = \"bought.count\""),
        refused(card, "not = true", "note = true"),
    ];
    insta::assert_snapshot!(faults.join("\n\n"));
}

#[test]
fn windows_of_rows_are_read_or_refused_with_the_mend() {
    let toml = &blocks("toml")[0];
    let read = |window: &str| {
        let text = toml.replacen("OVER 30 days", &format!("OVER {window}"), 1);
        with_pack(&[(INDICATOR, &text)]).map(|rules| {
            rules.indicators.iter().find(|i| i.meta.id == "many-small-senders").unwrap().sql.clone()
        })
    };
    let order = "PARTITION BY account ORDER BY event_time, feed, tx_id, direction DESC ROWS BETWEEN";
    assert!(read("10 rows").unwrap().contains(&format!("{order} 9 PRECEDING AND CURRENT ROW")));
    let without = read("10 rows excluding current row").unwrap();
    assert!(without.contains(&format!("{order} 10 PRECEDING AND 1 PRECEDING")));
    let refused = ["0 rows", "1001 rows", "ten rows", "10 rows excluding end", "10 rows in Europe/Berlin"]
        .map(|window| {
            format!("== {window}\n{}", read(window).err().unwrap_or_else(|| panic!("{window} was taken")))
        });
    insta::assert_snapshot!(refused.join("\n\n"));
}

#[test]
fn an_indicator_in_toml_and_in_sql_is_the_same_query() {
    let toml = &blocks("toml")[0];
    let cut = |from: &str, to: &str| {
        let start = toml.find(from).unwrap();
        (start, toml[start..].find(to).map_or(toml.len(), |end| start + end))
    };
    // The guide's query has no upper bound of amounts.
    let (small, _) = cut("[params.small]", "\u{0}");
    let as_toml = toml[..small].replace("amount_base <= $small AND ", "");
    let (features, params) = cut("[features]", "[params.min_senders]");
    let mut as_sql = format!("{}{}", &as_toml[..as_toml.find("[features]").unwrap()], &toml[params..small]);
    assert!(features < params);
    for key in ["where = ", "when = "] {
        let start = as_sql.find(key).unwrap();
        let end = start + as_sql[start..].find('\n').unwrap();
        as_sql.replace_range(start..=end, "");
    }
    let from_toml = with_pack(&[(INDICATOR, &as_toml)]).unwrap_or_else(|e| panic!("{e}"));
    let from_sql = with_pack(&[
        ("sql/indicators/many-small-senders/indicator.toml", &as_sql),
        ("sql/indicators/many-small-senders/query.sql", &blocks("sql")[0]),
    ])
    .unwrap_or_else(|e| panic!("{e}"));
    let query = |rules: &RuleSet| {
        rules.indicators.iter().find(|i| i.meta.id == "many-small-senders").unwrap().sql.clone()
    };
    assert_eq!(query(&from_toml), query(&from_sql));
}

#[test]
fn each_broken_rule_file_is_refused_with_its_place_and_the_mend() {
    let toml = blocks("toml");
    let refused = |which: usize, from: &str, to: &str| {
        let broken = toml[which].replacen(from, to, 1);
        assert_ne!(broken, toml[which], "{from} is not in the example");
        let (indicator, typology) = if which == 0 { (&broken, &toml[1]) } else { (&toml[0], &broken) };
        let told = with_pack(&[(INDICATOR, indicator), (TYPOLOGY, typology)]);
        format!("== {from} -> {to}\n{}", told.err().unwrap_or_else(|| panic!("{to} was taken")))
    };
    let faults = [
        refused(0, "severity = \"medium\"", "severity = medium"),
        refused(0, "severity = \"medium\"", "severity = \"middle\""),
        refused(0, "title = \"Many", "titel = \"Many"),
        refused(0, "references = [\"FINTRAC-2021-28\"]", "references = []"),
        refused(0, "senders >= $min_senders", "sender >= $min_senders"),
        refused(0, "$min_senders", "$min_sender"),
        refused(0, "count(DISTINCT counterparty)", "count(DISTINCT counter_party)"),
        refused(0, "OVER 30 days", "OVER 30 dayz"),
        refused(0, "sum(amount_base)", "summ(amount_base)"),
        refused(0, "direction = 'in' AND amount_base", "direction = 1 AND amount_base"),
        refused(0, "direction = 'in' AND amount_base", "direction = 'in' AND AND amount_base"),
        refused(0, "value = 8", "value = \"eight\""),
        refused(0, "source = \"FINTRAC-2021-28; the number is our judgement\"\n", ""),
        refused(0, "{inflow:amount}", "{inflows:amount}"),
        refused(0, "id = \"many-small-senders\"", "id = \"many-senders-small\""),
        refused(0, "subject = \"account\"", "subject = \"acount\""),
        refused(1, "gate = \"many-small-senders\"", "gate = \"many-small-sender\""),
        refused(1, "within = \"14 days\"", "within = \"fourteen days\""),
        refused(1, "points = 20", "points = 500"),
        refused(1, "customer.segment", "customer.segmant"),
        refused(1, "payers = \"possible_buyer\"", "payers = \"buyer\""),
    ];
    insta::assert_snapshot!(faults.join("\n\n"));
}

/// The block that the guide tells authors to write.
const RETIRED: &str = "\n[retired]\non = 2026-11-30\nbecause = \"raised what sextortion-mule says better.\"\nreplaced_by = \"sextortion-mule\"\n";

#[test]
fn a_retired_typology_does_not_run_and_says_why_to_those_who_ask() {
    let toml = blocks("toml");
    // Its indicator is gone already, and its corroborator never was: nobody looks there any more.
    let text =
        toml[1].replace("\"draft\"", "\"retired\"").replace("night-inflow", "no-such-indicator") + RETIRED;
    let rules = with_pack(&[(TYPOLOGY, &text)]).unwrap_or_else(|e| panic!("{e}"));
    let without = with_pack(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (rules.hash.as_str(), rules.typologies.len()),
        (without.hash.as_str(), without.typologies.len())
    );
    let said = "the typology `my-collector` was retired on 2026-11-30: raised what sextortion-mule says better; \
                `sextortion-mule` takes its place";
    assert_eq!(rules.absent("my-collector"), said);
    assert_eq!(rules.retired.len(), 1);
    assert!(without.absent("my-collector").contains("there is no typology or indicator"));
}

#[test]
fn retirement_is_refused_where_it_is_half_said_or_breaks_another_rule() {
    let toml = blocks("toml");
    let ended = |text: &str, block: &str| text.replace("\"draft\"", "\"retired\"") + block;
    let refused = |indicator: String, typology: &str| {
        with_pack(&[(INDICATOR, &indicator), (TYPOLOGY, typology)]).unwrap_err()
    };
    let block = |lines: &str| format!("\n[retired]\n{lines}\n");
    let told = [
        // A typology that runs names it.
        refused(ended(&toml[0], &block("on = 2026-11-30\nbecause = \"too many alerts\"")), &toml[1]),
        refused(
            ended(&toml[0], &block("on = 2026-11-30\nbecause = \"x\"\nreplaced_by = \"night-inflow\"")),
            &toml[1],
        ),
        // Half said.
        refused(toml[0].clone(), &ended(&toml[1], "")),
        refused(toml[0].clone(), &ended(&toml[1], &block("on = \"November\""))),
        refused(
            toml[0].clone(),
            &ended(&toml[1], &block("on = 2026-11-30\nbecause = \"x\"\nreplaced_by = \"sextortion-mul\"")),
        ),
        // Said, and not meant.
        refused(toml[0].clone(), &(toml[1].clone() + RETIRED)),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
}

/// The guide's indicator and typology with another condition, gate and kind of exploitation.
fn principled(condition: &str, gate: &str, kind: &str, more: &[(&str, &str)]) -> Option<String> {
    let toml = blocks("toml");
    let asked = toml[0].replace("id = \"many-small-senders\"", "id = \"asks-who\"").replace(
        "direction = 'in' AND amount_base <= $small AND senders >= $min_senders",
        &format!("({condition}) AND amount_base <= $small AND senders >= $min_senders"),
    );
    let (corroborator, exploitation) = if gate == "asks-who" {
        ("many-small-senders", format!("exploitation = [\"{kind}\"]"))
    } else {
        ("asks-who", format!("exploitation = [\"{kind}\"]"))
    };
    let typology = toml[1]
        .replace("\"many-small-senders\"", &format!("\"{gate}\""))
        .replace("\"night-inflow\"", &format!("\"{corroborator}\""))
        .replace("exploitation = [\"sexual\"]", &exploitation);
    let mut files = vec![
        (INDICATOR, toml[0].as_str()),
        ("rules/indicators/asks-who.toml", asked.as_str()),
        (TYPOLOGY, typology.as_str()),
    ];
    files.extend(more);
    with_pack(&files).err()
}

#[test]
fn who_a_person_is_opens_no_suspicion_and_weighs_only_where_somebody_answers_for_it() {
    let nationality = "counterparty_customer.nationality = 'XX'";
    let age = "age_years(customer.born_on, event_time) < 30";
    let allowed =
        "[[allow]]\nattribute = \"nationality\"\nbecause = \"the supervisor's letter of 2026-05-04\"\n";
    let switch = [("rules/protected.toml", allowed)];
    let told = [
        principled(nationality, "asks-who", "labour", &[]).unwrap(),
        // The switch is for corroborators.
        principled(nationality, "asks-who", "labour", &switch).unwrap(),
        principled(nationality, "many-small-senders", "labour", &[]).unwrap(),
        principled(age, "asks-who", "labour", &[]).unwrap(),
        principled(
            nationality,
            "many-small-senders",
            "labour",
            &[("rules/protected.toml", "[[allow]]\nattribute = \"nation\"\n")],
        )
        .unwrap(),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
    assert_eq!(principled(nationality, "many-small-senders", "labour", &switch), None);
    // Age protects children.
    assert_eq!(principled(age, "asks-who", "ocse", &[]), None);
}

#[test]
fn a_country_alone_is_no_gate_and_may_be_one_of_several_reasons() {
    let listed = "in_list(counterparty_country, 'ocse-risk-countries')";
    let told = [
        principled(listed, "asks-who", "labour", &[]).unwrap(),
        principled("counterparty_country IN ('XX', 'YY')", "asks-who", "labour", &[]).unwrap(),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
    let with_words = "in_list(counterparty_country, 'ocse-risk-countries') AND mentions(memo, 'show-terms')";
    for (condition, gate) in [
        (listed, "many-small-senders"),
        (with_words, "asks-who"),
        // Abroad is no certain country.
        ("counterparty_country <> account.country", "asks-who"),
    ] {
        assert_eq!(principled(condition, gate, "labour", &[]), None, "{condition}");
    }
}

#[test]
fn a_segment_that_is_half_said_is_refused_with_its_place_and_the_mend() {
    let toml = blocks("toml");
    let refused = |lines: &str| {
        let text = format!("{}\n[[params.min_senders.segment]]\n{lines}\n", toml[0]);
        with_pack(&[(INDICATOR, &text)]).unwrap_err()
    };
    let told = [
        refused("when = \"customer.segmnt = 'business'\"\nvalue = 30\nsource = \"judgement\""),
        refused("when = \"senders > 3\"\nvalue = 30\nsource = \"judgement\""),
        refused("when = \"customer.segment = 'business'\"\nvalue = \"many\""),
        refused("value = 30\nsource = \"judgement\"\nuntil = 3"),
    ];
    insta::assert_snapshot!(told.join("\n\n"));
}
