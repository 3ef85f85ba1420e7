//! Accepts connections and answers requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::call::{Serving, StrictRefusal};
use super::control::{control, json};
use super::link::{LinkFaults, MockConnection};
use super::play::MockBody;
use super::strict::{self, StrictApi, StrictRequest};
use super::wire::{self, MockRequest, RequestHead, Trouble, Wire};
use super::{MockError, MockState};

/// Above OpenAI's own bound; a mock must take whatever a gateway lets through.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The threads of one mock. Dropping them closes everything and waits.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}

pub(super) fn listen(addr: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), MockError> {
    let listen = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let taken = listener.local_addr()?;
        Ok((listener, taken))
    };
    listen().map_err(|source| MockError::Listen { addr, source })
}

pub(super) fn spawn(
    listener: std::net::TcpListener,
    shared: &Arc<MockState>,
) -> Result<Workers, MockError> {
    let failed = |source| MockError::Thread { source };
    let (stop, stopped) = watch::channel(false);
    let mut workers = Workers {
        threads: Vec::new(),
        stop,
    };
    for index in 0..shared.options.workers {
        let listener = listener.try_clone().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (shared, stopped) = (Arc::clone(shared), stopped.clone());
        let thread = std::thread::Builder::new()
            .name(format!("mock-{}-{index}", shared.options.name))
            .spawn(move || runtime.block_on(accept(listener, shared, stopped)))
            .map_err(failed)?;
        workers.threads.push(thread);
    }
    Ok(workers)
}

/// Serves connections until told to stop; what is open then is closed.
async fn accept(
    listener: std::net::TcpListener,
    shared: Arc<MockState>,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, most likely: give connections time to close rather than spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<MockState>) {
    // Without it, Nagle and delayed ACK add 40 ms to every answer that takes two writes.
    let _ = stream.set_nodelay(true);
    let faults = Arc::new(LinkFaults::default());
    let service = hyper::service::service_fn({
        let faults = Arc::clone(&faults);
        move |request| {
            let (shared, faults) = (Arc::clone(&shared), Arc::clone(&faults));
            async move { Ok::<_, Infallible>(serve(request, shared, faults).await) }
        }
    });
    // Errors of a connection are the caller's leaving or an injected fault; both are in the ledger.
    let _ = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(MockConnection::new(stream, faults), service)
        .await;
}

/// One request's way.
async fn serve(
    request: Request<Incoming>,
    shared: Arc<MockState>,
    link: Arc<LinkFaults>,
) -> Response<MockBody> {
    let path = request.uri().path();
    if path.starts_with("/__mock/") {
        return control(request, &shared).await;
    }
    if link.first() {
        shared.books.connected();
    }
    if let Some(wanted) = model_listing(request.method(), path) {
        return list_models(&shared, wanted);
    }
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (wire, found) = match wire::find(&parts.method, parts.uri.path()) {
        Ok(wire) => (wire, Ok(())),
        Err(trouble) => (wire::DEFAULT, Err(trouble)),
    };
    let (key, authorised) = authenticate(wire, &parts.headers, &shared);
    let body = match found.and(authorised) {
        Ok(()) => collect(body).await,
        Err(trouble) => Err(trouble),
    };
    let serving = Serving {
        shared: &shared,
        wire,
        link,
        key,
        began,
    };
    if let Ok(body) = &body
        && let Some(refusal) = refused_strictly(&parts, body, &shared)
    {
        return serving.refuse_strictly(refusal);
    }
    match body.and_then(|body| read(wire, &parts, &body, &shared)) {
        Ok(asked) => serving.answer(asked).await,
        Err(trouble) => serving.turn_away("-", &trouble),
    }
}

/// What the real API would answer to a request that it refuses, where the mock is to do so.
fn refused_strictly(parts: &Parts, body: &[u8], shared: &MockState) -> Option<StrictRefusal> {
    let path = parts.uri.path();
    let api = StrictApi::of_path(path).filter(|_| shared.options.strict)?;
    let model = strict::model(path, body);
    let vendor = shared.options.vendor.as_str();
    let violation = strict::check(&StrictRequest {
        vendor,
        api,
        model: &model,
        headers: &parts.headers,
        body,
    })
    .err()?;
    shared.books.refused(violation.rule());
    let (status, body) = violation.answer(vendor, api);
    Some(StrictRefusal {
        model,
        status,
        body,
    })
}

/// `Some(None)` for the list, `Some(Some(id))` for one model.
fn model_listing<'p>(method: &Method, path: &'p str) -> Option<Option<&'p str>> {
    let rest = path
        .strip_prefix("/v1/models")
        .filter(|_| method == Method::GET)?;
    match rest {
        "" | "/" => Some(None),
        _ => rest.strip_prefix('/').map(Some),
    }
}

fn list_models(shared: &MockState, wanted: Option<&str>) -> Response<MockBody> {
    shared.books.listed_models();
    match wire::models(&shared.options.models, &shared.options.name, wanted) {
        Ok(body) => json(StatusCode::OK, body),
        Err(trouble) => {
            let (status, body) = wire::DEFAULT.trouble(&trouble);
            json(
                StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND),
                body,
            )
        }
    }
}

/// The key's label for the ledger, and whether it may call.
fn authenticate(
    wire: &dyn Wire,
    headers: &HeaderMap,
    shared: &MockState,
) -> (Arc<str>, Result<(), Trouble>) {
    let known = &shared.options.keys;
    match wire.key(headers) {
        Some(key) if known.iter().any(|known| known == key) => (key.into(), Ok(())),
        Some(key) if known.is_empty() => (masked(key).into(), Ok(())),
        Some(key) => {
            let shown = masked(key);
            (shown.as_str().into(), Err(Trouble::WrongKey { shown }))
        }
        None if known.is_empty() => ("-".into(), Ok(())),
        None => ("-".into(), Err(Trouble::NoKey)),
    }
}

/// A key that was not configured here may be someone's real one: it is never kept whole.
fn masked(key: &str) -> String {
    match key.char_indices().nth_back(3) {
        Some((end, _)) if key.chars().count() > 12 => format!("****{}", &key[end..]),
        _ => "****".to_owned(),
    }
}

fn read(
    wire: &dyn Wire,
    parts: &Parts,
    body: &[u8],
    shared: &MockState,
) -> Result<MockRequest, Trouble> {
    let called = RequestHead {
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let mut asked = wire.read(&called, body)?;
    asked.overrides.merge_headers(&parts.headers);
    let models = &shared.options.models;
    if !models.is_empty() && !models.contains(&asked.model) {
        return Err(Trouble::NoSuchModel { model: asked.model });
    }
    Ok(asked)
}

/// The whole body. Most arrive in one piece, which is then not copied.
pub(super) async fn collect(body: Incoming) -> Result<Bytes, Trouble> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Trouble::TooLarge {
            bytes_max: BODY_BYTES_MAX,
        }),
        Err(error) => Err(Trouble::NotJson {
            problem: error.to_string(),
        }),
    }
}
