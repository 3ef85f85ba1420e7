//! Reading requests' bodies: which part is the statement, which part are rows.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::caps::{BODY_PAUSE_MAX, DRAIN_TIME_MAX, STATEMENT_BYTES_MAX};
use crate::decode::BodyDecoder;
use crate::error::{ServerError, code};
use crate::request::{QueryRequest, form_fields};
use crate::run::{QueryJob, RowInput};
use crate::sql::{self, Statement};

/// Reads as much of the body as belongs to the statement; what follows are rows.
pub(crate) async fn find_statement(
    mut request: QueryRequest,
    body: &mut Incoming,
) -> Result<QueryJob, ServerError> {
    let mut decoder = BodyDecoder::new(request.packing);
    let is_in_url = !request.query.trim().is_empty() && request.boundary.is_none();
    let in_url = is_in_url.then(|| sql::analyse(&request.query));
    if let Some(Ok(Statement::Insert(insert))) = in_url
        && insert.is_closed
    {
        let rows = Bytes::copy_from_slice(&request.query.as_bytes()[insert.rows_at..]);
        let statement = Statement::Insert(insert);
        return Ok(QueryJob::new(request, statement, rows, decoder));
    }
    let (head, ended) = read_head(body, &mut decoder).await?;
    if let Some(boundary) = request.boundary.take() {
        if !ended {
            return Err(too_large());
        }
        for (name, value) in form_fields(&head, &boundary)? {
            request.set(&name, value)?;
        }
        let statement = sql::analyse(&request.query)?;
        return Ok(QueryJob::new(request, statement, Bytes::new(), decoder));
    }
    if !request.query.is_empty() && !head.is_empty() {
        request.query.push('\n');
    }
    let body_at = request.query.len();
    let readable = readable_part(&head);
    request.query.push_str(readable);
    let statement = sql::analyse(&request.query)?;
    match &statement {
        // The statement ends here: the rest is rows, whatever bytes they are.
        Statement::Insert(insert) => {
            let mut rows = BytesMut::new();
            if insert.rows_at < body_at {
                rows.extend_from_slice(&request.query.as_bytes()[insert.rows_at..body_at]);
            }
            rows.extend_from_slice(&head[insert.rows_at.saturating_sub(body_at)..]);
            Ok(QueryJob::new(request, statement, rows.freeze(), decoder))
        }
        _ if !ended => Err(too_large()),
        _ if readable.len() < head.len() => {
            Err(ServerError::syntax("The query is not valid UTF-8"))
        }
        _ => Ok(QueryJob::new(request, statement, Bytes::new(), decoder)),
    }
}

/// Reads the body until it ends or is longer than a statement may be. Says whether it ended.
async fn read_head(
    body: &mut Incoming,
    decoder: &mut BodyDecoder,
) -> Result<(Bytes, bool), ServerError> {
    let mut head = BytesMut::new();
    let mut take = |data: &[u8]| {
        head.extend_from_slice(data);
        true
    };
    let mut ended = false;
    let mut read = 0;
    while !ended && read <= STATEMENT_BYTES_MAX {
        match next_data(body).await.map_err(|()| broken_body())? {
            None => {
                decoder.finish(&mut take)?;
                ended = true;
            }
            Some(data) => {
                read += data.len();
                decoder.unpack(&data, &mut take)?;
            }
        }
    }
    Ok((head.freeze(), ended))
}

/// The next data of a body; None at its end, an error if it broke or paused for too long.
async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, ()> {
    loop {
        match timeout(BODY_PAUSE_MAX, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(_))) | Err(_) => return Err(()),
        }
    }
}

fn broken_body() -> ServerError {
    ServerError::new(code::SOCKET_TIMEOUT, "The request's body did not arrive")
}

/// The text that the bytes start with.
fn readable_part(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn too_large() -> ServerError {
    ServerError::new(
        code::QUERY_IS_TOO_LARGE,
        &format!("The query is longer than {STATEMENT_BYTES_MAX} bytes"),
    )
}

/// Hands the body to the statement. Says whether it arrived to its end; if the statement gave up
/// earlier, it says why itself.
pub(crate) async fn feed(body: &mut Incoming, rows: mpsc::Sender<RowInput>) -> bool {
    loop {
        let Ok(data) = next_data(body).await else {
            return false;
        };
        let is_last = data.is_none();
        let message = data.map_or(RowInput::End, RowInput::Data);
        if rows.send(message).await.is_err() || is_last {
            return is_last;
        }
    }
}

/// Reads what a client is still sending, within bounds: a connection that is closed with unread
/// data in it is reset, and the client would not see its answer.
pub(crate) async fn drain(body: &mut Incoming, bytes_max: usize) {
    let read = async {
        let mut left = bytes_max;
        while left > 0
            && let Ok(Some(data)) = next_data(body).await
        {
            left = left.saturating_sub(data.len());
        }
    };
    let _ = timeout(DRAIN_TIME_MAX, read).await;
}
