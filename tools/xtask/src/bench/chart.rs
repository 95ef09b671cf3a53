//! The chart in the book: our figures beside seL4's, as bars. Made from the kept figures and nothing else, so the same
//! figures give the same file.

use std::fmt::Write;

use super::figures::Figure;
use super::peers::Peers;
use crate::target::Architecture;

/// Width of the picture, and where the bars of the two architectures start.
const WIDTH: u64 = 860;
const BARS: [u64; 2] = [250, 570];
/// The longest bar; behind it stands its number.
const LONGEST_BAR: u64 = 225;
/// From one figure to the next, and where the first is.
const ROW: u64 = 34;
const TOP: u64 = 92;

/// One figure's numbers: ours and seL4's for each architecture, where they are known.
struct Row<'a> {
    name: &'a str,
    pairs: [Option<(u64, u64)>; 2],
}

/// The picture as SVG.
pub fn svg(figures: &[Figure], peers: &Peers) -> String {
    let rows = rows(figures, peers);
    let numbers = rows.iter().flat_map(|row| row.pairs).flatten().flat_map(|(ours, theirs)| [ours, theirs]);
    let most = numbers.max().unwrap_or(1).max(1);
    let height = TOP + ROW * rows.len() as u64 + 24;
    let mut picture = frame(height);
    for (row, y) in rows.iter().zip((0..).map(|row| TOP + ROW * row)) {
        line(&mut picture, format_args!(r##"<text x="30" y="{}" fill="#1c2733">{}</text>"##, y + 15, row.name));
        for (pair, x) in row.pairs.iter().zip(BARS) {
            let Some((ours, theirs)) = *pair else { continue };
            bar(&mut picture, (x, y), (ours, most), "#1d4f91");
            bar(&mut picture, (x, y + 13), (theirs, most), "#b9bfc6");
        }
    }
    picture.push_str("</svg>\n");
    picture
}

/// What both we and seL4 have a number for, on one core.
fn rows<'a>(figures: &'a [Figure], peers: &Peers) -> Vec<Row<'a>> {
    let pair = |name: &str, architecture: Architecture| {
        let key = (architecture.name(), 1, name);
        let ours = figures.iter().find(|figure| figure.key() == key)?.median;
        Some((ours, peers.of(architecture.name(), name).sel4?))
    };
    let mut rows: Vec<Row<'a>> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.cores == 1) {
        let pairs = Architecture::ALL.map(|architecture| pair(&figure.name, architecture));
        if pairs.iter().any(Option::is_some) && !rows.iter().any(|row| row.name == figure.name) {
            rows.push(Row { name: &figure.name, pairs });
        }
    }
    rows
}

/// What is around this chart's bars.
fn frame(height: u64) -> String {
    let mut picture =
        card((WIDTH, height), "Instructions that Anos and seL4 need for the same", "instructions, user to user");
    for (architecture, x) in Architecture::ALL.iter().zip(BARS) {
        line(&mut picture, format_args!(r##"<text x="{x}" y="74" {HEADING}>{}</text>"##, architecture.name()));
    }
    for (name, x, colour) in [("Anos", 30, "#1d4f91"), ("seL4, one core", 100, "#b9bfc6")] {
        line(&mut picture, format_args!(r##"<rect x="{x}" y="52" width="11" height="11" fill="{colour}"/>"##));
        line(&mut picture, format_args!(r##"<text x="{}" y="62" fill="#66727e">{name}</text>"##, x + 16));
    }
    picture
}

/// How a heading looks in the book's pictures.
pub const HEADING: &str = r##"font-weight="bold" fill="#1c2733""##;

/// The beginning of every picture: a card with a heading. It still lacks its end, `</svg>`.
pub fn card((width, height): (u64, u64), title: &str, heading: &str) -> String {
    let mut picture = String::new();
    let font = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
    line(
        &mut picture,
        format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{font}" font-size="12">"##
        ),
    );
    line(&mut picture, format_args!("<title>{title}</title>"));
    let (width, height) = (width - 2, height - 2);
    line(
        &mut picture,
        format_args!(
            r##"<rect x="1" y="1" width="{width}" height="{height}" rx="10" fill="#fdfdfb" stroke="#c9c9c2"/>"##
        ),
    );
    line(&mut picture, format_args!(r##"<text x="30" y="34" font-size="13" {HEADING}>{heading}</text>"##));
    picture
}

fn bar(picture: &mut String, (x, y): (u64, u64), (number, most): (u64, u64), colour: &str) {
    let width = (number * LONGEST_BAR / most).max(1);
    line(picture, format_args!(r##"<rect x="{x}" y="{y}" width="{width}" height="11" fill="{colour}"/>"##));
    let (x, y) = (x + width + 5, y + 10);
    line(picture, format_args!(r##"<text x="{x}" y="{y}" font-size="11" fill="#66727e">{number}</text>"##));
}

/// Adds a line to a picture.
pub fn line(picture: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(picture, "{arguments}");
}
