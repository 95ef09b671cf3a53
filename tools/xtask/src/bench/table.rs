//! The figures beside those of peers, for people.

use super::figures::Figure;
use super::peers::Peers;
use crate::target::{Architecture, cores_shown};

/// The table of a run on one architecture.
pub fn of(architecture: Architecture, cores: u32, figures: &[Figure], peers: &Peers) -> String {
    let header = ["instructions", "min", "median", "max", "must", "dream", "seL4", "with budgets", "for cores", ""];
    let mut rows = vec![header.map(String::from)];
    for figure in figures {
        let others = peers.of(&figure.arch, &figure.name);
        let shown = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let verdict = match others.must {
            Some(must) if figure.median <= must => "reached",
            Some(_) => "missed",
            None => "",
        };
        rows.push([
            figure.shown_name(),
            figure.min.to_string(),
            figure.median.to_string(),
            figure.max.to_string(),
            shown(others.must),
            shown(others.dream),
            shown(others.sel4),
            shown(others.sel4_budgets),
            shown(others.sel4_cores),
            verdict.into(),
        ]);
    }
    format!("{}, {}\n{}", architecture.name(), cores_shown(cores), aligned(&rows))
}

/// Both architectures on one core, as a table for the book.
pub fn for_book(figures: &[Figure], peers: &Peers) -> String {
    let mut text =
        String::from("| instructions | x86-64 | must | seL4 | RISC-V | must | seL4 |\n|---|--:|--:|--:|--:|--:|--:|\n");
    let mut names: Vec<(&str, String)> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.cores == 1) {
        if !names.iter().any(|(name, _)| *name == figure.name) {
            names.push((&figure.name, figure.shown_name()));
        }
    }
    for (name, shown) in names {
        text.push_str(&format!("| {shown} |"));
        for architecture in Architecture::ALL {
            let ours = figures.iter().find(|figure| figure.key() == (architecture.name(), 1, name));
            let others = peers.of(architecture.name(), name);
            for number in [ours.map(|figure| figure.median), others.must, others.sel4] {
                text.push_str(&format!(" {} |", number.map(|number| number.to_string()).unwrap_or_default()));
            }
        }
        text.push('\n');
    }
    text
}

/// Columns under each other: the first and the last to the left, numbers to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 || column == N - 1 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
