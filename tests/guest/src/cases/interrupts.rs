//! Interrupts: who may have a line, and that a device's interrupt becomes a signal.
//!
//! The device is the serial port's "transmitter empty" interrupt (16550, interrupt 2): switching it on while nothing
//! is being sent raises it at once, on both architectures.

use anos::abi::PAGE_SIZE;
use anos::abi::object::Method;
use anos::abi::syscall::POLL;
use anos::capability::{
    Capability, Endpoint, Frame, Interrupt, InterruptControl, InterruptMessage, IoPort, IoPortControl, Notification,
    Slot, invoke,
};
use anos::{Error, Kind, Rights};

use super::cases;
use super::ipc::number;
use crate::arch;
use crate::case::{Case, PATIENCE_MS, READ_WRITE, SPACE, TABLE, counters, in_ms, look, shared, shared_value, to_usize};
use crate::check::{Failure, Outcome, check, equal};
use crate::helper::HIGH;
use crate::supervisor::devices;

cases![
    a_line_is_claimed_once,
    a_line_is_free_again_after_its_last_capability,
    a_line_that_is_none_is_refused,
    a_line_is_bound_once,
    binding_takes_a_notification_to_write_to,
    what_is_not_bound_can_not_be_acknowledged,
    a_deleted_notification_unbinds_the_line,
    a_device_s_interrupt_becomes_a_signal,
    an_interrupt_wakes_a_driver_at_its_endpoint,
    an_unbound_line_is_silent,
    many_interrupts_come_one_after_the_other,
    interrupts_are_counted,
    a_device_s_message_becomes_a_signal,
    a_wire_has_no_message,
];

const CONTROL: InterruptControl = InterruptControl::at(Slot::new(anos::abi::boot::slot::INTERRUPT_CONTROL));
const PORTS: IoPortControl = IoPortControl::at(Slot::new(anos::abi::boot::slot::IO_PORT_CONTROL));

/// A line that is a message where there are some; on x86-64 the last.
const MESSAGE: u64 = 175;
/// Where its registers are: the first port, or the physical address.
const PORT: u16 = 0x3f8;
const REGISTERS: u64 = 0x1000_0000;

/// Registers of a 16550.
const INTERRUPT_ENABLE: u8 = 1;
const INTERRUPT_IDENTIFICATION: u8 = 2;
const MODEM_CONTROL: u8 = 4;
/// Transmitter empty, in the interrupt-enable register.
const TRANSMITTER_EMPTY: u8 = 2;

/// The serial port.
#[derive(Clone, Copy)]
enum Uart {
    Ports(IoPort),
    Memory(u64),
}

impl Uart {
    fn read(self, register: u8) -> Outcome<u8> {
        match self {
            Uart::Ports(ports) => Ok(ports.read_byte(PORT + u16::from(register))?),
            Uart::Memory(address) => {
                let place = core::ptr::with_exposed_provenance::<u8>(to_usize(address + u64::from(register)));
                // SAFETY: the case has mapped the device's registers here.
                Ok(unsafe { place.read_volatile() })
            }
        }
    }

    fn write(self, register: u8, value: u8) -> Outcome {
        match self {
            Uart::Ports(ports) => ports.write_byte(PORT + u16::from(register), value)?,
            Uart::Memory(address) => {
                let place = core::ptr::with_exposed_provenance_mut::<u8>(to_usize(address + u64::from(register)));
                // SAFETY: as in `read`.
                unsafe { place.write_volatile(value) }
            }
        }
        Ok(())
    }

    /// Raises its interrupt.
    fn raise(self) -> Outcome {
        // Output 2 (bit 3) connects the line on a PC.
        self.write(MODEM_CONTROL, 0x0b)?;
        self.write(INTERRUPT_ENABLE, 0)?;
        self.write(INTERRUPT_ENABLE, TRANSMITTER_EMPTY)
    }

    /// Takes it back.
    fn quiet(self) -> Outcome {
        self.read(INTERRUPT_IDENTIFICATION)?;
        self.write(INTERRUPT_ENABLE, 0)
    }
}

/// The serial port's registers.
fn uart(case: &mut Case) -> Outcome<Uart> {
    if arch::IS_PC {
        return Ok(Uart::Ports(PORTS.get(PORT, PORT + 7, case.slot())?));
    }
    Ok(Uart::Memory(device_page(case, REGISTERS)?))
}

/// Maps a page of a device's registers; says where.
fn device_page(case: &mut Case, registers: u64) -> Outcome<u64> {
    let slot = case.slot();
    for device in devices() {
        let info = device.info()?;
        if (info.address..info.address + info.pages * PAGE_SIZE).contains(&registers) {
            device.retype_at(Kind::Frame, 1, 1, (registers - info.address) / PAGE_SIZE, slot)?;
            let address = case.free_address();
            case.map(Frame::at(slot), SPACE, address, READ_WRITE)?;
            return Ok(address);
        }
    }
    Err(Failure::new(format_args!("no device memory at {registers:#x}")))
}

/// The serial port's line.
fn line(case: &mut Case) -> Result<Interrupt, Error> {
    let (line, level) = arch::UART_LINE;
    let slot = case.slot();
    CONTROL.get(line, level, false, slot)
}

fn a_line_is_claimed_once(case: &mut Case) -> Outcome {
    let first = line(case)?;
    equal!(look(first.slot())?.kind, Kind::Interrupt);
    equal!(look(first.slot())?.badge, arch::UART_LINE.0);
    equal!(line(case), Err(Error::Busy));
    Ok(())
}

fn a_line_is_free_again_after_its_last_capability(case: &mut Case) -> Outcome {
    let first = line(case)?;
    let copy = case.copy(first, Rights::ALL)?;
    TABLE.delete(first.slot())?;
    equal!(line(case), Err(Error::Busy));
    TABLE.delete(copy.slot())?;
    line(case)?;
    Ok(())
}

fn a_line_that_is_none_is_refused(case: &mut Case) -> Outcome {
    let slot = case.slot();
    for wrong in [256, 1 << 32, u64::MAX] {
        equal!(CONTROL.get(wrong, true, false, slot), Err(Error::InvalidArgument));
    }
    for words in [[arch::UART_LINE.0, 2, 0], [arch::UART_LINE.0, 0, 2], [arch::UART_LINE.0, u64::MAX, 0]] {
        let answer = invoke(CONTROL.slot(), Method::InterruptControlGet, &words, None, Some(slot));
        equal!(answer, Err(Error::InvalidArgument));
    }
    let occupied: Endpoint = case.make()?;
    equal!(CONTROL.get(arch::UART_LINE.0, true, false, occupied.slot()), Err(Error::SlotOccupied));
    equal!(CONTROL.get(arch::UART_LINE.0, true, false, Slot::new(0)), Err(Error::InvalidSlot));
    // The refusals took nothing.
    line(case)?;
    Ok(())
}

fn a_line_is_bound_once(case: &mut Case) -> Outcome {
    let original: Notification = case.make()?;
    let (first, second) = (case.mint(original, Rights::WRITE, 1)?, case.mint(original, Rights::WRITE, 2)?);
    let line = line(case)?;
    line.bind(first)?;
    equal!(line.bind(second), Err(Error::Busy));
    line.unbind()?;
    equal!(line.bind(second), Ok(()));
    Ok(())
}

fn binding_takes_a_notification_to_write_to(case: &mut Case) -> Outcome {
    let (notification, endpoint): (Notification, Endpoint) = (case.make()?, case.make()?);
    let line = line(case)?;
    let reader = case.copy(notification, Rights::READ)?;
    let empty = case.slot();
    equal!(line.bind(reader), Err(Error::MissingRights));
    equal!(line.bind(Notification::at(endpoint.slot())), Err(Error::WrongKind));
    equal!(line.bind(Notification::at(empty)), Err(Error::EmptySlot));
    let read_only = case.copy(line, Rights::READ)?;
    equal!(read_only.bind(notification), Err(Error::MissingRights));
    // No badge: it would signal nothing.
    equal!(line.bind(notification), Err(Error::InvalidArgument));
    Ok(())
}

fn what_is_not_bound_can_not_be_acknowledged(case: &mut Case) -> Outcome {
    let line = line(case)?;
    equal!(line.acknowledge(), Err(Error::NotMapped));
    equal!(line.unbind(), Ok(()));
    Ok(())
}

fn a_deleted_notification_unbinds_the_line(case: &mut Case) -> Outcome {
    let originals: (Notification, Notification) = (case.make()?, case.make()?);
    let (first, second) = (case.mint(originals.0, Rights::WRITE, 1)?, case.mint(originals.1, Rights::WRITE, 1)?);
    let line = line(case)?;
    line.bind(first)?;
    TABLE.revoke(first.slot())?;
    equal!(line.acknowledge(), Err(Error::NotMapped));
    equal!(line.bind(second), Ok(()));
    Ok(())
}

/// The serial port, its line, and a Notification that gets bit 3 when it interrupts.
fn connected(case: &mut Case) -> Outcome<(Uart, Interrupt, Notification)> {
    let (uart, line): (Uart, Interrupt) = (uart(case)?, line(case)?);
    uart.quiet()?;
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::WRITE, 8)?;
    line.bind(bit)?;
    Ok((uart, line, original))
}

fn a_device_s_interrupt_becomes_a_signal(case: &mut Case) -> Outcome {
    let (uart, line, original) = connected(case)?;
    equal!(original.wait(POLL), Err(Error::TimedOut));
    uart.raise()?;
    let bits = original.wait(in_ms(PATIENCE_MS));
    uart.quiet()?;
    equal!(bits, Ok(8));
    line.acknowledge()?;
    equal!(original.wait(in_ms(10)), Err(Error::TimedOut));
    Ok(())
}

fn an_interrupt_wakes_a_driver_at_its_endpoint(case: &mut Case) -> Outcome {
    fn drive(endpoint: u64) {
        let received = super::ipc::at::<Endpoint>(endpoint).recv(None, None, in_ms(PATIENCE_MS));
        let bits = received.map_or(0, |received| if received.status.is_signal() { received.badge } else { 1 });
        shared(1).store(bits, core::sync::atomic::Ordering::SeqCst);
    }
    let (uart, _, original) = connected(case)?;
    let endpoint: Endpoint = case.make()?;
    let driver = case.prepare(0, HIGH, drive, number(endpoint))?;
    driver.thread.bind(Some(original))?;
    case.start(driver)?;
    uart.raise()?;
    let joined = case.join(driver);
    uart.quiet()?;
    joined?;
    equal!(shared_value(1), 8);
    Ok(())
}

fn an_unbound_line_is_silent(case: &mut Case) -> Outcome {
    let (uart, line, original) = connected(case)?;
    line.unbind()?;
    uart.raise()?;
    let bits = original.wait(in_ms(10));
    uart.quiet()?;
    equal!(bits, Err(Error::TimedOut));
    Ok(())
}

fn many_interrupts_come_one_after_the_other(case: &mut Case) -> Outcome {
    let (uart, line, original) = connected(case)?;
    for n in 0..200 {
        uart.raise()?;
        let bits = original.wait(in_ms(PATIENCE_MS));
        uart.quiet()?;
        check!(bits == Ok(8), "interrupt {n}: {bits:?}");
        line.acknowledge()?;
    }
    Ok(())
}

fn interrupts_are_counted(case: &mut Case) -> Outcome {
    let (uart, line, original) = connected(case)?;
    let before = counters()?.interrupts;
    for _ in 0..10 {
        uart.raise()?;
        let bits = original.wait(in_ms(PATIENCE_MS));
        uart.quiet()?;
        equal!(bits, Ok(8));
        line.acknowledge()?;
    }
    let counted = counters()?.interrupts - before;
    check!(counted >= 10, "{counted} interrupts");
    Ok(())
}

/// Registers of 32 bits that the case has mapped.
struct Registers(u64);

impl Registers {
    fn place(&self, register: u64) -> *mut u32 {
        core::ptr::with_exposed_provenance_mut(to_usize(self.0 + register))
    }

    fn read(&self, register: u64) -> u32 {
        // SAFETY: the case has mapped the device's registers here.
        unsafe { self.place(register).read_volatile() }
    }

    fn write(&self, register: u64, value: u32) {
        // SAFETY: as in `read`; what the device then writes to is the interrupt controller.
        unsafe { self.place(register).write_volatile(value) }
    }
}

/// A device that can send a message.
enum Sender {
    /// A PC's high-precision event timer (IA-PC HPET specification, 2.3).
    Hpet(Registers),
    /// QEMU's device for teaching, on PCI (QEMU's documentation, "EDU device").
    Edu(Registers),
}

impl Sender {
    /// The timer, if its interrupts can be messages: but for a microVM's, they can.
    fn hpet(case: &mut Case) -> Outcome<Option<Sender>> {
        const PLACE: u64 = 0xfed0_0000;
        let hpet = Registers(device_page(case, PLACE)?);
        let by_message = hpet.read(0) >> 16 == 0x8086 && hpet.read(HPET_CONFIGURATION) >> 15 & 1 == 1;
        equal!(by_message, has_pci(case)?);
        Ok(by_message.then_some(Sender::Hpet(hpet)))
    }

    /// The device for teaching, in its place on a machine with IMSICs, and told what to send. Nobody has given it an
    /// address yet.
    fn edu(case: &mut Case, message: InterruptMessage) -> Outcome<Sender> {
        /// Configuration space of device 4, and where the registers shall be.
        const CONFIGURATION: u64 = 0x3000_0000 + (4 << 15);
        const PLACE: u64 = 0x4000_0000;
        let configuration = Registers(device_page(case, CONFIGURATION)?);
        equal!(configuration.read(0), 0x11e8_1234);
        configuration.write(0x10, 0x4000_0000);
        // It may answer, and send.
        configuration.write(4, 6);
        let mut capability = u64::from(configuration.read(0x34) & 0xff);
        while configuration.read(capability) & 0xff != 5 {
            check!(capability != 0, "the device has no messages");
            capability = u64::from(configuration.read(capability) >> 8 & 0xff);
        }
        let [low, high] = [message.address, message.address >> 32].map(|half| half & 0xffff_ffff);
        for (register, value) in [(4, low), (8, high), (12, message.value)] {
            configuration.write(capability + register, u32::try_from(value).unwrap_or(0));
        }
        configuration.write(capability, configuration.read(capability) | 1 << 16);
        Ok(Sender::Edu(Registers(device_page(case, PLACE)?)))
    }

    /// Sends a message soon.
    fn raise(&self, message: InterruptMessage) {
        match self {
            Sender::Hpet(hpet) => raise_hpet(hpet, message),
            Sender::Edu(edu) => {
                // Acknowledge, raise.
                edu.write(0x64, 1);
                edu.write(0x60, 1);
            }
        }
    }
}

const HPET_CONFIGURATION: u64 = 0x100;

fn raise_hpet(hpet: &Registers, message: InterruptMessage) {
    const ENABLE: u64 = 0x10;
    const COUNTER: u64 = 0xf0;
    const COMPARATOR: u64 = 0x108;
    const MESSAGE: u64 = 0x110;
    const INTERRUPT: u32 = 1 << 2;
    const BY_MESSAGE: u32 = 1 << 14;
    let [address, value] = [message.address, message.value].map(|word| u32::try_from(word).unwrap_or(0));
    for (register, value) in [
        (ENABLE, 0),
        (COUNTER, 0),
        (COUNTER + 4, 0),
        (HPET_CONFIGURATION, INTERRUPT | BY_MESSAGE),
        (MESSAGE, value),
        (MESSAGE + 4, address),
        (COMPARATOR, 1000),
        (COMPARATOR + 4, 0),
        (ENABLE, 1),
    ] {
        hpet.write(register, value);
    }
}

/// Whether the machine has PCI (its first device answers): all but a microVM have a timer whose interrupts can be
/// messages, too.
fn has_pci(case: &mut Case) -> Result<bool, Error> {
    const ADDRESS: u64 = 0xcf8;
    const DATA: u64 = 0xcfc;
    let ports = PORTS.get(0xcf8, 0xcff, case.slot())?.slot();
    invoke(ports, Method::IoPortOut, &[ADDRESS, 4, 0x8000_0000], None, None)?;
    let [identity, ..] = invoke(ports, Method::IoPortIn, &[DATA, 4], None, None)?;
    Ok(identity != 0xffff_ffff)
}

/// Whether lines can be messages: always on x86-64, with IMSICs on RISC-V.
fn has_messages() -> bool {
    arch::IS_PC || arch::devicetree_names(b"riscv,imsics\0")
}

fn a_device_s_message_becomes_a_signal(case: &mut Case) -> Outcome {
    let line = CONTROL.get(MESSAGE, false, false, case.slot());
    if !has_messages() {
        equal!(line, Err(Error::InvalidArgument));
        return Ok(());
    }
    let line = line?;
    let message = line.message()?;
    let sender = if arch::IS_PC { Sender::hpet(case)? } else { Some(Sender::edu(case, message)?) };
    let original: Notification = case.make()?;
    let bit = case.mint(original, Rights::WRITE, 8)?;
    let Some(sender) = sender else { return Ok(()) };
    // Nobody is bound yet.
    sender.raise(message);
    case.sleep(10)?;
    line.bind(bit)?;
    equal!(original.wait(POLL), Err(Error::TimedOut));
    for _ in 0..10 {
        sender.raise(message);
        equal!(original.wait(in_ms(PATIENCE_MS)), Ok(8));
        equal!(original.wait(POLL), Err(Error::TimedOut));
        line.acknowledge()?;
    }
    line.unbind()?;
    sender.raise(message);
    equal!(original.wait(in_ms(10)), Err(Error::TimedOut));
    Ok(())
}

fn a_wire_has_no_message(case: &mut Case) -> Outcome {
    equal!(line(case)?.message(), Err(Error::Unsupported));
    Ok(())
}
