//! The same acts without any trouble: one engine, one thread, all in memory, nothing put away.

use manumit_engine::{Options, PartitionId};

use super::core::{Core, Said};
use super::world::World;

/// What a process did that counted in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Took records of a partition, `from..to`.
    Took {
        partition: usize,
        from: usize,
        to: usize,
    },
    Stepped,
    FoundSilent {
        partition: usize,
    },
    Ended,
}

/// All records, each partition at once.
pub fn whole(world: &World) -> Vec<Act> {
    let took = |(partition, log): (usize, &Vec<_>)| Act::Took { partition, from: 0, to: log.len() };
    world.logs.iter().enumerate().map(took).chain([Act::Ended, Act::Stepped]).collect()
}

/// What is said when these acts are done one after the other.
pub fn calm(world: &World, acts: &[Act]) -> Result<Said, String> {
    let loaded = world.loaded()?;
    let mut core = Core::new(world, &loaded, Options { keep_hits: true, ..Options::default() })?;
    for partition in &world.partitions {
        core.engine.add_partition(partition.feed, partition.lateness_micros);
    }
    let mut said = Said::default();
    for act in acts {
        match *act {
            Act::Took { partition, from, to } => {
                core.deliver(world, partition, (from, to), &mut said)?;
            }
            Act::Stepped => core.step(&loaded, &mut said)?,
            Act::FoundSilent { partition } => core.engine.set_idle(PartitionId(partition), true),
            Act::Ended => (0..world.partitions.len()).for_each(|p| core.engine.end(PartitionId(p))),
        }
    }
    Ok(said)
}
