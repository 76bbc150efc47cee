//! What queries look back to beyond memory, out of the archive that the same run writes.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::bail;
use arrow::array::RecordBatch;
use manumit_archive::{Archive, Lookup};
use manumit_engine::{Older, OlderRows};
use manumit_rules::ir::RuleSet;

use super::{Plan, Told, lock};

/// The archive as keyed queries see it.
pub struct LookBack {
    folder: PathBuf,
    told: Arc<Mutex<Told>>,
}

impl LookBack {
    pub(super) fn new(folder: PathBuf, told: Arc<Mutex<Told>>) -> LookBack {
        LookBack { folder, told }
    }
}

impl Older for LookBack {
    fn complete_before(&self) -> i64 {
        lock(&self.told).complete_before
    }

    fn rows(&self, asked: &OlderRows<'_>) -> Result<Vec<RecordBatch>, String> {
        let keys: HashSet<&str> = asked.keys.iter().copied().collect();
        let lookup = Lookup {
            columns: asked.columns,
            keys: &keys,
            from: asked.from,
            to: asked.to,
            schema: asked.schema,
        };
        // Files come and go: the manifest of now says which count.
        let found = Archive::open(&self.folder).and_then(|archive| archive.look_up(&lookup));
        let (rows, effort) =
            found.map_err(|error| format!("rows of the look-back are not to be had: {error}"))?;
        tracing::debug!(
            keys = keys.len(),
            groups = effort.groups,
            groups_read = effort.groups_read,
            rows = rows.iter().map(RecordBatch::num_rows).sum::<usize>(),
            "looked back into the archive"
        );
        Ok(rows)
    }
}

/// Refuses an archive that would forget what queries still look back to.
///
/// # Errors
/// Each such query, and the mend.
pub fn check(rules: &RuleSet, plan: &Plan) -> anyhow::Result<()> {
    let Some(days) = plan.settings.retention_days else { return Ok(()) };
    let kept = i64::from(days).saturating_mul(86_400_000_000);
    let mut faults = Vec::new();
    for indicator in &rules.indicators {
        let Some(keyed) = &indicator.keyed else { continue };
        // A whole date goes at once, and a tick may lie behind the newest row by as much as ticks are apart.
        let needed = keyed.lookback_micros.saturating_add(keyed.every_micros);
        if needed > kept {
            let least = needed / 86_400_000_000 + 2;
            faults.push(format!(
                "error[R028]: `{}` looks back further than the archive goes: `[archive] retention` is `{days} days`\n  file: {}\n  \
                 help: write retention = \"{least} days\" or more, or shorten its `lookback`",
                indicator.meta.id,
                indicator.meta.file.display()
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}
