//! A failing run made smaller, and told so that it can be read and repeated.

use std::time::{Duration, Instant};

use super::schedule::{Event, Left, Restart};
use super::world::World;
use super::{machine, setting};
use crate::standing::rows::line;
use crate::standing::rules;
use crate::standing::shrink::caught;

/// Seconds that may be spent on making a run smaller, when nothing else is said.
const PATIENCE: u64 = 60;

/// The run made as small as patience allows, with what is wrong.
pub fn report(mut world: World, mut why: String) -> String {
    let (seed, began) = (world.seed, Instant::now());
    let patience = Duration::from_secs(setting("MANUMIT_SIMULATION_PATIENCE", PATIENCE));
    loop {
        let before = size(&world);
        for smaller in candidates(&world) {
            if began.elapsed() >= patience {
                break;
            }
            let Some(smaller) = smaller(&world) else { continue };
            // A rule that no longer loads is another failure.
            let fails = caught(|| machine::run(&smaller)).err();
            if let Some(told) = fails.filter(|told| !told.starts_with("the loader refuses")) {
                (world, why) = (smaller, told);
            }
        }
        if size(&world) == before || began.elapsed() >= patience {
            break;
        }
    }
    let files = rules::files(&world.indicators, &world.typologies).into_iter();
    let rules: Vec<String> =
        files.map(|(path, text)| format!("# {}\n{}", path.display(), text.trim_end())).collect();
    let mut logs = String::new();
    for (p, (partition, log)) in world.partitions.iter().zip(&world.logs).enumerate() {
        let (topic, number) = world.place(p);
        logs +=
            &format!("p{p}: topic {topic}, partition {number}, lateness {} us\n", partition.lateness_micros);
        log.iter().enumerate().for_each(|(offset, row)| logs += &format!("  {offset}: {}\n", line(row)));
    }
    let events: Vec<String> =
        world.events.iter().enumerate().map(|(number, event)| format!("  {number}: {event}")).collect();
    format!(
        "seed {seed}: {why}\n\n--- smallest rules found\n{}\n--- {} records; duplicates told within {:?} us\n{logs}\
         --- schedule; first of all, the run {}\n{}\n\n\
         again: MANUMIT_SIMULATION_SEED={seed} MANUMIT_SIMULATIONS=1 cargo test --profile ci --workspace --test it -- simulation\n",
        rules.join("\n"),
        world.logs.iter().map(Vec::len).sum::<usize>(),
        world.horizon,
        world.first,
        events.join("\n")
    )
}

fn size(world: &World) -> usize {
    let events = world.events.iter().map(|event| 4 + weight(event)).sum::<usize>();
    let parts = world.indicators.iter().map(|i| 1 + i.features.len()).sum::<usize>() + world.typologies.len();
    world.logs.iter().map(Vec::len).sum::<usize>() + events + parts + of_restart(&world.first)
}

fn weight(event: &Event) -> usize {
    match event {
        Event::Deliver { .. } | Event::Silent { .. } | Event::Merge | Event::Step => 0,
        Event::Commit => 1,
        Event::Die { restart } => 1 + of_restart(restart),
        Event::DieCommitting { restart, .. } => 2 + of_restart(restart),
    }
}

fn of_restart(restart: &Restart) -> usize {
    usize::from(restart.threads > 1)
        + usize::from(restart.memory.is_some())
        + usize::from(!restart.silent_at_once)
        + match restart.left {
            Left::All => 0,
            Left::Older(_) => 1,
            Left::None => 2,
        }
}

type Smaller = Box<dyn Fn(&World) -> Option<World>>;

fn candidates(world: &World) -> Vec<Smaller> {
    let mut all: Vec<Smaller> = Vec::new();
    let mut part = world.events.len().div_ceil(2);
    while part > 0 {
        // From the end, so that what is left keeps its meaning.
        for start in (0..world.events.len()).step_by(part).rev() {
            all.push(Box::new(move |world| {
                let mut smaller = world.clone();
                let end = (start + part).min(smaller.events.len());
                if start >= end {
                    return None;
                }
                smaller.events.drain(start..end);
                Some(smaller)
            }));
        }
        part /= 2;
    }
    for id in world.typologies.iter().map(|t| t.id.clone()) {
        all.push(Box::new(move |world| {
            let mut smaller = world.clone();
            smaller.typologies.retain(|t| t.id != id);
            Some(smaller)
        }));
    }
    for id in world.indicators.iter().map(|i| i.id.clone()) {
        all.push(Box::new(move |world| {
            let read =
                |i: &rules::Indicator| i.keyed.as_ref().is_some_and(|q| q.hits_of.as_ref() == Some(&id));
            let used =
                world.typologies.iter().any(|t| t.uses.contains(&id)) || world.indicators.iter().any(read);
            let mut smaller = world.clone();
            smaller.indicators.retain(|i| i.id != id);
            (!used && !smaller.indicators.is_empty()).then_some(smaller)
        }));
    }
    for partition in 0..world.logs.len() {
        let mut part = world.logs[partition].len().div_ceil(2).max(1);
        while part > 0 && !world.logs[partition].is_empty() {
            for start in (0..world.logs[partition].len()).step_by(part) {
                all.push(Box::new(move |world| {
                    let mut smaller = world.clone();
                    let log = &mut smaller.logs[partition];
                    if start >= log.len() {
                        return None;
                    }
                    log.drain(start..(start + part).min(log.len()));
                    Some(smaller)
                }));
            }
            part /= 2;
        }
    }
    for number in 0..world.events.len() {
        all.push(Box::new(move |world| {
            let mut smaller = world.clone();
            let event = smaller.events.get_mut(number)?;
            *event = match *event {
                Event::DieCommitting { restart, .. } => Event::Die { restart },
                Event::Commit => Event::Step,
                _ => return None,
            };
            Some(smaller)
        }));
        for change in 0..4 {
            all.push(Box::new(move |world| {
                let mut smaller = world.clone();
                let event = smaller.events.get_mut(number)?;
                let (Event::Die { restart } | Event::DieCommitting { restart, .. }) = event else {
                    return None;
                };
                simpler(restart, change).then_some(smaller)
            }));
        }
    }
    for change in 0..4 {
        all.push(Box::new(move |world| {
            let mut smaller = world.clone();
            simpler(&mut smaller.first, change).then_some(smaller)
        }));
    }
    all
}

/// Makes one thing of it plain; false when it was.
fn simpler(restart: &mut Restart, change: usize) -> bool {
    let (before, plain) = (*restart, Restart::plain());
    match change {
        0 => restart.threads = plain.threads,
        1 => restart.memory = plain.memory,
        2 => restart.left = plain.left,
        _ => restart.silent_at_once = plain.silent_at_once,
    }
    *restart != before
}
