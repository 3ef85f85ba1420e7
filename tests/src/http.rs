//! HTTP/1.1 for tests: a client and a small server over plain sockets, one connection for each call.
//! A test can add bytes in front of a request, leave in the middle of an answer, or never read it.

use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::weir::PATIENCE;

/// A request that has not been sent yet.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    /// Whole lines.
    headers: String,
    body: Vec<u8>,
    preface: Vec<u8>,
    read_timeout: Duration,
}

impl Request {
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: String::new(),
            body: Vec::new(),
            preface: Vec::new(),
            read_timeout: PATIENCE,
        }
    }

    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    #[must_use]
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", path).body(body)
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Adds header lines as they are, each with its CRLF.
    #[must_use]
    pub fn header_lines(mut self, lines: &str) -> Self {
        self.headers.push_str(lines);
        self
    }

    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Bytes that go ahead of the request, such as a PROXY protocol header.
    #[must_use]
    pub fn preface(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.preface);
        self
    }

    /// How long to wait for each piece of the answer.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// The head, for a body of `length` bytes.
    #[must_use]
    pub fn head(&self, length: usize) -> String {
        format!(
            "{} {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{}content-length: {length}\r\n\r\n",
            self.method, self.path, self.headers
        )
    }

    /// Sends the request and leaves the answer to the caller.
    pub fn open(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(self.read_timeout))?;
        stream.write_all(&self.preface)?;
        stream.write_all(self.head(self.body.len()).as_bytes())?;
        // A server may refuse a body, and close, before it has read all of it: its answer counts.
        let _ = stream.write_all(&self.body);
        Ok(stream)
    }

    /// Sends the request and reads the answer, up to where it ends or breaks off.
    pub fn send(&self, to: SocketAddr) -> Result<Answer> {
        Answer::read(&mut self.open(to)?)
    }
}

/// An answer, read to its end.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body ended as the head promised.
    pub is_complete: bool,
}

impl Answer {
    pub fn read(stream: &mut impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes);
        let Some(split) = find(&bytes, b"\r\n\r\n") else {
            ended?;
            bail!("no head in {:?}", String::from_utf8_lossy(&bytes));
        };
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut answer = Self {
            status: status.with_context(|| format!("no status in {head:?}"))?,
            head,
            body: bytes.split_off(split + 4),
            is_complete: ended.is_ok(),
        };
        if answer.header("transfer-encoding").is_some() {
            let (body, is_whole) = unchunk(&answer.body)?;
            answer.body = body;
            answer.is_complete &= is_whole;
        } else if let Some(length) = answer.header("content-length") {
            answer.is_complete &= answer.body.len() == length.parse::<usize>()?;
        }
        Ok(answer)
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The gateway's id for the request, if the answer has one.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.header("x-request-id").unwrap_or_default()
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[expect(clippy::panic, reason = "the test that asked for JSON fails")]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// The message of an error, in any API's form.
    #[must_use]
    pub fn message(&self) -> String {
        let message = self.json()["error"]["message"].take();
        message.as_str().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.is_complete {
            ""
        } else {
            " (broken off)"
        };
        write!(f, "{}\n\n{}{end}", self.head, self.text())
    }
}

/// The body of an answer to a GET.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = Request::get(path).send(address)?;
    ensure!(answer.status == 200, "GET {path}: {answer:?}");
    Ok(answer.text())
}

/// Whether a path answers 200.
#[must_use]
pub fn is_up(address: SocketAddr, path: &str) -> bool {
    let probe = Request::get(path).read_timeout(Duration::from_secs(5));
    probe.send(address).is_ok_and(|answer| answer.status == 200)
}

/// A request that a server of a test has read.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: String,
    pub body: String,
}

impl Received {
    /// Reads a request whose body has a length.
    pub fn read(stream: &mut impl Read) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(split) = find(&bytes, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
                let body = &bytes[split + 4..];
                let length: usize = header(&head, "content-length").unwrap_or("0").parse()?;
                if body.len() >= length {
                    let body = String::from_utf8_lossy(body).into_owned();
                    return Ok(Self { head, body });
                }
            }
            let read = stream.read(&mut piece)?;
            ensure!(read > 0, "the request ended early");
            bytes.extend_from_slice(&piece[..read]);
        }
    }

    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// Answers each request on a thread of its own, until the test's process ends. `answer` writes to the
/// stream, which is closed behind it.
pub fn serve(
    answer: impl Fn(&Received, &mut TcpStream) -> Result<()> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let answer = answer.clone();
            // A client that leaves in the middle is the test's business.
            thread::spawn(move || -> Result<()> {
                let received = Received::read(&mut client)?;
                answer(&received, &mut client)?;
                client.shutdown(Shutdown::Write)?;
                Ok(())
            });
        }
    });
    Ok(address)
}

/// The head of an answer whose body ends with the connection.
#[must_use]
pub fn answer_head(status: u16, content_type: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n")
}

/// A whole JSON answer.
#[must_use]
pub fn json_answer(status: u16, body: &str) -> String {
    answer_head(status, "application/json") + body
}

/// The head of a stream of events.
#[must_use]
pub fn event_stream_head() -> String {
    answer_head(200, "text/event-stream")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Joins chunks; says whether the last one was there.
fn unchunk(mut raw: &[u8]) -> Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(line) = find(raw, b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&raw[..line])?, 16)?;
        raw = &raw[line + 2..];
        if length == 0 {
            return Ok((body, true));
        }
        if raw.len() < length + 2 {
            body.extend_from_slice(&raw[..length.min(raw.len())]);
            break;
        }
        body.extend_from_slice(&raw[..length]);
        raw = &raw[length + 2..];
    }
    Ok((body, false))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
