//! The lists of a project: which version is used, and whether there is a new one on disk.
//!
//! A service looks at the files now and then. A new version is checked like at the start, together with the rules that are running; a
//! faulty one is refused, loudly, and the one in use stays. A good one takes effect at a commit: see `rules/LISTS.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use manumit_model::Diagnostics;
use manumit_model::alert::{ListVersion, sha256};
use manumit_rules::Sources;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;
use manumit_sql::reference::SharedReference;
use serde::{Deserialize, Serialize};

/// Folder and file that lists are read from.
const FOLDER: &str = "rules/lists";
const GROUPS: &str = "rules/mcc_groups.csv";

/// The files of all lists, and of the groups of merchant category codes: texts by path in the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lists(BTreeMap<String, Arc<str>>);

impl Lists {
    /// Those among the files of a project.
    pub fn of(sources: &Sources) -> Lists {
        let lists = sources.iter().filter(|(path, _)| is_list(path));
        Lists(lists.map(|(path, text)| (path.to_string_lossy().replace('\\', "/"), text.clone())).collect())
    }

    /// The files of a project with these lists in place of its own.
    pub fn within(&self, sources: &Sources) -> Sources {
        let others = sources.iter().filter(|(path, _)| !is_list(path));
        let others = others.map(|(path, text)| (path.to_path_buf(), text.to_string()));
        let mine = self.0.iter().map(|(path, text)| (PathBuf::from(path), text.to_string()));
        Sources::from_files(others.chain(mine))
    }

    /// Makes them the lists of a session, and no others.
    ///
    /// # Errors
    /// All faults of the files.
    pub fn put_into(&self, sql: &Sql) -> Result<(), Diagnostics> {
        sql.reference().update(manumit_sql::Reference::forget_lists);
        manumit_rules::load_lists(&self.within(&Sources::default()), sql)
    }

    /// A session that knows what another one does, but these lists.
    ///
    /// # Errors
    /// As [`Lists::put_into`].
    pub fn beside(&self, reference: &SharedReference) -> Result<Sql, Diagnostics> {
        let sql = Sql::new();
        let known = reference.get();
        sql.reference().update(|reference| *reference = known.as_ref().clone());
        self.put_into(&sql)?;
        Ok(sql)
    }

    /// The lists of which `other` has another version, or which only one of both has, as `self` has them.
    pub fn changed(&self, other: &Lists) -> Vec<ListVersion> {
        let all = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let mut changed: Vec<ListVersion> = all
            .filter(|path| self.0.get(*path) != other.0.get(*path))
            .map(|path| ListVersion {
                list: name(path),
                sha256: self.0.get(path).map(|text| sha256(text.as_bytes())).unwrap_or_default(),
            })
            .collect();
        changed.sort();
        changed
    }
}

/// Of these lists those that a typology's rules name.
pub fn concerning(changed: Vec<ListVersion>, rules: &RuleSet) -> Vec<ListVersion> {
    let texts = || rules.texts.values().flatten().map(|rule| rule.text.as_str());
    let asked = |list: &str| match list {
        "mcc_groups" => texts().any(|text| text.to_lowercase().contains("mcc_group")),
        list => texts().any(|text| text.contains(list)),
    };
    changed.into_iter().filter(|version| asked(&version.list)).collect()
}

fn is_list(path: &Path) -> bool {
    path == Path::new(GROUPS)
        || (path.parent() == Some(Path::new(FOLDER)) && path.extension().is_some_and(|kind| kind == "csv"))
}

fn name(path: &str) -> String {
    Path::new(path).file_stem().map_or_else(|| path.to_string(), |stem| stem.to_string_lossy().to_string())
}

/// What became of a new version on disk.
pub enum News {
    /// It is sound, and to be used.
    Sound(Arc<Lists>),
    /// It is not, and why: by file and line, without the values, which logs must not hold.
    Refused(String),
}

/// Looks at the files of lists in a thread of its own, until it is dropped.
pub struct Watch {
    news: Receiver<News>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the lists of the project at `root`. `sources`: its files as they are in use; `rules`: the hash of their rules.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(root: &Path, sources: &Sources, rules: &str, every: Duration) -> anyhow::Result<Watch> {
        let (sender, news) = channel();
        let end = Arc::new(AtomicBool::new(false));
        let (root, sources, rules, ended) =
            (root.to_path_buf(), sources.clone(), rules.to_string(), end.clone());
        let thread = std::thread::Builder::new().name("lists".into()).spawn(move || {
            let mut used = Lists::of(&sources);
            let mut judged = None;
            let mut before = None;
            while !ended.load(Ordering::Relaxed) {
                let now = signature(&root);
                // Looked at twice: a file that is being written is not read by half.
                if now.is_some() && now == before && now != judged {
                    judged = now.clone();
                    let news = match judge(&root, &sources, &rules, &used) {
                        Ok(None) => None,
                        Ok(Some(lists)) => {
                            used = lists.as_ref().clone();
                            Some(News::Sound(lists))
                        }
                        Err(why) => Some(News::Refused(why)),
                    };
                    if news.is_some_and(|news| sender.send(news).is_err()) {
                        return;
                    }
                }
                before = now;
                let woken = std::time::Instant::now();
                while woken.elapsed() < every && !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(50).min(every));
                }
            }
        });
        Ok(Watch { news, end, thread: Some(thread.context("lists cannot be watched")?) })
    }

    /// What there is to tell since the last time.
    pub fn news(&self) -> Vec<News> {
        self.news.try_iter().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to give.
            let _ = thread.join();
        }
    }
}

type Signature = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Names, lengths and times of the files; `None` when they cannot be listed just now.
fn signature(root: &Path) -> Option<Signature> {
    let mut files = Vec::new();
    let mut add = |path: PathBuf| {
        let Ok(about) = std::fs::metadata(&path) else { return };
        files.push((path, about.len(), about.modified().ok()));
    };
    add(root.join(GROUPS));
    match std::fs::read_dir(root.join(FOLDER)) {
        Ok(entries) => {
            for entry in entries {
                add(entry.ok()?.path());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    files.sort();
    Some(files)
}

/// The lists on disk, where they differ from those in use and are sound.
fn judge(root: &Path, sources: &Sources, rules: &str, used: &Lists) -> Result<Option<Arc<Lists>>, String> {
    let found = Sources::read(root).map_err(|error| format!("they cannot be read: {error}"))?;
    let lists = Lists::of(&found);
    if lists == *used {
        return Ok(None);
    }
    // By themselves first: a rule's fault that follows from theirs says little.
    lists.put_into(&Sql::new()).map_err(|faults| without_values(&faults))?;
    let loaded =
        manumit_rules::load(&lists.within(sources), &Sql::new()).map_err(|faults| without_values(&faults))?;
    if loaded.hash != rules {
        return Err("the rules mean something else with them; start the run anew".into());
    }
    Ok(Some(Arc::new(lists)))
}

/// Faults by file and line, what stands in the files left out: a list may be restricted, and logs are read by many.
fn without_values(faults: &Diagnostics) -> String {
    const SHOWN: usize = 3;
    let mut words: Vec<String> = faults
        .0
        .iter()
        .take(SHOWN)
        .map(|fault| {
            let message: String = fault
                .message
                .split('`')
                .enumerate()
                .map(|(at, part)| if at % 2 == 0 { part } else { "`…`" })
                .collect();
            let message = if is_list(&fault.file) { message } else { fault.message.clone() };
            format!("{}:{}: {message}", fault.file.display(), fault.line_column().0)
        })
        .collect();
    if faults.0.len() > SHOWN {
        words.push(format!("and {} more", faults.0.len() - SHOWN));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(files: &[(&str, &str)]) -> Lists {
        Lists::of(&Sources::from_files(
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_string())),
        ))
    }

    #[test]
    fn what_changed_is_told_by_name_and_version() {
        let old = lists(&[
            ("rules/lists/a.csv", "value\nx\n"),
            ("rules/lists/b.csv", "value\nx\n"),
            ("rules/x.toml", ""),
        ]);
        let new = lists(&[("rules/lists/a.csv", "value\ny\n"), ("rules/mcc_groups.csv", "group,mcc\n")]);
        let changed = new.changed(&old);
        let names: Vec<&str> = changed.iter().map(|version| version.list.as_str()).collect();
        assert_eq!(names, ["a", "b", "mcc_groups"]);
        assert_eq!(changed[0].sha256, sha256(b"value\ny\n"));
        assert_eq!(changed[1].sha256, "", "it is gone");
        assert!(new.changed(&new).is_empty());
        let text = serde_json::to_string(&old).unwrap();
        assert_eq!(serde_json::from_str::<Lists>(&text).unwrap(), old);
    }

    #[test]
    fn a_refusal_names_the_line_and_no_value() {
        let faulty = lists(&[("rules/lists/a.csv", "value,valid_from\nsecret,soon\n")]);
        let words = without_values(&faulty.put_into(&Sql::new()).unwrap_err());
        assert_eq!(words, "rules/lists/a.csv:2: `…` is no date; write it as 2026-03-31");
    }
}
