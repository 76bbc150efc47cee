//! What a run needs from files: rules, feeds, reference tables. Without a project folder the pack in the binary.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use include_dir::{Dir, include_dir};
use manumit_feed::Feed;
use manumit_model::Diagnostics;
use manumit_rules::Sources;
use manumit_rules::ir::RuleSet;
use manumit_sql::Sql;

static RULES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../rules");
/// Guides to running it, which those to rules and feeds name.
const GUIDES: [(&str, &str); 2] = [
    ("DELIVERY.md", include_str!("../../../docker/DELIVERY.md")),
    ("STATE.md", include_str!("../../../docker/STATE.md")),
];
static SQL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sql");

/// The configuration of a new project.
const CONFIGURATION: &str = "\
# All keys: manumit schema config. Guides: sql/feeds/README.md, rules/README.md, rules/ALERTS.md.
feeds = [\"demo\"]
base_currency = \"EUR\"

[output]
alerts = \"alerts.jsonl\"
";

/// The folder that rules and feeds are read from.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
    built_in: bool,
}

fn embedded(dir: &Dir<'_>, prefix: &str, out: &mut Vec<(PathBuf, String)>) {
    for file in dir.files() {
        if let Some(text) = file.contents_utf8() {
            out.push((Path::new(prefix).join(file.path()), text.to_string()));
        }
    }
    for inner in dir.dirs() {
        embedded(inner, prefix, out);
    }
}

impl Project {
    /// The project at `root`; where it has neither `rules/` nor `sql/`, the built-in pack stands in.
    pub fn at(root: &Path) -> Project {
        let built_in = !root.join("rules").is_dir() && !root.join("sql").is_dir();
        Project { root: root.to_path_buf(), built_in }
    }

    /// The pack in the binary.
    pub fn built_in() -> Project {
        Project { root: PathBuf::from("."), built_in: true }
    }

    /// Writes the built-in pack and a configuration to a folder, to begin a project of one's own.
    ///
    /// # Errors
    /// When the folder holds `rules/`, `sql/` or `manumit.toml` already, or cannot be written.
    pub fn init(folder: &Path) -> anyhow::Result<usize> {
        for name in ["rules", "sql", "manumit.toml"] {
            if folder.join(name).exists() {
                bail!("{} exists already; nothing was written", folder.join(name).display());
            }
        }
        let mut files = vec![(PathBuf::from("manumit.toml"), CONFIGURATION.to_string())];
        embedded(&RULES, "rules", &mut files);
        embedded(&SQL, "sql", &mut files);
        // The guides name these; a folder `docker` of one's own is left as it is.
        for (name, text) in GUIDES {
            let path = Path::new("docker").join(name);
            if !folder.join(&path).exists() {
                files.push((path, text.to_string()));
            }
        }
        for (path, text) in &files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", parent.display()))?;
            std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(files.len())
    }

    /// The built-in pack is used.
    pub fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// All rule files.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn sources(&self) -> anyhow::Result<Sources> {
        if self.built_in {
            let mut files = Vec::new();
            embedded(&RULES, "rules", &mut files);
            embedded(&SQL, "sql", &mut files);
            return Ok(Sources::from_files(files));
        }
        Sources::read(&self.root).context("rule files cannot be read")
    }

    /// Loads rules and lists into the session.
    ///
    /// # Errors
    /// All faults of all files, rendered.
    pub fn rules(&self, sql: &Sql) -> anyhow::Result<RuleSet> {
        rules_of(&self.sources()?, sql)
    }

    /// Its folder; `None` when the built-in pack is used.
    pub fn folder(&self) -> Option<&Path> {
        (!self.built_in).then_some(self.root.as_path())
    }

    /// Loads lists and groups of merchant category codes into the session, and no rules.
    ///
    /// # Errors
    /// All faults of these files, rendered.
    pub fn lists(&self, sql: &Sql) -> anyhow::Result<()> {
        manumit_rules::load_lists(&self.sources()?, sql).map_err(|faults| refused(&faults, "lists"))
    }

    /// The file of a feed: a name under `sql/feeds/`, or a path.
    fn feed_file(&self, name: &str) -> anyhow::Result<(PathBuf, String)> {
        let path = if name.ends_with(".sql") {
            PathBuf::from(name)
        } else {
            self.root.join("sql/feeds").join(format!("{name}.sql"))
        };
        if path.is_file() {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            let shown = path.strip_prefix(&self.root).map(Path::to_path_buf).unwrap_or(path);
            return Ok((shown, text));
        }
        if let Some(file) = SQL.get_file(format!("feeds/{name}.sql"))
            && let Some(text) = file.contents_utf8()
        {
            return Ok((PathBuf::from(format!("sql/feeds/{name}.sql")), text.to_string()));
        }
        let known = self.feed_names();
        let near = manumit_model::nearest(name, known.iter().map(String::as_str));
        let help = near
            .map_or_else(|| format!("there are: {}", known.join(", ")), |n| format!("did you mean `{n}`?"));
        bail!("there is no feed `{name}` (looked for {}); {help}", path.display())
    }

    /// A query under `sql/baselines/`: the project's own, or the built-in one.
    ///
    /// # Errors
    /// When the project's file cannot be read.
    pub fn baseline_sql(&self, name: &str) -> anyhow::Result<String> {
        let path = self.root.join("sql/baselines").join(format!("{name}.sql"));
        if path.is_file() {
            return std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()));
        }
        let built_in = SQL.get_file(format!("baselines/{name}.sql")).and_then(|file| file.contents_utf8());
        built_in.map(String::from).with_context(|| format!("there is no query {}", path.display()))
    }

    /// Names of all feeds.
    pub fn feed_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if let Ok(entries) = std::fs::read_dir(self.root.join("sql/feeds")) {
            names.extend(entries.flatten().filter_map(|entry| sql_stem(&entry.path())));
        }
        if let Some(dir) = SQL.get_dir("feeds") {
            names.extend(dir.files().filter_map(|file| sql_stem(file.path())));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Loads a feed. `samples`: files of a Parquet feed, the first of which tells its columns.
    ///
    /// # Errors
    /// All faults of the file, rendered.
    pub fn feed(&self, name: &str, sql: &Sql, samples: &[String]) -> anyhow::Result<Feed> {
        let (path, text) = self.feed_file(name)?;
        let short = path.file_stem().map_or_else(|| name.to_string(), |s| s.to_string_lossy().to_string());
        let mut parquet = None;
        if let Some(first) = samples.iter().find(|s| s.ends_with(".parquet")) {
            let schema = manumit_codec::parquet_schema(Path::new(first)).with_context(|| first.clone())?;
            parquet = Some(schema);
        }
        Feed::load(&short, &path, text.into(), sql, parquet).map_err(|faults| refused(&faults, "the feed"))
    }
}

/// Loads the rules and lists of these files into the session.
///
/// # Errors
/// All faults of all files, rendered.
pub fn rules_of(sources: &Sources, sql: &Sql) -> anyhow::Result<RuleSet> {
    manumit_rules::load(sources, sql).map_err(|faults| refused(&faults, "rules"))
}

fn sql_stem(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy().to_string();
    (path.extension()? == "sql").then_some(stem)
}

fn refused(faults: &Diagnostics, what: &str) -> anyhow::Error {
    let count = faults.0.len();
    let noun = if count == 1 { "fault" } else { "faults" };
    anyhow!("{faults}\n\n{what} refused: {count} {noun}; nothing was started")
}
