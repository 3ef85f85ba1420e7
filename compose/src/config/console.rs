//! `[console]`: the pages that show what the store and the gateway know.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use weir_console::ConsoleOptions;
use weir_gateway::config::Secret;
use weir_store::{Store, StoreUser};

use super::{Config, StoreKind};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsoleSettings {
    /// Address of the pages; "" for none.
    #[serde(deserialize_with = "address_or_none")]
    #[schemars(with = "String")]
    pub(crate) listen: Option<SocketAddr>,
    /// URL of a gateway, whose admin API is asked; the gateway here unless set.
    pub(crate) gateway: Option<String>,
    /// What all paths begin with behind a reverse proxy that leaves it on them, such as "/weir".
    pub(crate) path: String,
    /// Hours after which somebody must sign in again.
    pub(crate) session_hours: u32,
    /// With `[store] kind = "clickhouse"`: a user that only reads; that of `[store]` unless set, whose
    /// queries are sent as read-only.
    pub(crate) store_user: Option<String>,
    pub(crate) store_password: Option<Secret>,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8090))),
            gateway: None,
            path: String::new(),
            session_hours: 12,
            store_user: None,
            store_password: None,
        }
    }
}

fn address_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse();
    let address = address.map_err(|_| {
        de::Error::custom("expected an address such as \"127.0.0.1:8090\", or \"\"")
    })?;
    Ok(Some(address))
}

impl Config {
    /// How the console is run; `None` if it is not. `gateway` is the address of the gateway here.
    pub(crate) fn console(&self, gateway: SocketAddr) -> Option<ConsoleOptions> {
        let console = &self.console;
        Some(ConsoleOptions {
            listen: console.listen?,
            gateway: console
                .gateway
                .clone()
                .unwrap_or_else(|| format!("http://{}", reachable(gateway))),
            path: console.path.clone(),
            session_hours: console.session_hours,
            retention_days: self.store.retention_days,
        })
    }

    /// The store, for who only reads.
    pub(crate) fn console_store(&self, data_dir: &Path) -> anyhow::Result<Store> {
        let mut store = self.store.clone();
        if let (StoreKind::Clickhouse, Some(user)) = (store.kind, &self.console.store_user) {
            store.user.clone_from(user);
            let password = self.console.store_password.as_ref();
            store.password = password.map_or_else(String::new, |it| it.expose().to_owned());
        }
        store.connect(data_dir, StoreUser::Reader)
    }
}

/// An address to call of one to listen on: 0.0.0.0 is every one of this machine's.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
