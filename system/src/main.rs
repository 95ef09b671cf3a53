//! The root server's thin shell: the kernel's calls for real, and the way from BootInfo to the loop.
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

#[cfg_attr(not(anos_guest), expect(dead_code, reason = "the host checks this, but can't run it"))]
mod guest {
    use anos::abi::boot::{BootInfo, slot};
    use anos::abi::object::Method;
    use anos::abi::syscall::{FOREVER, POLL};
    use anos::abi::{Error, PAGE_SIZE};
    use anos::capability::{Capability, Slot, Untyped, invoke};
    use anos::interfaces::start::StartInfo;
    use anos::time::Instant;
    use anos::{Message, env, memory, sys};
    use anos_system::kernel::{Kernel, Received, Words};
    use anos_system::report;
    use anos_system::root::{BootFailure, Facts, Halves, Root, take_memory};

    /// Memory for the root server's heap. It is used at boot, and for little later.
    const HEAP_BYTES: u64 = 512 * 1024;

    /// The kernel itself.
    #[derive(Debug)]
    struct System;

    fn some(slot: u32) -> Option<Slot> {
        (slot != 0).then(|| Slot::new(slot))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a pointer has 64 bits on both architectures")]
    const fn usize_of(word: u64) -> usize {
        word as usize
    }

    impl Kernel for System {
        fn invoke(
            &mut self,
            target: u32,
            method: Method,
            words: &[u64],
            pass: u32,
            receive: u32,
        ) -> Result<Words, Error> {
            invoke(Slot::new(target), method, words, some(pass), some(receive))
        }

        fn receive(&mut self, endpoint: u32, reply: u32, receive: u32, wait: bool) -> Result<Received, Error> {
            let deadline = if wait { FOREVER } else { POLL };
            let received = sys::recv(Slot::new(endpoint), some(reply), some(receive), deadline)?;
            Ok(Received {
                badge: received.badge,
                message: received.message,
                answerable: received.status.is_answerable(),
                capability: received.status.has_capability(),
            })
        }

        fn answer(&mut self, reply: u32, message: &Message) -> bool {
            sys::send(Slot::new(reply), message, None, POLL).is_ok()
        }

        fn fill(&mut self, address: u64, bytes: &[u8]) {
            let to = core::ptr::with_exposed_provenance_mut::<u8>(usize_of(address));
            // SAFETY: the caller has mapped the range, writable, and for this alone: see `Kernel::fill`.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }

        fn fill_start(&mut self, address: u64, info: &StartInfo) {
            let to = core::ptr::with_exposed_provenance_mut::<StartInfo>(usize_of(address));
            // SAFETY: as for `fill`; the page is larger than a StartInfo, and aligned.
            unsafe { to.write(*info) };
        }

        fn now_ns(&self) -> u64 {
            Instant::now().nanoseconds()
        }
    }

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

    fn start(info: &BootInfo) -> Result<Error, BootFailure> {
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

    /// The boot archive, where the kernel mapped it.
    fn archive(info: &BootInfo) -> &'static [u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(usize_of(info.archive_address));
        let bytes = usize_of(info.archive_bytes);
        if start.is_null() || !info.archive_address.is_multiple_of(PAGE_SIZE) {
            return &[];
        }
        // SAFETY: the kernel has mapped the archive here before the first instruction, read-only, and it stays.
        unsafe { core::slice::from_raw_parts(start, bytes) }
    }

    fn power_off(kernel: &mut System) {
        // Where the machine can't, the runtime stops the thread.
        let _ = kernel.invoke(slot::DEBUG, Method::DebugReset, &[0], 0, 0);
    }
}
