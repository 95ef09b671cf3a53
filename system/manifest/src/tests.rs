//! The compiled form: it reads back, and nothing else does.

use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;

fn sample() -> System {
    let device = Device {
        name: String::from("serial"),
        registers: Registers::Ports { first: 0x3f8, last: 0x3ff },
        interrupt: Some(Interrupt { line: 4, level: false, active_low: false }),
    };
    let program = Program {
        name: String::from("uart"),
        file: program_file("anos-driver-uart16550"),
        start: Start::Boot,
        restart: Restart::Fault,
        instances: 1,
        arguments: false,
        priority: 200,
        ceiling: 200,
        cores: 1,
        cpu: Some(CpuTime { budget_ns: 2_000_000, period_ns: 10_000_000 }),
        memory: 256 << 10,
        slots: 256,
        devices: vec![device],
        provides: vec![0],
        uses: vec![Use { service: 0, pass: true, role: 0 }],
        process: process_right::SEE,
        debug: false,
        sched: false,
    };
    System { name: String::from("sample"), services: vec![String::from("serial")], programs: vec![program] }
}

fn many_devices() -> Program {
    let mut program = sample().programs.remove(0);
    program.devices = vec![program.devices.remove(0); MAX_DEVICES];
    program
}

fn encode(system: &System) -> Vec<u8> {
    postcard::to_extend(system, MAGIC.to_vec()).expect("a Vec takes any number of bytes")
}

#[test]
fn what_is_compiled_reads_back() {
    assert_eq!(decode(&encode(&sample())), Ok(sample()));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = encode(&sample());
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(decode(&longer), Err(DecodeError::Garbled));
}

#[test]
fn values_out_of_range_are_refused() {
    let changes: [fn(&mut System); 21] = [
        |system| system.name.clear(),
        |system| system.services[0] = String::from("A"),
        |system| system.programs[0].name = "x".repeat(MAX_NAME + 1),
        |system| system.programs[0].instances = 0,
        |system| system.programs[0].instances = MAX_INSTANCES + 1,
        |system| system.programs[0].ceiling = 199,
        |system| system.programs[0].ceiling = 255,
        |system| system.programs[0].memory = 3 << 20,
        |system| system.programs[0].memory = 4096,
        |system| system.programs[0].slots = 100,
        |system| system.programs[0].cpu = Some(CpuTime { budget_ns: 9_999, period_ns: 10_000 }),
        |system| system.programs[0].cpu = Some(CpuTime { budget_ns: 10_001, period_ns: 10_000 }),
        |system| system.programs[0].cpu = Some(CpuTime { budget_ns: 10_000, period_ns: (1 << 40) + 1 }),
        |system| system.programs[0].provides[0] = 1,
        |system| system.programs[0].uses[0].service = 1,
        |system| system.programs[0].process = 16,
        |system| system.programs[0].devices[0].registers = Registers::Memory { address: 4097, size: 0 },
        |system| system.programs[0].devices[0].registers = Registers::Memory { address: u64::MAX, size: 2 },
        |system| system.programs[0].devices[0].registers = Registers::Memory { address: 4095, size: 512 << 12 },
        |system| (system.programs[0].memory, system.programs[0].slots) = (64 << 10, 1024),
        |system| (0..MAX_CLAIMS / MAX_DEVICES).for_each(|_| system.programs.push(many_devices())),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut system = sample();
        change(&mut system);
        assert_eq!(decode(&encode(&system)), Err(DecodeError::OutOfRange), "change {index}");
    }
}

/// What the root server relies on, said once more in its own terms.
fn check(system: &System) {
    for program in &system.programs {
        assert!(program.provides.iter().all(|&service| system.services.get(usize::from(service)).is_some()));
        assert!(program.uses.iter().all(|used| system.services.get(usize::from(used.service)).is_some()));
        assert!(program.instances > 0 && program.ceiling < 255 && program.priority <= program.ceiling);
        if let Some(cpu) = program.cpu {
            assert!(
                (10_000..=cpu.period_ns).contains(&cpu.budget_ns) && cpu.period_ns <= 1 << 40,
                "the kernel takes it"
            );
        }
        assert!(program.memory % 4096 == 0 && program.memory.count_ones() == 1, "a block of memory");
        assert!(u64::from(program.slots) * 64 < program.memory, "its table fits");
        for device in &program.devices {
            match device.registers {
                Registers::Ports { first, last } => assert!(first <= last),
                Registers::Memory { address, size } => assert!(size > 0 && u64::MAX - size >= address),
            }
        }
    }
}

#[test]
fn whatever_bit_is_flipped_what_reads_back_keeps_every_promise() {
    let bytes = encode(&sample());
    let mut read = 0;
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(system) = decode(&bytes) {
            check(&system);
            read += 1;
        }
    }
    assert!(read > 0, "a letter of a name, say, may be another");
}
