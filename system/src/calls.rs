//! The kernel itself, as the root server's [`Kernel`]; and the boot archive, where the kernel mapped it. This is all that is
//! unsafe about the root server. (`tests/bench` takes in this file, too, to start a program as the root server does.)

use anos::abi::boot::BootInfo;
use anos::abi::object::Method;
use anos::abi::syscall::{FOREVER, POLL};
use anos::abi::{Error, PAGE_SIZE};
use anos::capability::{Slot, invoke};
use anos::interfaces::start::StartInfo;
use anos::time::Instant;
use anos::{Message, sys};
use anos_system::kernel::{Kernel, Received, Words};

/// The kernel itself.
#[derive(Debug)]
pub struct System;

fn some(slot: u32) -> Option<Slot> {
    (slot != 0).then(|| Slot::new(slot))
}

#[expect(clippy::cast_possible_truncation, reason = "a pointer has 64 bits on both architectures")]
const fn usize_of(word: u64) -> usize {
    word as usize
}

impl Kernel for System {
    fn invoke(&mut self, target: u32, method: Method, words: &[u64], pass: u32, receive: u32) -> Result<Words, Error> {
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

/// The boot archive, where the kernel mapped it; nothing if it did not.
pub fn archive(info: &'static BootInfo) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance::<u8>(usize_of(info.archive_address));
    let bytes = usize_of(info.archive_bytes);
    if start.is_null() || !info.archive_address.is_multiple_of(PAGE_SIZE) {
        return &[];
    }
    // SAFETY: the kernel has mapped the archive here before the first instruction, read-only, and it stays.
    unsafe { core::slice::from_raw_parts(start, bytes) }
}
