//! The root server's thin shell: the way from BootInfo to the loop.
#![cfg_attr(anos_guest, no_std, no_main)]

#[cfg(anos_guest)]
anos::entry!(main);

#[cfg(anos_guest)]
use guest::main;

/// On the host there is nothing to run.
#[cfg(not(anos_guest))]
fn main() {
    eprintln!("the root server runs on Anos: cargo xtask run");
}

mod calls;

#[cfg_attr(not(anos_guest), expect(dead_code, reason = "the host checks this, but can't run it"))]
mod guest {
    use anos::abi::Error;
    use anos::abi::boot::{BootInfo, slot};
    use anos::abi::object::Method;
    use anos::capability::{Capability, Slot, Untyped};
    use anos::{env, memory};
    use anos_system::kernel::Kernel;
    use anos_system::report;
    use anos_system::root::{BootFailure, Facts, Halves, Root, take_memory};

    use crate::calls::{System, archive};

    /// Memory for the root server's heap. It is used at boot, and for little later.
    const HEAP_BYTES: u64 = 512 * 1024;

    /// Starts the system and serves it. Comes back only if there can be none.
    pub fn main() {
        let mut kernel = System;
        let Some(info) = env::boot_info() else {
            report::line(&mut kernel, format_args!("the kernel's boot information is missing"));
            return power_off(&mut kernel);
        };
        match start(info) {
            Ok(never) => report::line(&mut kernel, format_args!("the root server can't go on: {never}")),
            Err(failure) => report::line(&mut kernel, format_args!("{failure}")),
        }
        power_off(&mut kernel);
    }

    fn start(info: &'static BootInfo) -> Result<Error, BootFailure> {
        let runs = usize::try_from(info.untyped_count).ok().and_then(|count| info.untyped.get(..count));
        let runs = runs.unwrap_or_default();
        let mut buddy = take_memory(&mut System, runs).map_err(BootFailure::TooLittleMemory)?;
        let heap = buddy.allocate(&mut Halves(&mut System), HEAP_BYTES).map_err(BootFailure::TooLittleMemory)?;
        memory::set_quota(Untyped::from_slot(Slot::new(heap.slot())));
        let mut root = Root::new(System, Facts::from(info), runs, archive(info), buddy)?;
        root.start_programs();
        if !root.has_processes() {
            return Err(BootFailure::NothingRuns);
        }
        Ok(root.run())
    }

    fn power_off(kernel: &mut System) {
        // Where the machine can't, the runtime stops the thread.
        let _ = kernel.invoke(slot::DEBUG, Method::DebugReset, &[0], 0, 0);
    }
}
