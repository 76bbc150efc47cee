//! The coverage report over a small project of its own.

use std::path::PathBuf;

use manumit::coverage::{Coverage, Status};
use manumit_rules::catalogue::Catalogue;
use manumit_rules::{Sources, load};
use manumit_sql::Sql;

const CATALOGUE: &str = "\
id,publication,jurisdiction,year,url,exploitation,category,red_flag,data,not_covered,basis
A-2021-01,Alert on night cash,CA,2021,https://fiu.example/night,sexual,transactional,\"Cash is paid in at night, again and again\",local time;method,,official text
A-2021-02,Alert on night cash,CA,2021,https://fiu.example/night,sexual,transactional,Large cash | <b>round</b> sums,amount,judgement: once there was none,summary
A-2021-03,Alert on night cash,CA,2021,https://fiu.example/night,labour,behavioural,A third party speaks,none,\"seen by staff only: a teller tells it, transactions do not\",not read
B-7,Guide & more,INTL,2018,https://guide.example/?a=1&b=2,organ,kyc,Clinics,none,another subject: no rule is about organs,official text
B-8,Guide & more,INTL,2018,https://guide.example/?a=1&b=2,any,network,Nobody thought of it,accounts,,official text
B-9,Guide & more,INTL,2018,https://guide.example/?a=1&b=2,any,network,Known to a rule that nobody uses,accounts,not built yet: wants a typology,official text
";

fn indicator(id: &str, references: &str, condition: &str) -> (PathBuf, String) {
    let text = format!(
        "id = \"{id}\"\nversion = 1\nstatus = \"draft\"\ntitle = \"{id}\"\nseverity = \"low\"\nexploitation = [\"sexual\"]\n\
         references = [{references}]\nfalse_positives = [\"none\"]\nsubject = \"account\"\nover = \"entries\"\n\
         when = \"{condition}\"\nexplain = \"{{amount}}\"\n"
    );
    (PathBuf::from(format!("rules/indicators/{id}.toml")), text)
}

const TYPOLOGY: &str = "\
id = \"night-cash\"
version = 3
status = \"experimental\"
title = \"Cash <at> night\"
severity = \"low\"
exploitation = [\"sexual\"]
references = [\"A-2021-01\", \"A-2021-OA001\", \"A-2012-03\"]
false_positives = [\"bars\"]
fiu_keywords = []
subject = \"account\"
within = \"4 days\"
gate = \"cash-at-night\"
summary = \"Cash at night.\"
[[corroborator]]
indicator = \"large-cash\"
points = 20
";

const CASES: &str = "\
[[case]]
id = \"a\"
[[case.alert]]
subject = \"x\"
[[case]]
id = \"bar\"
because = \"a bar\"
[[near_miss]]
of = \"a\"
[[near_miss]]
of = \"a\"
";

fn project(more: &[(&str, &str)]) -> Sources {
    let folder = "rules/typologies/cash/night-cash";
    let mut files = vec![
        ("rules/red_flags.csv".into(), CATALOGUE.to_string()),
        indicator("cash-at-night", "\"A-2021-01\"", "method = 'cash' AND is_night(local_time, 22, 6)"),
        indicator("large-cash", "\"A-2021-02\"", "method = 'cash' AND amount > 1000"),
        indicator("idle", "\"B-9\"", "amount > 1"),
        (PathBuf::from(format!("{folder}/typology.toml")), TYPOLOGY.to_string()),
        (PathBuf::from(format!("{folder}/cases.toml")), CASES.to_string()),
    ];
    files.extend(more.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_string())));
    Sources::from_files(files)
}

fn coverage(sources: &Sources) -> Coverage {
    let rules = load(sources, &Sql::new()).unwrap_or_else(|faults| panic!("{faults}"));
    let catalogue = Catalogue::read(sources).unwrap_or_else(|faults| panic!("{faults}")).unwrap();
    let mut coverage = Coverage::of(&catalogue, &rules, sources);
    coverage.rule_set_hash = "0123456789abcdef".into();
    coverage.program = "0.0.0";
    coverage
}

#[test]
fn the_report_leads_from_red_flags_to_indicators_typologies_and_cases() {
    insta::assert_snapshot!(coverage(&project(&[])).markdown());
}

#[test]
fn only_rules_that_a_typology_uses_cover_a_red_flag() {
    let coverage = coverage(&project(&[]));
    let standing: Vec<(&str, Status)> =
        coverage.red_flags.iter().map(|flag| (flag.id.as_str(), flag.status)).collect();
    assert_eq!(
        standing,
        [
            ("A-2021-01", Status::Covered),
            ("A-2021-02", Status::Covered),
            ("A-2021-03", Status::Reason),
            ("B-7", Status::Reason),
            ("B-8", Status::Neither),
            ("B-9", Status::Reason),
        ]
    );
    let first = &coverage.red_flags[0];
    assert_eq!((first.indicators.as_slice(), first.cases), (&["cash-at-night".to_string()][..], 4));
    assert_eq!(coverage.red_flags[5].unused_indicators, ["idle"]);
}

#[test]
fn what_has_neither_is_named_with_its_place() {
    let missing = coverage(&project(&[])).missing();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("rules/red_flags.csv:6: B-8 has neither"), "{missing:?}");
}

#[test]
fn the_page_escapes_what_rules_and_catalogue_say_and_loads_nothing() {
    let page = coverage(&project(&[])).html().unwrap();
    assert!(page.contains("&lt;b&gt;round&lt;") && !page.contains("<b>round"), "{page}");
    assert!(page.contains("Cash &lt;at&gt; night") && page.contains("Guide &amp; more"), "{page}");
    for outside in ["<script", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Every link within the page leads somewhere.
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
    }
    assert!(page.contains("body { font: 15px"), "the style is missing");
}

#[test]
fn the_same_report_is_one_json_document() {
    let value = serde_json::to_value(coverage(&project(&[]))).unwrap();
    assert_eq!(value["format"], "manumit.coverage/1");
    assert_eq!(value["publications"][0]["covered"], 2);
    assert_eq!(value["red_flags"][4]["status"], "neither");
    assert_eq!(value["typologies"][0]["cases"]["near_misses"], 2);
}

#[test]
fn cases_that_cannot_be_read_are_told_and_do_not_stop_the_report() {
    let broken = ("rules/typologies/cash/night-cash/cases.toml", "[[case]\n");
    let coverage = coverage(&project(&[broken]));
    assert_eq!(coverage.typologies[0].cases.all(), 0);
    assert!(coverage.hints.iter().any(|hint| hint.contains("cases.toml: the cases cannot be counted")));
}

#[test]
fn a_retired_typology_covers_nothing_and_is_listed_with_its_reason() {
    let retired = TYPOLOGY.replace("\"experimental\"", "\"retired\"")
        + "[retired]\non = 2026-11-30\nbecause = \"nothing <came> of it\"\n";
    let coverage = coverage(&project(&[("rules/typologies/cash/night-cash/typology.toml", &retired)]));
    assert_eq!((coverage.typologies.len(), coverage.total.covered), (0, 0));
    assert!(coverage.missing().iter().any(|line| line.contains("A-2021-01")), "{:?}", coverage.missing());
    assert!(coverage.markdown().contains("## Retired"), "{}", coverage.markdown());
    let page = coverage.html().unwrap();
    assert!(page.contains("on 2026-11-30: nothing &lt;came&gt; of it"), "{page}");
}
