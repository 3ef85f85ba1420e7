//! What the gateway on this machine says at one of its addresses.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use crate::net::connect;

/// How long the gateway here may take.
const PAGE_MAX: Duration = Duration::from_secs(3);

/// The page at a URL, as text, for the holder of a token.
pub(super) async fn page(url: &str, token: Option<&str>) -> anyhow::Result<String> {
    tokio::time::timeout(PAGE_MAX, fetch(url, token))
        .await
        .context("the gateway does not answer")?
}

async fn fetch(url: &str, token: Option<&str>) -> anyhow::Result<String> {
    let uri: Uri = url.parse()?;
    let stream = connect(&uri, None).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let host = uri.authority().map_or("", |it| it.as_str());
    let mut request = Request::get(uri.path()).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok::<_, hyper::Error>((status, answer.into_body().collect().await?))
    };
    let (answer, _) = tokio::join!(answer, connection);
    let (status, page) = answer?;
    let page = String::from_utf8_lossy(&page.to_bytes()).into_owned();
    if status != StatusCode::OK {
        bail!("it answers {status}: {page}");
    }
    Ok(page)
}
