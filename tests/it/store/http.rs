//! The tests' HTTP client, beside a runtime whose threads it must not hold up.

use std::net::SocketAddr;

use weir_tests::http::{Answer, Request};

use super::as_user;

/// ClickHouse's number for the error.
pub(super) fn error_code(answer: &Answer) -> Option<u32> {
    answer.header("x-clickhouse-exception-code")?.parse().ok()
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, as_user(Request::get(path), "weir")).await
}

pub(super) async fn post(address: SocketAddr, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    send(address, as_user(Request::post(path, body), "weir")).await
}

pub(super) async fn send(address: SocketAddr, request: Request) -> Answer {
    let request = request.read_timeout(super::PATIENCE);
    let answer = tokio::task::spawn_blocking(move || request.send(address));
    answer.await.unwrap().unwrap()
}
