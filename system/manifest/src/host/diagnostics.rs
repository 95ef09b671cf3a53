//! What is wrong with a manifest, said so that it can be mended: file, line, and what to write instead.

use core::fmt;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: PathBuf,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(super) fn new(file: &Path) -> Self {
        Diagnostics { file: file.to_path_buf(), list: Vec::new() }
    }

    pub(super) fn one(file: &Path, line: usize, text: String) -> Self {
        Diagnostics { file: file.to_path_buf(), list: std::vec![Diagnostic { line, text }] }
    }

    pub(super) fn add(&mut self, line: usize, text: impl Into<String>) {
        self.list.push(Diagnostic { line, text: text.into() });
        self.list.sort_by_key(|diagnostic| diagnostic.line);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{}:{}: {}", self.file.display(), diagnostic.line, diagnostic.text)?;
        }
        Ok(())
    }
}

impl core::error::Error for Diagnostics {}
