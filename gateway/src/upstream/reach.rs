//! How the way to a provider leads: straight, or through a proxy; and where it must not lead.
//!
//! Straight: the host is resolved once per connection, and the connection goes to the very address
//! that was looked at, so a name cannot lead elsewhere between the look and the call. A name that
//! resolves to a private, loopback, link-local or otherwise special address is refused, unless the
//! provider's settings allow it; an address that is itself written in the settings is meant, but for
//! a link-local one.
//!
//! Through a proxy: the proxy resolves the host, so what is allowed is the proxy's to say. The
//! bytes of the handshake are all that is read before the tunnel is the connection's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{CallError, Endpoint};
use crate::caps::PROXY_HEAD_BYTES_MAX;

/// The way to an endpoint.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    Direct {
        /// Whether a name may resolve to an address that is not public.
        allow_private: bool,
    },
    Proxy(Box<Proxy>),
}

/// A proxy on the way to a provider.
#[derive(Clone)]
pub(crate) struct Proxy {
    protocol: Protocol,
    pub(crate) host: String,
    pub(crate) port: u16,
    login: Option<(String, String)>,
}

impl std::fmt::Debug for Proxy {
    /// Without the login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// HTTP's CONNECT.
    Http,
    Socks5,
}

impl Proxy {
    /// Reads `http://[user:password@]host:port` or `socks5://…`. The error never repeats a password.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("it is not a URL: {error}"))?;
        let (protocol, default_port) = match uri.scheme_str() {
            Some("http") => (Protocol::Http, 8080),
            Some("socks5" | "socks5h") => (Protocol::Socks5, 1080),
            _ => return Err("it must begin with http:// or socks5://".into()),
        };
        let authority = uri.authority().ok_or("the host is missing")?;
        let login = authority.as_str().rsplit_once('@');
        Ok(Self {
            protocol,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(default_port),
            login: login.map(|(login, _)| read_login(login)).transpose()?,
        })
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<TcpStream, CallError> {
        let mut stream = connect(&self.host, self.port, true).await?;
        let tunnelled = match self.protocol {
            Protocol::Http => self.http_connect(&mut stream, endpoint).await,
            Protocol::Socks5 => self.socks5(&mut stream, endpoint).await,
        };
        tunnelled.map_err(|source| CallError::Proxy {
            proxy: format!("{}:{}", self.host, self.port),
            host: endpoint.host.clone(),
            port: endpoint.port,
            source,
        })?;
        Ok(stream)
    }

    async fn http_connect(&self, stream: &mut TcpStream, endpoint: &Endpoint) -> io::Result<()> {
        let Endpoint { host, port, .. } = endpoint;
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n");
        if let Some((user, password)) = &self.login {
            let login = STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("proxy-authorization: Basic {login}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let head = read_head(stream).await?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if head.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
            return Ok(());
        }
        let line = head.lines().next().unwrap_or_default();
        Err(io::Error::other(format!("it answered \"{line}\"")))
    }

    /// RFC 1928, with the user and password of RFC 1929. The proxy resolves the host.
    async fn socks5(&self, stream: &mut TcpStream, endpoint: &Endpoint) -> io::Result<()> {
        const VERSION: u8 = 5;
        const NO_LOGIN: u8 = 0;
        const PASSWORD: u8 = 2;
        const CONNECT: u8 = 1;
        let method = if self.login.is_some() {
            PASSWORD
        } else {
            NO_LOGIN
        };
        stream.write_all(&[VERSION, 1, method]).await?;
        if [stream.read_u8().await?, stream.read_u8().await?] != [VERSION, method] {
            return Err(io::Error::other(match self.login {
                Some(_) => "it is no SOCKS5 proxy, or takes no user and password",
                None => "it is no SOCKS5 proxy, or wants a user and password",
            }));
        }
        if let Some((user, password)) = &self.login {
            let mut message = vec![1];
            for part in [user, password] {
                message.push(length_byte(part)?);
                message.extend_from_slice(part.as_bytes());
            }
            stream.write_all(&message).await?;
            if [stream.read_u8().await?, stream.read_u8().await?][1] != 0 {
                return Err(io::Error::other("it refused the user and password"));
            }
        }
        let mut message = vec![VERSION, CONNECT, 0];
        match endpoint.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                message.push(1);
                message.extend_from_slice(&address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                message.push(4);
                message.extend_from_slice(&address.octets());
            }
            Err(_) => {
                message.extend_from_slice(&[3, length_byte(&endpoint.host)?]);
                message.extend_from_slice(endpoint.host.as_bytes());
            }
        }
        message.extend_from_slice(&endpoint.port.to_be_bytes());
        stream.write_all(&message).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if answer[1] != 0 {
            return Err(io::Error::other(socks5_refusal(answer[1])));
        }
        let bound = match answer[3] {
            1 => 4,
            3 => usize::from(stream.read_u8().await?),
            4 => 16,
            _ => return Err(io::Error::other("its answer is not SOCKS5's")),
        };
        stream.read_exact(&mut vec![0; bound + 2]).await?;
        Ok(())
    }
}

/// User and password, percent-encoded, with a colon between them.
fn read_login(login: &str) -> Result<(String, String), &'static str> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decode =
        |text: &str| decoded(text).ok_or("its user or password is not percent-encoded well");
    let login = (decode(user)?, decode(password)?);
    if login.0.len().max(login.1.len()) > 255 {
        return Err("its user or password is longer than 255 bytes");
    }
    Ok(login)
}

impl Reach {
    /// The way as it is configured. The error is about the proxy.
    pub(crate) fn configured(proxy: Option<&str>, allow_private: bool) -> Result<Self, String> {
        match proxy {
            None => Ok(Self::Direct { allow_private }),
            Some(url) => Ok(Self::Proxy(Box::new(Proxy::parse(url)?))),
        }
    }

    /// Opens a connection on which the endpoint listens.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<TcpStream, CallError> {
        match self {
            Self::Direct { allow_private } => {
                connect(&endpoint.host, endpoint.port, *allow_private).await
            }
            Self::Proxy(proxy) => proxy.open(endpoint).await,
        }
    }
}

async fn connect(host: &str, port: u16, allow_private: bool) -> Result<TcpStream, CallError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|source| CallError::Resolve {
            host: host.to_owned(),
            source,
        })?
        .collect();
    let is_meant = allow_private || host == "localhost" || host.parse().is_ok_and(needs_no_leave);
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        if !is_meant && !is_public(address.ip()) {
            return Err(CallError::NotPublic {
                host: host.to_owned(),
                address: address.ip(),
            });
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it the kernel holds back small writes until the last is acknowledged.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, host, "set TCP_NODELAY");
                }
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    Err(CallError::Connect {
        host: host.to_owned(),
        port,
        source: last_error,
    })
}

/// Whether an address that is written in the settings is meant. A link-local one is where clouds
/// keep the machine's own credentials: that takes more than an address.
fn needs_no_leave(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => !v4.is_link_local(),
            None => !v6.is_unicast_link_local() && v6.segments()[..2] != [0xfd00, 0xec2],
        },
    }
}

/// Whether an address is one of the public internet: not in the special-purpose registries of IANA.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        // Carrier-grade NAT, protocol assignments, benchmarks.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // An IPv4 address, as IPv6, NAT64 and 6to4 embed it.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Only 2000::/3 is given out; of it, documentation is not.
        [first, second, ..] => first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8),
    }
}

/// Reads byte by byte, so that nothing of what follows is taken: a head is short, and comes once
/// per connection.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == PROXY_HEAD_BYTES_MAX {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn length_byte(text: &str) -> io::Result<u8> {
    u8::try_from(text.len()).map_err(|_| io::Error::other("a name is longer than 255 bytes"))
}

fn socks5_refusal(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow the connection",
        3 => "it cannot reach the network",
        4 => "it cannot reach the host",
        5 => "the host refused the connection",
        6 => "the connection took too long",
        _ => "it failed",
    }
}

/// Percent-decoded text; `None` if an escape is unfinished or the result is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "172.15.0.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        let special = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
        ];
        for special in special {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn a_link_local_address_is_never_meant_by_itself() {
        for fine in ["127.0.0.1", "10.0.0.1", "::1", "fd12::1"] {
            assert!(needs_no_leave(fine.parse().unwrap()), "{fine}");
        }
        for metadata in [
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
        ] {
            assert!(!needs_no_leave(metadata.parse().unwrap()), "{metadata}");
        }
    }

    #[test]
    fn a_proxy_is_read_and_its_password_shown_nowhere() {
        let proxy = Proxy::parse("socks5://ana:p%40ss@proxy.corp").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 1080));
        assert_eq!(proxy.login, Some(("ana".into(), "p@ss".into())));
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.corp:1080)");
        assert_eq!(Proxy::parse("http://p:3128").unwrap().port, 3128);
        for wrong in ["https://p:1", "p:3128", "ftp://p", "http://a:%zz@p"] {
            assert!(Proxy::parse(wrong).is_err(), "{wrong}");
        }
    }
}
