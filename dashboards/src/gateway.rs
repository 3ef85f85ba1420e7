//! The client of the gateway's admin API, which decides who may do what with keys and rules.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::caps::{GATEWAY_ANSWER_BYTES_MAX, GATEWAY_TIME_MAX};
use crate::error::ConsoleError;

/// What somebody may do, as the admin API says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenRole {
    Admin,
    TeamOwner,
    Auditor,
    Finance,
}

impl TokenRole {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::TeamOwner => "team_owner",
            Self::Auditor => "auditor",
            Self::Finance => "finance",
        }
    }
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct TokenHolder {
    pub(crate) name: String,
    pub(crate) role: TokenRole,
    pub(crate) team: Option<String>,
}

/// Where the gateway is.
#[derive(Clone, Debug)]
pub(crate) struct GatewayClient {
    address: String,
    prefix: String,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct GatewayAnswer {
    pub(crate) status: StatusCode,
    pub(crate) kind: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

impl GatewayClient {
    /// A URL such as `http://127.0.0.1:8080`.
    pub(crate) fn new(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let authority = uri
            .authority()
            .filter(|_| uri.scheme_str() == Some("http"))?;
        Some(Self {
            address: format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(80)
            ),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Asks whose token this is. `None` if it is nobody's.
    pub(crate) async fn holder(&self, token: &str) -> Result<Option<TokenHolder>, ConsoleError> {
        let asked = self.call(Method::GET, "/admin/v1/self", Some(token), Bytes::new());
        let answer = asked.await?;
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|error| ConsoleError::gateway_away(format!("its answer is odd: {error}"))),
            StatusCode::UNAUTHORIZED => Ok(None),
            status => Err(ConsoleError::gateway_away(format!("it answers {status}"))),
        }
    }

    /// Sends a call and reads the answer, whatever it is.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<GatewayAnswer, ConsoleError> {
        let request = self.request(method, path, token, body)?;
        let answered = timeout(GATEWAY_TIME_MAX, self.exchange(request)).await;
        let seconds = Duration::as_secs(&GATEWAY_TIME_MAX);
        answered
            .unwrap_or_else(|_| Err(format!("no answer within {seconds} s").into()))
            .map_err(ConsoleError::gateway_away)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ConsoleError> {
        let uri = format!("{}{path}", self.prefix);
        let mut headers = HeaderMap::new();
        let host = HeaderValue::try_from(&self.address);
        headers.insert(HOST, host.map_err(|_| invalid("address"))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            let token = HeaderValue::try_from(format!("Bearer {token}"));
            let mut token = token.map_err(|_| invalid("token"))?;
            token.set_sensitive(true);
            headers.insert(AUTHORIZATION, token);
        }
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(body));
        let mut request = request.map_err(|_| invalid("path"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<GatewayAnswer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, GATEWAY_ANSWER_BYTES_MAX)
                .collect()
                .await?;
            Ok(GatewayAnswer {
                status: head.status,
                kind: head.headers.get(CONTENT_TYPE).cloned(),
                body: body.to_bytes(),
            })
        };
        // The connection ends with the exchange that it was made for.
        tokio::select! {
            answer = exchange => answer,
            Err(error) = connection => Err(error.into()),
        }
    }
}

fn invalid(what: &str) -> ConsoleError {
    ConsoleError::invalid(format!("the {what} cannot be sent to the gateway"))
}
