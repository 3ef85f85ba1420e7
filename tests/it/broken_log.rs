//! A log that cannot be written, because its reader is gone or its disk is full, stops nothing.

use std::fs::{self, OpenOptions};
use std::io;
use std::process::Stdio;

use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat, config};
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Installation, wait_for};

/// What a pipe holds.
const PIPE_BYTES: usize = 65_536;

/// Writing to it fails as to a pipe that its reader has closed.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Writing to it fails as on a full disk.
fn full_disk() -> Stdio {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    full.into()
}

#[test]
fn every_part_goes_on_when_the_log_cannot_be_written() {
    for log in [closed_pipe(), full_disk()] {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = Installation::new(&config(&mock)).unwrap();
        let up = weir.start_logging_to(&["up"], log).unwrap();
        weir.wait_until_ready().unwrap();
        let key = weir.create_key("growth").unwrap();
        weir.wait_until_known(&key).unwrap();
        weir.wait_for_store().unwrap();

        // Three parts say something: who reads the configuration, who runs the engine, and who stores.
        let good = fs::read_to_string(weir.config()).unwrap();
        fs::write(weir.config(), "this is no configuration").unwrap();
        up.kill_child().unwrap();
        assert_eq!(chat(weir.gateway, &key).status, 200);
        let renamed = good.replace("\"fast-chat\"", "\"renamed\"");
        fs::write(weir.config(), renamed).unwrap();
        wait_for("the configuration is followed", || {
            Ok(chat(weir.gateway, &key).status == 404)
        })
        .unwrap();
        fs::write(weir.config(), good).unwrap();
        wait_for("the configuration is followed again", || {
            Ok(chat(weir.gateway, &key).status == 200)
        })
        .unwrap();
        weir.wait_for_store().unwrap();
        let stored = "SELECT count() > 1 FROM weir.requests WHERE status = 200";
        weir.wait_for_number(stored, 1).unwrap();
        up.stop().unwrap();
    }
}

#[test]
fn a_broker_that_goes_away_while_the_log_cannot_be_written_stops_nothing() {
    let mut kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let eventlog = format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\npartitions = 1\n\n",
        kafka.brokers()
    );
    let weir = Installation::new(&(eventlog + &config(&mock))).unwrap();
    let gateway = weir.start_logging_to(&["gateway"], closed_pipe()).unwrap();
    weir.wait_until_ready().unwrap();
    let key = weir.create_key("growth").unwrap();
    weir.wait_until_known(&key).unwrap();
    // The client library says in callbacks, on threads of its own, that the broker is gone.
    kafka.kill();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    kafka.start_again().unwrap();
    let later = weir.create_key("growth").unwrap();
    weir.wait_until_known(&later).unwrap();
    assert_eq!(chat(weir.gateway, &later).status, 200);
    gateway.stop().unwrap();
}

/// A pipe that is full, and whose reader does not read.
fn hanging_pipe() -> (io::PipeReader, Stdio) {
    let (reader, mut writer) = io::pipe().unwrap();
    let full = vec![b'\n'; PIPE_BYTES];
    io::Write::write_all(&mut writer, &full).unwrap();
    (reader, writer.into())
}

#[test]
fn nobody_waits_for_the_log_when_its_reader_hangs() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    let (reader, log) = hanging_pipe();
    let up = weir.start_logging_to(&["up"], log).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    let good = fs::read_to_string(weir.config()).unwrap();
    fs::write(weir.config(), "this is no configuration").unwrap();
    up.kill_child().unwrap();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    let renamed = good.replace("\"fast-chat\"", "\"renamed\"");
    fs::write(weir.config(), renamed).unwrap();
    wait_for("the configuration is followed", || {
        Ok(chat(weir.gateway, &key).status == 404)
    })
    .unwrap();
    let stored = "SELECT count() > 1 FROM weir.requests";
    weir.wait_for_number(stored, 1).unwrap();
    up.stop().unwrap();
    drop(reader);
}
