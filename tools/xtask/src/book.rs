//! Keeps the README and the book true: what they quote, link to or tabulate is compared with the tree.
//!
//! - A fenced block of code stands behind `<!-- quote: PATH -->`; each piece of it (pieces are parted by lines that
//!   consist of `...`) occurs in that file, in this order. White space doesn't count.
//! - What stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->` is made by [`generated`] from the ABI,
//!   and so are two pictures: what the kernel's services cost, and the steps of a call.
//!   The sizes are the exception: they depend on the compiler, so [`check`] only wants them to be there.
//! - Relative links lead to a file, and to a heading in it; inside the book they stay inside the book.
//! - Paths in code spans (`kernel/core/src/ipc.rs`) exist, and so do the verbs and options of `cargo xtask`.
//! - The summary lists every page.

mod generated;
mod markdown;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::CommandFactory;

use crate::cli::Cli;
use crate::{bench, trace};
use markdown::Page;

/// Languages whose blocks are quotations. Others are what people type and what they see then.
const CODE: [&str; 5] = ["rust", "toml", "asm", "ld", "c"];
/// The name of the generated part that isn't the same everywhere.
const SIZE: &str = "size";
/// The page that lists the others.
const SUMMARY: &str = "book/SUMMARY.md";

/// Checks the README and the book below `root`; answers how many quotations, links, paths and tables were compared.
pub fn check(root: &Path) -> Result<usize> {
    let mut checker = Checker { root, checked: 0, problems: Vec::new() };
    let pages = pages(root)?;
    for page in &pages {
        checker.page(page)?;
    }
    checker.summary(&pages);
    checker.pictures()?;
    if checker.problems.is_empty() {
        return Ok(checker.checked);
    }
    bail!("the book and the tree disagree:\n  {}", checker.problems.join("\n  "))
}

/// Writes the generated parts anew; `size` is what `cargo xtask size` prints, if it is known. Answers what changed.
pub fn update(root: &Path, size: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for page in pages(root)? {
        let mut text = page.text.clone();
        for region in page.regions().iter().rev() {
            let fresh = match (region.name.as_str(), size) {
                (SIZE, Some(size)) => format!("```text\n{}\n```", size.trim_end()),
                (SIZE, None) => continue,
                (name, _) => generated::part(root, name).with_context(|| format!("{}", page.path.display()))?,
            };
            text.replace_range(region.range.clone(), &format!("\n{}\n", fresh.trim_end()));
        }
        if text != page.text {
            fs::write(root.join(&page.path), text)?;
            changed.push(page.path);
        }
    }
    for (path, picture) in stale_pictures(root)? {
        fs::write(root.join(path), picture)?;
        changed.push(path.into());
    }
    Ok(changed)
}

/// The pictures that should be something else, and what. Where there are no figures, there is none.
fn stale_pictures(root: &Path) -> Result<Vec<(&'static str, String)>> {
    if !bench::kept(root).exists() {
        return Ok(Vec::new());
    }
    let mut stale = vec![
        (bench::CHART, bench::chart(root)?),
        (bench::SCALING_CHART, bench::scaling_chart(root)?),
        (trace::PICTURE, trace::picture(root)?),
    ];
    stale.retain(|(path, picture)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(picture));
    Ok(stale)
}

/// The README and every page of the book, in the order of their paths.
fn pages(root: &Path) -> Result<Vec<Page>> {
    let mut paths = vec![PathBuf::from("README.md")];
    find_pages(root, Path::new("book"), &mut paths)?;
    paths.sort();
    paths.into_iter().map(|path| Page::read(root, path)).collect()
}

fn find_pages(root: &Path, directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(directory)).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            // What mdBook makes.
            if path != Path::new("book/build") {
                find_pages(root, &path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    Ok(())
}

struct Checker<'a> {
    root: &'a Path,
    checked: usize,
    problems: Vec<String>,
}

impl Checker<'_> {
    fn problem(&mut self, page: &Page, line: usize, text: &str) {
        self.problems.push(format!("{}:{line}: {text}", page.path.display()));
    }

    fn page(&mut self, page: &Page) -> Result<()> {
        for block in page.blocks() {
            match &block.quoted {
                Some(path) => self.quotation(page, block.line, path, &block.body),
                None if CODE.contains(&block.language.as_str()) => {
                    self.problem(page, block.line, "code without `<!-- quote: PATH -->` in front of it");
                }
                None => {}
            }
        }
        self.regions(page)?;
        for (line, target) in page.links() {
            self.link(page, line, &target);
        }
        for (line, path) in page.paths(self.root) {
            self.checked += 1;
            if !self.root.join(&path).exists() {
                self.problem(page, line, &format!("there is no {path}"));
            }
        }
        for (line, command) in page.commands() {
            self.checked += 1;
            if let Some(unknown) = unknown_word(&command) {
                self.problem(page, line, &format!("cargo xtask knows no {unknown}"));
            }
        }
        Ok(())
    }

    fn quotation(&mut self, page: &Page, line: usize, path: &str, body: &[String]) {
        self.checked += 1;
        let Ok(source) = fs::read_to_string(self.root.join(path)) else {
            return self.problem(page, line, &format!("there is no {path} to quote"));
        };
        let source = squeeze(&source);
        let mut rest = source.as_str();
        for piece in body.split(|text| text.trim() == "...").map(|piece| squeeze(&piece.join("\n"))) {
            match rest.find(&piece) {
                _ if piece.is_empty() => self.problem(page, line, "an empty quotation"),
                Some(start) => rest = &rest[start + piece.len()..],
                None => {
                    let start: String = piece.chars().take(60).collect();
                    self.problem(page, line, &format!("{path} doesn't say (there): {start} ..."));
                }
            }
        }
    }

    fn regions(&mut self, page: &Page) -> Result<()> {
        let opened = page.text.matches("<!-- generated: ").count();
        let regions = page.regions();
        if opened != regions.len() {
            self.problem(page, 1, "a generated part has no `<!-- end: NAME -->`");
        }
        for region in regions {
            self.checked += 1;
            let line = page.line_of(region.range.start);
            let there = page.text[region.range].trim();
            if region.name == SIZE {
                if there.is_empty() {
                    self.problem(page, line, "no sizes yet: cargo xtask check --update-book");
                }
            } else if there != generated::part(self.root, &region.name)?.trim() {
                self.problem(
                    page,
                    line,
                    &format!("the table `{}` is stale: cargo xtask check --update-book", region.name),
                );
            }
        }
        Ok(())
    }

    fn link(&mut self, page: &Page, line: usize, target: &str) {
        self.checked += 1;
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        let directory = page.path.parent().unwrap_or(Path::new(""));
        let path = if file.is_empty() { Some(page.path.clone()) } else { join(directory, file) };
        let Some(path) = path.filter(|path| self.root.join(path).exists()) else {
            return self.problem(page, line, &format!("{target} leads nowhere"));
        };
        if page.path.starts_with("book") && !path.starts_with("book") {
            return self.problem(page, line, &format!("{target} leads out of the book: name the file instead"));
        }
        if !anchor.is_empty() {
            let there = Page::read(self.root, path).is_ok_and(|page| page.has_heading(anchor));
            if !there {
                self.problem(page, line, &format!("{target} names no heading"));
            }
        }
    }

    fn pictures(&mut self) -> Result<()> {
        for (path, _) in stale_pictures(self.root)? {
            self.problems.push(format!("{path} is stale: cargo xtask check --update-book"));
        }
        Ok(())
    }

    fn summary(&mut self, pages: &[Page]) {
        let Some(summary) = pages.iter().find(|page| page.path == Path::new(SUMMARY)) else {
            return self.problems.push(format!("there is no {SUMMARY}"));
        };
        let listed: Vec<PathBuf> =
            summary.links().into_iter().filter_map(|(_, target)| join(Path::new("book"), &target)).collect();
        for page in pages.iter().filter(|page| page.path.starts_with("book") && page.path != summary.path) {
            if !listed.contains(&page.path) {
                self.problem(page, 1, "the summary doesn't list this page");
            }
        }
    }
}

/// The verb or the option in the words behind `cargo xtask` that isn't one. Values are not looked at.
fn unknown_word(command: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    let verb = words.next().filter(|verb| !verb.starts_with('-'))?;
    let cli = Cli::command();
    let Some(verb) = cli.find_subcommand(verb) else { return Some(verb.to_owned()) };
    let known = |name: &str| name == "help" || verb.get_arguments().any(|option| option.get_long() == Some(name));
    words.find(|word| word.strip_prefix("--").is_some_and(|name| !known(name))).map(str::to_owned)
}

/// A path relative to a directory, with `..` taken out; `None` if that leads out of the repository.
fn join(directory: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in directory.join(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// The text with one space for each run of white space.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
