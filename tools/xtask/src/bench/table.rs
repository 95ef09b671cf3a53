//! The figures beside those of peers, for people.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::figures::Figure;
use super::linux::{self, LIKE_OURS};
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

/// The medians of one architecture on machines with more and more cores, beside each other.
pub fn by_cores(architecture: Architecture, figures: &[Figure]) -> String {
    let ours: Vec<&Figure> = figures.iter().filter(|figure| figure.arch == architecture.name()).collect();
    let cores: BTreeSet<u32> = ours.iter().map(|figure| figure.cores).collect();
    let mut header: Vec<String> = cores.iter().map(|&cores| cores_shown(cores)).collect();
    header.insert(0, architecture.name().into());
    header.push(String::new());
    let mut rows = vec![header];
    for (index, first) in ours.iter().enumerate() {
        if ours[..index].iter().any(|figure| figure.name == first.name) {
            continue;
        }
        let mut row = vec![first.name.clone()];
        for &cores in &cores {
            let found = ours.iter().find(|figure| figure.cores == cores && figure.name == first.name);
            row.push(found.map(|figure| figure.median.to_string()).unwrap_or_default());
        }
        row.push(first.unit.clone());
        rows.push(row);
    }
    aligned(&rows)
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

/// Linux's figures on one architecture, each beside ours with the same purpose.
pub fn beside_linux(architecture: Architecture, ours: &[Figure], linux: &[Figure]) -> String {
    let header = ["instructions", "min", "median", "max", "Anos", "times", ""];
    let mut rows = vec![header.map(String::from)];
    for figure in linux {
        let like = linux::like_ours(&figure.name).unwrap_or_default();
        let anos = median_of(ours, architecture, like);
        rows.push([
            figure.shown_name(),
            figure.min.to_string(),
            figure.median.to_string(),
            figure.max.to_string(),
            anos.map_or("-".into(), |median| median.to_string()),
            anos.map_or("-".into(), |median| times(figure.median, median)),
            like.into(),
        ]);
    }
    let kernel = linux.first().and_then(|figure| figure.kernel.as_deref()).unwrap_or("Linux");
    format!("{}, {}, {kernel}\n{}", architecture.name(), cores_shown(1), aligned(&rows))
}

/// The same of both architectures, as a table for the book.
pub fn for_book_beside_linux(ours: &[Figure], linux: &[Figure]) -> Result<String> {
    let mut header = "| Linux | Anos |".to_string();
    for architecture in Architecture::ALL {
        let of_it = linux.iter().find(|figure| figure.arch == architecture.name());
        let kernel =
            of_it.and_then(|figure| figure.kernel.as_deref()).context("a figure of Linux without its kernel")?;
        header.push_str(&format!(" {kernel} | Anos | times |"));
    }
    let mut text = format!("{header}\n|---|---|{}\n", "--:|".repeat(3 * Architecture::ALL.len()));
    for (name, like) in LIKE_OURS {
        text.push_str(&format!("| {name} | {like} |"));
        for architecture in Architecture::ALL {
            let median = median_of(linux, architecture, name);
            ensure!(median.is_some(), "no {name} for {}: measure it again", architecture.name());
            let anos = median_of(ours, architecture, like);
            let ratio = median.zip(anos).map(|(linux, anos)| times(linux, anos));
            let numbers = [median, anos].map(|number| number.map(|number| number.to_string()));
            for cell in numbers.into_iter().chain([ratio]) {
                text.push_str(&format!(" {} |", cell.unwrap_or("-".into())));
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn median_of(figures: &[Figure], architecture: Architecture, name: &str) -> Option<u64> {
    figures.iter().find(|figure| figure.key() == (architecture.name(), 1, name)).map(|figure| figure.median)
}

/// How many times as much, with one decimal.
fn times(linux: u64, anos: u64) -> String {
    let tenths = (linux * 10 + anos / 2).checked_div(anos).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Columns under each other: the first and the last to the left, numbers to the right.
fn aligned(rows: &[impl AsRef<[String]>]) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let characters = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column| rows.iter().map(|row| characters(row.as_ref(), column)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 || column == columns - 1 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, architecture: Architecture, median: u64) -> Figure {
        let line = format!("{name} instructions {median} {median} {median} 1000");
        Figure::parse(&line, architecture, 1).expect("well formed")
    }

    fn linux(architecture: Architecture) -> Vec<Figure> {
        let of_linux = |(name, _)| Figure { kernel: Some("Linux 6".into()), ..figure(name, architecture, 345) };
        LIKE_OURS.map(of_linux).to_vec()
    }

    #[test]
    fn machines_with_more_cores_stand_beside_each_other() {
        let of = |name: &str, cores, median| Figure { cores, ..figure(name, Architecture::Riscv64, median) };
        let other = figure("locks", Architecture::X86_64, 7);
        let table =
            by_cores(Architecture::Riscv64, &[of("locks", 2, 10), of("locks", 16, 9), of("rate", 1, 800), other]);
        let expected = "riscv64  1 core  2 cores  16 cores\n\
                        locks                 10         9  instructions\n\
                        rate        800                     instructions\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn linux_stands_beside_ours_or_a_dash() {
        let ours = [figure("kernel/null_call", Architecture::Riscv64, 100)];
        let table = beside_linux(Architecture::Riscv64, &ours, &linux(Architecture::Riscv64));
        let line = |name: &str| {
            let line = table.lines().find(|line| line.starts_with(name)).expect("in the table");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(table.starts_with("riscv64, 1 core, Linux 6\n"), "{table}");
        assert_eq!(line("linux/null_call"), "linux/null_call 345 345 345 100 3.5 kernel/null_call");
        assert_eq!(line("linux/page_fault"), "linux/page_fault 345 345 345 - - fault/round_trip");
    }

    #[test]
    fn the_book_wants_all_of_linux_and_names_its_kernels() {
        let ours = [figure("kernel/null_call", Architecture::X86_64, 115)];
        let mut of_linux = Architecture::ALL.map(linux).concat();
        let table = for_book_beside_linux(&ours, &of_linux).expect("complete");
        assert!(table.starts_with("| Linux | Anos | Linux 6 | Anos | times | Linux 6 | Anos | times |\n"), "{table}");
        assert!(table.contains("| linux/null_call | kernel/null_call | 345 | 115 | 3.0 | 345 | - | - |\n"), "{table}");
        of_linux.pop();
        assert!(for_book_beside_linux(&ours, &of_linux).is_err());
    }
}
