//! Ports for programs under test, which bind them a moment after they were told to.

use std::sync::atomic::{AtomicU16, Ordering};

/// A port that nobody listens at and that this process has not been given before. It is not one of those that the kernel gives to
/// connections, so nobody comes upon it by chance until the program binds it that it is for.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = std::process::id() % 200 * 60;
    for _ in 0..12_000 {
        let offset = (own + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 12_000;
        let port = 16_000 + u16::try_from(offset).expect("below 12,000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
