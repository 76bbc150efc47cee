//! Taking a run up again: which checkpoint counts, and the engine made of it and of the archive's rows.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use manumit_archive::{Archive, ArchiveError, Replay, Stretch};
use manumit_engine::{Engine, EngineError, PartitionId, Resume, SavedPartition, Screening, Step};
use manumit_feed::Feed;
use manumit_io::{Reached, Standing};

use super::{Checkpoint, Read, Store};
use crate::duplicates::Duplicates;
use crate::ledger::Ledger;
use crate::lists::{Lists, concerning};

/// What is noted with the offsets of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// The checkpoint that was written before it.
    pub checkpoint: u64,
    /// The engine's watermark, microseconds UTC.
    pub watermark: i64,
}

impl Note {
    /// As it stands with the offsets.
    pub fn text(self) -> String {
        format!("manumit checkpoint={} watermark={}", self.checkpoint, self.watermark)
    }

    /// `None` when it is not one of ours: the offsets were committed at least once, without checkpoints.
    pub fn parse(text: &str) -> Option<Note> {
        let rest = text.strip_prefix("manumit checkpoint=")?;
        let (checkpoint, watermark) = rest.split_once(" watermark=")?;
        Some(Note { checkpoint: checkpoint.parse().ok()?, watermark: watermark.parse().ok()? })
    }
}

/// Where a run goes on.
#[derive(Debug)]
pub struct Start {
    /// By the engine's numbers of partitions.
    pub read: Vec<Read>,
    /// Number of the last checkpoint.
    pub number: u64,
    /// Highest event time read of each partition, by the engine's numbers; empty where nothing was read.
    pub highest: Vec<Option<i64>>,
    /// The ledger of exactly what was read.
    pub ledger: Option<Ledger>,
}

/// What there is of an earlier run.
#[derive(Debug, Default)]
pub struct Found {
    /// What was noted with the offsets.
    pub note: Option<Note>,
    /// The checkpoint that they belong to, or, where that one cannot be used, the newest one that can.
    pub checkpoint: Option<Checkpoint>,
    /// It is an older one: rows that were read since must be caught up with.
    pub behind: bool,
    /// The highest number of any checkpoint.
    pub number: u64,
}

/// Kafka forgets the offsets of a group that has not been there for long. To begin anew then would publish everything again:
/// only with `trust` is the newest checkpoint's word taken for them.
///
/// # Errors
/// When they are forgotten, and `trust` is not given.
pub fn remember(standings: &mut [Standing], store: &Store, trust: bool) -> anyhow::Result<()> {
    if standings.iter().any(|s| s.committed) {
        return Ok(());
    }
    let newest = store.numbers()?.into_iter().rev().find_map(|number| store.read(number).ok());
    let Some(newest) = newest.filter(|it| it.read.iter().any(|read| read.next > 0)) else { return Ok(()) };
    if !trust {
        bail!(
            "Kafka knows no offsets of the group `{}`, but checkpoint {} says that records were read: it forgets them when no run was \
             there for long (offsets.retention.minutes of the broker). Go on from that checkpoint with --from-checkpoint, read \
             everything again with --from-beginning, or give another `[checkpoint] folder` if this is another history",
            newest.group,
            newest.number
        );
    }
    let note = Note { checkpoint: newest.number, watermark: newest.engine.watermark };
    for standing in standings {
        if let Some(read) = newest.read.iter().find(|read| read.is_of(standing)) {
            (standing.committed, standing.reached.next, standing.note) = (true, read.next, note.text());
        }
    }
    Ok(())
}

/// Refuses offsets that something other than a run with these checkpoints has written: a consumer that joined the group, or a
/// tool. To go on from there would leave records out, or publish twice, and nobody would know. Only with `trust` is the word of
/// the checkpoint taken for them.
///
/// # Errors
/// When an offset lacks our note, and is not what the checkpoint says; names it, and the ways out.
pub fn own(standings: &mut [Standing], store: &Store, trust: bool) -> anyhow::Result<()> {
    let ours = |s: &Standing| s.committed.then(|| Note::parse(&s.note)).flatten();
    // That of the last commit, if a partition still tells; otherwise the newest there is.
    let last = standings.iter().filter_map(ours).map(|note| note.checkpoint).max();
    let checkpoint = match last {
        Some(number) => store.read(number).ok(),
        None => store.numbers()?.into_iter().rev().find_map(|number| store.read(number).ok()),
    };
    let Some(checkpoint) = checkpoint else { return Ok(()) };
    let note = Note { checkpoint: checkpoint.number, watermark: checkpoint.engine.watermark };
    for standing in standings {
        let read = checkpoint.read.iter().find(|read| read.is_of(standing) && read.next > 0);
        let (Some(read), None) = (read, ours(standing)) else { continue };
        let Reached { topic, partition, next } = &standing.reached;
        let same = standing.committed && *next == read.next;
        if !same && !trust {
            let now = if standing.committed { format!("{next}") } else { "gone".into() };
            bail!(
                "the offset of the group `{}` in `{topic}` partition {partition} was changed by something that is not this run: it is \
                 {now}, and checkpoint {} says {}. Either another program reads with this group (give it a group of its own), or \
                 somebody has set the offset. Go on from the checkpoint, as if nothing had happened, with --from-checkpoint; or read \
                 everything again with --from-beginning; or, if the new offset is meant, put the folder of checkpoints aside: records \
                 before it are then left out",
                checkpoint.group,
                checkpoint.number,
                read.next
            );
        }
        if !same {
            tracing::warn!(
                topic,
                partition,
                offset = next,
                taken = read.next,
                "an offset that was changed is not followed"
            );
        }
        (standing.committed, standing.reached.next, standing.note) = (true, read.next, note.text());
    }
    Ok(())
}

/// The checkpoint that belongs to what was committed.
///
/// # Errors
/// When the folder cannot be read.
pub fn find(standings: &[Standing], store: &Store) -> anyhow::Result<Found> {
    let numbers = store.numbers()?;
    let (note, mut checkpoint) = belonging(standings, store);
    let number = numbers.last().copied().unwrap_or(0).max(note.map_or(0, |note| note.checkpoint));
    let mut behind = false;
    if let (Some(note), None) = (note, &checkpoint) {
        let older = numbers.iter().rev().filter(|&&number| number < note.checkpoint);
        checkpoint = older.filter_map(|&number| store.read(number).ok()).find(|it| is_behind(it, standings));
        behind = checkpoint.is_some();
        match &checkpoint {
            Some(it) => tracing::warn!(
                number = it.number,
                "an older checkpoint is used, and the archive's rows since"
            ),
            None => {
                tracing::warn!("no checkpoint can be used: the state is made anew from the archive's rows")
            }
        }
    }
    Ok(Found { note, checkpoint, behind, number })
}

/// The offsets that a run with checkpoints committed, by topic and partition: what it read beyond them is read again. None of
/// partitions whose offsets were set in another way.
pub fn committed(standings: &[Standing]) -> BTreeMap<(String, i32), i64> {
    let ours = standings.iter().filter(|s| s.committed && Note::parse(&s.note).is_some());
    ours.map(|s| ((s.reached.topic.clone(), s.reached.partition), s.reached.next)).collect()
}

/// Nothing of it lies beyond what was committed.
fn is_behind(checkpoint: &Checkpoint, standings: &[Standing]) -> bool {
    checkpoint
        .read
        .iter()
        .all(|read| standings.iter().find(|s| read.is_of(s)).is_some_and(|s| read.next <= s.reached.next))
}

fn belonging(standings: &[Standing], store: &Store) -> (Option<Note>, Option<Checkpoint>) {
    let note = standings.iter().filter(|s| s.committed).find_map(|s| Note::parse(&s.note));
    let Some(note) = note else { return (None, None) };
    let checkpoint = match store.read(note.checkpoint) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            tracing::error!(%error, "the checkpoint of the last commit cannot be used");
            return (Some(note), None);
        }
    };
    let reached = |read: &Read| {
        standings.iter().any(|s| read.is_of(s) && (s.reached.next == read.next || !s.committed))
    };
    if checkpoint.read.iter().all(reached) {
        (Some(note), Some(checkpoint))
    } else {
        tracing::error!(
            checkpoint = note.checkpoint,
            "the offsets of the group were changed since the checkpoint was made"
        );
        (Some(note), None)
    }
}

/// What a run goes on with, and how an engine is made that knows other lists.
pub struct Again<'a> {
    /// The archive's folder.
    pub archive: &'a std::path::Path,
    /// The lists of this run.
    pub lists: &'a Lists,
    /// An engine like the one that is taken up, but with these lists.
    pub with: &'a dyn Fn(&Lists) -> anyhow::Result<Engine>,
}

/// Makes the engine what it was. `topics` gives the feed of a topic.
///
/// # Errors
/// When the archive does not hold the rows, or is damaged: a run never silently begins with empty windows.
pub fn take_up(
    engine: &mut Engine,
    feeds: &[Feed],
    topics: &BTreeMap<String, usize>,
    standings: &[Standing],
    found: Found,
    archive: &std::path::Path,
) -> anyhow::Result<Start> {
    take_up_with(engine, feeds, topics, standings, found, archive, None).map(|(start, _)| start)
}

/// The same. Where the lists of `again` are not those of the checkpoint, past rows are screened again: gives the alerts that are owed to
/// the lists, to be published and committed before anything else is read.
///
/// # Errors
/// As [`take_up`].
pub fn take_up_with(
    engine: &mut Engine,
    feeds: &[Feed],
    topics: &BTreeMap<String, usize>,
    standings: &[Standing],
    found: Found,
    archive: &std::path::Path,
    again: Option<&Again<'_>>,
) -> anyhow::Result<(Start, Option<Step>)> {
    let Found { note, checkpoint, behind, number } = found;
    let mut read: Vec<Read> = checkpoint.as_ref().map_or_else(Vec::new, |it| it.read.clone());
    for read in &mut read {
        if let Some(standing) = standings.iter().find(|s| read.is_of(s)) {
            read.next = read.next.max(standing.reached.next);
        }
    }
    for standing in standings {
        if !read.iter().any(|read| read.is_of(standing)) {
            let Reached { topic, partition, next } = &standing.reached;
            let Some(&feed) = topics.get(topic) else { continue };
            read.push(Read {
                feed: feeds[feed].name().into(),
                source: topic.clone(),
                partition: *partition,
                begin: 0,
                next: *next,
            });
        }
    }
    for read in &read {
        let feed = feeds.iter().find(|feed| feed.name() == read.feed).with_context(|| {
            format!("the checkpoint was made with the feed `{}`, which this run does not read", read.feed)
        })?;
        engine.add_partition(feed.name(), feed.lateness_micros());
    }
    if !standings.iter().any(|s| s.committed && s.reached.next > 0) {
        tracing::info!("nothing was read before: a new history begins");
        return Ok((Start { read, number, highest: Vec::new(), ledger: None }, None));
    }
    let stretches: BTreeMap<(String, i32), Stretch> = read
        .iter()
        .map(|r| ((r.source.clone(), r.partition), Stretch { begin: r.begin, next: r.next }))
        .collect();
    let history = Archive::open(archive).context("the archive that the state is made of")?;
    let fits = checkpoint.as_ref().is_some_and(|it| engine.fits(&it.engine));
    if checkpoint.is_some() && !fits {
        tracing::warn!("the rules have changed: the state is made anew from the archive's rows");
    }
    // What was read since the checkpoint, or since ever, is told by the rows.
    let told = match (&checkpoint, fits && !behind) {
        (_, true) => None,
        (checkpoint, false) => {
            let highest = history.highest(&stretches)?;
            if highest.is_empty() {
                bail!(
                    "records were read before, but the archive `{}` has none of them, so windows cannot be made again; restore \
                     it, or read everything again with --from-beginning",
                    archive.display()
                );
            }
            let mut partitions: Vec<SavedPartition> = read
                .iter()
                .enumerate()
                .map(|(index, r)| {
                    let saved =
                        checkpoint.as_ref().filter(|_| fits).and_then(|it| it.engine.partitions.get(index));
                    let before = checkpoint.as_ref().and_then(|it| it.read.get(index));
                    SavedPartition {
                        feed: r.feed.clone(),
                        highest: highest.get(&(r.source.clone(), r.partition)).copied(),
                        floor: saved.map_or(i64::MIN, |saved| saved.floor),
                        // A record that came since has woken it.
                        idle: saved.is_some_and(|saved| saved.idle)
                            && before.is_some_and(|before| before.next == r.next),
                    }
                })
                .collect();
            let mark = |partition: &SavedPartition| {
                let feed = feeds.iter().find(|feed| feed.name() == partition.feed);
                let lateness = feed.map_or(0, Feed::lateness_micros);
                partition.highest.map_or(i64::MIN, |highest| highest.saturating_sub(lateness))
            };
            let watermark = note
                .map(|note| note.watermark)
                .unwrap_or_else(|| partitions.iter().map(mark).min().unwrap_or(i64::MIN));
            for partition in &mut partitions {
                // It was silent when the watermark passed it, or woke there: what it slept through is late. As no checkpoint
                // says which, it holds the others back until it is found silent anew.
                if mark(partition) < watermark {
                    partition.floor = watermark;
                }
            }
            Some((partitions, watermark))
        }
    };
    // An older one does not tell what became of the records since; the rows alone do not tell of those that gave none.
    let ledger = checkpoint.as_ref().filter(|_| fits && !behind).and_then(|it| it.ledger.clone());
    let changed = match (&checkpoint, again) {
        (Some(Checkpoint { lists: Some(before), .. }), Some(again)) if fits && !behind => {
            concerning(again.lists.changed(before), engine.rules())
        }
        _ => Vec::new(),
    };
    let mine = |read: &Read, _: &str, source: &str, partition: i32| {
        partition == read.partition && source == read.source
    };
    let mut anew = None;
    if let (Some(Checkpoint { lists: Some(before), engine: snapshot, .. }), Some(again), false) =
        (&checkpoint, again, changed.is_empty())
    {
        let names: Vec<&str> = changed.iter().map(|version| version.list.as_str()).collect();
        tracing::info!(lists = ?names, "lists have changed: past rows are screened again");
        let from_rows =
            Resume::FromRows { watermark: snapshot.watermark, partitions: snapshot.partitions.clone() };
        let mut old = (again.with)(before)?;
        for (read, feed) in read.iter().filter_map(|r| Some((r, feeds.iter().find(|f| f.name() == r.feed)?)))
        {
            old.add_partition(&read.feed, feed.lateness_micros());
        }
        old.screen(Screening::before());
        replay(&mut old, &history, &from_rows, None, &read, stretches.clone(), &mine)?;
        let strongest = old.screened();
        engine.screen(Screening::against(strongest, snapshot, changed));
        anew = Some(from_rows);
    }
    let screened = anew.is_some();
    let checkpoint = checkpoint.filter(|_| fits);
    let (resume, since) = match (anew, told) {
        (Some(from_rows), _) => (from_rows, None),
        (None, told) => as_it_was(checkpoint, told)?,
    };
    let highest = match (&since, &resume) {
        (Some((partitions, _)), _) | (None, Resume::FromRows { partitions, .. }) => partitions,
        (None, Resume::Exactly(snapshot)) => &snapshot.partitions,
    };
    let highest = highest.iter().map(|partition| partition.highest).collect();
    let replayed = replay(engine, &history, &resume, since, &read, stretches, &mine)?;
    tracing::info!(
        exactly = matches!(resume, Resume::Exactly(_)),
        rows = replayed.0,
        waiting = replayed.1,
        "taken up again"
    );
    let step = if screened { Some(engine.rescreened()?) } else { None };
    Ok((Start { read, number, highest, ledger }, step))
}

/// From the checkpoint, or from what rows tell.
fn as_it_was(checkpoint: Option<Checkpoint>, told: Option<Since>) -> anyhow::Result<(Resume, Option<Since>)> {
    match (checkpoint, told) {
        (Some(it), since) => Ok((Resume::Exactly(Box::new(it.engine)), since)),
        (None, Some((partitions, watermark))) => Ok((Resume::FromRows { watermark, partitions }, None)),
        (None, None) => bail!(
            "there is neither a checkpoint nor anything that rows tell; this is a bug, please report it"
        ),
    }
}

/// Where rows of a partition, as the loop counts it, were read, as they name it; several where that is the files of a feed.
pub(super) type Sources<'a> = &'a dyn Fn(&Read) -> BTreeMap<(String, i32), Stretch>;

/// Fills the set that tells duplicates with what was read within the horizon: the archive holds those that went on.
///
/// # Errors
/// When the archive is damaged.
pub fn known_before(
    duplicates: &mut Duplicates,
    feeds: &[Feed],
    start: &Start,
    archive: &std::path::Path,
) -> anyhow::Result<()> {
    let own = |read: &Read| {
        let stretch = Stretch { begin: read.begin, next: read.next };
        BTreeMap::from([((read.source.clone(), read.partition), stretch)])
    };
    known_from(duplicates, feeds, start, archive, &own, false)
}

/// The same of rows that were read in `sources`; `one`: a feed has one partition, whatever its rows name.
pub(super) fn known_from(
    duplicates: &mut Duplicates,
    feeds: &[Feed],
    start: &Start,
    archive: &std::path::Path,
    sources: Sources<'_>,
    one: bool,
) -> anyhow::Result<()> {
    if !start.highest.iter().any(Option::is_some) {
        return Ok(());
    }
    let history = Archive::open(archive).context("the archive that tells duplicates")?;
    for (index, feed) in feeds.iter().enumerate() {
        let Some(horizon) = duplicates.horizon(index) else { continue };
        let (mut wanted, mut all) = (BTreeMap::new(), None);
        for (read, highest) in start.read.iter().zip(&start.highest).filter(|(r, _)| r.feed == feed.name()) {
            let Some(highest) = *highest else { continue };
            let name = (read.source.as_str(), read.partition);
            duplicates.reached(index, name, highest);
            let from = highest.saturating_sub(horizon);
            wanted.extend(sources(read).into_iter().map(|(source, stretch)| (source, (stretch, from))));
            all = one.then_some(name);
        }
        history.recent(&wanted, |rows| -> Result<(), ArchiveError> {
            duplicates.remember(index, all, &rows);
            Ok(())
        })?;
    }
    tracing::info!(transactions = duplicates.len(), "remembered to tell duplicates");
    Ok(())
}

/// How far a partition of each number, and the engine, had come since an older checkpoint.
type Since = (Vec<SavedPartition>, i64);

/// Whether rows of a feed, source and partition are of this one.
type Mine<'a> = &'a dyn Fn(&Read, &str, &str, i32) -> bool;

/// Rows that were evaluated, and rows that wait.
pub(super) fn replay(
    engine: &mut Engine,
    history: &Archive,
    resume: &Resume,
    since: Option<Since>,
    read: &[Read],
    stretches: BTreeMap<(String, i32), Stretch>,
    mine: Mine<'_>,
) -> anyhow::Result<(usize, usize)> {
    let seen = match resume {
        Resume::Exactly(snapshot) => snapshot.watermark,
        Resume::FromRows { watermark, .. } => *watermark,
    };
    let watermark = since.as_ref().map_or(seen, |(_, watermark)| *watermark).max(seen);
    let mut resumed = false;
    engine.resume(resume)?;
    let mut waiting: Vec<RecordBatch> = Vec::new();
    let mut count = 0;
    // Rows that wait may be older than those that windows need only where no window needs any.
    let from = engine.rows_from(resume).min(seen);
    history.replay(&Replay { from, read: stretches }, |rows| -> Result<(), Fault> {
        let times = rows.column_by_name("event_time").map(|c| c.as_primitive::<TimestampMicrosecondType>());
        let before = |mark: i64| times.map_or(0, |times| times.values().partition_point(|&time| time < mark));
        let (old, evaluated) = (before(seen), before(watermark));
        if old > 0 {
            engine.replay(resume, &rows.slice(0, old))?;
        }
        if old < rows.num_rows() && !resumed {
            engine.resumed(resume)?;
            resumed = true;
        }
        if old < evaluated {
            engine.catch_up(&rows.slice(old, evaluated - old))?;
        }
        count += evaluated;
        if evaluated < rows.num_rows() {
            waiting.push(rows.slice(evaluated, rows.num_rows() - evaluated));
        }
        Ok(())
    })?;
    if !resumed {
        engine.resumed(resume)?;
    }
    if let Some((partitions, watermark)) = since {
        engine.caught_up(&partitions, watermark)?;
    }
    let mut left = 0;
    for rows in &waiting {
        let partitions = rows.column_by_name("source_partition").map(|c| c.as_primitive::<Int32Type>());
        let texts = |name: &str| rows.column_by_name(name).map(|c| c.as_string::<i32>());
        let (Some(partitions), Some(sources), Some(feeds)) = (partitions, texts("source"), texts("feed"))
        else {
            continue;
        };
        for (index, read) in read.iter().enumerate() {
            let of_it: BooleanArray = (0..rows.num_rows())
                .map(|row| Some(mine(read, feeds.value(row), sources.value(row), partitions.value(row))))
                .collect();
            let rows = filter_record_batch(rows, &of_it)?;
            left += rows.num_rows();
            engine.wait(PartitionId(index), &rows)?;
        }
    }
    Ok((count, left))
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_written_and_others_are_none() {
        let note = Note { checkpoint: 12, watermark: i64::MIN };
        assert_eq!(Note::parse(&note.text()), Some(note));
        assert_eq!(Note::parse(""), None);
        assert_eq!(Note::parse("manumit checkpoint=x watermark=1"), None);
    }
}
