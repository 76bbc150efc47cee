//! `manumit coverage`, as a build server and a compliance officer call it.

use std::path::Path;

use serde_json::Value;

use crate::program::{manumit, rule, write};

const HEADER: &str = "id,publication,jurisdiction,year,url,exploitation,category,red_flag,data,not_covered\n";
const COVERED: &str = "X-2020-01,Alert,CA,2020,https://fiu.example/,any,transactional,Large sums,amount,\n";
const OPEN: &str = "X-2020-02,Alert,CA,2020,https://fiu.example/,any,transactional,Small sums,amount,";

/// Standard output, standard error and exit code.
fn told(folder: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = manumit(folder, arguments, &[]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// A project with one typology, which covers the first red flag.
fn project(folder: &Path, reference: &str) {
    let with = |text: String| text.replace("\"test\"", &format!("\"{reference}\""));
    write(
        folder,
        "rules/indicators/large.toml",
        &with(rule("large", "over = \"entries\"\nwhen = \"amount > 1000\"\nexplain = \"{amount}\"\n")),
    );
    let typology =
        "within = \"1 day\"\ngate = \"large\"\ngate_points = 70\nsummary = \"Large.\"\nfiu_keywords = []\n";
    write(folder, "rules/typologies/sums/much/typology.toml", &with(rule("much", typology)));
}

#[test]
fn a_red_flag_with_neither_rule_nor_reason_fails_the_build_until_a_reason_stands_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder, "X-2020-01");
    write(folder, "rules/red_flags.csv", &format!("{HEADER}{COVERED}{OPEN}\n"));
    let (_, error, code) = told(folder, &["coverage", "--check"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("rules/red_flags.csv:3: X-2020-02 has neither a rule nor a reason"), "{error}");
    assert!(error.contains("`not_covered`") && !error.contains("X-2020-01"), "{error}");
    // Without --check the report is written all the same.
    assert_eq!(told(folder, &["coverage"]).2, Some(0));

    write(folder, "rules/red_flags.csv", &format!("{HEADER}{COVERED}{OPEN}not built yet: wants a rule\n"));
    let (out, error, code) = told(folder, &["coverage", "--check"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.starts_with("2 published red flags: 1 covered by 1 typology"), "{out}");
}

#[test]
fn the_format_follows_from_the_files_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder, "X-2020-01");
    write(folder, "rules/red_flags.csv", &format!("{HEADER}{COVERED}"));
    for (file, begins) in [("c.html", "<!doctype html>"), ("c.json", "{"), ("c.md", "# Published red flags")]
    {
        let (out, error, code) = told(folder, &["coverage", "--output", file]);
        assert_eq!(code, Some(0), "{error}");
        assert!(out.contains(&format!("written to {file}")), "{out}");
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.starts_with(begins), "{file}: {text}");
    }
    let (out, _, _) = told(folder, &["coverage", "--format", "json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["red_flags"][0]["typologies"][0], "much");
}

#[test]
fn a_slip_in_a_reference_is_a_warning_and_a_fault_in_the_catalogue_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    project(folder, "X-2020-10");
    let (out, error, code) = told(folder, &["check"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(!out.contains("red flags"), "a project without a catalogue is told of none: {out}");

    write(folder, "rules/red_flags.csv", &format!("{HEADER}{COVERED}"));
    let (out, error, code) = told(folder, &["check"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("warning: rules/indicators/large.toml:7:"), "{out}");
    assert!(out.contains("did you mean `X-2020-01`?"), "{out}");

    write(folder, "rules/red_flags.csv", &format!("{HEADER}{}", COVERED.replace("2020,http", "then,http")));
    for arguments in [&["check"][..], &["coverage"]] {
        let (_, error, code) = told(folder, arguments);
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("rules/red_flags.csv:2:") && error.contains("`year` is `then`"), "{error}");
    }
}

#[test]
fn the_built_in_pack_leaves_no_red_flag_without_rule_or_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (out, error, code) = told(folder.path(), &["coverage", "--check"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.starts_with("314 published red flags"), "{out}");
}

#[test]
fn a_project_without_a_catalogue_is_told_how_to_begin_one() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), "test");
    let (_, error, code) = told(folder.path(), &["coverage", "--check"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("rules/red_flags.csv") && error.contains("manumit init"), "{error}");
}
