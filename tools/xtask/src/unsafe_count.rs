//! How much unsafe code each crate has, compared with what the repository says it has (tools/unsafe.toml).
//!
//! Counted in the token stream, so comments and strings don't count, and macros do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde::{Deserialize, Serialize};

use crate::workspace::Workspace;

/// The committed counts.
const FILE: &str = "tools/unsafe.toml";
const HEADING: &str = "# Unsafe code per crate. `cargo xtask check` compares; a rise needs its reason in the commit that\n\
                       # brings it. Written by `cargo xtask check --update-unsafe`.\n\n";

/// One crate's unsafe code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// `unsafe { ... }`
    blocks: usize,
    /// `unsafe fn`, `unsafe impl`, `unsafe trait`, `unsafe extern`: promises to or from others.
    contracts: usize,
}

type PerCrate = BTreeMap<String, Counts>;

/// Compares; says every difference.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace.root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let committed: PerCrate = toml::from_str(&text).with_context(|| format!("{FILE} makes no sense"))?;
    let counted = count(workspace)?;
    let mut names: Vec<&String> = committed.keys().chain(counted.keys()).collect();
    names.sort();
    names.dedup();
    let differences = names.into_iter().filter_map(|name| {
        let before = committed.get(name).copied().unwrap_or_default();
        let now = counted.get(name).copied().unwrap_or_default();
        let shown = |counts: Counts| format!("{} unsafe blocks and {} contracts", counts.blocks, counts.contracts);
        (before != now).then(|| format!("{name} has {}, {FILE} says {}", shown(now), shown(before)))
    });
    Ok(differences.collect())
}

/// Writes what is there now.
pub fn update(workspace: &Workspace) -> Result<()> {
    let text = HEADING.to_string() + &toml::to_string(&count(workspace)?)?;
    fs::write(workspace.root.join(FILE), text).with_context(|| format!("cannot write {FILE}"))
}

/// Counts in every crate of the workspace; those without any are left out.
fn count(workspace: &Workspace) -> Result<PerCrate> {
    let mut counts = PerCrate::new();
    for (name, directory) in workspace.crates()? {
        let mut of_crate = Counts::default();
        for file in rust_files(&directory)? {
            let text = fs::read_to_string(&file)?;
            let tokens = TokenStream::from_str(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
            count_tokens(tokens, &mut of_crate);
        }
        if of_crate != Counts::default() {
            counts.insert(name, of_crate);
        }
    }
    Ok(counts)
}

fn count_tokens(tokens: TokenStream, counts: &mut Counts) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => count_tokens(group.stream(), counts),
            TokenTree::Ident(word) if word == "unsafe" => match tokens.peek() {
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => counts.blocks += 1,
                // `#[unsafe(no_mangle)]` says something about a symbol, not about code.
                Some(TokenTree::Group(_)) => {}
                _ => counts.contracts += 1,
            },
            _ => {}
        }
    }
}

/// The Rust files below a directory, but for crates inside it and what was built.
pub fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_contracts_count_and_words_in_comments_and_attributes_do_not() {
        let source = r#"
            // unsafe { }
            #[unsafe(no_mangle)]
            fn f() { let _ = "unsafe { }"; unsafe { g() } }
            unsafe fn g() { macro_call!(unsafe { h() }) }
            unsafe impl Send for S {}
        "#;
        let mut counts = Counts::default();
        count_tokens(TokenStream::from_str(source).expect("Rust"), &mut counts);
        assert_eq!(counts, Counts { blocks: 2, contracts: 2 });
    }
}
