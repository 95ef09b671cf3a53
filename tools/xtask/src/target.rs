//! What the architectures, profiles and machines are to cargo, the linker and QEMU.

use clap::ValueEnum;

/// An architecture that Anos runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    /// 64-bit PCs and microVMs
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit RISC-V
    Riscv64,
}

impl Architecture {
    /// Both.
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Riscv64];

    /// The one that was asked for, or both.
    pub fn selected(choice: Option<Architecture>) -> Vec<Architecture> {
        choice.map_or_else(|| Self::ALL.to_vec(), |one| vec![one])
    }

    /// Its name on command lines and in paths.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Riscv64 => "riscv64",
        }
    }

    /// The package that is the kernel's port.
    pub const fn port(self) -> &'static str {
        match self {
            Architecture::X86_64 => "anos-x86-64",
            Architecture::Riscv64 => "anos-riscv64",
        }
    }

    /// The kernel's target: no floating point.
    pub const fn kernel_target(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-none",
            Architecture::Riscv64 => "riscv64imac-unknown-none-elf",
        }
    }

    /// The programs' target: hardware floating point. On x86-64 the bare-metal target has none, so programs are
    /// built like static Linux programs that happen to use no Linux.
    pub const fn program_target(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
            Architecture::Riscv64 => "riscv64gc-unknown-none-elf",
        }
    }

    /// The target of the program that runs under Linux without any of its libraries: bare metal, again.
    pub const fn linux_program_target(self) -> &'static str {
        match self {
            Architecture::X86_64 => self.kernel_target(),
            Architecture::Riscv64 => self.program_target(),
        }
    }

    /// The machine number in ELF headers.
    pub const fn elf_machine(self) -> u16 {
        match self {
            Architecture::X86_64 => object::elf::EM_X86_64.0,
            Architecture::Riscv64 => object::elf::EM_RISCV.0,
        }
    }

    /// The emulator.
    pub const fn qemu(self) -> &'static str {
        match self {
            Architecture::X86_64 => "qemu-system-x86_64",
            Architecture::Riscv64 => "qemu-system-riscv64",
        }
    }

    /// The architecture as manifests know it.
    pub const fn manifest(self) -> anos_manifest::host::Architecture {
        match self {
            Architecture::X86_64 => anos_manifest::host::Architecture::X86_64,
            Architecture::Riscv64 => anos_manifest::host::Architecture::Riscv64,
        }
    }

    /// The machines of this kind that everything is tested on, the usual one first.
    pub const fn machines(self) -> &'static [Machine] {
        match self {
            Architecture::X86_64 => &[Machine::Q35, Machine::Microvm],
            Architecture::Riscv64 => &[Machine::Virt],
        }
    }
}

/// How to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Assertions, readable in a debugger
    Debug,
    /// What ships
    Release,
    /// What ships, with assertions and overflow checks
    Test,
}

impl Profile {
    /// Its name on command lines and in target/anos.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
            Profile::Test => "test",
        }
    }

    /// Its name in the workspace's Cargo.toml (cargo keeps "test" for itself).
    pub const fn cargo_name(self) -> &'static str {
        match self {
            Profile::Debug => "dev",
            Profile::Release => "release",
            Profile::Test => "checked",
        }
    }

    /// The directory cargo builds it in.
    pub const fn cargo_directory(self) -> &'static str {
        match self {
            Profile::Debug => "debug",
            Profile::Release => "release",
            Profile::Test => "checked",
        }
    }
}

/// A machine that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// A PC with PCI Express
    Q35,
    /// A minimal x86-64 virtual machine
    Microvm,
    /// QEMU's RISC-V machine
    Virt,
    /// The same with APLIC and IMSICs instead of a PLIC
    VirtAia,
    /// The same with an APLIC alone
    VirtAplic,
}

impl Machine {
    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Machine::Q35 => "q35",
            Machine::Microvm => "microvm",
            Machine::Virt => "virt",
            Machine::VirtAia => "virt-aia",
            Machine::VirtAplic => "virt-aplic",
        }
    }

    /// Which architecture's it is.
    pub const fn architecture(self) -> Architecture {
        match self {
            Machine::Q35 | Machine::Microvm => Architecture::X86_64,
            Machine::Virt | Machine::VirtAia | Machine::VirtAplic => Architecture::Riscv64,
        }
    }
}

/// A system to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// Debian's Linux; its package, about 100 MiB for each architecture, is downloaded once
    Linux,
}

/// A group of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Unit, property and simulation tests on the host
    Host,
    /// The kernel's size, and how deep its stacks get
    Size,
    /// Two clean builds give the same bytes
    Reproducible,
    /// The suite that runs in the guest
    Guest,
    /// What the kernel's services cost, compared with the figures that are kept
    Bench,
    /// What can't boot, and a kernel that fails: each must say why
    BadBoots,
    /// Typing at the shell
    Shell,
    /// Booting many times
    Boots,
}

impl Suite {
    /// Every suite, the cheapest first.
    pub const ALL: [Suite; 8] = [
        Suite::Host,
        Suite::Size,
        Suite::Reproducible,
        Suite::Guest,
        Suite::Bench,
        Suite::BadBoots,
        Suite::Shell,
        Suite::Boots,
    ];
}

/// A number of cores, as people say it.
pub fn cores_shown(cores: u32) -> String {
    if cores == 1 { "1 core".into() } else { format!("{cores} cores") }
}
