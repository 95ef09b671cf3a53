//! What is done to capabilities and memory, there and back.
//!
//! Each is done again and again, and undone in between, which is not counted.

use anos::abi::Status;
use anos::abi::object::Method;
use anos::capability::{Endpoint, Frame, Untyped};
use anos::{Kind, Rights};

use super::{Record, alone, measurements, repeated};
use crate::arch::Entry;
use crate::figures::{Outcome, sum};
use crate::record::Request;
use crate::stage::{FREE, OWN_SPACE, OWN_TABLE, Place, Stage, delete};

measurements![
    "cap/copy": |stage| with_copy(stage, |copy, undo| (copy, undo)),
    "cap/delete": |stage| with_copy(stage, |copy, undo| (undo, copy)),
    "cap/mint": mint,
    "cap/revoke_per_child": revoke_per_child,
    "mem/retype_frame": retype_frame,
    "mem/clear_page": clear_page,
    "mem/map_page": |stage| with_mapping(stage, 1, FREE, |map, unmap| (map, unmap)),
    "mem/unmap_page": |stage| with_mapping(stage, 1, FREE, |map, unmap| (unmap, map)),
    "mem/map_512": map_512,
];

/// Copies the capability in a slot into another.
fn copy(from: u32, to: u32) -> Request {
    let words = [to.into(), Rights::ALL.0.into()];
    Request::method(OWN_TABLE, Method::CapTableCopy, &words).with_slots(from, 0)
}

/// Copies an Endpoint and deletes the copy; `which` says which of the two is measured, and which done in between.
fn with_copy(stage: &mut Stage, which: fn(Request, Request) -> (Request, Request)) -> Outcome {
    let (from, to) = (stage.make_in::<Endpoint>(Place::Here, 0)?, stage.slot_in(Place::Here));
    let (measured, between) = which(copy(from, to), delete(to));
    repeated(stage, measured, between)
}

/// A badged copy of an Endpoint.
fn mint(stage: &mut Stage) -> Outcome {
    let (from, to) = (stage.make_in::<Endpoint>(Place::Here, 0)?, stage.slot_in(Place::Here));
    let words = [to.into(), Rights::ALL.0.into(), 1];
    let mint = Request::method(OWN_TABLE, Method::CapTableMint, &words).with_slots(from, 0);
    repeated(stage, mint, delete(to))
}

/// How much longer it takes to revoke a capability with two copies than one with one.
fn revoke_per_child(stage: &mut Stage) -> Outcome {
    let (from, one) = (stage.make_in::<Endpoint>(Place::Here, 0)?, stage.slot_in(Place::Here));
    let other = stage.slot_in(Place::Here);
    let revoke = Request::method(OWN_TABLE, Method::CapTableRevoke, &[from.into()]);
    let with_one = repeated(stage, revoke, copy(from, one))?;
    let between = [copy(from, one), copy(from, other)];
    let with_two = alone(stage, Entry::Call, Record { measured: revoke, between, ..Record::default() })?;
    Ok(difference(&with_two, &with_one))
}

/// By how much each run of one thing takes longer than that of another.
fn difference(more: &[u64], less: &[u64]) -> alloc::vec::Vec<u64> {
    more.iter().zip(less).map(|(more, less)| more.saturating_sub(*less)).collect()
}

/// A Frame of so many pages from memory of which nothing else is made.
fn retype(stage: &mut Stage, pages: u64) -> Outcome {
    let (memory, to) = (stage.make_in::<Untyped>(Place::Here, 4)?, stage.slot_in(Place::Here));
    let words = [Kind::Frame as u64, pages, 1, 0];
    let retype = Request::method(memory, Method::UntypedRetype, &words).with_slots(0, to);
    let between = [delete(to), Request::default()];
    alone(stage, Entry::Call, Record { status: Status::CAPABILITY, measured: retype, between, ..Record::default() })
}

/// A page, but for what each page of a Frame takes: see [`clear_page`].
fn retype_frame(stage: &mut Stage) -> Outcome {
    let (one, two) = (retype(stage, 1)?, retype(stage, 2)?);
    Ok(difference(&one, &difference(&two, &one)))
}

/// How much longer a Frame of two pages takes than one of one: clearing a page, and marking it as used.
fn clear_page(stage: &mut Stage) -> Outcome {
    let (one, two) = (retype(stage, 1)?, retype(stage, 2)?);
    Ok(difference(&two, &one))
}

/// Maps a Frame and unmaps it; `which` says which of the two is measured, and which done in between.
fn with_mapping(
    stage: &mut Stage,
    pages: u64,
    address: u64,
    which: fn(Request, Request) -> (Request, Request),
) -> Outcome {
    stage.prepare(Place::Here, address)?;
    let frame = stage.make_in::<Frame>(Place::Here, pages)?;
    let rights = Rights::READ.union(Rights::WRITE);
    let map = Request::method(frame, Method::FrameMap, &[address, rights.0.into(), 0]).with_slots(OWN_SPACE, 0);
    let (measured, between) = which(map, Request::method(frame, Method::FrameUnmap, &[]));
    repeated(stage, measured, between)
}

/// 512 pages of 4 KiB: two Frames of 256 pages, since one of 512 would become a large page.
fn map_512(stage: &mut Stage) -> Outcome {
    let first = with_mapping(stage, 256, FREE, |map, unmap| (map, unmap))?;
    let second = with_mapping(stage, 256, FREE + (1 << 20), |map, unmap| (map, unmap))?;
    Ok(sum(&first, &second))
}
