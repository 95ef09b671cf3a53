//! What the command line says.

use std::ops::Range;
use std::path::PathBuf;

/// What to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// How long the kernel's visits are.
    Visits,
    /// What memory more than one core writes.
    Lines,
    /// How many instructions it takes to an address, or until a text is said.
    Count,
}

/// All arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// What to watch.
    pub mode: Mode,
    /// Where to write.
    pub output: PathBuf,
    /// Addresses of the firmware.
    pub firmware: Range<u64>,
    /// Parts of the kernel to be told apart.
    pub passes: Vec<Range<u64>>,
    /// How many kinds of visits to write.
    pub most: usize,
    /// The mark from which on to watch.
    pub start: u64,
    /// The mark up to which to watch.
    pub stop: u64,
    /// How many instructions a core executes before it is another one's turn; 0: QEMU decides.
    pub turn: u64,
    /// The address of the first instruction that counts.
    pub from: u64,
    /// The address of the first one that does not.
    pub to: Option<u64>,
    /// The text up to which to count.
    pub text: String,
    /// The file that has what the machine says.
    pub said: PathBuf,
}

impl Arguments {
    /// Reads them; says what is wrong.
    pub fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Arguments, String> {
        let (mut mode, mut output) = (None, None);
        let (mut firmware, mut passes, mut most, mut start, mut stop, mut turn) = (0..0, Vec::new(), 10, 1, 2, 0);
        let (mut from, mut to, mut text, mut said) = (0, None, String::new(), PathBuf::new());
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("{word}: NAME=VALUE is expected"))?;
            let wrong = || format!("{word}: the value makes no sense");
            match name {
                "mode" if value == "visits" => mode = Some(Mode::Visits),
                "mode" if value == "lines" => mode = Some(Mode::Lines),
                "mode" if value == "count" => mode = Some(Mode::Count),
                "output" => output = Some(PathBuf::from(value)),
                "firmware" => firmware = range(value).ok_or_else(wrong)?,
                "passes" if passes.len() < 64 => passes.push(range(value).ok_or_else(wrong)?),
                "most" => most = value.parse().map_err(|_| wrong())?,
                "start" => start = value.parse().map_err(|_| wrong())?,
                "stop" => stop = value.parse().map_err(|_| wrong())?,
                "turn" => turn = value.parse().map_err(|_| wrong())?,
                "from" => from = number(value).ok_or_else(wrong)?,
                "to" => to = Some(number(value).ok_or_else(wrong)?),
                "text" => text = value.into(),
                "said" => said = PathBuf::from(value),
                _ => return Err(wrong()),
            }
        }
        let mode = mode.ok_or("mode= is missing")?;
        let output = output.ok_or("output= is missing")?;
        if mode == Mode::Count && to.is_none() && text.is_empty() {
            return Err("to= or text= is missing".into());
        }
        Ok(Arguments { mode, output, firmware, passes, most, start, stop, turn, from, to, text, said })
    }
}

/// As 0x...
fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// START:END.
fn range(text: &str) -> Option<Range<u64>> {
    let (start, end) = text.split_once(':')?;
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_what_is_wrong_is_said() {
        let words = "mode=visits output=/tmp/x firmware=0x80:0x90 passes=0x1:0x2 passes=0x3:0x4 most=3";
        let read = Arguments::read(words.split(' ')).expect("well formed");
        assert_eq!((read.mode, read.firmware, read.most), (Mode::Visits, 0x80..0x90, 3));
        assert_eq!((read.passes, read.start, read.stop, read.turn), (vec![1..2, 3..4], 1, 2, 0));
        let read = Arguments::read(["mode=lines", "output=x", "turn=7"].into_iter()).expect("well formed");
        assert_eq!((read.mode, read.turn), (Mode::Lines, 7));
        let read = Arguments::read(["mode=count", "output=x", "from=0x10", "text=a> ", "said=y"].into_iter());
        let read = read.expect("well formed");
        assert_eq!((read.mode, read.from, &*read.text, read.said), (Mode::Count, 16, "a> ", PathBuf::from("y")));
        for wrong in ["", "mode=visits", "output=x", "mode=x output=y", "mode=lines output=x start=y", "lines"] {
            assert!(Arguments::read(wrong.split(' ')).is_err(), "{wrong}");
        }
        assert!(Arguments::read(["mode=lines", "output=x", "passes=1:2"].into_iter()).is_err());
        assert!(Arguments::read(["mode=count", "output=x", "said=y"].into_iter()).is_err());
    }
}
