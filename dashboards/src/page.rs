//! The console's pages: what was built from `console/`, each file compressed once.

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use rust_embed::RustEmbed;

use crate::error::ConsoleError;
use crate::respond;

#[derive(RustEmbed)]
#[folder = "console/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Weir console</title>\
    <h1>The console's pages are not built</h1>\
    <p>This program was built without them. Everything else works.</p>\
    <p>In the source directory, with Node 18 or newer: <code>compose/build-console.sh</code>, then \
    <code>cargo build --release</code>, and start Weir again.</p></html>";

/// One file, as it is and compressed.
#[derive(Debug)]
struct StaticFile {
    kind: &'static str,
    etag: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
}

/// All of them, by path.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<String, StaticFile>);

/// Whether the program has the console's pages in it.
#[must_use]
pub fn is_built() -> bool {
    Dist::get(INDEX).is_some()
}

impl Pages {
    pub(crate) fn load() -> Self {
        let files = Dist::iter().filter_map(|path| {
            let file = Dist::get(&path)?;
            let plain = Bytes::from(file.data.into_owned());
            let digest = ring::digest::digest(&ring::digest::SHA256, &plain);
            let etag = format!("\"{}\"", HEXLOWER.encode(&digest.as_ref()[..16]));
            let file = StaticFile {
                kind: kind_of(&path)?,
                etag: HeaderValue::try_from(etag).ok()?,
                gzip: compressed(&plain)?,
                plain,
            };
            Some((path.into_owned(), file))
        });
        Self(files.collect())
    }

    /// The file at a path, which begins with a slash.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Result<Response, ConsoleError> {
        let name = match path.trim_start_matches('/') {
            "" => INDEX,
            name => name,
        };
        match self.0.get(name) {
            Some(file) => Ok(file.answer(headers)),
            None if name == INDEX => {
                let (status, kind) = (StatusCode::OK, "text/html; charset=utf-8");
                Ok(respond::of_type(status, kind, NOT_BUILT))
            }
            None => Err(ConsoleError::not_found(format!(
                "there is nothing at {path}"
            ))),
        }
    }
}

impl StaticFile {
    fn answer(&self, asked: &HeaderMap) -> Response {
        let says = |name, word: &str| {
            let value = asked
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok());
            value.is_some_and(|value| value.split(',').any(|part| part.trim() == word))
        };
        let etag = self.etag.to_str().unwrap_or_default();
        let is_known = says(IF_NONE_MATCH, etag);
        // Most browsers and proxies say nothing more of it than its name.
        let in_gzip = says(ACCEPT_ENCODING, "gzip");
        let body = match (is_known, in_gzip) {
            (true, _) => Bytes::new(),
            (false, true) => self.gzip.clone(),
            (false, false) => self.plain.clone(),
        };
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if in_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// The types of what the build makes. Other files are not served.
fn kind_of(path: &str) -> Option<&'static str> {
    let (_, extension) = path.rsplit_once('.')?;
    Some(match extension {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" => "application/json",
        _ => return None,
    })
}

fn compressed(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    Some(encoder.finish().ok()?.into())
}
