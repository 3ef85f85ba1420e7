//! What a client asks for, read from the URL, the headers and a multipart form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::decode::Packing;
use crate::encode::{ErrorPacking, HttpEncoding};
use crate::error::{ServerError, code};

/// One request, before its statement is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryRequest {
    /// The text of `query=`; what else belongs to the statement is in the body.
    pub query: String,
    pub database: Option<String>,
    /// Format of the output, if the statement names none.
    pub default_format: Option<String>,
    /// Values for `{name:Type}` in the statement.
    pub params: Vec<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub rights: Rights,
    pub query_id: String,
    /// The response goes out in compressed blocks.
    pub compress: bool,
    /// The client may be answered in HTTP's encodings (`enable_http_compression`).
    http_compression: bool,
    /// The encoding of HTTP's that the client accepts, if it may be used.
    http_encoding: Option<HttpEncoding>,
    /// How the body is packed.
    pub packing: Packing,
    /// The revision of Native output that the client would like.
    pub native_revision: u64,
    /// Boundary of a multipart form, if the body is one.
    pub boundary: Option<String>,
}

/// What a statement may do. The later, the less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// What its user may.
    #[default]
    All,
    /// `readonly=2`: read.
    Read,
    /// `readonly=1`: read, and change no settings.
    ReadAsSet,
}

/// A user and a password. Printing it shows the user only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Credentials {
    /// What a request gives, in any of the ways that clients use.
    pub(crate) fn read(parts: &Parts) -> Result<Option<Self>, ServerError> {
        let credentials = match credentials(&parts.headers)? {
            Some(credentials) => Some(credentials),
            None => credentials_in_url(parts.uri.query().unwrap_or_default()),
        };
        Ok(credentials.map(|(user, password)| Self { user, password }))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl QueryRequest {
    pub(crate) fn read(parts: &Parts) -> Result<Self, ServerError> {
        let mut request = Self::default();
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "user" | "password" => {}
                _ => request.set(&name, value.into_owned())?,
            }
        }
        request.read_headers(&parts.headers)?;
        // What GET does must be safe to repeat, whatever the URL says: any page can make a browser send it.
        if parts.method != Method::POST {
            request.restrict(Rights::Read);
        }
        if request.query_id.is_empty() {
            let random = uuid::Builder::from_random_bytes(rand::random());
            request.query_id = random.into_uuid().to_string();
        }
        Ok(request)
    }

    /// How an error is packed once the client is let in.
    pub(crate) const fn error_packing(&self) -> ErrorPacking {
        ErrorPacking {
            in_blocks: self.compress,
            encoding: self.http_encoding,
        }
    }

    /// Takes rights away. None are ever given back.
    pub(crate) fn restrict(&mut self, rights: Rights) {
        self.rights = self.rights.max(rights);
    }

    /// Takes one parameter of the URL or field of a form.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<(), ServerError> {
        if let Some(param) = name.strip_prefix("param_") {
            self.params.push((param.to_owned(), value));
            return Ok(());
        }
        match name {
            "query" => self.query.push_str(&value),
            "database" => self.database = Some(value).filter(|name| !name.is_empty()),
            "default_format" => self.default_format = Some(value).filter(|name| !name.is_empty()),
            "query_id" => self.query_id = check_query_id(value)?,
            "compress" => self.compress = value == "1",
            "enable_http_compression" => self.http_compression = value == "1" || value == "true",
            "decompress" if value == "1" => self.packing = Packing::Blocks,
            "decompress" => {}
            "client_protocol_version" => self.native_revision = value.parse().unwrap_or_default(),
            // Nothing to do for these: output is streamed or awaited by its format, errors carry no
            // stack trace, and every request is a session of its own.
            "wait_end_of_query" | "buffer_size" | "stacktrace" | "session_id"
            | "session_timeout" | "session_check" | "close_session" | "quota_key" | "role" => {}
            "readonly" => self.restrict(rights(&value)?),
            "profile" => return Err(fixed(name)),
            _ => {
                check_setting_name(name)?;
                self.settings.push((name.to_owned(), value));
            }
        }
        Ok(())
    }

    fn read_headers(&mut self, headers: &HeaderMap) -> Result<(), ServerError> {
        let text = |name: &str| text(headers, name);
        if let Some(database) = text("x-clickhouse-database") {
            self.database.get_or_insert_with(|| database.to_owned());
        }
        if let Some(format) = text("x-clickhouse-format") {
            self.default_format.get_or_insert_with(|| format.to_owned());
        }
        let encoded = Packing::of_encoding(text("content-encoding").unwrap_or_default())?;
        if encoded != Packing::Plain {
            if self.packing != Packing::Plain {
                return Err(ServerError::bad_arguments(
                    "A body is either encoded (Content-Encoding) or in blocks (decompress=1)",
                ));
            }
            self.packing = encoded;
        }
        if self.http_compression {
            self.http_encoding = text("accept-encoding").and_then(HttpEncoding::accepted);
        }
        self.boundary = text("content-type").and_then(form_boundary);
        Ok(())
    }
}

fn rights(readonly: &str) -> Result<Rights, ServerError> {
    match readonly {
        "1" => Ok(Rights::ReadAsSet),
        "2" => Ok(Rights::Read),
        _ => Err(fixed("readonly")),
    }
}

/// A setting would give more rights than the user has.
fn fixed(setting: &str) -> ServerError {
    let message = format!("Cannot modify '{setting}' setting in readonly mode");
    ServerError::new(code::READONLY, &message)
}

fn check_query_id(query_id: String) -> Result<String, ServerError> {
    let printable = query_id
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\'');
    if printable && query_id.len() <= 128 {
        Ok(query_id)
    } else {
        Err(ServerError::bad_arguments(
            "query_id must be at most 128 printable characters",
        ))
    }
}

/// Setting names go into a statement, so they must be names.
fn check_setting_name(name: &str) -> Result<(), ServerError> {
    let valid = !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid {
        Ok(())
    } else {
        Err(ServerError::new(
            code::UNKNOWN_SETTING,
            &format!("Unknown setting {name:?}"),
        ))
    }
}

fn form_boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let (_, boundary) = rest.split_once("boundary=")?;
    let boundary = boundary.split(';').next()?.trim().trim_matches('"');
    (!boundary.is_empty()).then(|| boundary.to_owned())
}

/// A header's value, if it is text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Reads user and password from ClickHouse's own headers or from basic authentication.
fn credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, ServerError> {
    if let Some(user) = text(headers, "x-clickhouse-user") {
        let password = text(headers, "x-clickhouse-key").unwrap_or_default();
        return Ok(Some((user.to_owned(), password.to_owned())));
    }
    let authorization = text(headers, "authorization");
    let Some(basic) = authorization.and_then(|value| value.strip_prefix("Basic ")) else {
        return Ok(None);
    };
    let decoded = BASE64
        .decode(basic.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    match pair {
        Some((user, password)) => Ok(Some((user.to_owned(), password.to_owned()))),
        None => Err(ServerError::new(
            code::AUTHENTICATION_FAILED,
            "The Authorization header is not basic authentication",
        )),
    }
}

fn credentials_in_url(query: &str) -> Option<(String, String)> {
    let value = |wanted| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let (_, value) = pairs.find(|(name, _)| name == wanted)?;
        Some(value.into_owned())
    };
    Some((value("user")?, value("password").unwrap_or_default()))
}

/// Reads the fields of a multipart form: names and values.
pub(crate) fn form_fields(
    body: &[u8],
    boundary: &str,
) -> Result<Vec<(String, String)>, ServerError> {
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut parts = split_bytes(body, delimiter.as_bytes()).skip(1);
    loop {
        let part = parts
            .next()
            .ok_or_else(|| bad_form("it has no closing boundary"))?;
        if part.starts_with(b"--") {
            return Ok(fields);
        }
        fields.push(form_field(part)?);
    }
}

fn form_field(part: &[u8]) -> Result<(String, String), ServerError> {
    let part = part
        .strip_prefix(b"\r\n")
        .ok_or_else(|| bad_form("a boundary ends no line"))?;
    let part = part
        .strip_suffix(b"\r\n")
        .ok_or_else(|| bad_form("a field ends no line"))?;
    let mut halves = split_bytes(part, b"\r\n\r\n");
    let head = halves.next().unwrap_or_default();
    let value = part
        .get(head.len() + 4..)
        .ok_or_else(|| bad_form("a field has no content"))?;
    let head = str::from_utf8(head).map_err(|_| bad_form("a field's head is not UTF-8"))?;
    if head.contains("filename=") {
        return Err(ServerError::new(
            code::NOT_IMPLEMENTED,
            "External tables are not implemented in the embedded store",
        ));
    }
    let name = head
        .split_once("name=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .ok_or_else(|| bad_form("a field has no name"))?
        .0;
    let value = str::from_utf8(value).map_err(|_| bad_form("a field is not UTF-8"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn bad_form(why: &str) -> ServerError {
    ServerError::bad_arguments(&format!("Cannot read the multipart form: {why}"))
}

fn split_bytes<'b>(bytes: &'b [u8], by: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        match bytes.windows(by.len()).position(|window| window == by) {
            Some(at) => {
                rest = Some(&bytes[at + by.len()..]);
                Some(&bytes[..at])
            }
            None => {
                rest = None;
                Some(bytes)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn read(
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<QueryRequest, ServerError> {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        QueryRequest::read(&builder.body(()).unwrap().into_parts().0)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_url_is_sorted_into_its_meanings() {
        let request = read(
            Method::POST,
            "/?query=select+%7Ba%3AString%7D&database=weir&default_format=JSON&param_a=x%26y\
             &max_threads=2&query_id=q1&decompress=1&session_id=s",
            &[],
        )
        .unwrap();
        assert_eq!(request.query, "select {a:String}");
        assert_eq!(request.database.as_deref(), Some("weir"));
        assert_eq!(request.default_format.as_deref(), Some("JSON"));
        assert_eq!(request.params, [pair("a", "x&y")]);
        assert_eq!(request.settings, [pair("max_threads", "2")]);
        assert_eq!(request.query_id, "q1");
        assert!(request.packing == Packing::Blocks && !request.compress);
    }

    #[test]
    fn get_reads_whatever_the_url_says() {
        let rights = |method, uri| read(method, uri, &[]).map(|request| request.rights);
        assert_eq!(rights(Method::GET, "/"), Ok(Rights::Read));
        assert_eq!(rights(Method::HEAD, "/?readonly=2"), Ok(Rights::Read));
        assert_eq!(rights(Method::GET, "/?readonly=1"), Ok(Rights::ReadAsSet));
        assert_eq!(rights(Method::POST, "/"), Ok(Rights::All));
        assert_eq!(
            rights(Method::POST, "/?readonly=1&readonly=2"),
            Ok(Rights::ReadAsSet)
        );
        for uri in [
            "/?readonly=0",
            "/?readonly=",
            "/?readonly=00",
            "/?profile=default",
        ] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(rights(method, uri).unwrap_err().code, 164, "{uri}");
            }
        }
    }

    #[test]
    fn a_setting_must_be_a_name() {
        for uri in ["/?a%27%3D1=1", "/?=1", "/?a-b=1"] {
            assert_eq!(read(Method::POST, uri, &[]).unwrap_err().code, 115, "{uri}");
        }
    }

    #[test]
    fn credentials_come_by_header_basic_or_url() {
        let expected = Some(Credentials {
            user: "u".to_owned(),
            password: "p:w".to_owned(),
        });
        let by = |uri, headers: &[(&str, &str)]| {
            let request = headers.iter().fold(Request::post(uri), |request, header| {
                request.header(header.0, header.1)
            });
            Credentials::read(&request.body(()).unwrap().into_parts().0)
        };
        let expected = Ok(expected);
        assert_eq!(
            by(
                "/",
                &[("X-ClickHouse-User", "u"), ("X-ClickHouse-Key", "p:w")]
            ),
            expected
        );
        assert_eq!(by("/", &[("Authorization", "Basic dTpwOnc=")]), expected);
        assert_eq!(by("/?user=u&password=p:w", &[]), expected);
        assert_eq!(by("/", &[]), Ok(None));
        let error = by("/", &[("Authorization", "Basic !")]).unwrap_err();
        assert_eq!(error.code, code::AUTHENTICATION_FAILED.number);
    }

    #[test]
    fn an_encoding_that_is_not_understood_is_refused() {
        let error = read(Method::POST, "/", &[("Content-Encoding", "br")]).unwrap_err();
        assert_eq!(error.status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[test]
    fn a_form_gives_its_fields() {
        let body =
            b"--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nselect {a:String}\r\n\
                     --B\r\nContent-Disposition: form-data; name=\"param_a\"\r\n\r\n\r\n--B--\r\n";
        assert_eq!(
            form_fields(body, "B").unwrap(),
            [pair("query", "select {a:String}"), pair("param_a", "")]
        );
        let request = read(
            Method::POST,
            "/",
            &[("Content-Type", "multipart/form-data; boundary=\"B\"")],
        );
        assert_eq!(request.unwrap().boundary.as_deref(), Some("B"));
    }

    #[test]
    fn a_broken_form_is_refused() {
        for body in [
            "",
            "--B\r\n",
            "--B\r\nno head\r\n--B--",
            "--B\r\nx: y\r\n\r\nv\r\n--B--",
        ] {
            assert!(form_fields(body.as_bytes(), "B").is_err(), "{body:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_form_makes_it_panic(body: Vec<u8>) {
            let _ = form_fields(&body, "B");
            let _ = form_fields(&[b"--B\r\n".as_slice(), &body, b"--B--"].concat(), "B");
        }
    }
}
