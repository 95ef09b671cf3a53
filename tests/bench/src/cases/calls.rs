//! Calls that the kernel itself answers, there and back.

use anos::Error;
use anos::abi::object::Method;
use anos::abi::{Status, SystemCall};

use super::{alone, measurements, repeated};
use crate::arch::Entry;
use crate::figures::Outcome;
use crate::record::{Record, Request};
use crate::stage::{OWN_SPACE, Place, Stage};

measurements![
    "kernel/null_call": null_call,
    "kernel/invalid_cap": invalid_capability,
];

/// What costs the kernel least: an address space says how many levels it has (`AddressSpaceInfo`).
fn null_call(stage: &mut Stage) -> Outcome {
    repeated(stage, Request::method(OWN_SPACE, Method::AddressSpaceInfo, &[]), Request::default())
}

/// A call on an empty slot.
fn invalid_capability(stage: &mut Stage) -> Outcome {
    let empty = stage.slot_in(Place::Here);
    let record = Record {
        status: Status::error(Error::EmptySlot).0,
        measured: Request::new(SystemCall::Call, empty, &[]),
        ..Record::default()
    };
    alone(stage, Entry::Call, record)
}
