//! Where a request goes by its path: a model call to the pipeline, all else is answered here.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use weir_dialects::ClientApi;
use weir_governance::control::network::client_address;

use crate::edge::{admin, endpoints};
use crate::request::pipeline;
use crate::request::relay::ResponseBody;
use crate::request::worker::Worker;
use crate::setup::config::GatewayConfig;

/// Answers one HTTP request from the connection's other end, `peer`.
pub(crate) async fn answer(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let path = request.uri().path();
    if path.starts_with(admin::PREFIX) {
        return Ok(admin::answer(&worker, request).await);
    }
    let client = client_of(&worker.shared.config, peer, request.headers());
    let api = match *request.method() {
        Method::POST => ClientApi::from_path(path),
        _ => None,
    };
    Ok(match api {
        Some(api) => pipeline::answer(worker, api, client, request).await,
        None => endpoints::answer(&worker, client, &request),
    })
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
