//! Figures as they are said by the guest, and as they are kept: one line each in an array of JSON, so that a difference
//! is a line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::target::Architecture;

/// What one thing costs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Figure {
    /// The architecture's name.
    pub arch: String,
    /// Cores of the machine.
    pub cores: u32,
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: String,
    /// The least of all runs.
    pub min: u64,
    /// The one in the middle.
    pub median: u64,
    /// The most.
    pub max: u64,
    /// Which kernel it is of, if not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// The unit of most.
pub const INSTRUCTIONS: &str = "instructions";

impl Figure {
    /// From what the guest says: name, unit, least, middle, most, runs.
    pub fn parse(line: &str, architecture: Architecture, cores: u32) -> Result<Self> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().context("no name")?.to_string();
        let unit = words.next().context("no unit")?.to_string();
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [min, median, max, _] = *numbers else { bail!("a name, a unit and four numbers are expected") };
        ensure!(min <= median && median <= max, "the figures are out of order");
        Ok(Figure { arch: architecture.name().into(), cores, name, unit, min, median, max, kernel: None })
    }

    /// What was counted a few times.
    pub fn of_few(name: &str, architecture: Architecture, cores: u32, mut counts: Vec<u64>) -> Result<Self> {
        counts.sort_unstable();
        let (Some(&min), Some(&max)) = (counts.first(), counts.last()) else { bail!("nothing was counted") };
        let (arch, name, median) = (architecture.name().into(), name.into(), counts[counts.len() / 2]);
        Ok(Figure { arch, cores, name, unit: INSTRUCTIONS.into(), min, median, max, kernel: None })
    }

    /// The name for people: with the unit, if it isn't the usual one.
    pub fn shown_name(&self) -> String {
        if self.unit == INSTRUCTIONS { self.name.clone() } else { format!("{} ({})", self.name, self.unit) }
    }

    /// What tells it from others.
    pub fn key(&self) -> (&str, u32, &str) {
        (&self.arch, self.cores, &self.name)
    }
}

/// Reads figures.
pub fn read(path: &Path) -> Result<Vec<Figure>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no figures", path.display()))
}

/// Writes figures.
pub fn write(path: &Path, figures: &[Figure]) -> Result<()> {
    let lines = figures.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_guest_is_a_figure() {
        let figure =
            Figure::parse("ipc/call/inter/w0 instructions 7 8 9 1000", Architecture::X86_64, 1).expect("well formed");
        assert_eq!(figure.key(), ("x86_64", 1, "ipc/call/inter/w0"));
        assert_eq!((figure.unit.as_str(), figure.min, figure.median, figure.max), (INSTRUCTIONS, 7, 8, 9));
        for wrong in
            ["", "name", "name bytes 1 2 3", "name bytes 1 2 3 4 5", "name bytes 3 2 1 9", "name bytes 1 x 3 9"]
        {
            assert!(Figure::parse(wrong, Architecture::X86_64, 1).is_err(), "{wrong}");
        }
    }
}
