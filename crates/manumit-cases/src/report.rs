//! What was tried, for people and for build servers.

use std::fmt::Write as _;

use crate::judge::{Outcome, Tried};
use crate::read::Suite;

/// The cases of a typology in lines, near misses under their case. With `all` those that ended as wanted, too.
pub fn text(suite: &Suite, tried: &[Tried], all: bool) -> String {
    let mut out = String::new();
    let failed = tried.iter().filter(|one| one.outcome != Outcome::AsWanted).count();
    let misses = tried.iter().filter(|one| one.case.of.is_some()).count();
    let verdict = if failed == 0 { "all as wanted".to_string() } else { format!("{failed} NOT as wanted") };
    let _ =
        writeln!(out, "{}: {} cases, {misses} near misses, {verdict}", suite.typology, tried.len() - misses);
    let shown = |one: &Tried| all || one.outcome != Outcome::AsWanted;
    for told in tried.iter().filter(|one| one.case.of.is_none()) {
        let missed = || tried.iter().filter(|one| one.case.of.as_ref() == Some(&told.case.id));
        // Above a near miss stands its case.
        if shown(told) || missed().any(shown) {
            line(&mut out, suite, told, "  ");
        }
        for missed in missed().filter(|one| shown(one)) {
            line(&mut out, suite, missed, "    near miss ");
        }
    }
    out
}

fn line(out: &mut String, suite: &Suite, tried: &Tried, indent: &str) {
    let case = &tried.case;
    match &tried.outcome {
        Outcome::AsWanted => {
            let ends = match tried.found.as_slice() {
                [] => "raises nothing".to_string(),
                found => format!("raises {}", found.join("; ")),
            };
            let _ = writeln!(out, "{indent}{}: {ends}", case.id);
            let _ = writeln!(out, "{:width$}({})", "", case.words, width = indent.len());
        }
        Outcome::Otherwise { way, complaints } => {
            let _ = writeln!(out, "{indent}{}: NOT AS WANTED, told {way}", case.id);
            let _ = writeln!(out, "{:width$}({})", "", case.words, width = indent.len());
            for complaint in complaints {
                let _ = writeln!(out, "{:width$}- {complaint}", "", width = indent.len());
            }
            let _ = writeln!(out, "{:width$}in {}", "", suite.file.path.display(), width = indent.len());
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no place for other control characters.
            letter if letter < ' ' && !"\t\n\r".contains(letter) => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// JUnit's XML: a suite for each typology, a test case for each case and near miss.
pub fn junit(tried: &[(Suite, Vec<Tried>)]) -> String {
    let failed = |tried: &[Tried]| tried.iter().filter(|one| one.outcome != Outcome::AsWanted).count();
    let tests: usize = tried.iter().map(|(_, tried)| tried.len()).sum();
    let failures: usize = tried.iter().map(|(_, tried)| failed(tried)).sum();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"manumit test\" tests=\"{tests}\" failures=\"{failures}\">");
    for (suite, tried) in tried {
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" file=\"{}\">",
            escaped(&suite.typology),
            tried.len(),
            failed(tried),
            escaped(&suite.file.path.display().to_string())
        );
        for one in tried {
            let name = match &one.case.of {
                Some(of) => format!("{of}, near miss {}", one.case.id),
                None => one.case.id.clone(),
            };
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\"",
                escaped(&suite.typology),
                escaped(&name)
            );
            match &one.outcome {
                Outcome::AsWanted => out.push_str("/>\n"),
                Outcome::Otherwise { way, complaints } => {
                    let _ = writeln!(
                        out,
                        ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>",
                        escaped(&format!("not as wanted, told {way}")),
                        escaped(&complaints.join("\n"))
                    );
                }
            }
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}
