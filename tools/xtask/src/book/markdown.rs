//! As much of Markdown as the checks need: fenced blocks, links, code spans, headings, and our own comments.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const QUOTE: &str = "<!-- quote: ";
const GENERATED: &str = "<!-- generated: ";
const CLOSE: &str = " -->";

/// A page of the book, or the README.
pub struct Page {
    /// Where it lies, from the repository's root.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// The line of its opening fence, from 1.
    pub line: usize,
    /// The first word behind the fence.
    pub language: String,
    /// The file that it quotes, if a comment in front of it says so.
    pub quoted: Option<String>,
    /// Its lines.
    pub body: Vec<String>,
}

/// A generated part.
pub struct Region {
    /// Its name.
    pub name: String,
    /// Where in the text it lies, without the comments around it.
    pub range: Range<usize>,
}

impl Page {
    /// Reads a page.
    pub fn read(root: &Path, path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(root.join(&path)).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Page { path, text })
    }

    /// The line, from 1, of this place in the text.
    pub fn line_of(&self, place: usize) -> usize {
        1 + self.text[..place].matches('\n').count()
    }

    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut quoted = None;
        for (line, text) in (1..).zip(self.text.lines()) {
            let trimmed = text.trim();
            match (open.take(), trimmed.strip_prefix("```")) {
                (Some(block), Some("")) => blocks.push(block),
                (Some(mut block), _) => {
                    block.body.push(text.to_owned());
                    open = Some(block);
                }
                (None, Some(info)) => {
                    let language = info.split([',', ' ']).next().unwrap_or_default().to_owned();
                    open = Some(Block { line, language, quoted: quoted.take(), body: Vec::new() });
                }
                (None, None) if trimmed.is_empty() => {}
                (None, None) => {
                    quoted = trimmed.strip_prefix(QUOTE).and_then(|rest| rest.strip_suffix(CLOSE)).map(str::to_owned);
                }
            }
        }
        blocks.extend(open);
        blocks
    }

    /// The lines outside of fenced blocks, with their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        (1..).zip(self.text.lines()).filter(move |(_, text)| {
            let fence = text.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// The generated parts, in their order.
    pub fn regions(&self) -> Vec<Region> {
        let mut regions = Vec::new();
        let mut from = 0;
        while let Some(start) = self.text[from..].find(GENERATED).map(|start| from + start) {
            let Some(close) = self.text[start..].find(CLOSE).map(|close| start + close) else { break };
            let name = self.text[start + GENERATED.len()..close].to_owned();
            let begin = close + CLOSE.len();
            let Some(end) = self.text[begin..].find(&format!("<!-- end: {name}{CLOSE}")).map(|end| begin + end) else {
                break;
            };
            regions.push(Region { name, range: begin..end });
            from = end;
        }
        regions
    }

    /// Targets of relative links and pictures, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            let text = without_code(text);
            for piece in text.split("](").skip(1) {
                let Some((target, _)) = piece.split_once(')') else { continue };
                if !target.contains("://") && !target.starts_with("mailto:") {
                    links.push((line, target.to_owned()));
                }
            }
        }
        links
    }

    /// What looks like a path of the repository in a code span, with its line.
    pub fn paths(&self, root: &Path) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for (line, text) in self.prose() {
            for span in text.split('`').skip(1).step_by(2) {
                let plain = span.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
                let top = span.split_once('/').is_some_and(|(top, _)| !top.is_empty() && root.join(top).is_dir());
                if plain && top && !span.starts_with("target/") && !span.starts_with('.') {
                    paths.push((line, span.to_owned()));
                }
            }
        }
        paths
    }

    /// What stands behind `cargo xtask` in code spans, and where it is typed in blocks, with its line.
    pub fn commands(&self) -> Vec<(usize, String)> {
        const XTASK: &str = "cargo xtask ";
        let in_prose = self.prose().flat_map(|(line, text)| {
            text.split('`').skip(1).step_by(2).filter_map(move |span| Some((line, span.strip_prefix(XTASK)?)))
        });
        let typed = (1..).zip(self.text.lines()).filter_map(|(line, text)| {
            let command = text.trim_start().strip_prefix("$ ")?;
            Some((line, command.strip_prefix(XTASK)?))
        });
        in_prose.chain(typed).map(|(line, command)| (line, command.to_owned())).collect()
    }

    /// Whether a heading has this anchor.
    pub fn has_heading(&self, anchor: &str) -> bool {
        let headings = self.prose().filter_map(|(_, text)| text.strip_prefix('#'));
        headings.map(|text| anchor_of(text.trim_start_matches('#').trim())).any(|heading| heading == anchor)
    }
}

/// A line without its code spans.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}
