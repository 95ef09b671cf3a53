//! `cargo xtask`: builds, runs, tests and measures Anos. Started by tools/bootstrap, which makes the machine ready.
//!
//! - [`cli`]: the command line; [`workspace`]: where things are, and which toolchain builds them;
//! - [`target`]: what the two architectures and three profiles mean to cargo and QEMU;
//! - [`build`], [`elf`], [`payload`], [`image`]: from sources to `anos.img`;
//! - [`qemu`], [`run`], [`symbols`]: from `anos.img` to a terminal;
//! - [`test`] with [`tally`]: everything that is tested; [`guest`]: QEMU on a terminal of ours; [`shell`], [`boots`],
//!   [`bad_boots`], [`last_words`] with [`gdb`], [`reproducible`]: what is tested that way;
//! - [`check`] with [`unsafe_count`], [`loops`] and [`book`]: formatting, lints, style, what the book says; [`size`]: what the kernel weighs; [`depth`]: how deep its
//!   stacks get; [`bench`]: what the kernel's services cost; [`trace`]: where the instructions go; [`longest`]: how long
//!   interrupts stay off; [`probe`]: QEMU's eye for both time and shared memory;
//! - [`mutants`]: whether the tests would notice; [`debug`]: GDB; [`fresh_machine`]: the README's commands on a clean Debian.
#![forbid(unsafe_code)]

mod bad_boots;
mod bench;
mod book;
mod boots;
mod build;
mod check;
mod cli;
mod debug;
mod depth;
mod elf;
mod fresh_machine;
mod gdb;
mod guest;
mod image;
mod last_words;
mod longest;
mod loops;
mod mutants;
mod payload;
mod probe;
mod progress;
mod qemu;
mod reproducible;
mod run;
mod shell;
mod size;
mod symbols;
mod tally;
mod target;
mod test;
mod trace;
mod unsafe_count;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Verb};
use workspace::Workspace;

fn main() -> ExitCode {
    match perform(&Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            progress::fail(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: &Verb) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Build(options) => build::command(&workspace, options),
        Verb::Image(options) => image::command(&workspace, options),
        Verb::Run(options) => run::command(&workspace, options),
        Verb::Test(options) => test::command(&workspace, options),
        Verb::Check(options) => check::command(&workspace, options),
        Verb::Size(options) => size::command(&workspace, options),
        Verb::Depth(options) => depth::command(&workspace, options),
        Verb::Bench(options) => bench::command(&workspace, options),
        Verb::Trace(options) => trace::command(&workspace, options),
        Verb::Longest(options) => longest::command(&workspace, options),
        Verb::Debug(options) => debug::command(&workspace, options),
        Verb::Mutants(options) => mutants::command(&workspace, options),
        Verb::Boots(options) => boots::command(&workspace, options),
        Verb::FreshMachine(options) => fresh_machine::command(&workspace, options),
    }
}
