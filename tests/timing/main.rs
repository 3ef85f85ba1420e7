//! What depends on how fast things happen. Cargo runs test binaries one after the other, and the tests
//! here run one after the other too, so that they have the machine to themselves.
#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it was given"
)]

mod keys;
mod routing;

use parking_lot::{Mutex, MutexGuard};

/// The machine, held by one test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock()
}
