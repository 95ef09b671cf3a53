//! Lines of memory that the kernel writes on more than one core.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Bytes of a line.
const LINE: u64 = 64;
/// Instructions that are named for a line.
const PLACES: usize = 8;

/// What one core did to a line.
#[derive(Clone, Copy, Debug, Default)]
struct Writes {
    all: u64,
    atomic: u64,
}

/// A line that was written.
#[derive(Debug, Default)]
struct Line {
    /// An address of it.
    address: u64,
    /// By core.
    writes: Vec<Writes>,
    /// Instructions that wrote.
    places: Vec<u64>,
}

/// A write by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// Who wrote.
    pub core: usize,
    /// The instruction.
    pub place: u64,
    /// The virtual address.
    pub address: u64,
    /// The physical one.
    pub physical: u64,
    /// Whether the instruction is atomic.
    pub atomic: bool,
}

/// What was written since the window began.
#[derive(Debug, Default)]
pub struct Lines {
    windows: u64,
    lines: BTreeMap<u64, Line>,
    /// By core.
    visits: Vec<u64>,
    writes: Vec<u64>,
}

impl Lines {
    /// A window begins; there are so many cores.
    pub fn begin(&mut self, cores: usize) {
        *self = Lines { windows: self.windows + 1, visits: vec![0; cores], writes: vec![0; cores], ..Lines::default() };
    }

    /// A core enters the kernel.
    pub fn enter(&mut self, core: usize) {
        if let Some(visits) = self.visits.get_mut(core) {
            *visits += 1;
        }
    }

    /// The kernel writes.
    pub fn write(&mut self, write: Store) {
        let Store { core, place, address, physical, atomic } = write;
        let Some(writes) = self.writes.get_mut(core) else { return };
        *writes += 1;
        let cores = self.writes.len();
        let line = self.lines.entry(physical / LINE * LINE).or_default();
        line.address = address / LINE * LINE;
        line.writes.resize(cores, Writes::default());
        line.writes[core].all += 1;
        line.writes[core].atomic += u64::from(atomic);
        if line.places.len() < PLACES && !line.places.contains(&place) {
            line.places.push(place);
        }
    }

    /// The window ends: its report.
    pub fn report(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = writeln!(text, "window {} visits{} writes{}", self.windows, list(&self.visits), list(&self.writes));
        for (physical, line) in &self.lines {
            if line.writes.iter().filter(|writes| writes.all != 0).count() < 2 {
                continue;
            }
            let all: Vec<u64> = line.writes.iter().map(|writes| writes.all).collect();
            let atomic: Vec<u64> = line.writes.iter().map(|writes| writes.atomic).collect();
            let _ = write!(text, "line {physical:#x} virtual {:#x}", line.address);
            let _ = write!(text, " writes{} atomics{} at", list(&all), list(&atomic));
            for place in &line.places {
                let _ = write!(text, " {place:#x}");
            }
            text.push('\n');
        }
        text + "end\n"
    }
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(|number| format!(" {number}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_two_cores_write_are_reported_and_a_window_begins_anew() {
        let mut lines = Lines::default();
        let write = |core, physical, atomic| Store { core, place: 0x10, address: 0x8000 + physical, physical, atomic };
        lines.begin(2);
        lines.enter(0);
        lines.write(write(0, 0x100, true));
        lines.write(write(1, 0x13f, false));
        lines.write(write(1, 0x140, false));
        lines.write(Store { core: 9, ..write(0, 0x140, false) });
        let expected = "window 1 visits 1 0 writes 1 2\n\
                        line 0x100 virtual 0x8100 writes 1 1 atomics 1 0 at 0x10\n\
                        end\n";
        assert_eq!(lines.report(), expected);
        lines.begin(2);
        assert_eq!(lines.report(), "window 2 visits 0 0 writes 0 0\nend\n");
    }
}
