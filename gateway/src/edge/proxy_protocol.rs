//! The header that a proxy puts before a connection: PROXY protocol, version 2.
//!
//! Written after <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>, section 2.2.

use crate::caps::PROXY_HEADER_BYTES_MAX;
use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header. `None` where the proxy speaks for itself, as health checks do.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    if head[..12] != SIGNATURE || head[12] >> 4 != 2 {
        return Err(bad(
            "it does not begin with a PROXY protocol header, version 2",
        ));
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(bad("its PROXY protocol header is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match (head[12] & 0x0f, head[13] >> 4) {
        (0, _) => Ok(None),
        (1, 1) => Ok(Some(source::<4>(&body)?.into())),
        (1, 2) => Ok(Some(source::<16>(&body)?.into())),
        _ => Err(bad("its PROXY protocol header names no IP address")),
    }
}

/// The source, which stands before the destination and two ports.
fn source<const BYTES: usize>(body: &[u8]) -> io::Result<[u8; BYTES]> {
    let addresses = body.get(..2 * BYTES + 4);
    let source = addresses.and_then(|addresses| addresses.first_chunk());
    source
        .copied()
        .ok_or_else(|| bad("its PROXY protocol header is too short"))
}

fn bad(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Option<&str>, ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let found = runtime.block_on(async { read(&mut &*bytes).await });
        let expected = expected.map(|address| address.map(|a| a.parse().unwrap()));
        assert_eq!(found.map_err(|_| ()), expected, "{bytes:?}");
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        check(
            &header(1, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 2]),
            Ok(Some("203.0.113.9")),
        );
        let mut v6 = [0; 36];
        v6[0..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 7;
        check(&header(1, 0x21, &v6), Ok(Some("2001::7")));
        check(&header(0, 0, &[]), Ok(None));
        // Extensions stand behind the addresses.
        check(
            &header(
                1,
                0x11,
                &[&[192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0][..], &[9; 100]].concat(),
            ),
            Ok(Some("192.0.2.1")),
        );
    }

    #[test]
    fn whatever_is_not_a_header_is_refused() {
        let good = header(1, 0x11, &[1; 12]);
        for cut in 0..good.len() {
            check(&good[..cut], Err(()));
        }
        check(b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n", Err(()));
        check(&header(1, 0x11, &[1; 11]), Err(()));
        check(&header(1, 0x31, &[1; 216]), Err(()));
        check(&header(2, 0x11, &[1; 12]), Err(()));
        check(&header(1, 0x11, &[0; PROXY_HEADER_BYTES_MAX + 1]), Err(()));
    }
}
