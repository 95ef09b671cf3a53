//! The analysis on code made by hand.

use std::collections::BTreeSet;

use super::code::{Code, Decoder, Effect, Flow, Function, Instruction, Piece};
use super::graph;
use super::known::{Known, Root, Size, Stack};
use super::riscv64::RiscV;
use super::trace::{self, Trace};
use super::x86_64::X86;
use super::{Result, follow_all, problems, table};
use crate::target::Architecture;

const START: u64 = 0xffff_ffff_8020_0000;
const DATA: u64 = START + 0x1000;

static STACK: Stack = Stack { name: "stack", size: Size::Value("stack_bytes") };
static KNOWN: Known = Known {
    skipped: &[],
    roots: &[Root { when: "start", function: "a", entries: |_| Vec::new(), pushed: 0, stack: &STACK, on_top: false }],
    indirect: &[],
};

/// Code of functions `a`, `b`, ... one behind the other, and read-only words.
fn code(functions: &[&[u8]], words: &[u64]) -> Code {
    let mut code = Code::default();
    let mut bytes = Vec::new();
    for (name, of_function) in ('a'..).zip(functions) {
        let start = START + bytes.len() as u64;
        let end = start + of_function.len() as u64;
        code.functions.push(Function { name: name.to_string(), start, end, assembly: false });
        bytes.extend_from_slice(of_function);
    }
    code.pieces.push(Piece { address: START, bytes, executable: true, writable: false });
    let words = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    code.pieces.push(Piece { address: DATA, bytes: words, executable: false, writable: false });
    code
}

fn x86(functions: &[&[u8]]) -> Vec<Trace> {
    follow_all(&code(functions, &[]), &KNOWN, &mut X86)
}

fn depths(traces: &[Trace]) -> Vec<i64> {
    let problems: Vec<&String> = traces.iter().flat_map(|trace| &trace.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");
    graph::ways(traces).iter().map(|way| way.bytes).collect()
}

/// `call` to what lies `distance` bytes behind the call's start.
fn call(distance: i32) -> [u8; 5] {
    near(0xe8, distance)
}

fn near(opcode: u8, distance: i32) -> [u8; 5] {
    let [a, b, c, d] = (distance - 5).to_le_bytes();
    [opcode, a, b, c, d]
}

const RET: [u8; 1] = [0xc3];
const PUSH_RBP: [u8; 1] = [0x55];
const POP_RBP: [u8; 1] = [0x5d];
const SUB_RSP_64: [u8; 4] = [0x48, 0x83, 0xec, 0x40];
const ADD_RSP_64: [u8; 4] = [0x48, 0x83, 0xc4, 0x40];

#[test]
fn a_deep_chain_is_summed_with_its_return_addresses() {
    // a: push rbp; sub rsp, 64; call b; add rsp, 64; pop rbp; ret. b: call c; ret. c: sub, add, ret.
    let a = [&PUSH_RBP[..], &SUB_RSP_64, &call(11), &ADD_RSP_64, &POP_RBP, &RET].concat();
    let b = [&call(6)[..], &RET].concat();
    let c = [&SUB_RSP_64[..], &ADD_RSP_64, &RET].concat();
    assert_eq!(depths(&x86(&[&a, &b, &c])), [8 + 64 + 8 + 8 + 64, 8 + 64, 64]);
}

#[test]
fn a_tail_call_counts_from_where_the_function_began() {
    // a: sub rsp, 64; add rsp, 64; jmp b. b: push rbp; pop rbp; ret.
    let a = [&SUB_RSP_64[..], &ADD_RSP_64, &near(0xe9, 5)].concat();
    let b = [PUSH_RBP, POP_RBP, RET].concat();
    let traces = x86(&[&a, &b]);
    assert_eq!(depths(&traces), [64, 8]);
    assert!(!traces[0].calls[0].returns);
    // What it leaves on the stack is in the way.
    let untidy = [&PUSH_RBP[..], &near(0xe9, 5)].concat();
    assert_eq!(x86(&[&untidy, &RET])[0].problems, ["a+0x1: it jumps elsewhere with something left on the stack"]);
}

#[test]
fn recursion_is_found_through_others_and_through_tail_calls() {
    let forward = [&call(6)[..], &RET].concat();
    let back = near(0xe9, -6);
    assert_eq!(graph::cycles(&x86(&[&forward, &back])), [[0, 1]]);
    let alone = [&call(0)[..], &RET].concat();
    assert_eq!(graph::cycles(&x86(&[&alone])), [[0]]);
    assert!(graph::cycles(&x86(&[&forward, &RET])).is_empty());
    let code = code(&[&alone], &[]);
    let traces = follow_all(&code, &KNOWN, &mut X86);
    assert_eq!(problems(&code, &KNOWN, &traces), ["recursion: a"]);
}

#[test]
fn a_loop_inside_a_function_is_no_recursion_unless_it_pushes() {
    // 0: jne 0; ret.
    assert_eq!(depths(&x86(&[&[0x75, 0xfe, 0xc3]])), [0]);
    // 0: push rbp; jmp 0.
    assert_eq!(x86(&[&[0x55, 0xeb, 0xfd]])[0].problems, ["a+0x0: the stack is 0 or 8 bytes deep here"]);
}

#[test]
fn nothing_leads_behind_a_call_that_never_returns() {
    // a: je 8; push rbp; call b; 8: ret.
    let a = [&[0x74, 0x06][..], &PUSH_RBP, &call(6), &RET].concat();
    assert_eq!(x86(&[&a, &RET])[0].problems, ["a+0x8: the stack is 0 or 8 bytes deep here"]);
    // b: jmp b; or jmp c, c: call b (the last that is in it), b: jmp b.
    let endless = [0xeb, 0xfe];
    assert_eq!(depths(&x86(&[&a, &endless])), [16, 0]);
    assert_eq!(depths(&x86(&[&a, &near(0xe9, 5), &call(5), &endless])), [24, 8, 8, 0]);
    // What a function ends in must be known not to return.
    assert_eq!(x86(&[&call(5), &RET])[0].problems, ["a+0x4: it goes on past its end"]);
}

#[test]
fn indirect_calls_and_jumps_are_found() {
    // call rax; ret. jmp rax.
    for bytes in [&[0xff, 0xd0, 0xc3][..], &[0xff, 0xe0]] {
        let code = code(&[bytes], &[]);
        let traces = follow_all(&code, &KNOWN, &mut X86);
        assert_eq!(problems(&code, &KNOWN, &traces), ["a has 1 indirect calls or jumps"]);
    }
    // The same through a table of places in the function itself: jmp rax; nop; ret.
    let code = code(&[&[0xff, 0xe0, 0x90, 0xc3]], &[START + 2]);
    let traces = follow_all(&code, &KNOWN, &mut X86);
    assert_eq!(problems(&code, &KNOWN, &traces), [""; 0]);
    assert_eq!(traces[0].seen.len(), 3);
}

#[test]
fn a_call_through_a_constant_is_direct_and_one_through_a_variable_is_not() {
    // call [rip + to DATA]; ret. b: ret.
    let [a, b, c, d] = 0x1000_i32.wrapping_sub(6).to_le_bytes();
    let mut code = code(&[&[0xff, 0x15, a, b, c, d, 0xc3], &RET], &[START + 7]);
    let traces = follow_all(&code, &KNOWN, &mut X86);
    assert_eq!(depths(&traces), [8, 0]);
    assert_eq!(problems(&code, &KNOWN, &traces), [""; 0]);
    code.pieces[1].writable = true;
    let traces = follow_all(&code, &KNOWN, &mut X86);
    let found = problems(&code, &KNOWN, &traces).join("\n");
    assert!(found.contains("which is no constant") && found.contains("points to b"), "{found}");
}

#[test]
fn a_stack_frame_that_is_not_constant_is_refused() {
    // sub rsp, rax; ret. mov rsp, rdi; ret. lea rsp, [rbp - 8]; ret.
    for bytes in [&[0x48, 0x29, 0xc4, 0xc3][..], &[0x48, 0x89, 0xfc, 0xc3], &[0x48, 0x8d, 0x65, 0xf8, 0xc3]] {
        let problems = &x86(&[bytes])[0].problems;
        assert_eq!(problems, &["a+0x0: the stack pointer changes by an amount that isn't constant"]);
    }
    assert_eq!(x86(&[&[0x55, 0xc3]])[0].problems, ["a+0x1: it returns with something left on the stack"]);
}

#[test]
fn code_that_nothing_leads_to_is_reported() {
    let code = code(&[&[0xc3, 0x90, 0x90, 0x90, 0x90, 0x90]], &[]);
    let traces = follow_all(&code, &KNOWN, &mut X86);
    assert_eq!(problems(&code, &KNOWN, &traces), ["nothing leads to 5 bytes of a"]);
}

#[test]
fn assembly_changes_stacks_and_goes_on_with_what_follows() {
    // a: push rbp; mov rsp, rdi; (goes on) b: push rbp; call c; iretq. c: ret.
    let b = [&PUSH_RBP[..], &call(7), &[0x48, 0xcf]].concat();
    let mut code = code(&[&[0x55, 0x48, 0x89, 0xfc], &b, &RET], &[]);
    code.functions.iter_mut().take(2).for_each(|function| function.assembly = true);
    let traces = follow_all(&code, &KNOWN, &mut X86);
    // What happens on the other stack is no part of the depth of the first.
    assert_eq!(depths(&traces), [8, 16, 0]);
    let mut problems = Vec::new();
    super::unlisted_roots(&code, &KNOWN, &traces, &graph::ways(&traces), &mut problems);
    assert_eq!(problems, ["b starts on a stack that nobody knows"]);
}

#[test]
fn a_stack_that_is_too_small_is_a_problem() -> Result<()> {
    let a = [&SUB_RSP_64[..], &ADD_RSP_64, &RET].concat();
    for (size, expected) in [(64, 0), (63, 1)] {
        let code = code(&[&a], &[]).with_symbol("stack_bytes", size);
        let traces = follow_all(&code, &KNOWN, &mut X86);
        let mut problems = Vec::new();
        let table = table(&code, &KNOWN, &traces, Architecture::X86_64, &mut problems)?;
        assert!(table.contains("a 64"), "{table}");
        assert_eq!(problems.len(), expected, "{problems:?}");
    }
    Ok(())
}

/// RISC-V instructions, each of two or four bytes.
fn riscv(functions: &[&[u32]]) -> Vec<Trace> {
    let bytes: Vec<Vec<u8>> = functions.iter().map(|function| assembled(function)).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    follow_all(&code(&bytes, &[]), &KNOWN, &mut RiscV::default())
}

fn assembled(instructions: &[u32]) -> Vec<u8> {
    instructions
        .iter()
        .flat_map(|word| word.to_le_bytes().into_iter().take(if word & 3 == 3 { 4 } else { 2 }))
        .collect()
}

const C_RET: u32 = 0x8082;
const C_ADDI_SP_MINUS_16: u32 = 0x1141;
const C_ADDI_SP_16: u32 = 0x0141;

#[test]
fn riscv_frames_of_every_form_are_summed() {
    // c.addi sp, -16; c.addi16sp sp, -64; addi sp, sp, -2032; lui a0, 1; sub sp, sp, a0; and back again.
    let down = [C_ADDI_SP_MINUS_16, 0x7139, 0x8101_0113, 0x0000_1537, 0x40a1_0133];
    // c.lui a0, 1; c.add sp, a0; addi sp, sp, 2032; c.addi16sp sp, 64; c.addi sp, 16; ret.
    let up = [0x6505, 0x912a, 0x7f01_0113, 0x6121, C_ADDI_SP_16, C_RET];
    let traces = riscv(&[&[&down[..], &up].concat()]);
    assert_eq!(depths(&traces), [16 + 64 + 2032 + 4096]);
}

#[test]
fn riscv_calls_and_jumps_of_every_form_are_followed() {
    // a: c.addi sp, -16; jal ra, b; auipc ra, 0; jalr ra, 14(ra) (c); c.addi sp, 16; ret.
    let a = [C_ADDI_SP_MINUS_16, 0x0100_00ef, 0x0000_0097, 0x00e0_80e7, C_ADDI_SP_16, C_RET];
    let b = [C_RET];
    let c = [C_ADDI_SP_MINUS_16, C_ADDI_SP_16, C_RET];
    let traces = riscv(&[&a, &b, &c]);
    let callees: Vec<(usize, bool)> = traces[0].calls.iter().map(|call| (call.callee, call.returns)).collect();
    assert_eq!(callees, [(1, true), (2, true)], "{:?}", traces[0].problems);
    assert_eq!(graph::ways(&traces)[0].bytes, 32);
    // A call whose target only a register knows.
    assert_eq!(riscv(&[&[0x9502, C_RET]])[0].indirect, 1);
    // beqz a0, itself; c.beqz a0, itself; c.j itself.
    assert_eq!(depths(&riscv(&[&[0x0005_0063, 0xc101, 0xa001]])), [0]);
}

#[test]
fn riscv_addresses_in_the_stack_pointer_are_another_stack() -> Result<()> {
    let mut decoder = RiscV::default();
    // auipc sp, 1; addi sp, sp, 8; addi sp, sp, -16.
    let mut effect = |word: u32| Ok(decoder.decode(&word.to_le_bytes(), START)?.stack);
    let found: Result<Vec<Effect>> = [0x0000_1117, 0x0081_0113, 0xff01_0113].into_iter().map(&mut effect).collect();
    assert_eq!(found?, [Effect::Replace, Effect::Replace, Effect::Grow(16)]);
    let sret = RiscV::default().decode(&0x1020_0073_u32.to_le_bytes(), START)?;
    assert_eq!(sret, Instruction { length: 4, flow: Flow::End, stack: Effect::None, refers: None });
    Ok(())
}

#[test]
fn a_way_in_that_only_an_address_leads_to_is_followed_in_assembly() {
    // auipc a0, 0; addi a0, a0, 12; c.j itself; c.nop; 12: c.j itself.
    let bytes = assembled(&[0x0000_0517, 0x00c5_0513, 0xa001, 0x0001, 0xa001]);
    let mut code = code(&[&bytes], &[]);
    let given = trace::Given { entries: &[], switches: &[], endless: &BTreeSet::new() };
    let seen = |code: &Code| trace::follow(code, 0, given, &mut RiscV::default()).seen.len();
    assert_eq!(seen(&code), 3);
    code.functions[0].assembly = true;
    assert_eq!(seen(&code), 4);
}
