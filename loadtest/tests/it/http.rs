//! The least HTTP/1.1 client that can tell a whole answer from a broken one.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    /// The body without its chunk framing, as far as it came.
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
    /// When each piece of the body was read, counted from the request.
    pub(crate) arrivals: Vec<(Duration, usize)>,
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum End {
    Whole,
    /// The connection was reset.
    Reset,
    /// The connection was closed in good order, too early.
    Closed,
    /// Nothing came for as long as the client waits.
    Silence,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The `data:` lines of a stream.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.text()
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect()
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::patient(addr, Duration::from_secs(20))
    }

    /// A client that gives up after so much silence.
    pub(crate) fn patient(addr: SocketAddr, silence: Duration) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(silence)).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: mock\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Got, End> {
        let began = Instant::now();
        self.send(method, path, headers, body);
        self.receive(began)
    }

    /// Reads an answer; `Err` when not even a head came.
    pub(crate) fn receive(&mut self, began: Instant) -> Result<Got, End> {
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut got = Got {
            status,
            headers,
            body: Vec::new(),
            end: End::Whole,
            arrivals: Vec::new(),
        };
        got.end = match got.headers.get("content-length") {
            Some(length) => self.fixed(length.parse().unwrap(), began, &mut got),
            None => self.chunked(began, &mut got),
        }
        .err()
        .unwrap_or(End::Whole);
        Ok(got)
    }

    fn fixed(&mut self, length: usize, began: Instant, got: &mut Got) -> Result<(), End> {
        loop {
            let take = self.buffer.len().min(length - got.body.len());
            got.body.extend(self.buffer.drain(..take));
            got.arrivals.push((began.elapsed(), take));
            if got.body.len() == length {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn chunked(&mut self, began: Instant, got: &mut Got) -> Result<(), End> {
        loop {
            let line_end = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(at) => break at,
                    None => self.more()?,
                }
            };
            let size = std::str::from_utf8(&self.buffer[..line_end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.buffer.len() < line_end + 2 + size + 2 {
                self.more()?;
            }
            got.body
                .extend_from_slice(&self.buffer[line_end + 2..line_end + 2 + size]);
            self.buffer.drain(..line_end + 2 + size + 2);
            if size == 0 {
                return Ok(());
            }
            got.arrivals.push((began.elapsed(), size));
        }
    }

    fn more(&mut self) -> Result<(), End> {
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(End::Closed),
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => Err(End::Reset),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::Silence),
                other => panic!("{other}: {error}"),
            },
        }
    }

    /// What has arrived and was not taken yet.
    pub(crate) fn peek(&mut self) -> &[u8] {
        if self.buffer.is_empty() {
            self.more().unwrap();
        }
        &self.buffer
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// One POST on a connection of its own.
pub(crate) fn post(addr: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
    Client::connect(addr)
        .call("POST", path, headers, body)
        .unwrap()
}

/// One GET on a connection of its own.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Got {
    Client::connect(addr).call("GET", path, &[], "").unwrap()
}
