//! Addresses for servers that a test starts.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range that the system takes from for connections: one that is free now would be somebody's
/// before the server that it is meant for has opened it.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address of this machine that nobody listens on, and that no other call here answers.
pub fn free_address() -> SocketAddr {
    // Tests that run at the same time begin apart.
    let start = u16::try_from(std::process::id() * 127 % u32::from(COUNT)).unwrap_or_default();
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
