//! A gateway in this process, through its handle.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use weir_controller::TablePolicy;
use weir_eventlog::{Journal, JournalOptions, Parts, RecordLog, TableLog};
use weir_gateway::config::{BreakerSpec, GatewayConfig, PayloadsConfig};
use weir_gateway::{Directory, GatewayHandle, GatewayOptions, Payloads};
use weir_governance::control::Control;
use weir_schemas::prices::Book;

fn start(dir: &std::path::Path) -> GatewayHandle {
    let book = Book::built_in().unwrap();
    weir_gateway::start(GatewayOptions {
        config: GatewayConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: NonZeroUsize::new(2),
            ..GatewayConfig::default()
        },
        directory: Directory::build(&[], &[], &[], BreakerSpec::default(), &book, None).unwrap(),
        control: Control::open(dir, None, None)
            .unwrap()
            .follow(&Parts::default())
            .unwrap(),
        spend_dir: dir.join("spend"),
        peers: None,
        parts: Parts::default(),
        tables: TableLog::new(
            RecordLog::File(dir.join("routing.log")),
            TablePolicy::default(),
        ),
        journal: Journal::open(JournalOptions::new(dir.join("journal"))).unwrap(),
        payloads: Payloads::build(&PayloadsConfig::default()).unwrap(),
    })
    .unwrap()
}

#[test]
fn a_gateway_whose_handle_is_dropped_no_longer_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start(dir.path());
    let addr = gateway.addr();
    drop(TcpStream::connect(addr).unwrap());
    drop(gateway);
    // The workers stop beside this thread; the number of looks is a limit.
    let is_closed = (0..4_000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        TcpStream::connect(addr).is_err()
    });
    assert!(is_closed, "it still accepts");
}
