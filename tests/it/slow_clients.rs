//! Clients that do not read. What they leave unread stays with the provider, not in the gateway's
//! memory; and they cannot do so forever.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use weir_tests::gateway::completion;
use weir_tests::http::{event_stream_head, serve};
use weir_tests::weir::{Installation, PATIENCE, Process};

const MIB: u64 = 1 << 20;
/// More than the kernel's buffers on both sides of the gateway hold for a connection.
const ANSWER_BYTES: u64 = 48 * MIB;
const CLIENTS: usize = 16;
/// Far less than the answers, and enough for a program without optimisation to warm up.
const MEMORY_BYTES_MAX: u64 = 64 * MIB;
/// A provider that could not write for so long is held up.
const HELD_UP: Duration = Duration::from_secs(2);

/// What happened to one answer of the provider.
#[derive(Debug, PartialEq)]
enum Told {
    HeldUp,
    Finished,
    /// The gateway closed the connection.
    GivenUp,
}

/// Answers every call with the events of one API, as fast as they are taken.
fn provider(dialect: &'static str) -> (SocketAddr, mpsc::Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let address = serve(move |_, client| {
        let end = pour(client, dialect, &tell);
        // The test may be over.
        let _ = tell.send(end.map_or(Told::GivenUp, |()| Told::Finished));
        Ok(())
    });
    (address.unwrap(), told)
}

fn pour(client: &mut TcpStream, dialect: &str, tell: &mpsc::Sender<Told>) -> std::io::Result<()> {
    client.set_write_timeout(Some(HELD_UP))?;
    let (first, piece, last) = events(dialect);
    client.write_all(event_stream_head().as_bytes())?;
    client.write_all(first.as_bytes())?;
    let pieces = ANSWER_BYTES / piece.len() as u64;
    for _ in 0..pieces {
        let mut rest = piece.as_bytes();
        while !rest.is_empty() {
            match client.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let _ = tell.send(Told::HeldUp);
                    client.set_write_timeout(None)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    client.write_all(last.as_bytes())
}

/// The begin of a stream, a piece of it with some KiB of text, and its end.
fn events(dialect: &str) -> (&'static str, String, &'static str) {
    let text = "water ".repeat(1_000);
    match dialect {
        "anthropic" => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n\
             event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
            ),
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        _ => (
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
            format!(
                "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
            ),
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12}}\n\n\
             data: [DONE]\n\n",
        ),
    }
}

struct Scene {
    weir: Installation,
    gateway: Process,
    key: String,
    told: mpsc::Receiver<Told>,
}

impl Scene {
    fn start(part: &str, dialect: &'static str, gateway_setting: &str) -> Self {
        let (address, told) = provider(dialect);
        let weir = Installation::new(&format!(
            "[[provider]]\nname = \"p\"\ndialect = \"{dialect}\"\nbase_url = \"http://{address}/v1\"\n\n\
             [[alias]]\nname = \"m\"\ntargets = [{{ provider = \"p\", model = \"m\" }}]\n"
        ))
        .unwrap();
        weir.add_gateway_settings(gateway_setting).unwrap();
        let gateway = weir.start(&[part]).unwrap();
        weir.wait_until_ready().unwrap();
        let key = weir.create_key("slow").unwrap();
        weir.wait_until_known(&key).unwrap();
        Self {
            weir,
            gateway,
            key,
            told,
        }
    }

    /// Asks for a stream, and reads nothing of it.
    fn ask(&self) -> TcpStream {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"pour"}],"stream":true}"#;
        completion(&self.key, body).open(self.weir.gateway).unwrap()
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap()
    }
}

#[test]
fn what_a_client_leaves_unread_stays_with_the_provider() {
    for dialect in ["openai", "anthropic"] {
        let scene = Scene::start("gateway", dialect, "");
        let before = scene.gateway.resident_bytes().unwrap();
        let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| scene.ask()).collect();
        for _ in 0..clients.len() {
            assert_eq!(scene.next(), Told::HeldUp, "{dialect}");
        }
        let grown = scene
            .gateway
            .resident_bytes()
            .unwrap()
            .saturating_sub(before);
        assert!(
            grown < MEMORY_BYTES_MAX,
            "{dialect}: grown by {} MiB",
            grown / MIB
        );

        // One goes on reading and gets all of it; the others leave.
        let mut reader = clients.remove(0);
        drop(clients);
        let mut bytes = 0;
        let mut end = Vec::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            let count = reader.read(&mut piece).unwrap();
            if count == 0 {
                break;
            }
            bytes += count as u64;
            end.extend_from_slice(&piece[..count]);
            end.drain(..end.len().saturating_sub(64));
        }
        assert!(bytes > ANSWER_BYTES, "{dialect}: {bytes}");
        let end = String::from_utf8_lossy(&end);
        assert!(end.contains("data: [DONE]"), "{dialect}: {end}");
        let mut told: Vec<Told> = (0..CLIENTS).map(|_| scene.next()).collect();
        told.sort_by_key(|told| *told == Told::GivenUp);
        assert_eq!(told.remove(0), Told::Finished, "{dialect}");
        assert!(told.iter().all(|told| *told == Told::GivenUp), "{told:?}");
    }
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let scene = Scene::start("up", "openai", "send_timeout_ms = 2_000");
    let client = scene.ask();
    // The client is there all the time, so only the gateway can end this.
    while scene.next() != Told::GivenUp {}
    scene.weir.wait_for_store().unwrap();
    let gone =
        "SELECT count() FROM weir.requests WHERE error_kind = 'client_gone' AND cost_usd IS NULL";
    scene.weir.wait_for_number(gone, 1).unwrap();
    drop(client);
}
