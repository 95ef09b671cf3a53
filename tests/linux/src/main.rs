//! Measures Linux from inside, in instructions: the baseline of `cargo xtask bench --baseline linux`.
//!
//! It is the only program of a Linux that has nothing else: no C library, no file system but the one in memory that it
//! comes in as `/init`. It measures, says so on the console, and powers off:
//!
//! ```text
//! baseline: kernel 6.1.0-50-amd64
//! baseline: figure linux/null_call instructions 337 337 401 1000
//! baseline: FAILED linux/page_fault: madvise answers error 12
//! baseline: 8 measured, 1 failed
//! ```
//!
//! A figure is that of one round: the counter is read before and behind a batch of rounds, the difference divided by their
//! number, and what the loop itself costs taken off. Least, middle and most are those of [`figures::BATCHES`] batches. The
//! batches are there because on RISC-V programs may read nothing finer than a clock that ticks once in 100 instructions.
//!
//! - [`arch`]: system calls, counter and entry of an architecture; [`linux`]: the system calls that are needed here;
//! - [`figures`]: from rounds to figures; [`cases`]: what is measured; [`say`]: the console.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod figures;
#[cfg(target_os = "none")]
mod linux;
#[cfg(target_os = "none")]
mod say;

/// Where the program goes on once it has a stack. `arguments`: how many it was given; the kernel gives `/init` its name.
#[cfg(target_os = "none")]
extern "C" fn start(arguments: usize) -> ! {
    if arguments > 1 {
        // One that a case has started, to see what that costs.
        linux::exit(0);
    }
    cases::measure_all();
    linux::power_off()
}

/// Whatever it is, nobody is left to measure.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say::line(format_args!("FAILED {info}"));
    linux::power_off()
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this measures Linux from inside: cargo xtask bench --baseline linux");
}
