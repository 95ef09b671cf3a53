//! Which method of which kernel object a call asks for, and which right that takes.

use anos_abi::object::Method;
use anos_abi::{Error, Rights};

use crate::call::{Answer, Request};
use crate::{Outcome, Spec};

/// The right that a method takes: to read for what only looks, else to write. A Frame can be mapped by who may read
/// it; what the mapping allows is checked one by one.
fn right(method: Method) -> Rights {
    match method {
        Method::UntypedInfo
        | Method::FrameMap
        | Method::FrameUnmap
        | Method::FrameInfo
        | Method::AddressSpaceInfo
        | Method::CapTableLook
        | Method::CapTableInfo
        | Method::ThreadInfo
        | Method::ThreadReadRegisters
        | Method::SchedContextInfo
        | Method::InterruptMessage
        | Method::SchedControlInfo
        | Method::DebugCounters
        | Method::DebugPage
        | Method::DebugThread
        | Method::IoPortIn => Rights::READ,
        _ => Rights::WRITE,
    }
}

impl Spec {
    /// A kernel object carries out a method.
    pub(crate) fn invoke(&mut self, request: &Request) -> Outcome<Answer> {
        let target = self.cap(request.target);
        let method = Method::try_from(request.label)?;
        if method.kind() != target.kind {
            return Err(Error::InvalidMethod);
        }
        if !target.rights.contains(right(method)) {
            return Err(Error::MissingRights);
        }
        match method {
            Method::UntypedRetype => self.untyped_retype(request),
            Method::UntypedInfo => Ok(self.untyped_info(request)),
            Method::FrameMap => self.frame_map(request),
            Method::FrameUnmap => self.frame_unmap(request),
            Method::FrameInfo => Ok(self.frame_info(request)),
            Method::PageTableMap => self.table_map(request),
            Method::PageTableUnmap => self.table_unmap(request),
            Method::AddressSpaceInfo => Ok(self.space_info()),
            Method::CapTableCopy => self.table_copy(request, None),
            Method::CapTableMint => self.table_copy(request, Some(request.words[2])),
            Method::CapTableMove => self.table_move(request),
            Method::CapTableDelete => self.table_delete(request),
            Method::CapTableRevoke => self.table_revoke(request),
            Method::CapTableLook => self.table_look(request),
            Method::CapTableCancel => self.table_cancel(request),
            Method::CapTableInfo => Ok(Answer::words([target.size])),
            Method::ThreadSetTable => self.thread_set_table(request),
            Method::ThreadSetSpace => self.thread_set_space(request),
            Method::ThreadSetFaultEndpoint => self.thread_set_fault_endpoint(request),
            Method::ThreadBind => self.thread_bind(request),
            Method::ThreadSetPriority => self.thread_set_priority(request),
            Method::ThreadSetContext => self.thread_set_context(request),
            Method::ThreadStart => self.thread_start(request),
            Method::ThreadSuspend => self.thread_suspend(request),
            Method::ThreadResume => self.thread_resume(request),
            Method::ThreadInfo => Ok(self.thread_info(request)),
            Method::ThreadReadRegisters => self.thread_read_registers(request),
            Method::ThreadWriteRegisters => self.thread_write_registers(request),
            Method::ThreadSetFlags => self.thread_set_flags(request),
            Method::SchedContextInfo => Ok(self.sched_context_info(request)),
            Method::InterruptBind => self.interrupt_bind(request),
            Method::InterruptAck => self.interrupt_ack(request),
            Method::InterruptUnbind => self.interrupt_unbind(request),
            Method::InterruptMessage => self.interrupt_message(request),
            Method::IoPortIn => self.io_port_in(request),
            Method::IoPortOut => self.io_port_out(request),
            Method::InterruptControlGet => self.interrupt_control_get(request),
            Method::IoPortControlGet => self.io_port_control_get(request),
            Method::SchedControlInfo => Ok(self.sched_control_info(request)),
            Method::SchedControlLimit => self.sched_control_limit(request),
            Method::DebugWrite => self.debug_write(request),
            Method::DebugReset => self.debug_reset(request),
            Method::DebugCounters => self.debug_counters(request),
            Method::DebugName => self.debug_name(request),
            Method::DebugPage | Method::DebugThread => self.debug_show(),
        }
    }
}
