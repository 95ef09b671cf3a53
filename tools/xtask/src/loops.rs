//! Every loop of the kernel's core has a bound, and says which: `// bound: NAME`, on its line or in the comment above
//! it. The names are those of kernel/core/src/bounds.rs, from which the book's table is made, too.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::unsafe_count::rust_files;

/// Where the loops are.
const CORE: &str = "kernel/core/src";
/// Where the bounds are.
const BOUNDS: &str = "kernel/core/src/bounds.rs";
/// What a loop's comment says in front of the name.
const MARK: &str = "// bound: ";

/// A bound: a constant, or one that bounds.rs passes on.
#[derive(Debug, PartialEq, Eq)]
struct Bound {
    name: String,
    /// As it stands there.
    value: String,
    doc: String,
}

/// Looks at every loop outside of tests.
pub fn check(root: &Path) -> Result<()> {
    let names: BTreeSet<String> = bounds(root)?.into_iter().map(|bound| bound.name).collect();
    let mut problems = Vec::new();
    for file in rust_files(&root.join(CORE))? {
        if file.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let found = check_text(&text, &names).with_context(|| shown.clone())?;
        problems.extend(found.into_iter().map(|(line, problem)| format!("{shown}:{line}: {problem}")));
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

/// The book's table.
pub fn table(root: &Path) -> Result<String> {
    let mut table = String::from("| name | value | what it bounds |\n|---|---|---|\n");
    for Bound { name, value, doc } in bounds(root)? {
        writeln!(table, "| `{name}` | {value} | {doc} |")?;
    }
    Ok(table)
}

/// Lines of loops that lack a bound, and what is wrong with them.
fn check_text(text: &str, names: &BTreeSet<String>) -> Result<Vec<(usize, String)>> {
    let tokens = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let mut loops = Vec::new();
    find_loops(tokens, &mut loops);
    let lines: Vec<&str> = text.lines().collect();
    let problem = |line: usize| match bound_at(&lines, line) {
        Some(name) if names.contains(name) => None,
        Some(name) => Some((line, format!("{BOUNDS} has no bound `{name}`"))),
        None => Some((line, format!("a loop without `{MARK}NAME`"))),
    };
    Ok(loops.into_iter().filter_map(problem).collect())
}

/// The name that the loop on a line, counted from 1, gives.
fn bound_at<'a>(lines: &[&'a str], line: usize) -> Option<&'a str> {
    let (above, own) = lines.split_at(line.checked_sub(1)?);
    let comment = above.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
    let (_, named) = own.first().into_iter().chain(comment).find_map(|line| line.split_once(MARK))?;
    named.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// The lines of all loops but those of tests.
fn find_loops(tokens: TokenStream, lines: &mut Vec<usize>) {
    // In `impl Trait for Type` and `for<'a> Fn(&'a T)` it is another word.
    let mut in_head_of_impl = false;
    let mut of_test = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let angle_follows = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '<');
        match token {
            TokenTree::Group(group) => {
                let attribute = group.delimiter() == Delimiter::Bracket && group.stream().to_string() == "cfg (test)";
                of_test |= attribute;
                if group.delimiter() == Delimiter::Brace {
                    in_head_of_impl = false;
                    if std::mem::take(&mut of_test) {
                        continue;
                    }
                }
                find_loops(group.stream(), lines);
            }
            TokenTree::Ident(word) if word == "impl" => in_head_of_impl = true,
            TokenTree::Ident(word) if word == "for" && (in_head_of_impl || angle_follows) => {}
            TokenTree::Ident(word) if word == "for" || word == "while" || word == "loop" => {
                lines.push(word.span().start().line);
            }
            // An item without a body: `mod tests;`, `use ...;`.
            TokenTree::Punct(mark) if mark.as_char() == ';' => (in_head_of_impl, of_test) = (false, false),
            _ => {}
        }
    }
}

fn bounds(root: &Path) -> Result<Vec<Bound>> {
    let text = fs::read_to_string(root.join(BOUNDS)).with_context(|| format!("cannot read {BOUNDS}"))?;
    let bounds = parse(&text).context(BOUNDS)?;
    ensure!(!bounds.is_empty(), "{BOUNDS} defines nothing");
    Ok(bounds)
}

fn parse(text: &str) -> Result<Vec<Bound>> {
    let mut bounds = Vec::new();
    let mut doc = Vec::new();
    for line in text.lines() {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
            continue;
        }
        let constant = line.strip_prefix("pub const ").and_then(|rest| rest.strip_suffix(';'));
        let passed_on = line.strip_prefix("pub use ").and_then(|rest| rest.strip_suffix(';'));
        let (name, value) = match (constant, passed_on) {
            (Some(constant), _) => {
                let (name, rest) = constant.split_once(": ").with_context(|| format!("no constant: {line}"))?;
                let (_, value) = rest.split_once(" = ").with_context(|| format!("no constant: {line}"))?;
                // What is no number is said in words.
                (name, if value.starts_with('"') { value.trim_matches('"').to_owned() } else { format!("`{value}`") })
            }
            (_, Some(path)) => {
                let (from, name) = path.rsplit_once("::").with_context(|| format!("no path: {line}"))?;
                (name, format!("that of `{from}`"))
            }
            _ => {
                doc.clear();
                continue;
            }
        };
        ensure!(!doc.is_empty(), "{name} has no documentation");
        bounds.push(Bound { name: name.to_owned(), value, doc: doc.join(" ") });
        doc.clear();
    }
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let names = ["STEPS", "MAX_CORES"].map(String::from).into();
        check_text(text, &names).expect("Rust")
    }

    #[test]
    fn a_loop_needs_a_bound_on_its_line_or_above() {
        assert_eq!(problems("fn f() {\n    // bound: STEPS\n    for x in y {}\n}"), []);
        assert_eq!(problems("fn f() {\n    while x { // bound: STEPS\n    }\n}"), []);
        assert_eq!(problems("fn f() {\n    // Why: bound: STEPS (but // bound: MAX_CORES counts)\n    loop {}\n}"), []);
        assert_eq!(problems("fn f() {\n    // bound: STEPS, and why.\n    // More.\n    'a: loop {}\n}"), []);
        let lacking = |line| vec![(line, "a loop without `// bound: NAME`".to_string())];
        for keyword in ["for x in y", "while x", "loop"] {
            assert_eq!(problems(&format!("fn f() {{\n    {keyword} {{}}\n}}")), lacking(2));
        }
        // A comment that is not right above it is another's.
        assert_eq!(problems("// bound: STEPS\nfn f() {\n    loop {}\n}"), lacking(3));
    }

    #[test]
    fn an_unknown_bound_is_none() {
        let found = problems("fn f() {\n    // bound: LUCK\n    loop {}\n}");
        assert_eq!(found, [(3, "kernel/core/src/bounds.rs has no bound `LUCK`".to_string())]);
    }

    #[test]
    fn nested_loops_each_need_their_own() {
        let found = problems("fn f() {\n    // bound: STEPS\n    for x in y {\n        while z {}\n    }\n}");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 4);
    }

    #[test]
    fn the_word_for_is_no_loop_in_impls_and_bounds_and_tests_are_left_out() {
        assert_eq!(problems("impl<T> Trait<T> for Type { fn f(g: impl for<'a> Fn(&'a u8)) {} }"), []);
        assert_eq!(problems("#[cfg(test)]\nmod tests {\n    fn f() { loop {} }\n}"), []);
        assert_eq!(problems("// for while loop\nconst TEXT: &str = \"loop {}\";"), []);
        // What comes behind is looked at again.
        assert_eq!(problems("#[cfg(test)]\nmod tests;\nimpl A for B {\n    fn f() { loop {} }\n}").len(), 1);
        assert_eq!(problems("#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { loop {} }").len(), 1);
    }

    #[test]
    fn bounds_are_read_with_their_values_and_documentation() {
        let text = "//! All.\n\n/// First\n/// of two.\npub const STEPS: usize = 2 * 4;\n/// Cores.\npub use anos_abi::MAX_CORES;\n";
        let bound =
            |name: &str, value: &str, doc: &str| Bound { name: name.into(), value: value.into(), doc: doc.into() };
        let read = [bound("STEPS", "`2 * 4`", "First of two."), bound("MAX_CORES", "that of `anos_abi`", "Cores.")];
        assert_eq!(parse(text).expect("read"), read);
        assert!(parse("pub const STEPS: usize = 8;\n").is_err());
    }
}
