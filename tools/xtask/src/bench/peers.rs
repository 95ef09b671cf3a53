//! What peers need, and what is to be reached: `tests/bench/peers.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A number for each architecture.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    x86_64: Option<u64>,
    riscv64: Option<u64>,
}

impl Pair {
    fn of(self, arch: &str) -> Option<u64> {
        match arch {
            "x86_64" => self.x86_64,
            _ => self.riscv64,
        }
    }
}

/// What is known of one figure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    name: String,
    #[serde(default)]
    sel4: Pair,
    #[serde(default)]
    sel4_budgets: Pair,
    #[serde(default)]
    sel4_cores: Pair,
    #[serde(default)]
    must: Pair,
    #[serde(default)]
    dream: Pair,
}

/// All that is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peers {
    figure: Vec<Known>,
}

/// What is known of one figure on one architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// seL4 for one core.
    pub sel4: Option<u64>,
    /// seL4 with budgets.
    pub sel4_budgets: Option<u64>,
    /// seL4 for several cores.
    pub sel4_cores: Option<u64>,
    /// What must be reached.
    pub must: Option<u64>,
    /// What would be best.
    pub dream: Option<u64>,
}

impl Peers {
    /// Reads the file.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("tests/bench/peers.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    /// What is known of a figure. Where nothing else is said, half of seL4's must do.
    pub fn of(&self, arch: &str, name: &str) -> Others {
        let Some(known) = self.figure.iter().find(|known| known.name == name) else { return Others::default() };
        let sel4 = known.sel4.of(arch);
        Others {
            sel4,
            sel4_budgets: known.sel4_budgets.of(arch),
            sel4_cores: known.sel4_cores.of(arch),
            must: known.must.of(arch).or(sel4.map(|instructions| instructions / 2)),
            dream: known.dream.of(arch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_reached_is_said_or_half_of_sel4() {
        let text = "[[figure]]\nname = \"a\"\nsel4 = { x86_64 = 101 }\n\
                    [[figure]]\nname = \"b\"\nsel4 = { x86_64 = 100 }\nmust = { x86_64 = 90 }\n";
        let peers: Peers = toml::from_str(text).expect("well formed");
        assert_eq!(peers.of("x86_64", "a").must, Some(50));
        assert_eq!(peers.of("x86_64", "b").must, Some(90));
        assert_eq!(peers.of("riscv64", "a"), Others::default());
        assert_eq!(peers.of("x86_64", "c"), Others::default());
    }
}
