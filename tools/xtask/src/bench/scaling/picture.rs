//! What a call takes on machines with more and more cores, as a picture for the book: work on one core beside work for which
//! cores must meet. Made from the kept figures and nothing else, so the same figures give the same file.

use super::{CORES, LAYOUTS};
use crate::bench::chart::{HEADING, card, line};
use crate::bench::figures::Figure;
use crate::target::{Architecture, cores_shown};

const WIDTH: u64 = 860;
/// Where the bars of the two architectures start, and how long the longest is.
const BARS: [u64; 2] = [250, 570];
const LONGEST_BAR: u64 = 225;
/// From one bar to the next, from one number of cores to the next, and from one measure to the next.
const BAR: u64 = 13;
const ROW: u64 = BAR * LAYOUTS.len() as u64 + 6;
const GROUP: u64 = ROW * CORES.len() as u64 + 34;
/// Where the first measure is.
const TOP: u64 = 92;
/// What each layout is called, and its colour.
const SHOWN: [(&str, &str); LAYOUTS.len()] = [
    ("a server on each core", "#1d4f91"),
    ("each server on the next core", "#7a9cc6"),
    ("one server for all", "#b9bfc6"),
];
/// What is shown: the figure's name, and in words. All are for a thousand calls.
const MEASURES: [(&str, &str); 3] = [
    ("locks_per_call", "locks taken"),
    ("waits_per_call", "locks waited for"),
    ("shared_writes_per_call", "writes to shared lines"),
];

/// The picture as SVG.
pub fn svg(figures: &[Figure]) -> String {
    let value = |architecture: Architecture, cores, layout: &str, measure: &str| {
        let name = format!("{layout}/{measure}");
        let found = figures.iter().find(|figure| figure.key() == (architecture.name(), cores, &*name));
        found.map(|figure| figure.median)
    };
    let mut picture = frame();
    for ((measure, shown), top) in MEASURES.iter().zip((0..).map(|group| TOP + GROUP * group)) {
        let all = figures.iter().filter(|figure| figure.name.ends_with(measure)).map(|figure| figure.median);
        let most = all.max().unwrap_or(1).max(1);
        line(&mut picture, format_args!(r##"<text x="30" y="{}" {HEADING}>{shown}</text>"##, top + 12));
        for (cores, y) in CORES.into_iter().zip((0..).map(|row| top + 22 + ROW * row)) {
            let name = cores_shown(cores);
            line(&mut picture, format_args!(r##"<text x="30" y="{}" fill="#1c2733">{name}</text>"##, y + 10));
            for (architecture, x) in Architecture::ALL.into_iter().zip(BARS) {
                let bars = LAYOUTS.iter().zip(SHOWN).zip((0..).map(|bar| y + BAR * bar));
                for ((layout, (_, colour)), y) in bars {
                    if let Some(number) = value(architecture, cores, layout, measure) {
                        bar(&mut picture, (x, y), (number, most), colour);
                    }
                }
            }
        }
    }
    picture.push_str("</svg>\n");
    picture
}

/// What is around the bars.
fn frame() -> String {
    let height = TOP + GROUP * MEASURES.len() as u64 + 4;
    let title = "What a call takes on machines with more and more cores";
    let mut picture = card((WIDTH, height), title, "of one system call, on machines with more and more cores");
    let places = [30, 240, 490];
    for ((name, colour), x) in SHOWN.into_iter().zip(places) {
        line(&mut picture, format_args!(r##"<rect x="{x}" y="48" width="11" height="11" fill="{colour}"/>"##));
        line(&mut picture, format_args!(r##"<text x="{}" y="58" fill="#66727e">{name}</text>"##, x + 16));
    }
    for (architecture, x) in Architecture::ALL.iter().zip(BARS) {
        line(&mut picture, format_args!(r##"<text x="{x}" y="82" {HEADING}>{}</text>"##, architecture.name()));
    }
    picture
}

/// A bar with its number, of one call; where there is nothing, only the number.
fn bar(picture: &mut String, (x, y): (u64, u64), (number, most): (u64, u64), colour: &str) {
    let width = if number == 0 { 0 } else { (number * LONGEST_BAR / most).max(1) };
    if width != 0 {
        line(picture, format_args!(r##"<rect x="{x}" y="{y}" width="{width}" height="11" fill="{colour}"/>"##));
    }
    let (x, y) = (x + width + 5, y + 10);
    let (whole, hundredths) = ((number + 5) / 1000, (number + 5) % 1000 / 10);
    line(
        picture,
        format_args!(r##"<text x="{x}" y="{y}" font-size="11" fill="#66727e">{whole}.{hundredths:02}</text>"##),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers_and_nothing_has_none() {
        let figure = |name: &str, cores, median| Figure {
            arch: "riscv64".into(),
            cores,
            name: name.into(),
            unit: "locks/1000 calls".into(),
            min: median,
            median,
            max: median,
            kernel: None,
        };
        let figures = [
            figure("scaling/local/locks_per_call", 2, 1000),
            figure("scaling/cross/locks_per_call", 2, 4498),
            figure("scaling/local/waits_per_call", 16, 0),
        ];
        let picture = svg(&figures);
        assert!(picture.contains(r##"width="225" height="11" fill="#7a9cc6""##) && picture.contains(">4.50<"));
        assert!(picture.contains(r##"width="50" height="11" fill="#1d4f91""##) && picture.contains(">1.00<"));
        assert!(picture.contains(">0.00<") && !picture.contains(r#"width="0""#), "{picture}");
    }
}
