//! RISC-V: a decoder for jumps and for what is done to the stack pointer; of all other instructions it knows which
//! register they write. Numbers and fields are those of the unprivileged architecture, chapters "RV32/64G Instruction
//! Set Listings" and "C Standard Extension".

use anyhow::{Context, Result, bail};

use super::code::{Decoder, Effect, Flow, Instruction};

const ZERO: usize = 0;
const RA: usize = 1;
const SP: usize = 2;
/// The other register that a return address may be in: the compiler's own helper functions use it.
const T0: usize = 5;

/// Decodes RV64GC, and knows the constants that a run of instructions has put into registers: far jumps and big stack
/// frames are made with these.
#[derive(Default)]
pub struct RiscV {
    constants: [Option<u64>; 32],
}

/// What an instruction does, before it is known what that means for the flow.
enum Action {
    /// It writes a register, or none (register 0).
    Write(usize, Option<u64>),
    /// A register becomes another plus a constant.
    AddConstant(usize, usize, i64),
    /// A register becomes another plus (or minus) a third.
    Add(usize, usize, usize, bool),
    Branch(i64),
    Jump(usize, i64),
    JumpTo(usize, usize, i64),
    End,
}

impl Decoder for RiscV {
    const RETURN_ADDRESS: i64 = 0;

    fn forget(&mut self) {
        self.constants = [None; 32];
    }

    fn decode(&mut self, bytes: &[u8], address: u64) -> Result<Instruction> {
        let half = u16::from_le_bytes(*bytes.first_chunk().context("the code ends")?);
        // Two ones in the lowest bits: four bytes (chapter "Introduction", "Base Instruction-Length Encoding").
        let (length, action) = if half & 3 == 3 {
            let word = u32::from_le_bytes(*bytes.first_chunk().context("the code ends")?);
            (4, self.long(word, address)?)
        } else {
            (2, self.short(half)?)
        };
        let (flow, stack, refers) = self.perform(&action, address);
        Ok(Instruction { length, flow, stack, refers })
    }
}

impl RiscV {
    fn get(&self, register: usize) -> Option<u64> {
        if register == ZERO { Some(0) } else { self.constants[register] }
    }

    fn perform(&mut self, action: &Action, address: u64) -> (Flow, Effect, Option<u64>) {
        let at = |offset: i64| address.wrapping_add_signed(offset);
        match *action {
            Action::Write(to, value) => (Flow::Next, self.write(to, value), None),
            Action::AddConstant(SP, SP, amount) => match self.constants[SP].take() {
                None => (Flow::Next, Effect::Grow(-amount), None),
                // The second half of an address.
                Some(_) => (Flow::Next, Effect::Replace, None),
            },
            Action::AddConstant(to, from, amount) => {
                let value = self.get(from).map(|value| value.wrapping_add_signed(amount));
                (Flow::Next, self.write(to, value), value)
            }
            Action::Add(SP, SP, by, minus) if self.get(by).is_some() => {
                let amount = self.get(by).unwrap_or_default().cast_signed();
                (Flow::Next, Effect::Grow(if minus { amount } else { -amount }), None)
            }
            Action::Add(to, ..) => (Flow::Next, self.write(to, None), None),
            Action::Branch(offset) => (Flow::Branch(at(offset)), Effect::None, None),
            Action::Jump(link, offset) => (jump(link, at(offset)), self.link(link), None),
            Action::JumpTo(link, to, offset) => {
                let target = self.get(to).map(|value| value.wrapping_add_signed(offset));
                let flow = match target {
                    Some(target) => jump(link, target),
                    None if link != ZERO => Flow::CallThrough(None),
                    None if (to == RA || to == T0) && offset == 0 => Flow::Return,
                    None => Flow::JumpThrough(None),
                };
                (flow, self.link(link), None)
            }
            Action::End => (Flow::End, Effect::None, None),
        }
    }

    fn write(&mut self, to: usize, value: Option<u64>) -> Effect {
        if to != ZERO {
            self.constants[to] = value;
        }
        if to == SP { Effect::Replace } else { Effect::None }
    }

    /// A call: what it leaves in registers isn't known.
    fn link(&mut self, link: usize) -> Effect {
        if link != ZERO {
            self.forget();
        }
        if link == SP { Effect::Replace } else { Effect::None }
    }

    /// An instruction of four bytes.
    fn long(&self, word: u32, address: u64) -> Result<Action> {
        let field = |low: u32, bits: u32| (word >> low & ((1 << bits) - 1)) as usize;
        let (to, from, function) = (field(7, 5), field(15, 5), field(12, 3));
        let immediate = i64::from(word.cast_signed() >> 20);
        let upper = i64::from((word & 0xffff_f000).cast_signed());
        Ok(match word & 0x7f {
            0x37 => Action::Write(to, Some(upper.cast_unsigned())),
            0x17 => Action::Write(to, Some(address.wrapping_add_signed(upper))),
            0x6f => Action::Jump(to, jump_offset(word)),
            0x67 => Action::JumpTo(to, from, immediate),
            0x63 => Action::Branch(branch_offset(word)),
            0x13 if function == 0 => Action::AddConstant(to, from, immediate),
            0x13 if function == 1 => Action::Write(to, self.get(from).map(|value| value << field(20, 6))),
            0x1b if function == 0 => Action::Write(to, self.get(from).map(|value| low_word(value, immediate))),
            // ADD and SUB.
            0x33 if function == 0 && matches!(field(25, 7), 0 | 0x20) => {
                Action::Add(to, from, field(20, 5), field(25, 7) == 0x20)
            }
            0x73 if matches!(word, 0x1020_0073 | 0x3020_0073 | 0x0010_0073) => Action::End, // sret, mret, ebreak
            // Loads, arithmetic, atomic operations, control registers.
            0x03 | 0x13 | 0x1b | 0x33 | 0x3b | 0x2f | 0x73 => Action::Write(to, None),
            // Fences, stores, and what loads floating-point and vector registers.
            0x0f | 0x23 | 0x07 | 0x27 | 0x43 | 0x47 | 0x4b | 0x4f => Action::Write(ZERO, None),
            // Floating point: comparisons, conversions and moves to an integer register are those with these bits.
            0x53 if field(25, 7) & 0x50 == 0x50 && field(25, 7) & 0x08 == 0 => Action::Write(to, None),
            0x53 => Action::Write(ZERO, None),
            // Vectors: `vsetvl` and its like write an integer register, and so does `vmv.x.s` with its like.
            0x57 if function == 7 || function == 2 => Action::Write(to, None),
            0x57 => Action::Write(ZERO, None),
            _ => bail!("no instruction that is known: {word:#010x} at {address:#x}"),
        })
    }

    /// An instruction of two bytes.
    fn short(&self, half: u16) -> Result<Action> {
        let field = |low: u32, bits: u32| usize::from(half >> low & ((1 << bits) - 1));
        // One of the eight registers from 8 up.
        let popular = |low: u32| field(low, 3) + 8;
        let (register, other) = (field(7, 5), field(2, 5));
        let immediate = signed(field(12, 1) << 5 | other, 6);
        Ok(match (half & 3, half >> 13) {
            (0, _) if half == 0 => Action::End,
            // c.addi4spn, c.lw, c.ld, and the loads of Zcb; the other ones are stores or load floating-point registers.
            (0, 0 | 2 | 3 | 4) => Action::Write(popular(2), None),
            (0, _) => Action::Write(ZERO, None),
            (1, 0) => Action::AddConstant(register, register, immediate),
            (1, 1) => Action::Write(register, self.get(register).map(|value| low_word(value, immediate))),
            (1, 2) => Action::Write(register, Some(immediate.cast_unsigned())),
            (1, 3) if register == SP => {
                let bits =
                    field(12, 1) << 9 | field(3, 2) << 7 | field(5, 1) << 6 | field(2, 1) << 5 | field(6, 1) << 4;
                Action::AddConstant(SP, SP, signed(bits, 10))
            }
            (1, 3) => Action::Write(register, Some((immediate << 12).cast_unsigned())),
            (1, 4) => Action::Write(popular(7), None),
            (1, 5) => Action::Jump(ZERO, short_jump_offset(half)),
            (1, 6 | 7) => {
                let bits =
                    field(12, 1) << 8 | field(5, 2) << 6 | field(2, 1) << 5 | field(10, 2) << 3 | field(3, 2) << 1;
                Action::Branch(signed(bits, 9))
            }
            (2, 0) => {
                let shift = field(12, 1) << 5 | other;
                Action::Write(register, self.get(register).map(|value| value << shift))
            }
            (2, 2 | 3) => Action::Write(register, None),
            (2, 4) => match (field(12, 1), register, other) {
                (0, _, 0) => Action::JumpTo(ZERO, register, 0),
                (0, ..) => Action::Write(register, self.get(other)),
                (_, 0, 0) => Action::End, // c.ebreak
                (_, _, 0) => Action::JumpTo(RA, register, 0),
                (..) => Action::Add(register, register, other, false),
            },
            // Stores.
            (2, _) => Action::Write(ZERO, None),
            _ => bail!("no instruction that is known: {half:#06x}"),
        })
    }
}

fn jump(link: usize, target: u64) -> Flow {
    if link == ZERO { Flow::Jump(target) } else { Flow::Call(target) }
}

/// The lowest `bits` of a number, with a sign.
fn signed(number: usize, bits: u32) -> i64 {
    (number as i64) << (64 - bits) >> (64 - bits)
}

/// A sum of 32 bits, with its sign extended.
fn low_word(value: u64, amount: i64) -> u64 {
    let low = value.wrapping_add_signed(amount) << 32;
    (low.cast_signed() >> 32).cast_unsigned()
}

fn jump_offset(word: u32) -> i64 {
    let field = |low: u32, bits: u32| (word >> low & ((1 << bits) - 1)) as usize;
    signed(field(31, 1) << 20 | field(12, 8) << 12 | field(20, 1) << 11 | field(21, 10) << 1, 21)
}

fn branch_offset(word: u32) -> i64 {
    let field = |low: u32, bits: u32| (word >> low & ((1 << bits) - 1)) as usize;
    signed(field(31, 1) << 12 | field(7, 1) << 11 | field(25, 6) << 5 | field(8, 4) << 1, 13)
}

fn short_jump_offset(half: u16) -> i64 {
    let field = |low: u32, bits: u32| usize::from(half >> low & ((1 << bits) - 1));
    let high = field(12, 1) << 11 | field(8, 1) << 10 | field(9, 2) << 8 | field(6, 1) << 7 | field(7, 1) << 6;
    signed(high | field(2, 1) << 5 | field(11, 1) << 4 | field(3, 3) << 1, 12)
}
