//! The figures as JSON and as one HTML page that needs nothing else.

use crate::EvaluateError;
use crate::measure::Evaluation;

impl Evaluation {
    /// As JSON.
    ///
    /// # Errors
    /// Never in practice.
    pub fn json(&self) -> Result<String, EvaluateError> {
        serde_json::to_string_pretty(self).map_err(|error| EvaluateError::Report(error.to_string()))
    }

    /// As one HTML page: all values escaped, no script, nothing loaded from elsewhere.
    ///
    /// # Errors
    /// When the page does not fit the figures: a bug.
    pub fn html(&self) -> Result<String, EvaluateError> {
        let fault = |error: minijinja::Error| EvaluateError::Report(format!("{error:#}"));
        let mut pages = minijinja::Environment::new();
        pages.add_filter("percent", |share: Option<f64>| {
            share.map_or("–".to_string(), |share| format!("{:.0} %", share * 100.0))
        });
        pages.add_filter("tenth", |number: Option<f64>| {
            number.map_or("–".to_string(), |number| format!("{number:.1}"))
        });
        pages.add_filter("bar", |share: Option<f64>| {
            // Made of a number only, so that nothing needs escaping.
            let wide = share.unwrap_or(0.0).clamp(0.0, 1.0) * 200.0;
            let shown = share.map_or("nothing to measure".to_string(), |share| format!("{:.0} %", share * 100.0));
            minijinja::Value::from_safe_string(format!(
                "<svg viewBox=\"0 0 200 12\" role=\"img\" aria-label=\"{shown}\"><rect class=\"all\" width=\"200\" height=\"12\"/><rect width=\"{wide:.1}\" height=\"12\"/></svg>"
            ))
        });
        pages.add_filter("days", |days: Vec<Option<f64>>| minijinja::Value::from_safe_string(spread(&days)));
        pages.add_template("evaluation.html", include_str!("evaluation.html")).map_err(fault)?;
        let value = serde_json::to_value(self).map_err(|error| EvaluateError::Report(error.to_string()))?;
        pages.get_template("evaluation.html").and_then(|page| page.render(value)).map_err(fault)
    }
}

/// A tick for each case found, by days from its first relevant transaction; made of numbers only.
fn spread(days: &[Option<f64>]) -> String {
    let known: Vec<f64> = days.iter().flatten().copied().collect();
    let most = known.iter().copied().fold(1.0, f64::max).ceil();
    let mut svg = format!(
        "<svg class=\"wide\" viewBox=\"0 0 560 40\" role=\"img\" aria-label=\"days to the first alert of {} cases, at most {most:.0}\">",
        known.len()
    );
    svg.push_str("<line x1=\"10\" y1=\"24\" x2=\"550\" y2=\"24\"/>");
    for day in &known {
        svg.push_str(&format!(
            "<circle cx=\"{:.1}\" cy=\"18\" r=\"4\"><title>{day:.1} days</title></circle>",
            10.0 + day / most * 540.0
        ));
    }
    svg.push_str("<text x=\"10\" y=\"37\">0 days</text>");
    svg.push_str(&format!("<text x=\"550\" y=\"37\" text-anchor=\"end\">{most:.0} days</text></svg>"));
    svg
}
