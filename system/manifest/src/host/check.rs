//! Whether the parts of a manifest fit together.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::values;
use super::{Architecture, DEFAULT_ROOT, DeviceEntry, Diagnostics, Located, Manifest, ProgramEntry, UseEntry};
use crate::{
    MAX_CLAIMS, MAX_DEVICES, MAX_PROGRAMS, MAX_PROVIDES, MAX_SERVICES, MAX_USES, Registers, Restart, SLOT_BYTES, Start,
};
use anos_abi::PAGE_SIZE;
use anos_interfaces::start::name::is_reserved;

/// Checks everything; what is wrong goes to `diagnostics`.
pub fn manifest(manifest: &Manifest, packages: Option<&[String]>, diagnostics: &mut Diagnostics) {
    let mut check = Check { manifest, diagnostics };
    check.packages(packages);
    check.programs();
    check.overlaps();
    check.claims();
    check.services();
    check.circles();
}

struct Check<'c> {
    manifest: &'c Manifest,
    diagnostics: &'c mut Diagnostics,
}

impl Check<'_> {
    fn wrong(&mut self, line: usize, text: impl Into<String>) {
        self.diagnostics.add(line, text);
    }

    fn packages(&mut self, known: Option<&[String]>) {
        let Some(known) = known else { return };
        let manifest = self.manifest;
        for package in manifest.programs.iter().map(|program| &program.package).chain([&manifest.root]) {
            if known.contains(&package.value) {
                continue;
            }
            let instead = match values::nearest(&package.value, known.iter().map(String::as_str)) {
                Some(near) => format!("write \"{near}\""),
                None => String::from("write the name of a member, or add it to the workspace's Cargo.toml"),
            };
            self.wrong(package.line, format!("no package \"{}\" in the workspace: {instead}", package.value));
        }
    }

    fn programs(&mut self) {
        let manifest = self.manifest;
        if manifest.programs.len() > MAX_PROGRAMS {
            let line = manifest.programs.last().map_or(1, |program| program.name.line);
            self.wrong(line, format!("too many programs: write at most {MAX_PROGRAMS}"));
        }
        // A root server of its own, like the test suite, needs no other program.
        if manifest.root.value == DEFAULT_ROOT && !manifest.programs.iter().any(|program| program.start == Start::Boot)
        {
            self.wrong(1, "no program starts at boot: write start = \"boot\" for the shell, say");
        }
        for program in &manifest.programs {
            self.program(program);
        }
    }

    fn program(&mut self, program: &ProgramEntry) {
        let (name, line) = (&program.name.value, program.name.line);
        if program.ceiling < program.priority {
            let (ceiling, priority) = (program.ceiling, program.priority);
            self.wrong(
                line,
                format!(
                    "{name} has priority {priority} above its ceiling {ceiling}: write ceiling = {priority} or more"
                ),
            );
        }
        let single = if !program.provides.is_empty() {
            Some("provides a service")
        } else if !program.devices.is_empty() {
            Some("drives a device")
        } else if program.start == Start::Boot {
            Some("starts at boot")
        } else {
            None
        };
        if let Some(why) = single
            && program.instances > 1
        {
            self.wrong(line, format!("{name} {why}, so there can be only one of it: write instances = 1"));
        }
        if program.restart != Restart::Never && program.start == Start::Manual {
            self.wrong(
                line,
                format!("{name} starts by hand, so it isn't restarted: write start = \"boot\", or drop restart"),
            );
        }
        let table = u64::from(program.slots) * SLOT_BYTES;
        if table >= program.memory {
            let (slots, memory) = (program.slots, values::show_size(program.memory));
            let table = values::show_size(table);
            self.wrong(
                line,
                format!(
                    "{name} has {memory} of memory, and {slots} slots take {table}: write fewer slots, or more memory"
                ),
            );
        }
        for (what, count, most) in [
            ("devices", program.devices.len(), MAX_DEVICES),
            ("provides", program.provides.len(), MAX_PROVIDES),
            ("uses", program.uses.len(), MAX_USES),
        ] {
            if count > most {
                self.wrong(line, format!("{name} lists too many in {what}: write at most {most}"));
            }
        }
    }

    /// No two devices share registers or an interrupt.
    fn overlaps(&mut self) {
        let manifest = self.manifest;
        for architecture in Architecture::ALL {
            for (index, entry) in manifest.devices.iter().enumerate() {
                for earlier in manifest.devices.iter().take(index) {
                    self.overlap(architecture, entry, earlier);
                }
            }
        }
    }

    fn overlap(&mut self, architecture: Architecture, entry: &DeviceEntry, earlier: &DeviceEntry) {
        let (Some(one), Some(other)) = (entry.on(architecture), earlier.on(architecture)) else { return };
        let (name, other_name) = (&entry.name.value, &earlier.name.value);
        if share(one.value.registers, other.value.registers) {
            let text = format!(
                "{name} and {other_name} (line {}) share registers: write ranges that don't overlap",
                other.line
            );
            self.wrong(one.line, text);
        }
        if let (Some(line), Some(other_line)) = (one.value.interrupt, other.value.interrupt)
            && line.line == other_line.line
        {
            let text = format!(
                "{name} and {other_name} (line {}) share interrupt {}: write another number",
                other.line, line.line
            );
            self.wrong(one.line, text);
        }
    }

    /// Every claimed device exists, on both architectures, and is claimed once.
    fn claims(&mut self) {
        let manifest = self.manifest;
        let mut claimed: Vec<(&str, &str)> = Vec::new();
        for program in &manifest.programs {
            for claim in &program.devices {
                let Some(device) = manifest.devices.iter().find(|device| device.name.value == claim.value) else {
                    self.unknown("device", claim, manifest.devices.iter().map(|device| device.name.value.as_str()));
                    continue;
                };
                for architecture in Architecture::ALL {
                    if device.on(architecture).is_none() {
                        let (device, on) = (&claim.value, architecture.name());
                        let text =
                            format!("device {device} is claimed but not described for {on}: write {on} = {{ ... }}");
                        self.wrong(manifest_line(manifest, device), text);
                    }
                }
                if let Some((_, owner)) = claimed.iter().find(|(name, _)| *name == claim.value) {
                    let text =
                        format!("device {} is claimed by {owner} already: write it for one program only", claim.value);
                    self.wrong(claim.line, text);
                }
                claimed.push((&claim.value, &program.name.value));
                if claimed.len() == MAX_CLAIMS + 1 {
                    self.wrong(claim.line, format!("too many devices are claimed: write at most {MAX_CLAIMS}"));
                }
            }
        }
    }

    /// Every service is provided by one program, and every used one is provided.
    fn services(&mut self) {
        let manifest = self.manifest;
        let mut provided: Vec<(&str, &str)> = Vec::new();
        for program in &manifest.programs {
            for service in &program.provides {
                if let Err(text) = values::name("service", &service.value) {
                    self.wrong(service.line, text);
                }
                if is_reserved(&service.value) {
                    let text = format!(
                        "a service can't be named \"{}\", which programs look for as something else: write another name",
                        service.value
                    );
                    self.wrong(service.line, text);
                }
                if let Some((_, provider)) = provided.iter().find(|(name, _)| *name == service.value) {
                    let text =
                        format!("service {} is provided by {provider} already: write another name", service.value);
                    self.wrong(service.line, text);
                }
                provided.push((&service.value, &program.name.value));
            }
        }
        if provided.len() > MAX_SERVICES {
            self.wrong(1, format!("too many services: write at most {MAX_SERVICES}"));
        }
        for program in &manifest.programs {
            for (index, used) in program.uses.iter().enumerate() {
                if !provided.iter().any(|(name, _)| *name == used.service.value) {
                    self.unknown("service", &used.service, provided.iter().map(|(name, _)| *name));
                }
                if program.uses.iter().take(index).any(|other| other.service.value == used.service.value) {
                    let text = format!("\"{}\" stands twice in uses: write it once", used.service.value);
                    self.wrong(used.service.line, text);
                }
            }
        }
    }

    fn unknown<'a>(&mut self, what: &str, name: &Located<String>, known: impl Iterator<Item = &'a str> + Clone) {
        let instead = match values::nearest(&name.value, known.clone()) {
            Some(near) => format!("write \"{near}\""),
            None if what == "device" => format!("write a table [device.{}]", name.value),
            None => format!("write provides = [\"{}\"] for one", name.value),
        };
        let text = match what {
            "device" => format!("unknown device \"{}\": {instead}", name.value),
            _ => format!("no program provides the service \"{}\": {instead}", name.value),
        };
        self.wrong(name.line, text);
    }

    /// Calls in a circle can wait for each other for ever.
    fn circles(&mut self) {
        let manifest = self.manifest;
        for (start, program) in manifest.programs.iter().enumerate() {
            let Some(circle) = circle_from(manifest, start) else { continue };
            // A circle is found from each of its programs: report it once, from the first.
            if circle.iter().any(|&other| other < start) {
                continue;
            }
            let names: Vec<&str> = circle
                .iter()
                .filter_map(|&index| manifest.programs.get(index))
                .map(|p| p.name.value.as_str())
                .collect();
            let next = circle.get(1).copied();
            let leads = |used: &&UseEntry| next.is_some() && provider(manifest, &used.service.value) == next;
            let line = program.uses.iter().find(leads).map_or(program.name.line, |used| used.service.line);
            let text = format!(
                "{} calls itself through {}, which can deadlock: write \"uses\" so that calls go one way",
                program.name.value,
                names.join(" -> ")
            );
            self.wrong(line, text);
        }
    }
}

fn manifest_line(manifest: &Manifest, device: &str) -> usize {
    manifest.devices.iter().find(|entry| entry.name.value == device).map_or(1, |entry| entry.name.line)
}

fn share(one: Registers, other: Registers) -> bool {
    match (one, other) {
        (Registers::Ports { first, last }, Registers::Ports { first: other_first, last: other_last }) => {
            first <= other_last && other_first <= last
        }
        (Registers::Memory { address, size }, Registers::Memory { address: other, size: other_size }) => {
            // Frames are pages, so two devices in one page could reach each other's registers.
            let page = |address: u64| address / PAGE_SIZE;
            let end = |address: u64, size: u64| page(address + (size - 1));
            page(address) <= end(other, other_size) && page(other) <= end(address, size)
        }
        _ => false,
    }
}

/// The programs that a program calls.
fn callees(manifest: &Manifest, program: usize) -> Vec<usize> {
    let Some(program) = manifest.programs.get(program) else { return Vec::new() };
    program.uses.iter().filter_map(|used| provider(manifest, &used.service.value)).collect()
}

/// The program that provides a service.
fn provider(manifest: &Manifest, service: &str) -> Option<usize> {
    manifest.programs.iter().position(|program| program.provides.iter().any(|provided| provided.value == service))
}

/// A way of calls from a program back to itself, if there is one: breadth first, so the shortest.
fn circle_from(manifest: &Manifest, start: usize) -> Option<Vec<usize>> {
    let mut ways: Vec<Vec<usize>> = std::vec![std::vec![start]];
    let mut seen = Vec::new();
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        for callee in callees(manifest, way.last().copied()?) {
            let mut longer = way.clone();
            longer.push(callee);
            if callee == start {
                return Some(longer);
            }
            if !seen.contains(&callee) {
                seen.push(callee);
                ways.push(longer);
            }
        }
    }
    None
}
