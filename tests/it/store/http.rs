//! A client that shows what goes over the wire, and can break off.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    /// Whether the body ended as its head promised.
    pub(super) complete: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// ClickHouse's number for the error.
    pub(super) fn code(&self) -> Option<u32> {
        self.headers
            .get("x-clickhouse-exception-code")?
            .parse()
            .ok()
    }
}

pub(super) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], b"").await
}

pub(super) async fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Answer {
    request(address, "POST", path, &[], body.as_ref()).await
}

pub(super) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&head(method, path, headers, body.len()))
        .await
        .unwrap();
    // A server may answer, and close, before it has read all: the answer counts.
    let _ = stream.write_all(body).await;
    read_answer(&mut stream).await
}

/// The head of a request whose body is to have a length.
pub(super) fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

pub(super) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = timeout(Duration::from_secs(120), stream.read_to_end(&mut bytes)).await;
    let ended_well = read.expect("the answer did not end in time").is_ok();
    let split = find(&bytes, b"\r\n\r\n").expect("the answer has a head");
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let raw = &bytes[split + 4..];
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap()
        .parse()
        .unwrap();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let (body, complete) = if headers.contains_key("transfer-encoding") {
        unchunk(raw)
    } else {
        let length: usize = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        (raw.to_vec(), raw.len() == length)
    };
    Answer {
        status,
        headers,
        body,
        complete: complete && ended_well,
    }
}

/// Joins chunks; says whether the last one was there.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = find(raw, b"\r\n") else {
            return (body, false);
        };
        let length = std::str::from_utf8(&raw[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        raw = &raw[line + 2..];
        if length == 0 {
            return (body, true);
        }
        if raw.len() < length + 2 {
            body.extend_from_slice(&raw[..length.min(raw.len())]);
            return (body, false);
        }
        body.extend_from_slice(&raw[..length]);
        raw = &raw[length + 2..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
