//! The reference tables, made from the ABI: its enums give what there is, its doc comments what it means. The bounds
//! come from the kernel's core, what its services cost from the figures that are kept.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anos_abi::object::Method;
use anos_abi::{Error, Kind, Rights};
use anyhow::{Context, Result, bail, ensure};

use crate::{bench, longest, loops, trace};

/// The generated part with this name.
pub fn part(root: &Path, name: &str) -> Result<String> {
    match name {
        "registers" => registers(root),
        "kinds" => kinds(root),
        "methods" => methods(root),
        "errors" => errors(root),
        "bounds" => loops::table(root),
        "benchmarks" => bench::book_table(root),
        "scaling" => bench::scaling_table(root),
        "steps-call" => trace::book_table(root, "ipc/call/inter/w0"),
        "steps-reply" => trace::book_table(root, "ipc/reply_recv/inter/w0"),
        "steps-missed" => trace::book_missed(root),
        "benchmarks-linux" => bench::book_table_linux(root),
        "longest" => longest::book_table(root),
        _ => bail!("there is no generated part `{name}`"),
    }
}

fn source(root: &Path, name: &str) -> Result<String> {
    let path = root.join("abi/src").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The table that the module of the system calls opens with.
fn registers(root: &Path) -> Result<String> {
    let source = source(root, "syscall.rs")?;
    let rows: Vec<String> =
        source.lines().filter_map(|line| line.strip_prefix("//! |")).map(|row| format!("|{}", plain(row))).collect();
    ensure!(rows.len() > 2, "abi/src/syscall.rs has no table of registers");
    Ok(rows.join("\n"))
}

fn kinds(root: &Path) -> Result<String> {
    let source = source(root, "object.rs")?;
    let mut table = String::from("| number | kind | what it is |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let name = kind.name();
        let number = kind as u8;
        let doc = doc_of(&source, &format!("{name} = {number},"))?;
        writeln!(table, "| {number} | `{name}` | {doc} |")?;
    }
    Ok(table)
}

fn methods(root: &Path) -> Result<String> {
    let source = source(root, "object.rs")?;
    let mut text = String::new();
    for kind in Kind::ALL {
        let mut of_kind = Method::ALL.iter().filter(|method| method.kind() == kind).peekable();
        if of_kind.peek().is_none() {
            continue;
        }
        write!(text, "### {}\n\n", kind.name())?;
        for method in of_kind {
            let label = method.label();
            let doc = doc_of(&source, &format!("{}.{method:?} = {},", kind.name(), label & 0xff))?;
            let right = if method.right() == Rights::READ { "read" } else { "write" };
            write!(text, "- **`{label:#x} {method:?}`** ({right}). {doc}")?;
            let errors: Vec<_> = method.errors().iter().map(|error| format!("`{error:?}`")).collect();
            if !errors.is_empty() {
                write!(text, " *Errors:* {}.", errors.join(", "))?;
            }
            let bounds: Vec<_> = method.bounds().iter().map(|bound| format!("`{bound}`")).collect();
            if !bounds.is_empty() {
                write!(text, " *Bounds:* {}.", bounds.join(", "))?;
            }
            text.push('\n');
        }
        text.push('\n');
    }
    Ok(text)
}

fn errors(root: &Path) -> Result<String> {
    let source = source(root, "error.rs")?;
    let mut table = String::from("| number | error | what it means |\n|---|---|---|\n");
    for &error in Error::ALL {
        let number = error as u16;
        let doc = doc_of(&source, &format!("{error:?} = {number}, "))?;
        writeln!(table, "| {number} | `{error:?}` | {doc} |")?;
    }
    Ok(table)
}

/// The doc comment in front of the line that starts like this, as one line.
fn doc_of(source: &str, item: &str) -> Result<String> {
    let mut doc = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if line.starts_with(item) {
            return Ok(plain(&doc.join(" ")));
        } else {
            doc.clear();
        }
    }
    bail!("the ABI's sources don't define `{item}` on one line")
}

/// Without links: the book's pages don't lead into the sources' documentation.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("[`") {
        let (before, link) = rest.split_at(start);
        plain.push_str(before);
        let Some(end) = link.find(']') else { break };
        plain.push_str(&link[1..end]);
        rest = &link[end + 1..];
        if let Some(target) = rest.strip_prefix('(') {
            rest = target.split_once(')').map_or(target, |(_, behind)| behind);
        }
    }
    plain + rest
}
