//! x86-64: the instructions are decoded by `iced-x86`.

use anyhow::{Result, ensure};
use iced_x86::{
    Decoder as Iced, DecoderOptions, FlowControl, Instruction as Decoded, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::code::{Decoder, Effect, Flow, Instruction};

/// Decodes 64-bit code; it needs no context.
pub struct X86;

impl Decoder for X86 {
    const RETURN_ADDRESS: i64 = 8;

    fn forget(&mut self) {}

    fn decode(&mut self, bytes: &[u8], address: u64) -> Result<Instruction> {
        let decoded = Iced::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        ensure!(!decoded.is_invalid(), "no instruction at {address:#x}");
        let length = u64::try_from(decoded.len())?;
        Ok(Instruction { length, flow: flow(&decoded), stack: effect(&decoded), refers: None })
    }
}

fn flow(decoded: &Decoded) -> Flow {
    match decoded.flow_control() {
        FlowControl::Next | FlowControl::Interrupt => Flow::Next,
        FlowControl::ConditionalBranch => Flow::Branch(decoded.near_branch_target()),
        FlowControl::UnconditionalBranch => Flow::Jump(decoded.near_branch_target()),
        FlowControl::Call if decoded.is_call_near() => Flow::Call(decoded.near_branch_target()),
        FlowControl::IndirectCall | FlowControl::Call => Flow::CallThrough(constant_address(decoded)),
        FlowControl::IndirectBranch => Flow::JumpThrough(constant_address(decoded)),
        FlowControl::Return if decoded.mnemonic() == Mnemonic::Ret => Flow::Return,
        // To user mode, or an exception on purpose; transactions aren't used, and would end here.
        FlowControl::Return | FlowControl::Exception | FlowControl::XbeginXabortXend => Flow::End,
    }
}

/// Where an operand in memory lies, if no register but the instruction pointer says so.
fn constant_address(decoded: &Decoded) -> Option<u64> {
    let in_memory = decoded.op0_kind() == OpKind::Memory && decoded.memory_index() == Register::None;
    match decoded.memory_base() {
        Register::RIP | Register::None if in_memory => Some(decoded.memory_displacement64()),
        _ => None,
    }
}

fn effect(decoded: &Decoded) -> Effect {
    if matches!(decoded.flow_control(), FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return) {
        return Effect::None;
    }
    let by_constant = decoded.op0_register() == Register::RSP && decoded.op1_kind() != OpKind::Register;
    match decoded.mnemonic() {
        Mnemonic::Sub if by_constant && decoded.op1_kind() != OpKind::Memory => {
            Effect::Grow(decoded.immediate(1).cast_signed())
        }
        Mnemonic::Add if by_constant && decoded.op1_kind() != OpKind::Memory => {
            Effect::Grow(-decoded.immediate(1).cast_signed())
        }
        Mnemonic::Pop if by_constant => Effect::Replace,
        _ => match decoded.stack_pointer_increment() {
            0 if writes_stack_pointer(decoded) => Effect::Replace,
            0 => Effect::None,
            increment => Effect::Grow(-i64::from(increment)),
        },
    }
}

fn writes_stack_pointer(decoded: &Decoded) -> bool {
    let mut factory = InstructionInfoFactory::new();
    factory.info(decoded).used_registers().iter().any(|used| {
        used.register().full_register() == Register::RSP
            && matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            )
    })
}
