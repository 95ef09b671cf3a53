//! One call as a picture for the book: each step as a bar that begins where the one before it ended. Made from the kept
//! steps and nothing else, so the same steps give the same file.

use super::kept::Kept;
use crate::bench::chart::{HEADING, card, line};
use crate::target::Architecture;

const WIDTH: u64 = 860;
/// Where the bars of the two architectures start, and how long all steps of the longer one are together.
const BARS: [u64; 2] = [250, 560];
const ALL: u64 = 240;
/// From one step to the next, and where the first is.
const ROW: u64 = 24;
const TOP: u64 = 78;
const COLOURS: [&str; 2] = ["#1d4f91", "#7a9cc6"];

/// The picture of a figure as SVG.
pub fn svg(steps: &[Kept], name: &str) -> String {
    let of = |architecture: Architecture| {
        steps.iter().filter(move |step| (step.arch.as_str(), step.name.as_str()) == (architecture.name(), name))
    };
    let mut rows: Vec<&str> = Vec::new();
    for step in Architecture::ALL.into_iter().flat_map(of) {
        if !rows.contains(&step.step.as_str()) {
            rows.push(&step.step);
        }
    }
    let count = |architecture, row: &str| -> u64 {
        let found = of(architecture).find(|step| step.step == row).map_or(0, |step| step.instructions);
        u64::try_from(found).unwrap_or(0)
    };
    let totals = Architecture::ALL.map(|architecture| rows.iter().map(|row| count(architecture, row)).sum::<u64>());
    let most = totals.into_iter().max().unwrap_or(1).max(1);
    let height = TOP + ROW * rows.len() as u64 + 22;
    let mut picture = frame(height, name, totals);
    let mut done = [0; 2];
    for ((row, y), colour) in rows.iter().zip((0..).map(|row| TOP + ROW * row)).zip(COLOURS.iter().cycle()) {
        line(&mut picture, format_args!(r##"<text x="30" y="{}" fill="#1c2733">{row}</text>"##, y + 12));
        for ((architecture, x), done) in Architecture::ALL.into_iter().zip(BARS).zip(&mut done) {
            let number = count(architecture, row);
            let (start, end) = (x + *done * ALL / most, x + (*done + number) * ALL / most);
            *done += number;
            let width = (end - start).max(1);
            line(
                &mut picture,
                format_args!(r##"<rect x="{start}" y="{y}" width="{width}" height="16" fill="{colour}"/>"##),
            );
            let (x, y) = (start + width + 5, y + 12);
            line(
                &mut picture,
                format_args!(r##"<text x="{x}" y="{y}" font-size="11" fill="#66727e">{number}</text>"##),
            );
        }
    }
    picture.push_str("</svg>\n");
    picture
}

/// What is around the bars.
fn frame(height: u64, name: &str, totals: [u64; 2]) -> String {
    let title = format!("The steps of {name}, in instructions");
    let mut picture = card((WIDTH, height), &title, &format!("{name}, from program to program"));
    for ((architecture, x), total) in Architecture::ALL.iter().zip(BARS).zip(totals) {
        let name = architecture.name();
        line(&mut picture, format_args!(r##"<text x="{x}" y="60" {HEADING}>{name}: {total} instructions</text>"##));
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_begins_where_the_one_before_ended() {
        let step = |arch: &str, step: &str, instructions| Kept {
            arch: arch.into(),
            name: "ipc/call".into(),
            step: step.into(),
            instructions,
        };
        let steps = [step("x86_64", "in", 60), step("x86_64", "out", 40), step("riscv64", "out", 120)];
        let picture = svg(&steps, "ipc/call");
        let bar = |x: u64, width: u64| {
            picture.contains(&format!(r#"<rect x="{x}" "#))
                && picture.contains(&format!(r#"width="{width}" height="16""#))
        };
        assert!(bar(250, 120) && bar(250 + 120, 80), "x86-64: a half and a third of the longer one\n{picture}");
        assert!(bar(560, 240), "all of RISC-V\n{picture}");
        assert!(picture.contains("x86_64: 100 instructions") && picture.contains("riscv64: 120 instructions"));
    }
}
