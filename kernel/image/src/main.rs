//! The bootable kernel: the port for this architecture, which brings `_start`, and Rust's way out when something
//! that must not happen happens. On the host it is an empty program, so that commands for the whole workspace work.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
use anos_riscv64 as port;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
use anos_x86_64 as port;

/// Reports on the kernel's console, with a backtrace, and powers off. The release kernel has no path that leads here.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    port::panicked(info)
}

/// On the host there is nothing to boot.
#[cfg(not(target_os = "none"))]
fn main() {}
