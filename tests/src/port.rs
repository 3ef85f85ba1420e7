//! Ports of 127.0.0.1 for programs that must be told theirs before they listen.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

/// A port that is free for the program it is meant for, and for nobody else, as long as this lives.
///
/// A socket is bound to it and does not listen. The system gives the port to nobody who takes any, neither
/// to listen nor to call from. Who names it may listen there, as servers allow an address to be used again.
#[derive(Debug)]
pub struct ReservedPort {
    _socket: Socket,
    pub address: SocketAddr,
}

impl ReservedPort {
    pub fn new() -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok(Self {
            _socket: socket,
            address: address.context("the address of a TCP socket")?,
        })
    }

    #[must_use]
    pub const fn number(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::ReservedPort;

    #[test]
    fn a_reserved_port_is_listened_on_again_and_again_and_given_to_nobody() {
        let reserved = ReservedPort::new().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(reserved.address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(reserved.address).unwrap();
            let client = TcpStream::connect(reserved.address).unwrap();
            drop(listener.accept().unwrap());
            drop(client);
        }
        let others: Vec<TcpListener> = (0..200)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports = others.iter().map(|other| other.local_addr().unwrap());
        assert!(!ports.collect::<Vec<_>>().contains(&reserved.address));
    }
}
