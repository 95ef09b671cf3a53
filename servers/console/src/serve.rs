//! The console on a serial line: one thread serves, another waits for keys and sends them to the first.

use core::convert::Infallible;
use core::time::Duration;

use anos::capability::{Capability, Endpoint};
use anos::interfaces::serial::Request;
use anos::interfaces::start::name;
use anos::server::{Event, Server};
use anos::{Error, Failure, Message, Rights, abi, env, slots, thread, time};
use anos_interfaces::Bytes;
use anos_server_console::Console;

/// The badge of the thread that brings keys: no process has it.
const KEYS: u64 = u64::MAX;
/// How long to leave a serial driver alone that is gone, before asking for its successor.
const RETRY: Duration = Duration::from_millis(50);

/// Waits for keys, and sends them to the server.
fn bring_keys(serial: Endpoint, server: Endpoint) {
    loop {
        match serial.call(&Request::Read.message()) {
            Ok(words) => {
                let _ = server.send(&Message { label: 0, words }, None, abi::syscall::FOREVER);
            }
            Err(_) => {
                let _ = time::sleep(RETRY);
            }
        }
    }
}

/// Sends bytes down the line. What a driver that is gone did not take, is lost.
fn write(serial: Endpoint, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, taken) = Bytes::take(rest);
        rest = rest.get(taken..).unwrap_or_default();
        if serial.call(&Request::Write(piece).message()).is_err() {
            return;
        }
    }
}

/// Serves requests and keys, whichever comes.
pub fn main() -> Result<Infallible, Failure> {
    let endpoint: Endpoint = env::capability(name::SERVICE).ok_or(Error::EmptySlot)?;
    let serial: Endpoint = env::capability(name::SERIAL).ok_or(Error::EmptySlot)?;
    let bringer = slots::allocate()?;
    env::OWN_TABLE.mint(endpoint.slot(), bringer, Rights::WRITE, KEYS)?;
    thread::Builder::new().name("keys").spawn(move || bring_keys(serial, Endpoint::at(bringer)))?;
    let mut console = Console::default();
    let mut server = Server::new(endpoint);
    loop {
        if let Event::Request(request) = server.receive()? {
            let sender = request.sender();
            match request.answerer {
                Some(answerer) => console.request(&request.message, sender, answerer),
                None if request.badge == KEYS => console.keys(Bytes::from_words(&request.message.words).as_slice()),
                None => {}
            }
        }
        write(serial, &console.take_output());
        for (answerer, message) in console.take_answers() {
            server.answer(answerer, message);
        }
    }
}
