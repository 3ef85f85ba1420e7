//! ClickHouse's HTTP protocol in front of the embedded engine.
//!
//! The way through: accept → check whence it comes and who asks ([`Access`]) → read the request
//! ([`QueryRequest`]) → find the statement, in the URL and the body → take a place → run it on a thread
//! ([`crate::run`]) while the body is fed in → answer with the first word that the thread gives.
//!
//! | queue | bound | when it is full |
//! | --- | --- | --- |
//! | connections | [`crate::caps::CONNECTIONS_MAX`] | an idle one is closed ([`Connections`]) |
//! | requests of a user | [`StoreUser::requests_max`] | 503 |
//! | statements of a user | [`StoreUser::queries_max`], [`INSERTS_MAX`] | a statement waits [`PLACE_WAIT_MAX`], then 503 |
//! | rows on their way in | [`ROWS_QUEUED_MAX`] frames | the client is not read |
//! | output on its way out | [`OUTPUT_QUEUED_MAX`] chunks | the engine waits |
//! | statements to stop | one per statement | cannot be |
//!
//! What it never does: collect a body or a result (but for the formats that are one document), or
//! answer anyone without a password (but for /ping).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::access::Access;
use crate::answer::{
    OpenBody, QueryBody, StreamedOutput, exception_tag, set, summary_json, thread_died,
};
use crate::caps::{
    DRAIN_BYTES_MAX, HEAD_TIME_MAX, INSERTS_MAX, OUTPUT_QUEUED_MAX, PLACE_WAIT_MAX,
    ROWS_QUEUED_MAX, STOP_GRACE, STRANGER_DRAIN_BYTES_MAX,
};
use crate::config::ReaderLimits;
use crate::connections::{Connections, OpenRequest, StoreConnection};
use crate::encode::ErrorPacking;
use crate::engine::{EmbeddedEngine, QueryProgress};
use crate::error::{ServerError, code};
use crate::format;
use crate::hello;
use crate::intake::{drain, feed, find_statement};
use crate::killer::{CancelOnDrop, Killer};
use crate::request::{Credentials, QueryRequest, Rights};
use crate::run::{self, QueryJob, QueryOutput, Running};
use crate::sql::{self, Statement};
use crate::users::StoreUser;

/// Everything that requests share.
pub(crate) struct Facade {
    engine: Arc<EmbeddedEngine>,
    access: Access,
    limits: ReaderLimits,
    places: [UserPlaces; StoreUser::ALL.len()],
    inserts: Arc<Semaphore>,
    killer: Killer,
}

/// What a user may have of everything.
struct UserPlaces {
    requests: Arc<Semaphore>,
    queries: Arc<Semaphore>,
}

impl UserPlaces {
    fn new(user: StoreUser) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(user.requests_max())),
            queries: Arc::new(Semaphore::new(user.queries_max())),
        }
    }
}

/// Serves until `shutdown` becomes true, then lets running statements end within [`STOP_GRACE`].
pub(crate) async fn serve(
    listener: TcpListener,
    facade: Facade,
    mut shutdown: watch::Receiver<bool>,
) {
    let facade = Arc::new(facade);
    let places = Arc::new(Connections::default());
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
            connections.spawn(serve_connection(facade, stream, Arc::new(place), shutdown));
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
    places: &Arc<Connections>,
) -> Option<(TcpStream, StoreConnection)> {
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, places.enter().await)),
        Err(error) => {
            // Out of file descriptors, most likely: waiting lets some be closed.
            warn!(%error, "failed to accept a connection");
            places.close_one();
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn serve_connection(
    facade: Arc<Facade>,
    stream: TcpStream,
    place: Arc<StoreConnection>,
    mut shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (facade, place) = (Arc::clone(&facade), Arc::clone(&place));
        async move { Ok::<_, Infallible>(facade.answer(request, &place).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // Dropped as it is: nothing is being answered on it.
        () = place.told_to_close() => {
            if place.is_idle() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
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

/// What becomes of a request that is let in.
enum LetIn {
    Query(Box<AdmittedQuery>),
    Text(StatusCode, &'static str),
}

/// A request with a statement: whose it is, and its place among that user's.
struct AdmittedQuery {
    request: QueryRequest,
    user: StoreUser,
    open: OpenRequest,
}

impl Facade {
    pub(crate) fn new(engine: Arc<EmbeddedEngine>, access: Access, limits: ReaderLimits) -> Self {
        Self {
            killer: Killer::start(Arc::clone(&engine)),
            places: StoreUser::ALL.map(UserPlaces::new),
            inserts: Arc::new(Semaphore::new(INSERTS_MAX)),
            engine,
            access,
            limits,
        }
    }

    /// One request, from its head to the head of its answer.
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: &Arc<StoreConnection>,
    ) -> Response<OpenBody> {
        let (parts, mut body) = request.into_parts();
        let strange = |response: QueryResponse| response.map(|body| OpenBody { body, _open: None });
        let AdmittedQuery {
            request,
            user,
            open,
        } = match self.admit(&parts, connection) {
            Ok(LetIn::Query(admitted)) => *admitted,
            Ok(LetIn::Text(status, text)) => return strange(self.text(status, text)),
            Err(error) => {
                drain(&mut body, STRANGER_DRAIN_BYTES_MAX).await;
                return strange(self.error(&error, "", ErrorPacking::default()));
            }
        };
        let query_id = request.query_id.clone();
        let packing = request.error_packing();
        let response = match self.query(request, user, &mut body).await {
            Ok(answer) => answer,
            Err(error) => {
                drain(&mut body, DRAIN_BYTES_MAX).await;
                self.error(&error, &query_id, packing)
            }
        };
        response.map(|body| OpenBody {
            body,
            _open: Some(open),
        })
    }

    /// Whence it comes, who asks, and whether that user has not asked too much already.
    fn admit(
        &self,
        parts: &Parts,
        connection: &Arc<StoreConnection>,
    ) -> Result<LetIn, ServerError> {
        self.access.check_origin(parts)?;
        // A balancer that asks for health has no password.
        if parts.uri.path() == "/ping" && parts.method != Method::POST {
            return Ok(LetIn::Text(StatusCode::OK, "Ok.\n"));
        }
        let user = self.access.user(Credentials::read(parts)?.as_ref())?;
        if let Some((status, text)) = text_at(parts) {
            return Ok(LetIn::Text(status, text));
        }
        let mut request = QueryRequest::read(parts)?;
        if !user.may_write() {
            request.restrict(Rights::Read);
        }
        let requests = Arc::clone(&self.places[user as usize].requests);
        let place = requests.try_acquire_owned().map_err(|_| {
            let message = format!("Too many simultaneous requests of user {}", user.name());
            ServerError::new(code::TOO_MANY_SIMULTANEOUS_QUERIES, &message)
        })?;
        let open = connection.open_request(user, place);
        Ok(LetIn::Query(Box::new(AdmittedQuery {
            request,
            user,
            open,
        })))
    }

    async fn query(
        self: &Arc<Self>,
        request: QueryRequest,
        user: StoreUser,
        body: &mut Incoming,
    ) -> Result<QueryResponse, ServerError> {
        let mut job = find_statement(request, body).await?;
        if let Some(hello) = hello::answer(&job, self.engine.version()) {
            let query_id = &job.request.query_id;
            let head = self.head_of_output(query_id, Some("Native"), QueryProgress::default());
            return Ok(head.map(|()| Either::Left(Full::new(hello))));
        }
        if job.request.rights > Rights::All {
            sql::refuse_writes(&job.request.query)?;
        }
        job.limits = (!user.may_write()).then_some(self.limits);
        let places = match &job.statement {
            Statement::Insert(_) => &self.inserts,
            Statement::Select { .. } | Statement::Other { .. } => {
                &self.places[user as usize].queries
            }
        };
        let place = take_place(places).await?;
        self.run(job, body, place).await
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
            drain(body, DRAIN_BYTES_MAX).await;
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
        let queries =
            StoreUser::ALL.map(|user| (&self.places[user as usize].queries, user.queries_max()));
        for (places, count) in queries.into_iter().chain([(&self.inserts, INSERTS_MAX)]) {
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
        (&Method::GET | &Method::HEAD, "/replicas_status") => Some((StatusCode::OK, "Ok.\n")),
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
