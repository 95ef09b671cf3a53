//! How many instructions it takes to get somewhere: to an address, or until the machine has said a text.

/// What matters of an instruction that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Counting begins here.
    pub starts: bool,
    /// Counting ends here, before it.
    pub ends: bool,
    /// The core waits here for an interrupt.
    pub waits: bool,
    /// It writes to a device through a port.
    pub writes_port: bool,
}

impl Step {
    /// As a number for QEMU.
    pub fn number(self) -> usize {
        let bits = [self.starts, self.ends, self.waits, self.writes_port];
        bits.iter().rev().fold(0, |number, &bit| number << 1 | usize::from(bit))
    }

    /// From that number.
    pub fn from_number(number: usize) -> Step {
        let bit = |bit: usize| number >> bit & 1 != 0;
        Step { starts: bit(0), ends: bit(1), waits: bit(2), writes_port: bit(3) }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    instructions: u64,
    waits: u64,
}

impl Done {
    fn report(self) -> String {
        let Done { instructions, waits } = self;
        format!("counted {instructions} waits {waits}\n")
    }
}

/// The count.
#[derive(Debug, Default)]
pub struct Count {
    text: Vec<u8>,
    running: bool,
    done: Done,
    /// How far it had come behind the last instruction that wrote to a device, until somebody has looked what was said.
    written: Option<Done>,
}

impl Count {
    /// Nothing has been executed. Counts until this is said, if it is a text.
    pub fn new(text: &str) -> Count {
        Count { text: text.into(), ..Count::default() }
    }

    /// An instruction comes. `said` is asked for all that was said, if it may have become more. Answers the report if this is
    /// the end: how many instructions it took; those to a text include the one that wrote its last byte.
    pub fn execute(&mut self, step: Step, said: impl FnOnce() -> Vec<u8>) -> Option<String> {
        if let Some(done) = self.written.take()
            && said().windows(self.text.len()).any(|part| part == self.text)
        {
            self.running = false;
            return Some(done.report());
        }
        if self.running && step.ends {
            self.running = false;
            return Some(self.done.report());
        }
        self.running |= step.starts;
        if self.running {
            self.done.instructions += 1;
            self.done.waits += u64::from(step.waits);
            if step.writes_port {
                self.device_written();
            }
        }
        None
    }

    /// The instruction that came last has written to a device.
    pub fn device_written(&mut self) {
        if self.running && !self.text.is_empty() {
            self.written = Some(self.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Step = Step { starts: false, ends: false, waits: false, writes_port: false };

    #[test]
    fn what_was_said_is_looked_at_behind_each_write_and_counts_up_to_there() {
        let mut count = Count::new("> ");
        let execute = |count: &mut Count, step, said: &'static str| count.execute(step, || said.into());
        // Before the start nothing counts, whatever is said.
        assert_eq!(execute(&mut count, Step { writes_port: true, ..PLAIN }, "> "), None);
        assert_eq!(execute(&mut count, Step { starts: true, ..PLAIN }, "> "), None);
        assert_eq!(execute(&mut count, Step { waits: true, ..PLAIN }, "> "), None, "nothing was written");
        assert_eq!(execute(&mut count, Step { writes_port: true, ..PLAIN }, ""), None);
        assert_eq!(execute(&mut count, PLAIN, "a>"), None, "not all of it");
        count.device_written();
        assert_eq!(execute(&mut count, PLAIN, "a> ").as_deref(), Some("counted 4 waits 1\n"));
        count.device_written();
        assert_eq!(execute(&mut count, PLAIN, "a> "), None, "once");
    }

    #[test]
    fn an_address_ends_the_count_before_it_once_it_has_begun() {
        let mut count = Count::new("");
        let mut execute = |step| count.execute(step, || unreachable!("there is no text"));
        let end = Step { ends: true, ..PLAIN };
        assert_eq!(execute(end), None);
        assert_eq!(execute(Step { starts: true, writes_port: true, ..PLAIN }), None);
        assert_eq!(execute(PLAIN), None);
        assert_eq!(execute(end).as_deref(), Some("counted 2 waits 0\n"));
        assert_eq!(execute(end), None, "once");
    }

    #[test]
    fn steps_are_numbers_for_a_while() {
        for number in 0..16 {
            assert_eq!(Step::from_number(number).number(), number);
        }
    }
}
