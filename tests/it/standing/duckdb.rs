//! DuckDB in a process of its own, which reads cases from folders: `tests/duckdb_cases.py`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value as Json, json};

use super::answers::{Hit, Value};

/// One process; it ends with its input.
pub struct DuckDb {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// How many hits of how many indicators were equal.
#[derive(Debug, Default, Clone, Copy)]
pub struct Equal {
    pub indicators: usize,
    pub hits: usize,
}

impl DuckDb {
    /// Starts it by a Python that has what `tests/requirements.txt` names; lists and tables lie in a folder.
    pub fn start(python: &str, reference: &Path) -> DuckDb {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("duckdb_cases.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg("--reference")
            .arg(reference)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`{python}` cannot be started: {error}"));
        let (questions, answers) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        DuckDb { process, questions, answers }
    }

    /// Compares the case in a folder.
    pub fn compare(&mut self, folder: &Path) -> Result<Equal, String> {
        let mut line = String::new();
        writeln!(self.questions.as_mut().unwrap(), "{}", folder.display()).map_err(|e| e.to_string())?;
        self.answers.read_line(&mut line).map_err(|e| e.to_string())?;
        let answer: Json = serde_json::from_str(&line).map_err(|e| format!("DuckDB's process ended: {e}"))?;
        match answer["told"].as_str() {
            Some(told) => Err(format!("the stream against DuckDB: {told}")),
            None => Ok(Equal {
                indicators: answer["indicators"].as_u64().unwrap() as usize,
                hits: answer["hits"].as_u64().unwrap() as usize,
            }),
        }
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}

/// What an indicator means, and what the stream found.
pub struct Question<'a> {
    pub id: &'a str,
    pub queries: &'a [String],
    pub hits: &'a [Hit],
}

/// Writes `case.json`.
pub fn write(folder: &Path, questions: &[Question<'_>]) {
    let instant = |micros: i64| {
        let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
        time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    };
    let hit = |hit: &Hit| {
        let values: serde_json::Map<String, Json> = hit
            .values
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Text(text) => json!(text),
                    Value::Float(number) => json!(number),
                };
                (name.clone(), value)
            })
            .collect();
        json!({ "key": [instant(hit.time), hit.tx_id, hit.direction, hit.subject], "values": values })
    };
    let indicators: Vec<Json> = questions
        .iter()
        .map(|question| {
            let hits: Vec<Json> = question.hits.iter().map(hit).collect();
            json!({ "id": question.id, "queries": question.queries, "hits": hits })
        })
        .collect();
    let file = File::create(folder.join("case.json")).unwrap();
    serde_json::to_writer(file, &json!({ "indicators": indicators })).unwrap();
}
