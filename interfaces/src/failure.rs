//! Why a request failed: the kernel's errors, and those that only servers have.

use core::fmt;

use anos_abi::Error;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a server refused. The numbers start where the kernel's errors can't reach.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Refusal {
            $($(#[$doc])* $name = $number,)*
        }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name),*];

            /// A few words for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Refusal::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// There is no process with this number.
    NoSuchProcess = 256, "no such process";
    /// The boot archive has no program of this name.
    NoSuchProgram = 257, "no such program";
    /// The sender's badge does not allow this.
    NotPermitted = 258, "not permitted";
    /// A limit of the server is reached: processes, threads, clients.
    TooMany = 259, "limit reached";
    /// The arguments are too long.
    ArgumentsTooLong = 260, "arguments too long";
    /// The program file can't be run: no valid ELF file for this machine, or not as the system wants it.
    BadProgram = 261, "not a program for this system";
    /// There is nothing at this index: the list is at its end.
    NothingThere = 262, "nothing there";
    /// Somebody else reads already.
    AlreadyReading = 263, "somebody else reads already";
    /// The manifest does not let this program be started by hand.
    NotStartable = 264, "not a program to start by hand";
    /// The manifest does not let this program be given arguments.
    NoArguments = 265, "program takes no arguments";
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The kernel's word, or a server's in the same sense.
    Kernel(Error),
    /// What only servers say.
    Server(Refusal),
}

impl Failure {
    /// The label that carries it.
    pub const fn code(self) -> u64 {
        match self {
            Failure::Kernel(error) => error as u64,
            Failure::Server(refusal) => refusal as u64,
        }
    }

    /// Reads an answer's label: `None` is success; an unknown code reads as [`Error::InvalidArgument`].
    pub fn from_code(code: u64) -> Option<Self> {
        if let Some(&refusal) = Refusal::ALL.iter().find(|&&refusal| refusal as u64 == code) {
            return Some(Failure::Server(refusal));
        }
        Error::check(code).err().map(Failure::Kernel)
    }

    /// A few words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Failure::Kernel(error) => error.text(),
            Failure::Server(refusal) => refusal.text(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Kernel(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Server(refusal)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        assert_eq!(Failure::from_code(0), None);
        for &error in Error::ALL {
            assert_eq!(Failure::from_code(error as u64), Some(Failure::Kernel(error)));
        }
        for &refusal in Refusal::ALL {
            assert_eq!(Failure::from_code(Failure::Server(refusal).code()), Some(Failure::Server(refusal)));
        }
    }

    #[test]
    fn no_refusal_is_taken_for_a_kernel_error_or_another_refusal() {
        for (index, &refusal) in Refusal::ALL.iter().enumerate() {
            assert!(refusal as u16 >= 256);
            assert_eq!(Refusal::ALL.iter().position(|&other| other as u16 == refusal as u16), Some(index));
        }
    }
}
