//! A provider that answers each model with the bytes that a test wrote for it, whatever it is asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::{Condvar, Mutex};

use crate::http::{Received, serve};

/// What is answered to calls of one model.
#[derive(Clone, Debug)]
pub struct Script {
    pub model: String,
    pub status: u16,
    pub headers: String,
    /// The body is over with its last byte: the connection is closed behind it.
    pub body: String,
    /// It is answered when this has happened, too.
    pub after: Option<Awaited>,
    /// The connection stays open behind the body until the client leaves.
    pub is_unfinished: bool,
}

/// What a script waits for at another model.
#[derive(Clone, Debug)]
pub enum Awaited {
    Asked(String),
    /// The body has been written, whether or not it is finished.
    Answered(String),
}

/// It listens until the test's process ends.
#[derive(Debug)]
pub struct ScriptedProvider {
    pub address: SocketAddr,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    so_far: Mutex<CallsSoFar>,
    changed: Condvar,
}

/// Heads and bodies.
#[derive(Debug, Default)]
struct CallsSoFar {
    asked: Vec<String>,
    answered: Vec<String>,
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
    pub fn after(mut self, model: &str) -> Self {
        self.after = Some(Awaited::Asked(model.to_owned()));
        self
    }

    #[must_use]
    pub fn after_answer(mut self, model: &str) -> Self {
        self.after = Some(Awaited::Answered(model.to_owned()));
        self
    }

    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.is_unfinished = true;
        self
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
            after: None,
            is_unfinished: false,
        }
    }

    /// Whether a call is of this model: its name stands in the body, or in the path. A script without a
    /// model is for every call.
    fn is_for(&self, request: &str) -> bool {
        self.model.is_empty()
            || request.contains(&format!("\"{}\"", self.model))
            || request.contains(&format!("/models/{}:", self.model))
    }
}

impl ScriptedProvider {
    pub fn start(scripts: Vec<Script>) -> Result<Self> {
        let calls = Arc::new(Calls::default());
        let so_far = calls.clone();
        let address = serve(move |request, client| answer(request, client, &scripts, &so_far))?;
        Ok(Self { address, calls })
    }

    /// Heads and bodies of all calls of a model so far.
    #[must_use]
    pub fn asked(&self, model: &str) -> Vec<String> {
        let script = Script::plain(model, "");
        let so_far = self.calls.so_far.lock();
        let asked = so_far.asked.iter();
        asked
            .filter(|request| script.is_for(request))
            .cloned()
            .collect()
    }
}

impl Calls {
    fn note(&self, note: impl FnOnce(&mut CallsSoFar)) {
        note(&mut self.so_far.lock());
        self.changed.notify_all();
    }

    fn wait_for(&self, awaited: &Awaited) {
        let (Awaited::Asked(model) | Awaited::Answered(model)) = awaited;
        let script = Script::plain(model, "");
        let mut so_far = self.so_far.lock();
        loop {
            let mut requests = match awaited {
                Awaited::Asked(_) => so_far.asked.iter(),
                Awaited::Answered(_) => so_far.answered.iter(),
            };
            if requests.any(|request| script.is_for(request)) {
                return;
            }
            self.changed.wait(&mut so_far);
        }
    }
}

fn answer(
    request: &Received,
    client: &mut TcpStream,
    scripts: &[Script],
    calls: &Calls,
) -> Result<()> {
    let request = format!("{}\r\n\r\n{}", request.head, request.body);
    let mut scripts = scripts.iter();
    let script = scripts.find(|script| script.is_for(&request));
    let script = script.context("no script is for the call")?;
    calls.note(|so_far| so_far.asked.push(request.clone()));
    if let Some(awaited) = &script.after {
        calls.wait_for(awaited);
    }
    let head = format!(
        "HTTP/1.1 {} scripted\r\n{}connection: close\r\n\r\n",
        script.status, script.headers
    );
    client.write_all(format!("{head}{}", script.body).as_bytes())?;
    calls.note(|so_far| so_far.answered.push(request));
    if script.is_unfinished {
        // It sends nothing more: this waits until it leaves.
        let _ = client.read(&mut [0])?;
    }
    Ok(())
}
