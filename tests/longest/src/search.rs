//! Which trials are made.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use anos::abi::boot::slot;
use anos::abi::object::Method;
use anos::capability::{Debug, Slot};
use anos::{Error, env, println};

use crate::gene::{self, Gene};
use crate::marks::Mark;
use crate::meter;
use crate::random::Random;
use crate::trial::{self, Weather, World};

/// Trials that earlier, longer searches have found: here the search begins.
const FOUND: &str = include_str!("../found.txt");
/// Marks that are told about in the end, without timers and with them.
const TOLD: [(Weather, usize); 2] = [(Weather::Calm, 14), (Weather::Wild, 6)];
/// How many percent of its longest visit a shorter trial must keep.
const KEPT: u64 = 98;

const DEBUG: Debug = Debug::at(Slot::new(slot::DEBUG));

/// The longest visit of a mark, and the trial that it came in.
struct Best {
    mark: Mark,
    weather: Weather,
    instructions: u64,
    genes: Vec<Gene>,
}

/// A search.
struct Search {
    world: World,
    random: Random,
    best: Vec<Best>,
    made: u64,
}

/// Searches, and switches the machine off.
pub fn main() {
    if let Err(error) = World::new().map_err(|error| (error, 0)).and_then(search) {
        say(format_args!("FAILED {} after {} trials", error.0, error.1));
    }
    let error = DEBUG.reset(false);
    println!("anos-longest: power off: {error}");
}

/// A word of the command line, `NAME=NUMBER`.
fn number(name: &str) -> Option<u64> {
    env::command_line().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// Says a line. That is a visit, too.
fn say(text: fmt::Arguments<'_>) {
    meter::enter(Mark::method(Method::DebugWrite));
    println!("{text}");
}

fn search(world: World) -> Result<(), (Error, u64)> {
    let random = Random(number("seed").unwrap_or(1));
    let mut search = Search { world, random, best: Vec::new(), made: 0 };
    search.all().map_err(|error| (error, search.made))
}

impl Search {
    fn all(&mut self) -> Result<(), Error> {
        for mark in Mark::all() {
            say(format_args!("name {} {}", mark.0, mark.name().unwrap_or_default()));
        }
        if number("found") != Some(0) {
            for line in FOUND.lines() {
                let calm = line.strip_prefix("calm ");
                let weather = if calm.is_some() { Weather::Calm } else { Weather::Wild };
                if let Some(genes) = gene::parse(calm.unwrap_or(line)) {
                    self.make(&genes, weather)?;
                }
            }
        }
        let trials = number("trials").unwrap_or(100);
        while self.made < trials {
            let (genes, weather) = self.next();
            self.make(&genes, weather)?;
        }
        self.sort();
        let of = |weather| (0..).zip(&self.best).filter(move |(_, best)| best.weather == weather).map(|(at, _)| at);
        let told: Vec<usize> = TOLD.iter().flat_map(|&(weather, count)| of(weather).take(count)).collect();
        for at in told {
            let (told, visit) = self.shorten(at)?;
            let Some(Best { mark, weather, genes, .. }) = self.best.get(at) else { break };
            let calm = if *weather == Weather::Calm { "calm " } else { "" };
            say(format_args!("longest {} {calm}{visit} | {told}", mark.0));
            say(format_args!("trial {} {calm}{}", mark.0, gene::text(genes)));
        }
        say(format_args!("anos-longest: {} trials, {} marks", self.made, self.best.len()));
        Ok(())
    }

    /// Calm ones first, since they are what they seem; then the longest first.
    fn sort(&mut self) {
        self.best.sort_by_key(|best| (best.weather == Weather::Wild, core::cmp::Reverse(best.instructions), best.mark));
    }

    /// The next trial.
    fn next(&mut self) -> (Vec<Gene>, Weather) {
        let weather = if self.random.percent(75) { Weather::Calm } else { Weather::Wild };
        if self.best.is_empty() || self.random.percent(15) {
            return (gene::random(&mut self.random), weather);
        }
        // Those of which there may be longer ones, mostly.
        self.sort();
        let first = if self.random.percent(60) { 12 } else { self.best.len() };
        let one = self.random.below(self.best.len().min(first));
        let other = self.random.below(self.best.len());
        let (Some(one), Some(other)) = (self.best.get(one), self.best.get(other)) else {
            return (Vec::new(), weather);
        };
        (gene::changed(&mut self.random, &one.genes, &other.genes), one.weather)
    }

    /// Makes a trial, and keeps it if it has a longer visit than any before.
    fn make(&mut self, genes: &[Gene], weather: Weather) -> Result<(), Error> {
        let longest = self.best.iter().map(|best| best.instructions).max().unwrap_or(0);
        if let Err(error) = trial::make(&self.world, genes, weather) {
            say(format_args!("failing {}", gene::text(genes)));
            return Err(error);
        }
        self.made += 1;
        for mark in Mark::all() {
            let instructions = meter::longest(mark);
            if instructions == 0 {
                continue;
            }
            match self.best.iter_mut().find(|best| (best.mark, best.weather) == (mark, weather)) {
                Some(best) if best.instructions >= instructions => continue,
                Some(best) => (best.instructions, best.genes) = (instructions, genes.to_vec()),
                None => self.best.push(Best { mark, weather, instructions, genes: genes.to_vec() }),
            }
            if instructions > longest {
                say(format_args!("better {} {instructions} {}", self.made, mark.name().unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Leaves steps out, as long as the visit stays as long; says what is left in words.
    fn shorten(&mut self, at: usize) -> Result<(String, u64), Error> {
        let Some(Best { mark, weather, instructions, genes }) = self.best.get(at) else {
            return Ok((String::new(), 0));
        };
        let (mark, weather, mut visit, mut genes) = (*mark, *weather, *instructions, genes.clone());
        for step in (0..genes.len()).rev() {
            let mut without = genes.clone();
            without.remove(step);
            trial::make(&self.world, &without, weather)?;
            if meter::longest(mark) * 100 >= visit * KEPT {
                (genes, visit) = (without, visit.max(meter::longest(mark)));
            }
        }
        let told = trial::tell(&self.world, &genes, weather, mark)?;
        let visit = meter::longest(mark);
        if let Some(best) = self.best.get_mut(at) {
            best.genes = genes;
        }
        Ok((told, visit))
    }
}
