//! The checks, each on a small repository that is wrong in one way.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{check, generated, update};

/// A repository in a temporary directory, gone when dropped.
struct Repository(PathBuf);

impl Repository {
    /// With a source to quote, a README, and a page of the book with this text.
    fn with_page(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let repository = Repository(env::temp_dir().join(format!("anos-book-{}-{number}", process::id())));
        repository.write("src/code.rs", "fn first() {\n    work();\n}\n\nfn second() {\n    rest();\n}\n");
        repository.write("README.md", "# Anos\n");
        repository.write("book/SUMMARY.md", "- [Page](page.md)\n");
        repository.write("book/page.md", text);
        repository
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// What `check` says.
    fn complaint(&self) -> String {
        format!("{:#}", check(&self.0).expect_err("something is wrong"))
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn quotation(body: &str) -> String {
    format!("Look:\n\n<!-- quote: src/code.rs -->\n```rust\n{body}\n```\n")
}

#[test]
fn quotations_match_whatever_their_indentation_and_may_skip() {
    let repository = Repository::with_page(&quotation("fn first() {\n  work();\n...\nrest();\n}"));
    assert_eq!(check(&repository.0).expect("all is true"), 2, "the quotation, and the summary's link");
}

#[test]
fn a_quotation_of_what_is_not_there_is_told_with_its_line() {
    let repository = Repository::with_page(&quotation("fn third() {"));
    assert!(repository.complaint().contains("book/page.md:4: src/code.rs doesn't say (there): fn third() {"));
}

#[test]
fn pieces_of_a_quotation_come_in_the_files_order() {
    let repository = Repository::with_page(&quotation("fn second() {\n...\nfn first() {"));
    assert!(repository.complaint().contains("doesn't say (there): fn first() {"));
}

#[test]
fn code_without_its_source_is_refused() {
    let repository = Repository::with_page("```rust\nfn first() {\n```\n\n```console\n$ ls\n```\n");
    assert!(repository.complaint().contains("book/page.md:1: code without"));
}

#[test]
fn links_lead_somewhere_inside_the_book() {
    let repository = Repository::with_page("[a](nowhere.md) [b](../README.md) [c](page.md#no-such)\n");
    let complaint = repository.complaint();
    assert!(complaint.contains("nowhere.md leads nowhere"));
    assert!(complaint.contains("../README.md leads out of the book"));
    assert!(complaint.contains("page.md#no-such names no heading"));
}

#[test]
fn good_links_pass() {
    let repository = Repository::with_page("# One thing: `a_b`\n[c](#one-thing-a_b) [d](https://example.org/x)\n");
    assert_eq!(check(&repository.0).expect("all is true"), 2);
}

#[test]
fn paths_in_code_spans_exist() {
    let repository = Repository::with_page("See `src/code.rs` and `src/cope.rs`, not `either/or`.\n");
    let complaint = repository.complaint();
    assert!(complaint.contains("there is no src/cope.rs"));
    assert!(!complaint.contains("either/or"));
}

#[test]
fn commands_have_verbs_and_options_that_exist() {
    let text = "`cargo xtask run --cores 2`, `cargo xtask fly`\n\n```console\n$ cargo xtask size --cores 2\n```\n";
    let complaint = Repository::with_page(text).complaint();
    assert!(complaint.contains("book/page.md:1: cargo xtask knows no fly"));
    assert!(complaint.contains("book/page.md:4: cargo xtask knows no --cores"));
    assert!(!complaint.contains("run"));
}

#[test]
fn a_page_that_nobody_finds_is_told() {
    let repository = Repository::with_page("");
    repository.write("book/more/lost.md", "");
    assert!(repository.complaint().contains("book/more/lost.md:1: the summary doesn't list this page"));
}

#[test]
fn stale_tables_are_told_and_made_anew() {
    let repository = Repository::with_page("<!-- generated: errors -->\nold\n<!-- end: errors -->\nrest\n");
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["abi/src/error.rs", "abi/src/object.rs", "abi/src/syscall.rs"] {
        repository.write(file, &fs::read_to_string(tree.join(file)).expect("read"));
    }
    assert!(repository.complaint().contains("the table `errors` is stale"));
    assert_eq!(update(&repository.0, None).expect("updated"), [Path::new("book/page.md")]);
    assert_eq!(check(&repository.0).expect("all is true"), 2);
}

#[test]
fn sizes_are_written_but_not_compared() {
    let repository = Repository::with_page("<!-- generated: size -->\n<!-- end: size -->\n");
    assert!(repository.complaint().contains("no sizes yet"));
    update(&repository.0, Some("text 1 KiB\n")).expect("updated");
    let text = fs::read_to_string(repository.0.join("book/page.md")).expect("read");
    assert_eq!(text, "<!-- generated: size -->\n```text\ntext 1 KiB\n```\n<!-- end: size -->\n");
    check(&repository.0).expect("all is true");
}

#[test]
fn every_table_is_made_from_the_tree_itself() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let methods = generated::part(&tree, "methods").expect("made");
    assert!(methods.contains("**`0x101 UntypedRetype`** (write). Makes objects in this memory."));
    let registers = generated::part(&tree, "registers").expect("made");
    assert!(registers.contains("| `operation` | `Operation`: number and target slot | `Status` | `rax` | `t0` |"));
    assert!(generated::part(&tree, "kinds").expect("made").contains("| 7 | `Endpoint` | Where messages meet. |"));
    assert!(generated::part(&tree, "errors").expect("made").contains("| 13 | `Again` | More is left to do"));
    assert!(
        generated::part(&tree, "bounds").expect("made").contains("| `DELETE_STEPS` | `4` | Capabilities deleted by")
    );
}
