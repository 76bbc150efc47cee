//! The figures as JSON and as one HTML page that needs nothing else.

use crate::EvaluateError;
use crate::measure::Evaluation;

/// How pages look, on a screen of any width and on paper: the content of a `<style>`, for the other reports, too.
pub const STYLE: &str = include_str!("style.css");

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
                "<svg class=\"bar\" viewBox=\"0 0 200 12\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{shown}\"><rect class=\"all\" width=\"200\" height=\"12\"/><rect width=\"{wide:.1}\" height=\"12\"/></svg>"
            ))
        });
        pages.add_filter("days", |days: Vec<Option<f64>>| minijinja::Value::from_safe_string(spread(&days)));
        pages.add_global("style", minijinja::Value::from_safe_string(STYLE.into()));
        pages.add_template("evaluation.html", include_str!("evaluation.html")).map_err(fault)?;
        let value = serde_json::to_value(self).map_err(|error| EvaluateError::Report(error.to_string()))?;
        pages.get_template("evaluation.html").and_then(|page| page.render(value)).map_err(fault)
    }
}

/// A dot for each case found, by days from its first relevant transaction; made of numbers only. Its words stand below it.
fn spread(days: &[Option<f64>]) -> String {
    let known: Vec<f64> = days.iter().flatten().copied().collect();
    let most = known.iter().copied().fold(1.0, f64::max).ceil();
    let mut svg = format!(
        "<div class=\"plot\"><svg viewBox=\"0 0 1120 24\" role=\"img\" aria-label=\"days to the first alert of {} cases, at most {most:.0}\">",
        known.len()
    );
    for day in &known {
        svg.push_str(&format!(
            "<circle cx=\"{:.1}\" cy=\"12\" r=\"6\"><title>{day:.1} days</title></circle>",
            10.0 + day / most * 1100.0
        ));
    }
    svg.push_str(&format!("</svg><div><span>0 days</span><span>{most:.0} days</span></div></div>"));
    svg
}
