//! Malformed manifests, each with the messages it must get: `tests/bad/*.toml` start with a comment line for each,
//! `# LINE: MESSAGE`.

use std::path::Path;

use anos_manifest::host;

#[test]
fn every_malformed_manifest_gets_exactly_its_messages() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{} files", files.len());
    let mut failures = String::new();
    for file in files {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("readable");
        let expected: Vec<_> = text.lines().map_while(|line| line.strip_prefix("# ")).map(str::to_string).collect();
        assert!(!expected.is_empty(), "{name} names no message");
        let got: Vec<_> = match host::load(&file) {
            Ok(_) => vec![],
            Err(errors) => errors.list().iter().map(|error| format!("{}: {}", error.line, error.text)).collect(),
        };
        if got != expected {
            failures += &format!("{name}:\n  expected {expected:#?}\n  got {got:#?}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn more_devices_than_the_root_server_takes_are_refused() {
    let mut text = String::from("[system]\nname = \"many\"\nroot = \"other\"\n");
    for device in 0..66 {
        let address = 0x1000_0000 + device * 0x1000;
        let registers = format!("{{ registers = {address}, size = 1 }}");
        text += &format!("[device.d{device}]\nx86_64 = {registers}\nriscv64 = {registers}\n");
    }
    for (first, second) in (0..66).step_by(2).zip((1..66).step_by(2)) {
        text += &format!("[program.p{first}]\npackage = \"p\"\nmemory = \"64 KiB\"\nslots = 64\n");
        text += &format!("devices = [\"d{first}\", \"d{second}\"]\n");
    }
    let errors = host::parse(Path::new("x.toml"), &text, None).expect_err("two too many");
    assert_eq!(errors.to_string(), "x.toml:366: too many devices are claimed: write at most 64");
}

#[test]
fn a_message_starts_with_file_and_line() {
    let text = "[system]\nname = \"x\"\ncolour = \"red\"\n";
    let errors = host::parse(Path::new("systems/x.toml"), text, None).expect_err("an unknown field");
    assert_eq!(errors.to_string(), "systems/x.toml:3: unknown field \"colour\" in system: write \"name\" or \"root\"");
}

#[test]
fn a_missing_file_is_named() {
    let errors = host::load(Path::new("systems/nowhere.toml")).expect_err("no such file");
    assert!(errors.to_string().starts_with("systems/nowhere.toml:1: cannot read this manifest: "), "{errors}");
}
