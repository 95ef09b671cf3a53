//! What lines mean, and what is said about those that mean nothing.

use super::*;

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| String::from(*word)).collect()
}

fn mistake(line: &str) -> String {
    parse(line).expect_err("a mistake").to_string()
}

#[test]
fn words_end_at_blanks_and_quotation_marks_keep_them() {
    assert_eq!(words("  a  b\tc "), Ok(texts(&["a", "b", "c"])));
    assert_eq!(words("say \"hello  world\" 'it''s' \"\""), Ok(texts(&["say", "hello  world", "its", ""])));
    assert_eq!(words("a 'b"), Err(Mistake::Unclosed('\'')));
}

#[test]
fn every_command_that_help_lists_is_one() {
    for &(name, arguments, _) in COMMANDS {
        match parse(name) {
            Ok(Some(_)) => {}
            Err(Mistake::Usage(usage)) => {
                assert_eq!(usage, name);
                assert!(!arguments.is_empty());
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(parse("ls"), parse("programs"));
    assert_eq!(parse(" "), Ok(None));
}

#[test]
fn run_takes_arguments_and_the_background_mark() {
    let run = |line: &str| match parse(line) {
        Ok(Some(Command::Run(run))) => run,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        run("run hello 'a b' c"),
        Run { program: "hello".into(), arguments: texts(&["a b", "c"]), background: false }
    );
    assert_eq!(run("run spin &"), Run { program: "spin".into(), arguments: Vec::new(), background: true });
    assert_eq!(mistake("run &"), "run: expected: run PROGRAM [ARGUMENT...] [&]");
}

#[test]
fn numbers_are_numbers() {
    assert_eq!(parse("kill 7"), Ok(Some(Command::Kill(7))));
    assert_eq!(mistake("kill shell"), "kill: expected a process number ('ps' lists them), found 'shell'");
    assert_eq!(mistake("caps -1"), "caps: expected a process number ('ps' lists them), found '-1'");
    assert_eq!(mistake("kill 4294967296"), "kill: expected a process number ('ps' lists them), found '4294967296'");
    assert_eq!(mistake("kill"), "kill: expected: kill PID");
    assert_eq!(mistake("kill 1 2"), "kill: expected: kill PID");
}

#[test]
fn a_command_without_arguments_says_so() {
    assert_eq!(mistake("ps now"), "ps: takes no arguments");
    assert_eq!(mistake("frobnicate"), "unknown command 'frobnicate'; 'help' lists the commands");
}

#[test]
fn repeat_checks_its_command_first() {
    assert_eq!(parse("repeat 3 echo hi"), Ok(Some(Command::Repeat(3, texts(&["echo", "hi"])))));
    assert_eq!(mistake("repeat x ps"), "repeat: expected how many times, found 'x'");
    assert_eq!(mistake("repeat 3"), "repeat: expected: repeat COUNT COMMAND");
    assert_eq!(mistake("repeat 3 nothing"), "unknown command 'nothing'; 'help' lists the commands");
    assert_eq!(mistake("repeat 3 repeat 3 ps"), "repeat: expected: repeat COUNT COMMAND");
}

#[test]
fn completion_knows_where_commands_and_programs_stand() {
    let programs = || texts(&["hello", "crash"]);
    assert_eq!(complete("re", programs), ["repeat", "reboot"]);
    assert_eq!(complete("run h", programs), ["hello"]);
    assert_eq!(complete("run ", programs), ["hello", "crash"]);
    assert_eq!(complete("repeat 5 run c", programs), ["crash"]);
    assert_eq!(complete("repeat 5 pow", programs), ["poweroff"]);
    assert!(complete("run hello ", programs).is_empty());
    assert_eq!(complete("", programs).len(), COMMANDS.len());
}
