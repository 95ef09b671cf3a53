//! The small notations of a manifest: sizes, port ranges, triggers. Each error says what to write instead.

use std::format;
use std::string::String;

use crate::{MAX_MEMORY, MAX_NAME, MIN_MEMORY, is_name, process_right};

/// A size in bytes: a number and a unit.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("\"{text}\" is no size: write a whole number and a unit, as in \"256 KiB\" or \"4 MiB\"");
    let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A program's memory quota.
pub fn quota(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if !bytes.is_power_of_two() {
        let next = bytes.checked_next_power_of_two().map_or(MAX_MEMORY, |next| next.clamp(MIN_MEMORY, MAX_MEMORY));
        return Err(format!("a memory quota must be a power of two: write \"{}\"", show_size(next)));
    }
    if !(MIN_MEMORY..=MAX_MEMORY).contains(&bytes) {
        let (least, most) = (show_size(MIN_MEMORY), show_size(MAX_MEMORY));
        return Err(format!("a memory quota of \"{text}\" is out of range: write \"{least}\" to \"{most}\""));
    }
    Ok(bytes)
}

/// A size with the largest unit that fits.
pub fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

/// A range of I/O ports: "0x3f8-0x3ff", first and last.
pub fn ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("\"{text}\" is no port range: write first and last, as in \"0x3f8-0x3ff\"");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let port = |text: &str| {
        let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
        u16::from_str_radix(digits, 16).map_err(|_| wrong())
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(wrong()) } else { Ok((first, last)) }
}

/// How triggers are called, and what each means: whether it is level-triggered, and whether active low.
pub const TRIGGERS: [(&str, (bool, bool)); 4] =
    [("edge", (false, false)), ("level", (true, false)), ("edge-low", (false, true)), ("level-low", (true, true))];

/// How an interrupt is signalled: whether level-triggered, and whether active low.
pub fn trigger(text: &str) -> Result<(bool, bool), String> {
    let found = TRIGGERS.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| format!("unknown trigger \"{text}\": write {}", choices(TRIGGERS.map(|(name, _)| name))))
}

/// A name of a program, service or device.
pub fn name(what: &str, name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("the {what} name \"{name}\" is too long: write at most {MAX_NAME} characters"));
    }
    if !is_name(name) {
        return Err(format!("\"{name}\" can't name a {what}: write small letters, digits and '-', a letter first"));
    }
    Ok(())
}

/// One right to ask something of the root server.
pub fn process_right(text: &str) -> Result<u8, String> {
    let found = process_right::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, bit)| *bit).ok_or_else(|| {
        format!(
            "unknown process right \"{text}\": write any of {}",
            choices(process_right::NAMES.map(|(name, _)| name))
        )
    })
}

/// `"a", "b" or "c"`.
pub fn choices<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut quoted: std::vec::Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.pop() {
        None => String::from("nothing"),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} or {last}", quoted.join(", ")),
    }
}

/// The known name that was most likely meant, if one is near enough.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().map(|name| (distance(text, name), name)).min().filter(|(steps, _)| *steps <= 2).map(|(_, n)| n)
}

/// Letters to insert, drop or change to get from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: std::vec::Vec<usize> = (0..=to.chars().count()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut corner = line;
        let mut left = line + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(to.chars()) {
            let above = *cell;
            left = (corner + usize::from(letter != other)).min(above + 1).min(left + 1);
            corner = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them_and_show_alike() {
        assert_eq!(size("256 KiB"), Ok(256 << 10));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        for bytes in [64 << 10, 1 << 20, 3 << 20, 1 << 30] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        for wrong in
            ["", "256", "256KiB", "x KiB", "-1 KiB", "1 KB", "99999999999999999999 KiB", "18446744073709551615 GiB"]
        {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn distance_counts_single_letter_changes() {
        for (from, to, steps) in
            [("memory", "memory", 0), ("memry", "memory", 1), ("prio", "priority", 4), ("", "abc", 3)]
        {
            assert_eq!(distance(from, to), steps, "{from} {to}");
        }
        assert_eq!(nearest("memry", ["memory", "device"]), Some("memory"));
        assert_eq!(nearest("colour", ["memory", "device"]), None);
    }
}
