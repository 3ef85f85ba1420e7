//! ClickHouse's HTTP protocol in front of the embedded engine.
//!
//! The way through: accept → read the request ([`QueryRequest`]) → admit (credentials, origin) →
//! find the statement, in the URL and the body → take a place → run it on a thread
//! ([`crate::run`]) while the body is fed in → answer with the first word that the thread gives.
//!
//! | queue | bound | when it is full |
//! | --- | --- | --- |
//! | connections | [`CONNECTIONS_MAX`] | no more are accepted until one is closed |
//! | statements | [`QUERIES_MAX`], [`INSERTS_MAX`] | a statement waits [`PLACE_WAIT_MAX`], then 503 |
//! | rows on their way in | [`ROWS_QUEUED_MAX`] frames | the client is not read |
//! | output on its way out | [`OUTPUT_QUEUED_MAX`] chunks | the engine waits |
//! | statements to stop | one per statement | cannot be |
//!
//! What it never does: collect a body or a result (but for the formats that are one document), or
//! serve a browser page of another origin.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::answer::{QueryBody, StreamedOutput, exception_tag, set, summary_json, thread_died};
use crate::caps::{
    CONNECTIONS_MAX, HEAD_TIME_MAX, INSERTS_MAX, OUTPUT_QUEUED_MAX, PLACE_WAIT_MAX, QUERIES_MAX,
    ROWS_QUEUED_MAX, STOP_GRACE,
};
use crate::encode::ErrorPacking;
use crate::engine::{EmbeddedEngine, QueryProgress};
use crate::error::{ServerError, code};
use crate::format;
use crate::hello;
use crate::intake::{drain, feed, find_statement};
use crate::killer::{CancelOnDrop, Killer};
use crate::request::{Credentials, QueryRequest, text};
use crate::run::{self, QueryJob, QueryOutput, Running};
use crate::sql::Statement;

/// Everything that requests share.
struct Facade {
    engine: Arc<EmbeddedEngine>,
    /// Who may ask. None lets in every client that reaches the port.
    credentials: Option<Credentials>,
    queries: Arc<Semaphore>,
    inserts: Arc<Semaphore>,
    killer: Killer,
}

/// Serves until `shutdown` becomes true, then lets running statements end within [`STOP_GRACE`].
pub(crate) async fn serve(
    listener: TcpListener,
    engine: Arc<EmbeddedEngine>,
    credentials: Option<Credentials>,
    mut shutdown: watch::Receiver<bool>,
) {
    let facade = Arc::new(Facade {
        killer: Killer::start(Arc::clone(&engine)),
        queries: Arc::new(Semaphore::new(QUERIES_MAX)),
        inserts: Arc::new(Semaphore::new(INSERTS_MAX)),
        engine,
        credentials,
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = stopped(&mut shutdown) => break,
        };
        if let Some((stream, place)) = accepted {
            let facade = Arc::clone(&facade);
            let shutdown = shutdown.clone();
            connections.spawn(async move {
                serve_connection(facade, stream, shutdown).await;
                drop(place);
            });
        }
    }
    drop(listener);
    let all_ended = timeout(STOP_GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if all_ended.is_err() {
        warn!(
            connections = connections.len(),
            "stopping statements that did not end in time"
        );
        connections.shutdown().await;
    }
    facade.wait_for_statements().await;
}

/// Waits until everything is to stop. A dropped sender also means stop.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of file descriptors, most likely: waiting lets some be closed.
            warn!(%error, "failed to accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn serve_connection(
    facade: Arc<Facade>,
    stream: TcpStream,
    mut shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let facade = Arc::clone(&facade);
        async move { Ok::<_, Infallible>(facade.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}

type QueryResponse = Response<QueryBody>;

impl Facade {
    /// One request, from its head to the head of its answer.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> QueryResponse {
        let (parts, mut body) = request.into_parts();
        if let Some((status, text)) = text_at(&parts) {
            return self.text(status, text);
        }
        let request = match QueryRequest::read(&parts) {
            Ok(request) => request,
            Err(error) => return self.error(&error, "", ErrorPacking::default()),
        };
        let query_id = request.query_id.clone();
        if let Err(error) = self.admit(&parts, &request) {
            drain(&mut body).await;
            return self.error(&error, &query_id, ErrorPacking::default());
        }
        let packing = request.error_packing();
        match self.query(request, &mut body).await {
            Ok(answer) => answer,
            Err(error) => {
                drain(&mut body).await;
                self.error(&error, &query_id, packing)
            }
        }
    }

    async fn query(
        self: &Arc<Self>,
        request: QueryRequest,
        body: &mut Incoming,
    ) -> Result<QueryResponse, ServerError> {
        let job = find_statement(request, body).await?;
        if let Some(hello) = hello::answer(&job, self.engine.version()) {
            let query_id = &job.request.query_id;
            let head = self.head_of_output(query_id, Some("Native"), QueryProgress::default());
            return Ok(head.map(|()| QueryBody::Left(Full::new(hello))));
        }
        let places = match &job.statement {
            Statement::Insert(_) => &self.inserts,
            Statement::Select { .. } | Statement::Other { .. } => &self.queries,
        };
        let place = take_place(places).await?;
        self.run(job, body, place).await
    }

    fn admit(&self, parts: &Parts, request: &QueryRequest) -> Result<(), ServerError> {
        match &self.credentials {
            Some(expected) if request.credentials.as_ref() == Some(expected) => Ok(()),
            Some(_) => Err(ServerError::new(
                code::AUTHENTICATION_FAILED,
                "Authentication failed: the user or the password is wrong (settings user and \
                 password of [store])",
            )),
            // With no password, the port is open to every local client. A page of another origin in a
            // browser reaches it too, and must not.
            None if is_foreign_page(&parts.headers) => Err(ServerError::new(
                code::ACCESS_DENIED,
                "Pages of other origins are not served",
            )),
            None => Ok(()),
        }
    }

    /// Starts the statement, feeds it, and waits for its first word.
    async fn run(
        self: &Arc<Self>,
        job: QueryJob,
        body: &mut Incoming,
        place: OwnedSemaphorePermit,
    ) -> Result<QueryResponse, ServerError> {
        let takes_rows = matches!(job.statement, Statement::Insert(_));
        let query_id = job.request.query_id.clone();
        let in_blocks = job.request.error_packing().in_blocks;
        let running = Arc::new(Running::default());
        let stop = CancelOnDrop {
            running: Arc::clone(&running),
            query_id: query_id.clone(),
            killer: self.killer.clone(),
        };
        let (rows_in, rows_out) = mpsc::channel(ROWS_QUEUED_MAX);
        let (output_in, mut output) = mpsc::channel(OUTPUT_QUEUED_MAX);
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || {
            run::run(&engine, job, &running, rows_out, output_in);
            // In this order: once all permits are free, no statement holds the engine.
            drop(engine);
            drop(place);
        });
        let complete = !takes_rows || feed(body, rows_in).await;
        let first = output.recv().await;
        if !complete {
            drain(body).await;
        }
        match first {
            Some(QueryOutput::Whole {
                format,
                output,
                progress,
            }) => {
                let response = self.head_of_output(&query_id, format.as_deref(), progress);
                Ok(response.map(|()| QueryBody::Left(Full::new(output))))
            }
            Some(QueryOutput::Head {
                format,
                first,
                progress,
            }) => {
                let mut response = self.head_of_output(&query_id, Some(&format), progress);
                let tag = exception_tag();
                set(response.headers_mut(), "x-clickhouse-exception-tag", &tag);
                let stream = StreamedOutput {
                    first: Some(first),
                    output,
                    tag,
                    packing: ErrorPacking {
                        in_blocks,
                        encoding: None,
                    },
                    cut: None,
                    _stop: stop,
                };
                Ok(response.map(|()| QueryBody::Right(Box::new(stream))))
            }
            Some(QueryOutput::End(Err(error))) => Err(error),
            Some(QueryOutput::End(Ok(())) | QueryOutput::Chunk(_)) | None => Err(thread_died()),
        }
    }

    fn head_of_output(
        &self,
        query_id: &str,
        format: Option<&str>,
        progress: QueryProgress,
    ) -> Response<()> {
        let mut response = self.head(StatusCode::OK, query_id);
        let headers = response.headers_mut();
        if let Some(format) = format {
            set(headers, "x-clickhouse-format", format);
            set(headers, "content-type", format::content_type(format));
        }
        set(headers, "x-clickhouse-summary", &summary_json(&progress));
        response
    }

    fn error(&self, error: &ServerError, query_id: &str, packing: ErrorPacking) -> QueryResponse {
        let mut response = self.head(error.status(), query_id);
        let headers = response.headers_mut();
        let code = error.code.to_string();
        set(headers, "x-clickhouse-exception-code", &code);
        set(headers, "content-type", "text/plain; charset=UTF-8");
        if let Some(encoding) = packing.encoding {
            set(headers, "content-encoding", encoding.name());
        }
        if error.status() == StatusCode::UNAUTHORIZED
            || error.code == code::AUTHENTICATION_FAILED.number
        {
            let realm = "Basic realm=\"ClickHouse server HTTP API\"";
            set(headers, "www-authenticate", realm);
        }
        let text = packing.pack(self.versioned(error).into());
        response.map(|()| QueryBody::Left(Full::new(text)))
    }

    /// The message as a server sends it: with the version, and a line break at the end.
    fn versioned(&self, error: &ServerError) -> String {
        if error.message.contains(" (version ") {
            return format!("{}\n", error.message);
        }
        format!("{} (version {})\n", error.message, self.engine.version())
    }

    fn text(&self, status: StatusCode, text: &'static str) -> QueryResponse {
        let mut response = self.head(status, "");
        let headers = response.headers_mut();
        set(headers, "content-type", "text/html; charset=UTF-8");
        response.map(|()| QueryBody::Left(Full::new(text.into())))
    }

    fn head(&self, status: StatusCode, query_id: &str) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        set(headers, "x-clickhouse-server-display-name", "weir");
        set(headers, "x-clickhouse-timezone", "UTC");
        if !query_id.is_empty() {
            set(headers, "x-clickhouse-query-id", query_id);
        }
        response
    }

    /// Waits until the last statement has let go of the engine.
    async fn wait_for_statements(&self) {
        for (places, count) in [(&self.queries, QUERIES_MAX), (&self.inserts, INSERTS_MAX)] {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let _ = places.acquire_many(count).await;
        }
        let killer = self.killer.clone();
        let _ = tokio::task::spawn_blocking(move || killer.stop()).await;
    }
}

/// What is answered to a path that takes no statement.
fn text_at(parts: &Parts) -> Option<(StatusCode, &'static str)> {
    match (&parts.method, parts.uri.path()) {
        (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => {
            Some((StatusCode::OK, "Ok.\n"))
        }
        (&Method::GET | &Method::HEAD, "/") if !has_query(parts) => Some((StatusCode::OK, "Ok.\n")),
        (&Method::GET | &Method::POST, "/" | "/query") => None,
        (&Method::GET | &Method::POST | &Method::HEAD, _) => Some((
            StatusCode::NOT_FOUND,
            "There is no handle for this path. Send statements to /, or ask /ping.\n",
        )),
        _ => Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "Only GET and POST are served.\n",
        )),
    }
}

fn has_query(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "query")
}

/// Whether a browser says that another site's page asks, or that the name it used is not ours.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    let Some(origin) = text(headers, "origin") else {
        return false;
    };
    let host = text(headers, "host").unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // A foreign name that resolves to this machine is a DNS rebinding attack.
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let ours = name == "localhost" || address.is_ok();
    !ours || origin.split_once("://").map(|(_, origin)| origin) != Some(host)
}

async fn take_place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ServerError> {
    match timeout(PLACE_WAIT_MAX, Arc::clone(places).acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) => Err(ServerError::internal("the store is being stopped")),
        Err(_) => Err(ServerError::new(
            code::TOO_MANY_SIMULTANEOUS_QUERIES,
            "Too many simultaneous queries: no place became free within 10 seconds",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_page_of_another_origin_is_known() {
        let own = [
            ("origin", "http://127.0.0.1:8123"),
            ("host", "127.0.0.1:8123"),
        ];
        assert!(!is_foreign_page(&headers(&own)));
        assert!(!is_foreign_page(&headers(&[("host", "127.0.0.1:8123")])));
        for foreign in [
            [
                ("origin", "https://evil.example"),
                ("host", "127.0.0.1:8123"),
            ],
            [
                ("origin", "http://evil.example:8123"),
                ("host", "evil.example:8123"),
            ],
            [("origin", "null"), ("host", "localhost:8123")],
        ] {
            assert!(is_foreign_page(&headers(&foreign)), "{foreign:?}");
        }
    }
}
