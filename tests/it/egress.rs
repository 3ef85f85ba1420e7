//! Where the gateway calls, and on which way; and what it says of what it could not pass on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::completion;
use weir_tests::http::{Answer, Received, json_answer, serve};
use weir_tests::weir::{Installation, Process, repository};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;

fn mock() -> MockHandle {
    MockProvider::start(MockOptions::default()).unwrap()
}

fn start(provider: &str) -> (Installation, Process, String) {
    let config = format!(
        "[[provider]]\nname = \"p\"\n{provider}\n\n[[alias]]\nname = \"m\"\n\
         targets = [{{ provider = \"p\", model = \"small\" }}]\nretry = {{ tries_max = 1 }}\n"
    );
    let weir = Installation::new(&config).unwrap();
    let process = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", process.log()));
    let key = weir.create_key("egress").unwrap();
    weir.wait_until_known(&key).unwrap();
    (weir, process, key)
}

fn asked(provider: &str, body: &str) -> Answer {
    let (weir, _process, key) = start(provider);
    completion(&key, body).send(weir.gateway).unwrap()
}

#[test]
fn what_a_provider_cannot_take_is_refused_or_dropped_and_named() {
    let mock = mock();
    let provider = format!(
        "dialect = \"anthropic\"\nbase_url = \"{}\"",
        mock.base_url()
    );
    let body = PLAIN.replace("}]}", r#"}],"logit_bias":{"7":1}}"#);
    let refused = asked(&provider, &body);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.json()["error"]["param"], "logit_bias");
    assert_eq!(mock.ledger().total.calls, 0);
    let dropped = asked(&format!("{provider}\nunsupported = \"drop\""), &body);
    assert_eq!(dropped.status, 200, "{dropped:?}");
    assert_eq!(dropped.header("x-weir-dropped"), Some("logit_bias"));
}

/// `127.1` is 127.0.0.1 in a spelling that is no address to the one who reads the settings.
#[test]
fn a_name_that_leads_to_a_private_address_is_not_called() {
    let mock = mock();
    let provider = format!(
        "dialect = \"openai\"\nbase_url = \"http://127.1:{}/v1\"",
        mock.addr().port()
    );
    let refused = asked(&provider, PLAIN);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert_eq!(mock.ledger().total.calls, 0);
    let allowed = asked(&format!("{provider}\nallow_private = true"), PLAIN);
    assert_eq!(allowed.status, 200, "{allowed:?}");
}

/// Where a provider points to is not where the key was meant to go.
#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = mock();
    let location = format!("{}/chat/completions", elsewhere.base_url());
    let address = serve(move |_, client| {
        Ok(write!(
            client,
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        )?)
    });
    let provider = format!(
        "dialect = \"openai\"\nbase_url = \"http://{}/v1\"",
        address.unwrap()
    );
    let answer = asked(&provider, PLAIN);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(!format!("{answer:?}").contains("location"), "{answer:?}");
    assert_eq!(elsewhere.ledger().total.calls, 0);
}

/// Serves one tunnel: `handshake` reads where to, and says how that is confirmed.
fn proxy(
    handshake: impl FnOnce(&mut TcpStream) -> String + Send + 'static,
    confirmed: &'static [u8],
    target: SocketAddr,
) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = mpsc::channel();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        told.send(handshake(&mut client)).unwrap();
        let mut server = TcpStream::connect(target).unwrap();
        client.write_all(confirmed).unwrap();
        let (mut from_client, mut to_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        std::io::copy(&mut server, &mut client)
    });
    (port, asked)
}

fn read_bytes(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_provider_is_reached_through_an_http_proxy() {
    let mock = mock();
    let handshake = |client: &mut TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(read_bytes(client, 1));
        }
        String::from_utf8(head).unwrap()
    };
    let confirmed = b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n";
    let (port, asked_for) = proxy(handshake, confirmed, mock.addr());
    let answer = asked(
        &format!(
            "dialect = \"openai\"\nbase_url = \"http://provider.test:1234/v1\"\n\
             proxy = \"http://ana:secret@127.0.0.1:{port}\""
        ),
        PLAIN,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        asked_for.recv().unwrap(),
        "CONNECT provider.test:1234 HTTP/1.1\r\nhost: provider.test:1234\r\n\
         proxy-authorization: Basic YW5hOnNlY3JldA==\r\n\r\n"
    );
    assert_eq!(mock.ledger().total.calls, 1);
}

/// A provider with TLS whose certificate no public authority has signed. It gives one answer.
fn private_provider() -> u16 {
    let pem = |name: &str| repository().join("tests/it/tls").join(name);
    let chain = CertificateDer::pem_file_iter(pem("server.pem")).unwrap();
    let chain = chain.map(|certificate| certificate.unwrap()).collect();
    let key = PrivateKeyDer::from_pem_file(pem("server-key.pem")).unwrap();
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let settings = Arc::new(settings);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(settings.clone()).unwrap();
            answer_once(StreamOwned::new(connection, socket.unwrap()));
        }
    });
    port
}

/// A client that does not trust the certificate leaves before it has asked.
fn answer_once(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    if Received::read(&mut stream).is_err() {
        return;
    }
    let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"small","choices":[{"index":0,"message":{"role":"assistant","content":"in private"},"finish_reason":"stop"}]}"#;
    let _ = stream.write_all(json_answer(200, body).as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

#[test]
fn a_provider_of_a_private_authority_is_trusted_only_if_the_settings_say_so() {
    let port = private_provider();
    let provider = format!(
        "dialect = \"openai\"\nbase_url = \"https://localhost:{port}/v1\"\nallow_private = true"
    );
    let refused = asked(&provider, PLAIN);
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.message().contains("certificate"), "{refused:?}");
    let authority = repository().join("tests/it/tls/authority.pem");
    let trusting = format!("{provider}\nca_file = \"{}\"", authority.display());
    let answer = asked(&trusting, PLAIN);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("in private"), "{answer:?}");
}

#[test]
fn a_provider_is_reached_through_a_socks_proxy() {
    let mock = mock();
    let handshake = |client: &mut TcpStream| {
        assert_eq!(read_bytes(client, 3), [5, 1, 2]);
        client.write_all(&[5, 2]).unwrap();
        assert_eq!(read_bytes(client, 12), b"\x01\x03ana\x06secret");
        client.write_all(&[1, 0]).unwrap();
        assert_eq!(read_bytes(client, 4), [5, 1, 0, 3]);
        let length = read_bytes(client, 1)[0];
        let host = String::from_utf8(read_bytes(client, usize::from(length))).unwrap();
        let port = read_bytes(client, 2);
        format!("{host}:{}", u16::from_be_bytes([port[0], port[1]]))
    };
    let confirmed = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50";
    let (port, asked_for) = proxy(handshake, confirmed, mock.addr());
    let answer = asked(
        &format!(
            "dialect = \"openai\"\nbase_url = \"http://provider.test/v1\"\n\
             proxy = \"socks5://ana:secret@127.0.0.1:{port}\""
        ),
        PLAIN,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(asked_for.recv().unwrap(), "provider.test:80");
    assert_eq!(mock.ledger().total.calls, 1);
}
