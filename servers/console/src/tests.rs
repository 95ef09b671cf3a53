//! The console with a shell (process 3, the controller) and programs.

use super::*;

const SHELL: Badge = Badge { pid: 3, role: CONTROLLER };
const PROGRAM: Badge = Badge { pid: 7, role: 0 };
const OTHER: Badge = Badge { pid: 8, role: 0 };

/// A console with the shell in the foreground. Tokens are names.
fn console() -> Console<&'static str> {
    let mut console = Console::default();
    foreground(&mut console, SHELL.pid);
    console
}

fn foreground(console: &mut Console<&'static str>, pid: u32) {
    console.request(&Request::Foreground { pid }.message(), SHELL, "foreground");
    assert_eq!(console.take_answers(), [("foreground", Message::OK)]);
}

fn write(console: &mut Console<&'static str>, sender: Badge, text: &str, more: bool) {
    console.request(&Request::Write { bytes: Bytes::take(text.as_bytes()).0, more }.message(), sender, "write");
    assert_eq!(console.take_answers(), [("write", Message::OK)]);
}

fn read(console: &mut Console<&'static str>, sender: Badge, token: &'static str) {
    console.request(&Request::Read.message(), sender, token);
}

fn keys(text: &str) -> Message {
    Message { label: 0, words: Bytes::take(text.as_bytes()).0.words() }
}

fn output(console: &mut Console<&'static str>) -> String {
    String::from_utf8(console.take_output()).expect("text")
}

#[test]
fn a_line_end_becomes_what_a_terminal_wants_once() {
    let mut console = console();
    write(&mut console, PROGRAM, "a\nb\r\nc", false);
    assert_eq!(output(&mut console), "a\r\nb\r\nc");
}

#[test]
fn messages_of_two_programs_do_not_mix() {
    let mut console = console();
    write(&mut console, PROGRAM, "one ", true);
    write(&mut console, OTHER, "two\n", false);
    write(&mut console, PROGRAM, "message\n", false);
    assert_eq!(output(&mut console), "two\r\none message\r\n");
}

#[test]
fn a_message_that_grows_too_long_is_shown_up_to_a_line_end() {
    let mut console = console();
    let line = "x".repeat(55) + "\n";
    for _ in 0..MESSAGE_BYTES / 56 + 1 {
        write(&mut console, PROGRAM, &line, true);
    }
    write(&mut console, PROGRAM, "rest", true);
    let shown = output(&mut console);
    assert!(shown.ends_with("\r\n") && shown.len() >= MESSAGE_BYTES);
    write(&mut console, PROGRAM, "!", false);
    assert_eq!(output(&mut console), "rest!");
}

#[test]
fn half_messages_of_the_dead_do_not_pile_up() {
    let mut console = console();
    for pid in 100..200 {
        write(&mut console, Badge { pid, role: 0 }, "x", true);
    }
    assert_eq!(console.halves.len(), MOST_CLIENTS);
    assert_eq!(output(&mut console).len(), 100 - MOST_CLIENTS);
}

#[test]
fn keys_go_to_the_foreground_and_wait_for_it() {
    let mut console = console();
    read(&mut console, PROGRAM, "program");
    console.keys(b"ls");
    assert_eq!(console.take_answers(), [], "not in the foreground, not read");
    read(&mut console, SHELL, "shell");
    assert_eq!(console.take_answers(), [("shell", keys("ls"))]);
    console.keys(b"x");
    foreground(&mut console, SHELL.pid);
    console.request(&Request::Foreground { pid: PROGRAM.pid }.message(), SHELL, "foreground");
    assert_eq!(console.take_answers(), [("foreground", Message::OK), ("program", keys("x"))]);
}

#[test]
fn the_interrupt_key_reaches_the_shell_as_a_key_when_it_is_in_the_foreground() {
    let mut console = console();
    read(&mut console, SHELL, "shell");
    console.keys(&[INTERRUPT_KEY]);
    assert_eq!(console.take_answers(), [("shell", keys("\x03"))]);
}

#[test]
fn the_interrupt_key_tells_the_shell_which_program_to_end() {
    let mut console = console();
    console.request(&Request::Interrupted.message(), SHELL, "watcher");
    foreground(&mut console, PROGRAM.pid);
    console.keys(b"typed\x03later");
    assert_eq!(console.take_answers(), [("watcher", Message::answer(&[PROGRAM.pid.into()]))]);
    assert_eq!(output(&mut console), "^C\r\n");
    foreground(&mut console, SHELL.pid);
    read(&mut console, SHELL, "shell");
    assert_eq!(console.take_answers(), [("shell", keys("later"))], "what came before was for the program");
}

#[test]
fn an_interrupt_that_comes_before_the_program_is_in_the_foreground_is_for_the_program() {
    let mut console = console();
    console.request(&Request::Interrupted.message(), SHELL, "watcher");
    console.keys(b"typed\x03later");
    console.request(&Request::Foreground { pid: PROGRAM.pid }.message(), SHELL, "foreground");
    let interrupted = Message::answer(&[PROGRAM.pid.into()]);
    assert_eq!(console.take_answers(), [("foreground", Message::OK), ("watcher", interrupted)]);
    read(&mut console, PROGRAM, "program");
    assert_eq!(console.take_answers(), [("program", keys("later"))]);
}

#[test]
fn an_interrupt_that_nobody_waits_for_is_kept() {
    let mut console = console();
    foreground(&mut console, PROGRAM.pid);
    console.keys(&[INTERRUPT_KEY]);
    console.request(&Request::Interrupted.message(), SHELL, "watcher");
    assert_eq!(console.take_answers(), [("watcher", Message::answer(&[PROGRAM.pid.into()]))]);
}

#[test]
fn only_the_controller_controls() {
    let mut console = console();
    let refused = Message::refusal(Refusal::NotPermitted);
    console.request(&Request::Foreground { pid: PROGRAM.pid }.message(), PROGRAM, "a");
    console.request(&Request::Interrupted.message(), PROGRAM, "b");
    assert_eq!(console.take_answers(), [("a", refused), ("b", refused)]);
    assert_eq!(console.foreground, SHELL.pid);
}

#[test]
fn a_program_reads_once_at_a_time_and_the_dead_make_room() {
    let mut console = console();
    read(&mut console, PROGRAM, "first");
    read(&mut console, PROGRAM, "second");
    assert_eq!(console.take_answers(), [("second", Message::refusal(Refusal::AlreadyReading))]);
    for pid in 100..140 {
        read(&mut console, Badge { pid, role: 0 }, "dead");
    }
    assert_eq!(console.readers.len(), MOST_CLIENTS);
}

#[test]
fn a_flood_of_keys_is_cut_off() {
    let mut console = console();
    console.keys(&[b'x'; 2 * INPUT_BYTES]);
    assert_eq!(console.input.len(), INPUT_BYTES);
    assert_eq!(console.take_output(), [BELL; INPUT_BYTES], "every lost key is heard");
}

#[test]
fn the_shell_goes_on_below_a_line_without_end() {
    let mut console = console();
    foreground(&mut console, PROGRAM.pid);
    write(&mut console, PROGRAM, "42", false);
    assert_eq!(output(&mut console), "42");
    foreground(&mut console, SHELL.pid);
    assert_eq!(output(&mut console), "\r\n");
    foreground(&mut console, SHELL.pid);
    assert_eq!(output(&mut console), "");
}
