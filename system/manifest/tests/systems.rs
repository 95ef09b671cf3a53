//! The systems that Anos comes with are valid, and compile for both architectures.

use std::path::{Path, PathBuf};

use anos_manifest::host::{self, Architecture};
use anos_manifest::{Registers, Start, decode};

fn systems() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systems")
}

#[test]
fn every_shipped_system_loads_and_its_compiled_form_reads_back() {
    let mut count = 0;
    for entry in std::fs::read_dir(systems()).expect("the directory is there") {
        let path = entry.expect("readable").path();
        let manifest = host::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        for architecture in Architecture::ALL {
            let system = decode(&host::compile(&manifest, architecture)).expect("reads back");
            assert_eq!(system.programs.len(), manifest.programs.len());
        }
        count += 1;
    }
    assert!(count >= 2, "the default system and the test system");
}

#[test]
fn the_serial_port_is_ports_on_x86_64_and_memory_on_riscv64() {
    let manifest = host::load(&systems().join("default.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let registers = |architecture| {
        let system = decode(&host::compile(&manifest, architecture)).expect("reads back");
        let driver = system.programs.iter().find(|program| program.name == "uart").expect("the driver is there");
        assert_eq!(driver.start, Start::Boot);
        driver.devices.first().map(|device| device.registers)
    };
    assert_eq!(registers(Architecture::X86_64), Some(Registers::Ports { first: 0x3f8, last: 0x3ff }));
    assert_eq!(registers(Architecture::Riscv64), Some(Registers::Memory { address: 0x1000_0000, size: 0x100 }));
}
