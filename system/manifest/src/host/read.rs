//! From TOML to values with their lines. What a value means for others is `check`'s business.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::values;
use super::{Architecture, DEFAULT_ROOT, DeviceEntry, Diagnostics, Located, Manifest, ProgramEntry, UseEntry};
use crate::{
    CpuTime, Device, Interrupt, MAX_INSTANCES, MAX_PERIOD_NS, MAX_PRIORITY, MAX_REGISTER_PAGES, MAX_SLOTS,
    MIN_BUDGET_NS, MIN_MEMORY, MIN_SLOTS, ROLES, Registers, Restart, Start, register_pages,
};
use anos_abi::MAX_CORES;

type Value<'i> = Spanned<DeValue<'i>>;

const PROGRAM_FIELDS: [&str; 17] = [
    "package",
    "start",
    "restart",
    "instances",
    "arguments",
    "priority",
    "ceiling",
    "cores",
    "cpu",
    "memory",
    "slots",
    "devices",
    "provides",
    "uses",
    "process",
    "debug",
    "sched",
];

/// Reads the whole file; what is wrong goes to `diagnostics`.
pub fn manifest(text: &str, diagnostics: &mut Diagnostics) -> Manifest {
    let root = Located { value: String::from(DEFAULT_ROOT), line: 1 };
    let mut manifest = Manifest { name: String::new(), root, devices: Vec::new(), programs: Vec::new() };
    let mut reader = Reader { text, diagnostics };
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(1, |span| reader.line(span.start));
            let instead = if error.message() == "duplicate key" { ": write each name once" } else { "" };
            let message = error.message().replace('\n', ", ");
            reader.diagnostics.add(line, format!("this is not TOML: {message}{instead}"));
            return manifest;
        }
    };
    let top = document.get_ref();
    reader.known("the file", top, &["system", "device", "program"]);
    match top.get("system") {
        Some(value) => reader.system(value, &mut manifest),
        None => reader.diagnostics.add(1, "no [system] table: write one with a name, as in name = \"default\""),
    }
    for (name, value) in reader.named(top, "device") {
        let entry = reader.device(name, value);
        manifest.devices.extend(entry);
    }
    for (name, value) in reader.named(top, "program") {
        let entry = reader.program(name, value);
        manifest.programs.extend(entry);
    }
    manifest.devices.sort_by_key(|device| device.name.line);
    manifest.programs.sort_by_key(|program| program.name.line);
    manifest
}

struct Reader<'r> {
    text: &'r str,
    diagnostics: &'r mut Diagnostics,
}

/// A table's fields, and what to call it in messages.
struct Fields<'a, 'i> {
    place: String,
    line: usize,
    table: &'a DeTable<'i>,
}

impl<'r> Reader<'r> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
    }

    fn wrong(&mut self, value: &Value<'_>, text: impl Into<String>) {
        let line = self.line(value.span().start);
        self.diagnostics.add(line, text);
    }

    /// Complains about every field that isn't known.
    fn known(&mut self, place: &str, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let instead = match values::nearest(name, known.iter().copied()) {
                Some(near) => format!("\"{near}\""),
                None => values::choices(known.iter().copied()),
            };
            let line = self.line(key.span().start);
            self.diagnostics.add(line, format!("unknown field \"{name}\" in {place}: write {instead}"));
        }
    }

    fn fields<'a, 'i>(&mut self, place: String, value: &'a Value<'i>, known: &[&str]) -> Option<Fields<'a, 'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value, format!("{place} must be a table: write its fields below [{place}]"));
            return None;
        };
        self.known(&place, table, known);
        Some(Fields { place, line: self.line(value.span().start), table })
    }

    /// The tables `[kind.NAME]`, with valid names.
    fn named<'a, 'i>(&mut self, top: &'a DeTable<'i>, kind: &str) -> Vec<(Located<String>, &'a Value<'i>)> {
        let Some(value) = top.get(kind) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(value, format!("\"{kind}\" must be tables: write [{kind}.NAME] for each"));
            return Vec::new();
        };
        let mut list = Vec::new();
        for (key, value) in table {
            let name = Located { value: key.get_ref().to_string(), line: self.line(key.span().start) };
            match values::name(kind, &name.value) {
                Ok(()) => list.push((name, value)),
                Err(text) => self.diagnostics.add(name.line, text),
            }
        }
        list
    }

    fn system(&mut self, value: &Value<'_>, manifest: &mut Manifest) {
        let Some(fields) = self.fields("system".to_string(), value, &["name", "root"]) else { return };
        if let Some(name) = self.required(&fields, "name", "name = \"default\"") {
            if let Err(text) = values::name("system", &name.value) {
                self.diagnostics.add(name.line, text);
            }
            manifest.name = name.value;
        }
        if let Some(root) = self.string(&fields, "root") {
            manifest.root = root;
        }
    }

    fn device(&mut self, name: Located<String>, value: &Value<'_>) -> Option<DeviceEntry> {
        let place = format!("device.{}", name.value);
        let fields = self.fields(place, value, &["x86_64", "riscv64"])?;
        let mut on = |architecture: Architecture| {
            let value = fields.table.get(architecture.name())?;
            self.device_on(&name.value, architecture, value)
        };
        let (x86_64, riscv64) = (on(Architecture::X86_64), on(Architecture::Riscv64));
        Some(DeviceEntry { name, x86_64, riscv64 })
    }

    fn device_on(&mut self, name: &str, architecture: Architecture, value: &Value<'_>) -> Option<Located<Device>> {
        let place = format!("device.{name}.{}", architecture.name());
        let fields = self.fields(place, value, &["ports", "registers", "size", "interrupt", "trigger"])?;
        let registers = self.registers(&fields, architecture);
        let interrupt = self.interrupt(&fields, architecture);
        let device = Device { name: name.to_string(), registers: registers?, interrupt };
        Some(Located { value: device, line: fields.line })
    }

    fn registers(&mut self, fields: &Fields<'_, '_>, architecture: Architecture) -> Option<Registers> {
        let place = &fields.place;
        let (ports, address) = (fields.table.get("ports"), fields.table.get("registers"));
        match (ports, address) {
            (Some(value), None) if architecture != Architecture::X86_64 => {
                let name = architecture.name();
                self.wrong(value, format!("{name} has no I/O ports: write registers = 0x... and size = 0x..."));
                None
            }
            (Some(_), None) => {
                if let Some(size) = fields.table.get("size") {
                    self.wrong(size, format!("{place} has a size, but its ports say where they end: drop size"));
                }
                let text = self.string(fields, "ports")?;
                let (first, last) = self.accept(text.line, values::ports(&text.value))?;
                Some(Registers::Ports { first, last })
            }
            (None, Some(value)) => {
                let address = self.number(fields, "registers", 0..=u64::MAX)?;
                let size = self.number(fields, "size", 1..=1 << 32);
                if size.is_none() && !fields.table.contains_key("size") {
                    self.wrong(value, format!("{place} has registers but no size: write size = 0x..."));
                }
                self.memory(value, place, address, size?)
            }
            _ => {
                let ports =
                    if architecture == Architecture::X86_64 { "either ports = \"0x...-0x...\" or " } else { "" };
                let text = format!("{place} must say where its registers are: write {ports}registers and size");
                self.diagnostics.add(fields.line, text);
                None
            }
        }
    }

    /// Registers in memory: whether they can be mapped as one Frame.
    fn memory(&mut self, value: &Value<'_>, place: &str, address: u64, size: u64) -> Option<Registers> {
        let Some(pages) = register_pages(address, size) else {
            self.wrong(value, format!("{place} has registers past the last address: write a smaller size"));
            return None;
        };
        if pages > MAX_REGISTER_PAGES {
            let text =
                format!("{place} has registers on {pages} pages: write a size that stays within {MAX_REGISTER_PAGES}");
            self.wrong(value, text);
            return None;
        }
        Some(Registers::Memory { address, size })
    }

    fn interrupt(&mut self, fields: &Fields<'_, '_>, architecture: Architecture) -> Option<Interrupt> {
        if let Some(trigger) = fields.table.get("trigger")
            && !fields.table.contains_key("interrupt")
        {
            self.wrong(
                trigger,
                format!("{} has a trigger but no interrupt: write interrupt = ..., or drop trigger", fields.place),
            );
        }
        let line = self.number(fields, "interrupt", architecture.interrupts())?;
        let Some(text) = self.string(fields, "trigger") else {
            if !fields.table.contains_key("trigger") {
                let choices = values::choices(values::TRIGGERS.map(|(name, _)| name));
                let text = format!("{} has an interrupt but no trigger: write trigger = {choices}", fields.place);
                self.diagnostics.add(fields.line, text);
            }
            return None;
        };
        let (level, active_low) = self.accept(text.line, values::trigger(&text.value))?;
        Some(Interrupt { line: u32::try_from(line).unwrap_or(0), level, active_low })
    }

    fn program(&mut self, name: Located<String>, value: &Value<'_>) -> Option<ProgramEntry> {
        let fields = self.fields(format!("program.{}", name.value), value, &PROGRAM_FIELDS)?;
        let package = self.required(&fields, "package", "package = \"...\", the cargo package that builds it");
        let memory = self.required(&fields, "memory", "memory = \"256 KiB\", say");
        let memory = memory.and_then(|text| self.accept(text.line, values::quota(&text.value)));
        let priority = self.byte(&fields, "priority", MAX_PRIORITY).unwrap_or(100);
        let slots = self.number(&fields, "slots", u64::from(MIN_SLOTS)..=u64::from(MAX_SLOTS)).unwrap_or(256);
        if !slots.is_power_of_two() {
            let line = fields.table.get("slots").map_or(fields.line, |value| self.line(value.span().start));
            self.diagnostics.add(line, format!("slots must be a power of two: write {}", slots.next_power_of_two()));
        }
        // Everything is read before something that is missing ends it: all mistakes are told at once.
        let program = ProgramEntry {
            package: package.clone().unwrap_or_else(|| name.clone()),
            start: self.choice(&fields, "start", &[("boot", Start::Boot), ("manual", Start::Manual)], Start::Manual),
            restart: self.choice(
                &fields,
                "restart",
                &[("never", Restart::Never), ("fault", Restart::Fault), ("always", Restart::Always)],
                Restart::Never,
            ),
            instances: self.number(&fields, "instances", 1..=u64::from(MAX_INSTANCES)).map_or(1, byte),
            arguments: self.flag(&fields, "arguments"),
            priority,
            ceiling: self.byte(&fields, "ceiling", MAX_PRIORITY).unwrap_or(priority),
            cores: self.cores(&fields),
            cpu: self.cpu(&fields),
            memory: memory.unwrap_or(MIN_MEMORY),
            slots: u32::try_from(slots).unwrap_or(MIN_SLOTS),
            devices: self.strings(&fields, "devices"),
            provides: self.strings(&fields, "provides"),
            uses: self.uses(&fields),
            process: self.process(&fields),
            debug: self.flag(&fields, "debug"),
            sched: self.flag(&fields, "sched"),
            name,
        };
        (package.is_some() && memory.is_some()).then_some(program)
    }

    fn process(&mut self, fields: &Fields<'_, '_>) -> u8 {
        let mut rights = 0;
        for name in self.strings(fields, "process") {
            rights |= self.accept(name.line, values::process_right(&name.value)).unwrap_or(0);
        }
        rights
    }

    fn uses(&mut self, fields: &Fields<'_, '_>) -> Vec<UseEntry> {
        let mut list = Vec::new();
        for value in self.array(fields, "uses") {
            if let Some(name) = value.get_ref().as_str() {
                let service = Located { value: name.to_string(), line: self.line(value.span().start) };
                list.push(UseEntry { service, pass: false, role: 0 });
                continue;
            }
            if !value.get_ref().is_table() {
                self.wrong(value, "\"uses\" lists services: write \"NAME\", or { service = \"NAME\", pass = true }");
                continue;
            }
            let place = format!("{}.uses", fields.place);
            let Some(fields) = self.fields(place, value, &["service", "pass", "role"]) else { continue };
            let pass = self.flag(&fields, "pass");
            let role = self.choice(&fields, "role", &ROLES, 0);
            let service = self.required(&fields, "service", "service = \"NAME\"");
            list.extend(service.map(|service| UseEntry { service, pass, role }));
        }
        list
    }

    fn cores(&mut self, fields: &Fields<'_, '_>) -> u64 {
        let mut cores = 0;
        if let Some(value) = fields.table.get("cores")
            && value.get_ref().as_array().is_some_and(|list| list.is_empty())
        {
            self.wrong(value, "\"cores\" lists no core: write at least one, or drop it to allow all");
        }
        for value in self.array(fields, "cores") {
            match integer(value).filter(|&core| core < MAX_CORES as u64) {
                Some(core) => cores |= 1 << core,
                None => self.wrong(value, format!("\"cores\" lists cores: write numbers from 0 to {}", MAX_CORES - 1)),
            }
        }
        cores
    }

    fn cpu(&mut self, fields: &Fields<'_, '_>) -> Option<CpuTime> {
        let value = fields.table.get("cpu")?;
        if !value.get_ref().is_table() {
            self.wrong(value, "\"cpu\" must be a table: write cpu = { budget_us = 2000, period_us = 10000 }, say");
            return None;
        }
        let fields = self.fields(format!("{}.cpu", fields.place), value, &["budget_us", "period_us"])?;
        let range = MIN_BUDGET_NS / 1000..=MAX_PERIOD_NS / 1000;
        let [budget_us, period_us] = [("budget_us", 2000), ("period_us", 10000)].map(|(field, example)| {
            if !fields.table.contains_key(field) {
                let text = format!("{} has no {field}: write {field} = {example}, say", fields.place);
                self.diagnostics.add(fields.line, text);
            }
            self.number(&fields, field, range.clone())
        });
        let (budget_us, period_us) = (budget_us?, period_us?);
        if budget_us > period_us {
            let place = &fields.place;
            self.wrong(value, format!("{place} has a budget above its period: write budget_us = {period_us} or less"));
            return None;
        }
        Some(CpuTime { budget_ns: budget_us * 1000, period_ns: period_us * 1000 })
    }

    // Single values.

    fn accept<T>(&mut self, line: usize, result: Result<T, String>) -> Option<T> {
        result.map_err(|text| self.diagnostics.add(line, text)).ok()
    }

    fn string(&mut self, fields: &Fields<'_, '_>, field: &str) -> Option<Located<String>> {
        let value = fields.table.get(field)?;
        match value.get_ref().as_str() {
            Some(text) => Some(Located { value: text.to_string(), line: self.line(value.span().start) }),
            None => {
                self.wrong(value, format!("\"{field}\" must be a string: write {field} = \"...\""));
                None
            }
        }
    }

    fn required(&mut self, fields: &Fields<'_, '_>, field: &str, example: &str) -> Option<Located<String>> {
        if !fields.table.contains_key(field) {
            self.diagnostics.add(fields.line, format!("{} has no {field}: write {example}", fields.place));
        }
        self.string(fields, field)
    }

    fn number(&mut self, fields: &Fields<'_, '_>, field: &str, range: core::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = fields.table.get(field)?;
        if !matches!(value.get_ref(), DeValue::Integer(_)) {
            self.wrong(value, format!("\"{field}\" must be a number: write {field} = {}", range.start()));
            return None;
        }
        let number = integer(value).filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(value, format!("{field} is out of range: write {} to {}", range.start(), range.end()));
        }
        number
    }

    fn byte(&mut self, fields: &Fields<'_, '_>, field: &str, most: u8) -> Option<u8> {
        self.number(fields, field, 0..=u64::from(most)).map(byte)
    }

    fn flag(&mut self, fields: &Fields<'_, '_>, field: &str) -> bool {
        let Some(value) = fields.table.get(field) else { return false };
        if let DeValue::Boolean(flag) = value.get_ref() {
            return *flag;
        }
        self.wrong(value, format!("\"{field}\" must be true or false: write {field} = true"));
        false
    }

    fn choice<T: Copy>(&mut self, fields: &Fields<'_, '_>, field: &str, known: &[(&str, T)], default: T) -> T {
        let Some(text) = self.string(fields, field) else { return default };
        if let Some((_, choice)) = known.iter().find(|(name, _)| *name == text.value) {
            return *choice;
        }
        let choices = values::choices(known.iter().map(|(name, _)| *name));
        self.diagnostics.add(text.line, format!("{field} = \"{}\" is unknown: write {choices}", text.value));
        default
    }

    fn array<'a, 'i>(&mut self, fields: &Fields<'a, 'i>, field: &str) -> Vec<&'a Value<'i>> {
        let Some(value) = fields.table.get(field) else { return Vec::new() };
        if let DeValue::Array(list) = value.get_ref() {
            return list.iter().collect();
        }
        self.wrong(value, format!("\"{field}\" must be a list: write {field} = [\"...\"]"));
        Vec::new()
    }

    fn strings(&mut self, fields: &Fields<'_, '_>, field: &str) -> Vec<Located<String>> {
        let mut list: Vec<Located<String>> = Vec::new();
        for value in self.array(fields, field) {
            let Some(text) = value.get_ref().as_str() else {
                self.wrong(value, format!("\"{field}\" must list strings: write {field} = [\"...\"]"));
                continue;
            };
            if list.iter().any(|other| other.value == text) {
                self.wrong(value, format!("\"{text}\" stands twice in {field}: write it once"));
                continue;
            }
            list.push(Located { value: text.to_string(), line: self.line(value.span().start) });
        }
        list
    }
}

/// A number that is not negative.
fn integer(value: &Value<'_>) -> Option<u64> {
    let DeValue::Integer(number) = value.get_ref() else { return None };
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A number that has been checked against a range below 256.
fn byte(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
