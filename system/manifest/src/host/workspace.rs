//! Which cargo packages exist: so that a manifest that names one that doesn't is told before anything is built.

use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, fs};

use toml::de::{DeTable, DeValue};

/// The directory of the workspace that a file lies in, if any.
pub fn directory(path: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    path.ancestors()
        .skip(1)
        .find(|directory| {
            fs::read_to_string(directory.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
        })
        .map(Path::to_path_buf)
}

/// The names of the packages of the workspace that `path` lies in; `None` if it lies in none.
pub fn packages(path: &Path) -> Result<Option<Vec<String>>, String> {
    let Some(directory) = directory(path) else { return Ok(None) };
    let text = fs::read_to_string(directory.join("Cargo.toml")).map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    for member in members(&text).ok_or("the workspace's Cargo.toml has no list of members")? {
        let folders = match member.strip_suffix("/*") {
            Some(parent) => children(&directory.join(parent)),
            None => std::vec![directory.join(&member)],
        };
        for folder in folders {
            let file = folder.join("Cargo.toml");
            let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            names.extend(package_name(&text));
        }
    }
    Ok(Some(names))
}

fn children(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut folders: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file()).collect();
    folders.sort();
    folders
}

fn members(text: &str) -> Option<Vec<String>> {
    let document = DeTable::parse(text).ok()?;
    let workspace = document.get_ref().get("workspace")?.get_ref().as_table()?;
    let list = match workspace.get("members")?.get_ref() {
        DeValue::Array(list) => list,
        _ => return None,
    };
    Some(list.iter().filter_map(|member| member.get_ref().as_str().map(ToString::to_string)).collect())
}

fn package_name(text: &str) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let package = document.get_ref().get("package")?.get_ref().as_table()?;
    Some(package.get("name")?.get_ref().as_str()?.to_string())
}
