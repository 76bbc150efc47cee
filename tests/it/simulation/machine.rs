//! A run that dies and begins again: real engine, archive, checkpoints, duplicates and ledger around a model of Kafka.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use manumit::checkpoint::Store;
use manumit::checkpoint::delivery::{Delivery, From, Transact};
use manumit::checkpoint::resume::{Note, committed, find, known_before, take_up};
use manumit::ledger::{self, Ledger};
use manumit_archive::{Archive, ArchiveError, Settings, Stretch, Writer};
use manumit_engine::{Options, PartitionId, StateLimit};
use manumit_io::{Reached, Standing};
use manumit_state::Segments;

use super::calm::{Act, calm, whole};
use super::core::{Core, Said};
use super::schedule::{Damage, Event, Left, Point, Restart};
use super::world::{Loaded, World};
use crate::standing::answers::{difference, sort};

/// Checkpoints that are kept.
const KEEP: usize = 3;

/// Words of a death that the schedule wants.
const DIED: &str = "the process died here";

/// How much happened, so that a test in which nothing happens fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub hits: usize,
    pub alerts: usize,
    pub late: usize,
    pub duplicates: usize,
    pub conflicts: usize,
    /// Times that partitions fell silent.
    pub idle: usize,
    pub commits: usize,
    pub crashes: usize,
    /// Deaths in a commit, by place.
    pub died: [usize; 4],
    /// Restarts with the checkpoint of the last commit, with an older one, with rows alone.
    pub exactly: usize,
    pub behind: usize,
    pub from_rows: usize,
    /// Records that were taken more than once.
    pub redelivered: usize,
    /// Runs all of whose outputs were compared.
    pub strict: usize,
    /// Runs that were compared with all rows at once, too.
    pub whole: usize,
}

impl AddAssign<&Seen> for Seen {
    fn add_assign(&mut self, other: &Seen) {
        self.hits += other.hits;
        self.alerts += other.alerts;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.idle += other.idle;
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.died.iter_mut().zip(other.died).for_each(|(sum, count)| *sum += count);
        self.exactly += other.exactly;
        self.behind += other.behind;
        self.from_rows += other.from_rows;
        self.redelivered += other.redelivered;
        self.strict += other.strict;
        self.whole += other.whole;
    }
}

/// Kafka: what was sent since the last commit counts with the offsets, or not at all.
#[derive(Default)]
struct Broker {
    committed: BTreeMap<(String, i32), (i64, String)>,
    sent: Said,
    published: Said,
    commits: u64,
    /// The process is to die at the next commit.
    die: Option<Point>,
}

struct Connection(Rc<RefCell<Broker>>);

impl Transact for Connection {
    fn commit(&mut self, offsets: &[Reached], note: &str) -> anyhow::Result<()> {
        let mut broker = self.0.borrow_mut();
        if broker.die == Some(Point::AfterCheckpoint) {
            bail!(DIED);
        }
        for Reached { topic, partition, next } in offsets {
            broker.committed.insert((topic.clone(), *partition), (*next, note.into()));
        }
        let sent = std::mem::take(&mut broker.sent);
        broker.published.append(sent);
        broker.commits += 1;
        if broker.die == Some(Point::AfterTransaction) {
            bail!(DIED);
        }
        Ok(())
    }
}

/// What lives until the process dies.
struct Process {
    core: Core,
    writer: Writer,
    delivery: Delivery<Connection>,
    ledger: Ledger,
    /// Place of each partition in the ledger.
    accounts: Vec<usize>,
    /// Offsets at which the ledger began.
    ledger_from: Vec<i64>,
    /// Offset that each partition is read from next.
    next: Vec<usize>,
}

struct Machine<'w> {
    world: &'w World,
    loaded: Rc<Loaded>,
    folder: tempfile::TempDir,
    broker: Rc<RefCell<Broker>>,
    process: Option<Process>,
    /// Acts that count, and how many of them are committed.
    acts: Vec<Act>,
    committed: usize,
    /// Partitions that were idle at the last commit.
    idle: Vec<bool>,
    /// The engine's watermark at the last commit.
    watermark: i64,
    /// A partition was taken for awake that no checkpoint told of: what is late may differ from here on.
    waked: bool,
    /// Alerts were made again from rows that do not reach back to the first one.
    forgot_alerts: bool,
    /// Where the ledger of the last commit began.
    ledger_from: Vec<i64>,
    starts: usize,
    seen: Seen,
}

/// Runs a world; in words what does not hold.
pub fn run(world: &World) -> Result<Seen, String> {
    // In memory, where there is such a place: to bring a file to disk costs more than all else.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let partitions = world.partitions.len();
    let mut machine = Machine {
        world,
        loaded: world.loaded()?,
        folder: folder.map_err(|error| error.to_string())?,
        broker: Rc::default(),
        process: None,
        acts: Vec::new(),
        committed: 0,
        idle: vec![false; partitions],
        watermark: i64::MIN,
        waked: false,
        forgot_alerts: false,
        ledger_from: vec![0; partitions],
        starts: 0,
        seen: Seen::default(),
    };
    machine.start(&world.first)?;
    for (number, event) in world.events.iter().enumerate() {
        machine.happen(event).map_err(|why| format!("at event {number} ({event}): {why}"))?;
    }
    machine.end().map_err(|why| format!("after the last event: {why}"))?;
    machine.judge()
}

fn words(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

impl Machine<'_> {
    fn process(&mut self) -> Result<&mut Process, String> {
        self.process.as_mut().ok_or_else(|| "there is no process: a fault of the test".into())
    }

    fn happen(&mut self, event: &Event) -> Result<(), String> {
        let last = self.world.partitions.len() - 1;
        match *event {
            Event::Deliver { partition, count } => self.deliver(partition.min(last), count)?,
            Event::Step => self.step()?,
            Event::Silent { partition } => {
                let partition = partition.min(last);
                self.process()?.core.engine.set_idle(PartitionId(partition), true);
                self.acts.push(Act::FoundSilent { partition });
                self.seen.idle += 1;
            }
            Event::Merge => {
                let writer = &mut self.process()?.writer;
                writer.commit().map_err(words)?;
                while writer.tend().map_err(words)? {}
            }
            Event::Commit => {
                self.commit(None)?;
            }
            Event::DieCommitting { at, restart } => {
                self.seen.died[at as usize] += 1;
                self.commit(Some(at))?;
                self.begin_again(&restart)?;
            }
            Event::Die { restart } => self.begin_again(&restart)?,
        }
        self.check()
    }

    fn begin_again(&mut self, restart: &Restart) -> Result<(), String> {
        self.seen.crashes += 1;
        let process = self.process.take();
        // What was sent belongs to no transaction that ends.
        self.broker.borrow_mut().sent = Said::default();
        self.broker.borrow_mut().die = None;
        self.acts.truncate(self.committed);
        let before = process.map_or_else(Vec::new, |process| process.next);
        self.start(restart)?;
        let after = &self.process()?.next;
        let again: usize =
            before.iter().zip(after).map(|(before, after)| before.saturating_sub(*after)).sum();
        self.seen.redelivered += again;
        Ok(())
    }

    /// What a process does before its first record, as `manumit run` does.
    fn start(&mut self, restart: &Restart) -> Result<(), String> {
        let world = self.world;
        let feeds = world.feeds()?;
        self.starts += 1;
        let archive = self.folder.path().join("archive");
        let settings = Settings {
            buffer_rows: world.buffer_rows,
            compact_below_rows: 60,
            keep_replaced: Duration::ZERO,
            ..Settings::default()
        };
        let mut writer = Writer::open(&archive, settings).map_err(words)?;
        let store = Store::open(&self.folder.path().join("checkpoints"), KEEP).map_err(words)?;
        let standings = self.standings();
        writer.take_back(&committed(&standings)).map_err(words)?;
        let told = standings.iter().find_map(|standing| Note::parse(&standing.note));
        if let Some(note) = told {
            damage(&store, note.checkpoint, restart.left)?;
        }
        let found = find(&standings, &store).map_err(words)?;
        let behind = found.behind;
        let exactly = found.checkpoint.is_some() && !behind;
        let state = match restart.memory {
            Some(memory) => {
                let folder = self.folder.path().join(format!("state-{}", self.starts));
                let store = Segments::create(&folder, restart.threads).map_err(words)?;
                Some(StateLimit { memory, store: Arc::new(store) })
            }
            None => None,
        };
        let most_transactions = restart.memory;
        let options = Options {
            threads: restart.threads,
            keep_hits: true,
            state,
            most_transactions,
            ..Options::default()
        };
        let mut core = Core::new(world, &self.loaded, options)?;
        let topics = manumit::pipeline::topics(&feeds);
        let mut start =
            take_up(&mut core.engine, &feeds, &topics, &standings, found, &archive).map_err(words)?;
        known_before(&mut core.duplicates, &feeds, &start, &archive).map_err(words)?;
        let mut ledger_from: Vec<i64> = start.read.iter().map(|read| read.next).collect();
        let ledger = match start.ledger.take() {
            Some(saved) => {
                ledger_from.clone_from(&self.ledger_from);
                saved.taken_up()
            }
            None => Ledger::new(chrono::Utc::now()),
        };
        for (partition, read) in start.read.iter().enumerate() {
            let (topic, number) = world.place(partition);
            if (read.source.as_str(), read.partition) != (topic, number) {
                return Err(format!(
                    "partition {partition} is {} {}: {start:?}",
                    read.source, read.partition
                ));
            }
        }
        let connection = Connection(self.broker.clone());
        let from = From::Topics { transactions: connection, group: "simulation".into() };
        let delivery = Delivery::new(from, store, None, Duration::ZERO, &start);
        let next = start.read.iter().map(|read| read.next as usize).collect();
        let mut process = Process { core, writer, delivery, ledger, accounts: Vec::new(), ledger_from, next };
        for (partition, read) in start.read.iter().enumerate() {
            let id = PartitionId(partition);
            let account =
                process.ledger.open(&read.feed, &read.source, read.partition, id, &process.core.engine);
            process.accounts.push(account);
        }
        self.process = Some(process);
        if told.is_some() {
            self.taken_up(restart, exactly, behind)?;
        }
        // As `manumit run` does: what it goes back to when it is killed before the next commit.
        if start.read.iter().all(|read| read.next == 0) {
            self.commit(None).map(|_| ())
        } else {
            self.check()
        }
    }

    /// Holds a process that was taken up against the one that committed last.
    fn taken_up(&mut self, restart: &Restart, exactly: bool, behind: bool) -> Result<(), String> {
        let read: i64 = self.broker.borrow().committed.values().map(|(next, _)| next).sum();
        let (idle, watermark) = (self.idle.clone(), self.watermark);
        let seen = match (exactly, behind) {
            (true, _) => &mut self.seen.exactly,
            (false, true) => &mut self.seen.behind,
            (false, false) => &mut self.seen.from_rows,
        };
        *seen += usize::from(read > 0);
        let engine = &mut self.process()?.core.engine;
        if engine.watermark() != watermark && read > 0 {
            return Err(format!("taken up at the watermark {}, it was {watermark}", engine.watermark()));
        }
        let lookback = engine.lookback_micros();
        let mut waked = false;
        for (partition, was_idle) in idle.into_iter().enumerate() {
            let is_idle = engine.progress(PartitionId(partition)).is_some_and(|progress| progress.idle);
            if is_idle && !was_idle {
                return Err(format!("partition {partition} is held for silent, and it was not"));
            }
            if was_idle && !is_idle {
                // Of a history in which nothing was read no checkpoint is asked.
                if exactly && read > 0 {
                    return Err(format!("partition {partition} was silent, and is not held for it"));
                }
                if restart.silent_at_once {
                    engine.set_idle(PartitionId(partition), true);
                } else {
                    waked = true;
                }
            }
        }
        self.waked |= waked;
        let oldest = self.world.logs.iter().flatten().map(|row| row.time).min().unwrap_or(0);
        // Rows are replayed from there on: an alert that was opened before is not known, nor what it kept from being opened.
        let partly = lookback != i64::MAX && watermark.saturating_sub(lookback) > oldest;
        self.forgot_alerts |= !exactly && !behind && read > 0 && partly;
        Ok(())
    }

    fn standings(&self) -> Vec<Standing> {
        let broker = self.broker.borrow();
        (0..self.world.partitions.len())
            .map(|partition| {
                let (topic, partition) = self.world.place(partition);
                let committed = broker.committed.get(&(topic.to_string(), partition));
                let (next, note) = committed.cloned().unwrap_or_default();
                let reached = Reached { topic: topic.into(), partition, next };
                Standing { reached, committed: committed.is_some(), note }
            })
            .collect()
    }

    fn deliver(&mut self, partition: usize, count: usize) -> Result<(), String> {
        let world = self.world;
        let (broker, (topic, number)) = (self.broker.clone(), world.place(partition));
        let process = self.process()?;
        let from = process.next[partition];
        let to = (from + count).min(world.logs[partition].len());
        if from == to {
            return Ok(());
        }
        let mut broker = broker.borrow_mut();
        let taken = process.core.deliver(world, partition, (from, to), &mut broker.sent)?;
        let counted = ledger::Taken {
            read: (to - from) as u64,
            duplicates: taken.duplicates,
            late: taken.late.len() as u64,
            dead_letters: &taken.letters,
            next_offset: to as i64,
            ..ledger::Taken::default()
        };
        process.ledger.take(process.accounts[partition], &counted);
        process.writer.push(&taken.rows, &taken.late).map_err(words)?;
        process.writer.reached(topic, number, to as i64);
        process.delivery.reached(topic, number, to as i64);
        process.next[partition] = to;
        self.acts.push(Act::Took { partition, from, to });
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let (broker, loaded) = (self.broker.clone(), self.loaded.clone());
        self.process()?.core.step(&loaded, &mut broker.borrow_mut().sent)?;
        self.acts.push(Act::Stepped);
        Ok(())
    }

    /// As the main loop commits: what can be evaluated is, the ledger must add up, then the rest in its order.
    fn commit(&mut self, die: Option<Point>) -> Result<(), String> {
        self.step()?;
        self.settle()?;
        let broker = self.broker.clone();
        broker.borrow_mut().die = die;
        let before = broker.borrow().commits;
        let Process { core, writer, delivery, ledger, .. } = self.process()?;
        let archive = || {
            if die == Some(Point::BeforeArchive) {
                bail!(DIED);
            }
            writer.commit()?;
            if die == Some(Point::AfterArchive) { bail!(DIED) } else { Ok(()) }
        };
        let ended = delivery.commit(&core.engine, ledger, archive, || Ok(BTreeMap::new()), &|_| {});
        let (ledger_from, watermark) =
            (self.process()?.ledger_from.clone(), self.process()?.core.engine.watermark());
        match (ended, die) {
            (Ok(()), None) => {}
            (Err(error), Some(_)) if format!("{error:#}").contains(DIED) => {}
            (Err(error), _) => return Err(format!("a commit failed: {error:#}")),
            (Ok(()), Some(_)) => return Err("a commit went past the death of its process".into()),
        }
        if broker.borrow().commits > before {
            self.committed = self.acts.len();
            self.seen.commits += 1;
            self.watermark = watermark;
            self.ledger_from = ledger_from;
            let partitions = self.world.partitions.len();
            let engine = &self.process()?.core.engine;
            let idle = |p: usize| engine.progress(PartitionId(p)).is_some_and(|progress| progress.idle);
            self.idle = (0..partitions).map(idle).collect();
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        let Process { core, ledger, .. } = self.process()?;
        ledger.settle(&core.engine, core.evaluated, core.alerts).map_err(words)
    }

    /// What holds at any time.
    fn check(&mut self) -> Result<(), String> {
        self.settle()?;
        let Process { core, ledger, accounts, ledger_from, next, .. } = self.process()?;
        for (partition, &account) in accounts.iter().enumerate() {
            let counts = &ledger.accounts[account].counts;
            let read = next[partition] as i64 - ledger_from[partition];
            // `L3`: the ledger is one of exactly the records read since it began.
            if counts.read as i64 != read {
                return Err(format!(
                    "partition {partition}: {read} records were read, the ledger has {counts:?}"
                ));
            }
            let progress = core.engine.progress(PartitionId(partition));
            let Some(progress) = progress else { return Err(format!("no partition {partition}")) };
            // What such a partition brings would be evaluated after rows that are later.
            if !progress.idle && progress.watermark < core.engine.watermark() {
                return Err(format!(
                    "partition {partition} is awake at {}, behind the engine's watermark {}",
                    progress.watermark,
                    core.engine.watermark()
                ));
            }
        }
        Ok(())
    }

    /// The rest of all logs, a last commit.
    fn end(&mut self) -> Result<(), String> {
        let partitions = self.world.partitions.len();
        loop {
            let before = self.acts.len();
            for partition in 0..partitions {
                self.deliver(partition, 40)?;
                self.check()?;
            }
            if self.acts.len() == before {
                break;
            }
        }
        let engine = &mut self.process()?.core.engine;
        (0..partitions).for_each(|partition| engine.end(PartitionId(partition)));
        self.acts.push(Act::Ended);
        self.commit(None)?;
        self.settle()
    }

    /// What was published, against the calm run of the acts that counted.
    fn judge(mut self) -> Result<Seen, String> {
        let mut ours = self.broker.borrow().published.clone();
        ours.sort();
        self.stored(&ours)?;
        let mut ids = BTreeSet::new();
        for alert in &ours.alerts {
            if !ids.insert((alert.alert_id.clone(), alert.revision)) {
                return Err(format!(
                    "alert {} revision {} is published twice",
                    alert.alert_id, alert.revision
                ));
            }
        }
        let records: usize = self.world.logs.iter().map(Vec::len).sum();
        let told = ours.evaluated as usize + ours.late.len() + ours.duplicates.len() + ours.conflicts.len();
        if told != records {
            return Err(format!(
                "{records} records were read, but {told} are accounted for in what is published"
            ));
        }
        self.seen.hits = ours.hits.len();
        self.seen.alerts = ours.alerts.len();
        self.seen.late = ours.late.len();
        self.seen.duplicates = ours.duplicates.len();
        self.seen.conflicts = ours.conflicts.len();
        if self.waked {
            return Ok(self.seen);
        }
        let mut theirs = calm(self.world, &self.acts)?;
        theirs.sort();
        self.same("the calm run", &ours, &theirs)?;
        self.seen.strict = 1;
        let silent = self.acts.iter().any(|act| matches!(act, Act::FoundSilent { .. }));
        if !silent && !self.world.order_matters() {
            let mut theirs = calm(self.world, &whole(self.world))?;
            theirs.sort();
            self.same("the run over all rows at once", &ours, &theirs)?;
            self.seen.whole = 1;
        }
        Ok(self.seen)
    }

    fn same(&self, what: &str, ours: &Said, theirs: &Said) -> Result<(), String> {
        if let Some(told) = difference(&self.loaded.rules, &ours.hits, &theirs.hits, &[]) {
            return Err(format!("published against {what}: {told}"));
        }
        let of = |said: &Said| {
            (said.evaluated, said.late.clone(), said.duplicates.clone(), said.conflicts.clone())
        };
        if of(ours) != of(theirs) {
            return Err(format!(
                "evaluated, late, duplicates, conflicts: {:?}\n{what}: {:?}",
                of(ours),
                of(theirs)
            ));
        }
        if !self.forgot_alerts && ours.alerts != theirs.alerts {
            let told = ours.alerts.iter().zip(&theirs.alerts).find(|(a, b)| a != b);
            return Err(format!(
                "{} alerts are published, {} by {what}; the first that differs: {told:#?}",
                ours.alerts.len(),
                theirs.alerts.len()
            ));
        }
        Ok(())
    }

    /// The archive has every row that went on, once, as late or not.
    fn stored(&mut self, ours: &Said) -> Result<(), String> {
        self.process = None;
        let archive = Archive::open(&self.folder.path().join("archive")).map_err(words)?;
        let (mut wanted, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (partition, log) in self.world.logs.iter().enumerate() {
            let (topic, number) = self.world.place(partition);
            places.insert((topic.to_string(), number), partition);
            let stretch = Stretch { begin: 0, next: log.len() as i64 };
            wanted.insert((topic.to_string(), number), (stretch, i64::MIN));
        }
        let mut found = Vec::new();
        let read = archive.recent(&wanted, |rows| -> Result<(), ArchiveError> {
            let column = |name: &str| rows.column_by_name(name).unwrap();
            let (topics, numbers) =
                (column("source").as_string::<i32>(), column("source_partition").as_primitive::<Int32Type>());
            let (offsets, late) =
                (column("source_offset").as_primitive::<Int64Type>(), column("late").as_boolean());
            for row in 0..rows.num_rows() {
                let place = places[&(topics.value(row).to_string(), numbers.value(row))];
                found.push((place, offsets.value(row), late.value(row)));
            }
            Ok(())
        });
        read.map_err(words)?;
        found.sort_unstable();
        let dropped: BTreeSet<(usize, i64)> = ours.duplicates.iter().copied().collect();
        let set_aside: BTreeSet<(usize, i64)> = ours.conflicts.iter().map(|(p, o, _)| (*p, *o)).collect();
        let late: BTreeSet<(usize, i64)> = ours.late.iter().copied().collect();
        let mut wanted: Vec<(usize, i64, bool)> = Vec::new();
        for (partition, log) in self.world.logs.iter().enumerate() {
            let all = (0..log.len() as i64).map(|offset| (partition, offset));
            let kept = all.filter(|place| !dropped.contains(place) && !set_aside.contains(place));
            wanted.extend(kept.map(|place| (place.0, place.1, late.contains(&place))));
        }
        if found != wanted {
            let strange: Vec<_> = found.iter().filter(|row| !wanted.contains(row)).collect();
            let missing: Vec<_> = wanted.iter().filter(|row| !found.contains(row)).collect();
            return Err(format!(
                "the archive has {} rows for {}; too much {strange:?}, missing {missing:?} (partition, offset, late)",
                found.len(),
                wanted.len()
            ));
        }
        Ok(())
    }
}

impl Said {
    /// Alerts stay as they were told; what else is said at once has no order.
    fn sort(&mut self) {
        sort(&mut self.hits);
        self.late.sort_unstable();
        self.duplicates.sort_unstable();
        self.conflicts.sort_unstable();
    }
}

/// What happens to checkpoints between two processes.
fn damage(store: &Store, last: u64, left: Left) -> Result<(), String> {
    let numbers = store.numbers().map_err(words)?;
    let remove = |number: u64| std::fs::remove_file(store.path(number)).map_err(words);
    match left {
        Left::All => Ok(()),
        Left::None => numbers.into_iter().try_for_each(remove),
        Left::Older(_) if !numbers.contains(&last) => Ok(()),
        Left::Older(Damage::Gone) => remove(last),
        Left::Older(damage) => {
            let mut bytes = std::fs::read(store.path(last)).map_err(words)?;
            let middle = bytes.len() / 2;
            match damage {
                Damage::Flipped => bytes[middle] ^= 4,
                _ => bytes.truncate(middle),
            }
            std::fs::write(store.path(last), bytes).map_err(words)
        }
    }
}
