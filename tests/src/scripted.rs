//! A provider that answers each model with the bytes that a test wrote for it, whatever it is asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

/// What is answered to calls of one model.
#[derive(Clone, Debug)]
pub struct Script {
    pub model: String,
    pub status: u16,
    pub headers: String,
    /// The body is over with its last byte: the connection is closed behind it.
    pub body: String,
}

/// It listens until the test's process ends.
#[derive(Debug)]
pub struct ScriptedProvider {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// A plain JSON answer.
    #[must_use]
    pub fn plain(model: &str, body: &str) -> Self {
        Self::new(model, 200, "content-type: application/json\r\n", body)
    }

    /// A stream with this data in its events, each with the blank line behind it.
    #[must_use]
    pub fn stream(model: &str, events: &[&str]) -> Self {
        let body: String = events
            .iter()
            .map(|data| format!("data: {data}\n\n"))
            .collect();
        Self::new(model, 200, "content-type: text/event-stream\r\n", &body)
    }

    #[must_use]
    pub fn failure(model: &str, status: u16) -> Self {
        let body = r#"{"error":{"message":"scripted","type":"server_error"}}"#;
        Self::new(model, status, "content-type: application/json\r\n", body)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    fn new(model: &str, status: u16, headers: &str, body: &str) -> Self {
        Self {
            model: model.to_owned(),
            status,
            headers: headers.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Whether a call is of this model: its name stands in the body, or in the path.
    fn is_for(&self, request: &str) -> bool {
        request.contains(&format!("\"{}\"", self.model))
            || request.contains(&format!("/models/{}:", self.model))
    }
}

impl ScriptedProvider {
    pub fn start(scripts: Vec<Script>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let scripts: Arc<[Script]> = scripts.into();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (scripts, heard) = (scripts.clone(), heard.clone());
                // A client that leaves in the middle is the test's business.
                thread::spawn(move || answer(client, &scripts, &heard));
            }
        });
        Ok(Self { address, asked })
    }

    /// Heads and bodies of all calls of a model so far.
    #[must_use]
    pub fn asked(&self, model: &str) -> Vec<String> {
        let script = Script::plain(model, "");
        let asked = self.asked.lock();
        asked
            .iter()
            .filter(|request| script.is_for(request))
            .cloned()
            .collect()
    }
}

fn answer(mut client: TcpStream, scripts: &[Script], heard: &Mutex<Vec<String>>) -> Result<()> {
    let request = read(&mut client)?;
    let script = scripts
        .iter()
        .find(|script| script.is_for(&request))
        .context("no script is for the call")?;
    heard.lock().push(request);
    let head = format!(
        "HTTP/1.1 {} scripted\r\n{}connection: close\r\n\r\n",
        script.status, script.headers
    );
    client.write_all(format!("{head}{}", script.body).as_bytes())?;
    Ok(())
}

/// Reads a whole request, whose body has a length.
fn read(client: &mut TcpStream) -> Result<String> {
    let mut request = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        let read = client.read(&mut piece)?;
        anyhow::ensure!(read > 0, "the call ended early");
        request.extend_from_slice(&piece[..read]);
    }
}
