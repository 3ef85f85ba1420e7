//! Where a request goes by its path: a model call to the pipeline, all else is answered here.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use weir_dialects::ClientApi;
use weir_governance::control::network::client_address;

use crate::edge::{admin, endpoints};
use crate::request::pipeline;
use crate::request::refusal::Refusal;
use crate::request::relay::ResponseBody;
use crate::request::worker::Worker;
use crate::setup::config::GatewayConfig;

/// Answers one HTTP request from the connection's other end, `peer`.
pub(crate) async fn answer(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    if let Err(refusal) = check_host(&request) {
        return Ok(endpoints::refuse(&request, refusal));
    }
    let path = request.uri().path();
    let client = client_of(&worker.shared.config, peer, request.headers());
    if path.starts_with(admin::PREFIX) {
        return Ok(admin::answer(&worker, client, request).await);
    }
    let api = match *request.method() {
        Method::POST => ClientApi::from_path(path),
        _ => None,
    };
    Ok(match api {
        Some(api) => pipeline::answer(worker, api, client, request).await,
        None => endpoints::answer(&worker, client, &request),
    })
}

/// One Host header, which HTTP/1.0 may leave out (RFC 9112, section 3.2): with two, somebody on the way
/// may have gone by the other one.
fn check_host<B>(request: &Request<B>) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (Some(host), None) if host.as_bytes().iter().all(|&byte| is_of_host(byte)) => Ok(()),
        (None, _) => Err(Refusal::bad_host("there is no Host header")),
        (Some(_), None) => Err(Refusal::bad_host("the Host header is not a host")),
        (Some(_), Some(_)) => Err(Refusal::bad_host("there are several Host headers")),
    }
}

const fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b',' | b'\\' | b'"')
}

/// The client's address, behind the proxies that are trusted.
fn client_of(config: &GatewayConfig, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if config.trusted_proxies.is_empty() {
        return peer.to_canonical();
    }
    let lines = headers.get_all("x-forwarded-for").into_iter();
    let hops: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    client_address(peer, Some(&hops.join(",")), &config.trusted_proxies)
}
