//! From the program's first instruction to its `main`, and what happens when it panics.

use core::panic::PanicInfo;

use crate::{env, print, process};

unsafe extern "Rust" {
    /// The program's side of [`entry!`](crate::entry).
    fn anos_main() -> u64;
}

/// Runs the program.
pub extern "C" fn start() -> ! {
    // SAFETY: `entry!` defines it with this signature, and this is its only call.
    let code = unsafe { anos_main() };
    process::exit(code)
}

/// Says what went wrong, and ends the program.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(location) => print::print_in_panic(format_args!(
            "{} panicked at {}:{}: {}\n",
            env::name(),
            location.file(),
            location.line(),
            info.message()
        )),
        None => print::print_in_panic(format_args!("{} panicked: {}\n", env::name(), info.message())),
    }
    process::exit(process::PANIC_CODE)
}
