//! The editor at a terminal that understands what it is sent.

use super::*;

/// A terminal's one line, and where its cursor is.
#[derive(Default)]
struct Screen {
    cells: Vec<char>,
    column: usize,
    /// Lines that have scrolled by.
    above: Vec<String>,
}

impl Screen {
    fn take(&mut self, text: &str) {
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\r' => self.column = 0,
                '\n' => {
                    self.above.push(core::mem::take(&mut self.cells).into_iter().collect());
                    self.column = 0;
                }
                '\x07' => {}
                '\x1b' => {
                    assert_eq!(characters.next(), Some('['));
                    let mut number = 0;
                    for character in characters.by_ref() {
                        match character {
                            '0'..='9' => number = number * 10 + character.to_digit(10).expect("digit") as usize,
                            'K' => self.cells.truncate(self.column),
                            'D' => self.column -= number,
                            'H' => self.column = 0,
                            'J' => self.cells.clear(),
                            other => panic!("unknown sequence {other}"),
                        }
                        if !character.is_ascii_digit() {
                            break;
                        }
                    }
                }
                _ => {
                    if self.column == self.cells.len() {
                        self.cells.push(character);
                    } else {
                        self.cells[self.column] = character;
                    }
                    self.column += 1;
                }
            }
            assert!(self.column <= COLUMNS, "the line must not wrap");
        }
    }

    fn line(&self) -> String {
        self.cells.iter().collect()
    }
}

struct Session {
    editor: Editor,
    screen: Screen,
}

impl Session {
    fn new() -> Self {
        let mut session = Session { editor: Editor::new("> "), screen: Screen::default() };
        session.prompt();
        session
    }

    fn prompt(&mut self) {
        let mut out = String::new();
        self.editor.show(&mut out);
        self.screen.take(&out);
    }

    /// Types, and says what came of the last byte.
    fn keys(&mut self, keys: &str) -> Outcome {
        let mut outcome = Outcome::Editing;
        for byte in keys.bytes() {
            let mut out = String::new();
            outcome = self.editor.byte(byte, choices, &mut out);
            self.screen.take(&out);
        }
        outcome
    }
}

fn choices(before: &str) -> Vec<String> {
    let word = before.rsplit(' ').next().unwrap_or_default();
    ["help", "hello", "reboot"].into_iter().filter(|name| name.starts_with(word)).map(String::from).collect()
}

fn line(text: &str) -> Outcome {
    Outcome::Line(String::from(text))
}

#[test]
fn what_is_typed_is_shown_and_comes_back() {
    let mut session = Session::new();
    assert_eq!(session.keys("ps"), Outcome::Editing);
    assert_eq!(session.screen.line(), "> ps");
    assert_eq!(session.keys("\r"), line("ps"));
    assert_eq!(session.screen.above, ["> ps"]);
}

#[test]
fn both_halves_of_a_line_end_are_one_key() {
    let mut session = Session::new();
    assert_eq!(session.keys("a\r"), line("a"));
    assert_eq!(session.keys("\n"), Outcome::Editing);
    assert_eq!(session.keys("b\n"), line("b"));
    assert_eq!(session.keys("\n"), line(""));
}

#[test]
fn arrows_home_and_end_move_and_the_screen_follows() {
    let mut session = Session::new();
    session.keys("bd\x1b[D\x1b[Dx");
    assert_eq!((session.screen.line().as_str(), session.screen.column), ("> xbd", 3));
    session.keys("\x1b[C\x1b[C\x1b[C\x1b[Cy\x1b[Hz\x1b[F!\x1bOH(\x1b[4~)\x1b[1~[");
    assert_eq!(session.keys("\r"), line("[(zxbdy!)"));
}

#[test]
fn characters_are_taken_away_on_both_sides_of_the_cursor() {
    let mut session = Session::new();
    session.keys("abcdef\x7f\x08\x01\x1b[3~\x04");
    assert_eq!(session.screen.line(), "> cd");
    assert_eq!(session.keys("\x7f\r"), line("cd"), "nothing lies before the start");
}

#[test]
fn words_and_ends_are_cut() {
    let mut session = Session::new();
    session.keys("run hello  world \x17");
    assert_eq!(session.screen.line(), "> run hello  ");
    session.keys("\x17\x02\x02\x0b");
    assert_eq!(session.screen.line(), "> ru");
    session.keys("\x15");
    assert_eq!(session.screen.line(), "> ");
    assert_eq!(session.keys("\r"), line(""));
}

#[test]
fn history_goes_up_and_down_and_keeps_what_was_being_typed() {
    let mut session = Session::new();
    session.keys("one\rtwo\rtwo\r  \r");
    session.prompt();
    session.keys("three\x1b[A");
    assert_eq!(session.screen.line(), "> two");
    session.keys("\x1b[A\x1b[A");
    assert_eq!(session.screen.line(), "> one", "two was remembered once, blanks not at all");
    session.keys("\x1b[B\x0e");
    assert_eq!(session.screen.line(), "> three");
    assert_eq!(session.keys("\x10!\r"), line("two!"));
}

#[test]
fn history_forgets_the_oldest() {
    let mut session = Session::new();
    for number in 0..HISTORY + 10 {
        session.keys(&format!("{number}\r"));
    }
    assert_eq!(session.editor.history.len(), HISTORY);
}

#[test]
fn control_c_throws_the_line_away_and_control_d_ends_only_an_empty_one() {
    let mut session = Session::new();
    assert_eq!(session.keys("abc\x03"), Outcome::Interrupted);
    assert_eq!(session.keys("a\x04"), Outcome::Editing);
    assert_eq!(session.keys("\x7f\x04"), Outcome::End);
}

#[test]
fn tab_completes_what_is_clear_and_shows_what_is_not() {
    let mut session = Session::new();
    session.keys("r\t");
    assert_eq!(session.screen.line(), "> reboot ");
    session.keys("\x15h\t");
    assert_eq!(session.screen.line(), "> hel");
    session.keys("\t");
    assert_eq!(session.screen.above.last().map(String::as_str), Some("help  hello"));
    assert_eq!(session.screen.line(), "> hel");
    assert_eq!(session.keys("l\t\r"), line("hello "));
    assert_eq!(session.keys("zzz\t\r"), line("zzz"), "nothing fits, nothing changes");
}

#[test]
fn characters_of_several_bytes_are_one_and_broken_ones_are_dropped() {
    let mut session = Session::new();
    session.keys("grüße\x02\x7f");
    assert_eq!(session.screen.line(), "> grüe");
    for byte in [0xff, 0xc3] {
        session.editor.byte(byte, choices, &mut String::new());
    }
    assert_eq!(session.keys("xy"), Outcome::Editing, "what can't follow ends the broken character");
    assert_eq!(session.keys("\u{9b}\r"), line("grüxye"), "a terminal must not see it");
}

#[test]
fn a_line_longer_than_the_screen_scrolls_sideways() {
    let mut session = Session::new();
    let text = "0123456789".repeat(12);
    session.keys(&text);
    assert!(session.screen.line().ends_with("6789"));
    session.keys("\x01");
    assert!(session.screen.line().starts_with("> 0123") && session.screen.column == 2);
    assert_eq!(session.keys("\r"), line(&text));
}

#[test]
fn a_line_has_an_end() {
    let mut session = Session::new();
    session.keys(&"x".repeat(MOST_CHARACTERS + 5));
    assert_eq!(session.keys("\r"), line(&"x".repeat(MOST_CHARACTERS)));
}

#[test]
fn unknown_sequences_do_nothing() {
    let mut session = Session::new();
    assert_eq!(session.keys("a\x1b[5~\x1b[Z\x1bx\x1b[1;5Cb\x1b[99999999999~\r"), line("ab"));
    assert_eq!(session.keys("ab\x1b[[A\x1b[D\x1b[5;3~\x1b[?25h\r"), line("ab"), "F1, left, Alt-PageUp, an answer");
}

#[test]
fn a_key_with_a_modifier_is_the_plain_key() {
    let mut session = Session::new();
    assert_eq!(session.keys("abc\x1b[1;5D\x1b[3;5~\x1b[1;2H(\r"), line("(ab"));
}

#[test]
fn a_control_key_ends_a_sequence_that_is_not_whole() {
    let mut session = Session::new();
    assert_eq!(session.keys("one\r"), line("one"));
    session.prompt();
    assert_eq!(session.keys("\x1b\x1b[A\x1b\r"), line("one"), "Escape, up, Escape, Enter");
    assert_eq!(session.keys("x\x1b[1\x03"), Outcome::Interrupted);
}
