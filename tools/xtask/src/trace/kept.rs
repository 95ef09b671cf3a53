//! The steps as they are kept: one line each in an array of JSON. They must fit the figures that are kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figure;
use crate::bench::figures::Figure;
use crate::bench::{self, figures};
use crate::target::Architecture;

/// Instructions of one step of a figure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kept {
    /// The architecture's name.
    pub arch: String,
    /// The figure's.
    pub name: String,
    /// The step.
    pub step: String,
    /// How many.
    pub instructions: i64,
}

/// Where they are kept.
pub fn path(root: &Path) -> PathBuf {
    root.join("tests/bench/steps.json")
}

/// Writes steps.
pub fn write(path: &Path, steps: &[Kept]) -> Result<()> {
    let lines = steps.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the kept steps. Fails if they are not those of the kept figures: each figure's steps add up to its median.
pub fn read(root: &Path) -> Result<Vec<Kept>> {
    let path = path(root);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let steps: Vec<Kept> = serde_json::from_str(&text).with_context(|| format!("{} holds no steps", path.display()))?;
    fit(&steps, &figures::read(&bench::kept(root))?)?;
    Ok(steps)
}

fn fit(steps: &[Kept], figures: &[Figure]) -> Result<()> {
    for figure in figures.iter().filter(|figure| figure.cores == 1 && figure::is_traced(&figure.name, &figure.unit)) {
        let of_figure = steps.iter().filter(|step| (&step.arch, &step.name) == (&figure.arch, &figure.name));
        let total: i64 = of_figure.map(|step| step.instructions).sum();
        ensure!(
            i64::try_from(figure.median) == Ok(total),
            "{} on {} takes {} instructions, but its kept steps have {total}: cargo xtask trace --update",
            figure.name,
            figure.arch,
            figure.median
        );
    }
    Ok(())
}

/// A figure's steps on both architectures as a table for the book; the largest first, or as they begin.
pub fn table(steps: &[Kept], name: &str, by_size: bool) -> String {
    let mut rows: Vec<(&str, [i64; 2])> = Vec::new();
    for step in steps.iter().filter(|step| step.name == name) {
        let index = usize::from(step.arch != Architecture::X86_64.name());
        let row = match rows.iter().position(|(known, _)| *known == step.step) {
            Some(row) => row,
            None => {
                rows.push((&step.step, [0; 2]));
                rows.len() - 1
            }
        };
        rows[row].1[index] += step.instructions;
    }
    if by_size {
        rows.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<i64>()));
    }
    let total = [0, 1].map(|index: usize| rows.iter().map(|(_, counts)| counts[index]).sum::<i64>());
    let mut text = String::from("| step | x86-64 | RISC-V |\n|---|--:|--:|\n");
    for (step, [x86, riscv]) in rows {
        text.push_str(&format!("| {step} | {x86} | {riscv} |\n"));
    }
    text + &format!("| **all** | **{}** | **{}** |\n", total[0], total[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(arch: &str, step: &str, instructions: i64) -> Kept {
        Kept { arch: arch.into(), name: "cap/copy".into(), step: step.into(), instructions }
    }

    #[test]
    fn steps_that_do_not_add_up_to_the_figure_are_told_with_what_mends_them() {
        let figure = Figure::parse("cap/copy instructions 5 5 5 1000", Architecture::X86_64, 1).expect("well formed");
        assert!(fit(&[kept("x86_64", "a", 2), kept("x86_64", "b", 3)], std::slice::from_ref(&figure)).is_ok());
        let error = fit(&[kept("x86_64", "a", 2)], &[figure]).expect_err("stale").to_string();
        assert!(error.contains("cargo xtask trace --update"), "{error}");
    }

    #[test]
    fn a_table_has_both_architectures_and_the_sum() {
        let steps = [kept("x86_64", "a", 2), kept("x86_64", "b", 3), kept("riscv64", "b", 4)];
        assert!(table(&steps, "cap/copy", true).contains("| b | 3 | 4 |\n| a | 2 | 0 |\n| **all** | **5** | **4** |"));
    }
}
