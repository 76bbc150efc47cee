//! What a run with checkpoints begins with: where the one before had come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use manumit_engine::{Engine, Step};
use manumit_feed::Feed;
use manumit_io::{Commits, KafkaSettings, KafkaSource, Standing, Transactions};

use super::copies::Copies;
use super::delivery::{Delivery, From, Kafka, check_retention, transactional_id};
use super::files::{self, Progress};
use super::resume::{Again, Found, committed, find, known_before, own, remember, take_up_with};
use super::{Checkpoint, Store};
use crate::config::Config;
use crate::duplicates::Duplicates;
use crate::ledger::Ledger;
use crate::pipeline::{self, Input};

/// A run that was taken up.
pub struct Begun {
    /// How it delivers from here on.
    pub delivery: Delivery,
    /// The ledger of what was read, when there is one.
    pub ledger: Option<Ledger>,
    /// What was found by screening past rows again, because lists changed; to be committed before anything else.
    pub screened: Option<Step>,
}

/// What a run with checkpoints begins with.
pub struct Exact {
    /// The folder of checkpoints.
    store: Store,
    /// How often a checkpoint is made.
    every: Duration,
    /// Where it goes on.
    at: At,
}

/// Where a run goes on.
enum At {
    Kafka {
        /// The producer of all sinks, which has fenced those before.
        transactions: Transactions,
        /// The topics, which are not read yet.
        source: Box<KafkaSource>,
        /// Where the group had come to.
        standings: Vec<Standing>,
        /// Where checkpoints are copied to.
        copies: Option<Copies>,
        /// What belongs to `standings`.
        found: Box<Found>,
    },
    Files {
        /// The checkpoint that counts.
        checkpoint: Option<Box<Checkpoint>>,
        /// The highest number of any.
        number: u64,
        /// What is to be read.
        progress: Progress,
        /// Everything is read again.
        from_beginning: bool,
    },
}

/// From where a run is asked to go on.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Forget what was read.
    pub from_beginning: bool,
    /// Trust the newest checkpoint where Kafka has forgotten.
    pub from_checkpoint: bool,
}

impl Exact {
    /// Fences those who came before, and finds where they had come to; `None` without checkpoints.
    ///
    /// # Errors
    /// When that cannot be found out, or is not asked for rightly.
    pub fn find(
        config: &Config,
        settings: &KafkaSettings,
        feeds: &[Feed],
        input: &Input,
        asked: Asked,
    ) -> anyhow::Result<Option<Exact>> {
        let Asked { from_beginning, from_checkpoint } = asked;
        let Some(folder) = &config.checkpoint.folder else {
            if from_beginning || from_checkpoint {
                bail!(
                    "--from-beginning and --from-checkpoint are for runs with checkpoints; without them, give `[kafka] group` another name"
                );
            }
            return Ok(None);
        };
        let every = config.checkpoint.every().with_context(|| {
            format!("`[checkpoint] every` is `{}`; write for example `5 seconds`", config.checkpoint.every)
        })?;
        let store = Store::open(folder, config.checkpoint.keep)?;
        let at = match input {
            Input::Files(inputs) => {
                if from_checkpoint {
                    bail!(
                        "--from-checkpoint is for runs that read Kafka topics; a run over files goes on from its newest checkpoint anyway"
                    );
                }
                let (checkpoint, number) = if from_beginning {
                    (None, store.numbers()?.last().copied().unwrap_or(0))
                } else {
                    files::newest(&store)?
                };
                let before = checkpoint.as_ref().and_then(|it| it.files_read.as_ref());
                let planned = files::plan(feeds, inputs, before)?;
                let progress = Progress::new(feeds, planned, before);
                At::Files { checkpoint: checkpoint.map(Box::new), number, progress, from_beginning }
            }
            Input::Kafka { .. } | Input::Parts(_) => {
                let newest = store.numbers()?.into_iter().rev().find_map(|number| store.read(number).ok());
                if newest.is_some_and(|it| it.files_read.is_some()) {
                    bail!(
                        "`{}` has checkpoints of a run over files, and this one reads topics: give it another `[checkpoint] folder`",
                        folder.display()
                    );
                }
                // The fence first: an instance that is still alive must not commit after the offsets were read.
                let transactions = Transactions::open(settings, &transactional_id(&config.kafka.group))?;
                let names: Vec<String> = pipeline::topics(feeds).into_keys().collect();
                let (source, mut standings) =
                    KafkaSource::alone(settings, &names, pipeline::longest_record(feeds))?;
                let place = config.checkpoint.copy.as_ref().zip(config.archive.folder.as_ref());
                let copies = place
                    .map(|(place, archive)| Copies::open(place, archive, config.checkpoint.keep))
                    .transpose()?;
                if let Some(copies) = &copies {
                    copies.fetch(&store)?;
                }
                if !from_beginning {
                    remember(&mut standings, &store, from_checkpoint)?;
                    own(&mut standings, &store, from_checkpoint)?;
                }
                let mut found = find(&standings, &store)?;
                if from_beginning {
                    found = Found { number: found.number, ..Found::default() };
                    for standing in &mut standings {
                        (standing.committed, standing.reached.next) = (false, 0);
                    }
                }
                At::Kafka {
                    transactions,
                    source: Box::new(source),
                    standings,
                    copies,
                    found: Box::new(found),
                }
            }
        };
        Ok(Some(Exact { store, every, at }))
    }

    /// What the content of sinks follows.
    pub fn commits(&self) -> Commits<'_> {
        match &self.at {
            At::Kafka { transactions, .. } => Commits::Kafka(transactions),
            At::Files { .. } => Commits::Checkpoints,
        }
    }

    /// The offsets that a run with checkpoints committed, by topic and partition: what its archive has beyond them is read again.
    /// None for files, which are read in one order, so that what comes again is the same.
    pub fn committed(&self) -> BTreeMap<(String, i32), i64> {
        match &self.at {
            At::Kafka { standings, .. } => committed(standings),
            At::Files { .. } => BTreeMap::new(),
        }
    }

    /// Lengths to cut output files back to, by their names as configured.
    ///
    /// # Errors
    /// As [`files::lengths`].
    pub fn lengths(&self, config: &Config) -> anyhow::Result<BTreeMap<String, u64>> {
        match &self.at {
            At::Kafka { found, .. } => {
                Ok(found.checkpoint.as_ref().map(|it| it.files.clone()).unwrap_or_default())
            }
            At::Files { checkpoint, from_beginning, .. } => {
                files::lengths(&config.output, checkpoint.as_deref(), *from_beginning)
            }
        }
    }

    /// Makes engine and duplicates what they were, and `input` what is left to be read.
    ///
    /// # Errors
    /// When the archive does not hold what they are made of.
    pub fn begin(
        self,
        config: &Config,
        engine: &mut Engine,
        feeds: &[Feed],
        duplicates: &mut Duplicates,
        input: &mut Input,
        again: &Again<'_>,
    ) -> anyhow::Result<Begun> {
        let archive = again.archive;
        check_retention(config, engine)?;
        let Exact { store, every, at } = self;
        match at {
            At::Kafka { transactions, mut source, standings, copies, found } => {
                let topics = pipeline::topics(feeds);
                let (mut start, screened) =
                    take_up_with(engine, feeds, &topics, &standings, *found, archive, Some(again))?;
                known_before(duplicates, feeds, &start, archive)?;
                let Some(group) = source.group() else { bail!("the consumer has no group") };
                source.assign(&standings)?;
                if let Input::Kafka { source: place, .. } = input {
                    *place = Some(source);
                }
                let transactions = Kafka { transactions, group };
                let from = From::Topics { transactions, group: config.kafka.group.clone() };
                let ledger = start.ledger.take();
                let mut delivery = Delivery::new(from, store, copies, every, &start);
                delivery.lists = Some(Arc::new(again.lists.clone()));
                Ok(Begun { delivery, ledger, screened })
            }
            At::Files { checkpoint, number, progress, from_beginning } => {
                let before = checkpoint.as_ref().and_then(|it| it.files_read.clone()).unwrap_or_default();
                let planned = progress.planned();
                let checkpoint = checkpoint.map(|it| *it);
                let mut start = files::take_up(engine, feeds, &planned, checkpoint, number, archive)?;
                files::known_before(duplicates, feeds, &start, &before, archive)?;
                *input = Input::Parts(planned);
                let ledger = start.ledger.take();
                let mut delivery = Delivery::new(From::Files(progress), store, None, every, &start);
                delivery.anew = from_beginning;
                Ok(Begun { delivery, ledger, screened: None })
            }
        }
    }
}
