#!/usr/bin/env bash
# hyper-util 0.1.21: `Tunnel` takes a proxy's 200 to CONNECT and no other success.
#
# RFC 9110, section 9.3.6: any 2xx answer to CONNECT means that the tunnel stands. `Tunnel` opens it for 200;
# for 201 and 202 it fails with "tunnel error: unsuccessful", which does not tell the status either.
# Seen: 200 opened, 201 unsuccessful, 202 unsuccessful. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
hyper-util = { version = "=0.1.21", features = ["client-legacy", "client-proxy", "tokio"] }
http = "1"
tokio = { version = "1", features = ["rt", "net", "io-util", "macros"] }
tower-service = "0.3"
TOML
cat >"$dir/src/main.rs" <<'RUST'
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for status in ["200 OK", "201 Created", "202 Accepted"] {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let answer = tokio::spawn(async move {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\n\r\n");
            client.write_all(answer.as_bytes()).await.unwrap();
            client
        });
        let uri = format!("http://{address}").parse().unwrap();
        let mut tunnel = Tunnel::new(uri, HttpConnector::new());
        let opened = tunnel.call("https://provider.test:443".parse().unwrap()).await;
        let told = opened.map_or_else(|error| error.to_string(), |_| "opened".to_owned());
        println!("{status}: {told}");
        drop(answer.await);
    }
}
RUST
seen="$(cd "$dir" && CARGO_TARGET_DIR="$dir/target" cargo run --quiet)"
echo "$seen"
[ "$seen" = "200 OK: opened
201 Created: tunnel error: unsuccessful
202 Accepted: tunnel error: unsuccessful" ]
