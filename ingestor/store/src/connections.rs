//! The open connections, at most [`CONNECTIONS_MAX`].
//!
//! A connection on which nothing is asked costs its owner nothing, so anyone could hold all of them. When
//! there are too many, the one that is needed least is closed for the one that comes: one that has
//! not logged in before one that has, the longest idle first. What is being answered is never cut off.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::caps::CONNECTIONS_MAX;
use crate::users::StoreUser;

#[derive(Default)]
pub(crate) struct Connections {
    table: Mutex<ConnectionTable>,
    /// A connection ended or became idle.
    changed: Notify,
}

#[derive(Default)]
struct ConnectionTable {
    open: HashMap<u64, ConnectionState>,
    /// Counts what happens: the order of connections' idleness.
    now: u64,
}

struct ConnectionState {
    /// Who has logged in on it last.
    user: Option<StoreUser>,
    requests: usize,
    idle_since: u64,
    close: Arc<Notify>,
    is_told: bool,
}

impl ConnectionTable {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

impl Connections {
    /// Waits for a place, which it makes if it must.
    pub(crate) async fn enter(self: &Arc<Self>) -> StoreConnection {
        loop {
            if let Some(connection) = self.try_enter() {
                return connection;
            }
            self.close_one();
            self.changed.notified().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<StoreConnection> {
        let mut table = self.table.lock();
        if table.open.len() >= CONNECTIONS_MAX {
            return None;
        }
        let id = table.tick();
        let close = Arc::new(Notify::new());
        let state = ConnectionState {
            user: None,
            requests: 0,
            idle_since: id,
            close: Arc::clone(&close),
            is_told: false,
        };
        table.open.insert(id, state);
        Some(StoreConnection {
            id,
            close,
            connections: Arc::clone(self),
        })
    }

    /// Tells the connection that is needed least to close, if one is idle.
    pub(crate) fn close_one(&self) {
        let mut table = self.table.lock();
        let open = table.open.values_mut();
        let idle = open.filter(|state| state.requests == 0 && !state.is_told);
        if let Some(state) = idle.min_by_key(|state| (state.user, state.idle_since)) {
            state.is_told = true;
            state.close.notify_one();
        }
    }
}

/// A place among the connections. Dropping it frees it.
pub(crate) struct StoreConnection {
    id: u64,
    close: Arc<Notify>,
    connections: Arc<Connections>,
}

impl StoreConnection {
    /// Waits until another needs the place.
    pub(crate) async fn told_to_close(&self) {
        self.close.notified().await;
    }

    pub(crate) fn is_idle(&self) -> bool {
        let table = self.connections.table.lock();
        let state = table.open.get(&self.id);
        state.is_none_or(|state| state.requests == 0)
    }

    /// Notes a request of a user's, until what it returns is dropped.
    pub(crate) fn open_request(
        self: &Arc<Self>,
        user: StoreUser,
        place: OwnedSemaphorePermit,
    ) -> OpenRequest {
        if let Some(state) = self.connections.table.lock().open.get_mut(&self.id) {
            state.user = Some(user);
            state.requests += 1;
        }
        OpenRequest {
            connection: Arc::clone(self),
            _place: place,
        }
    }
}

impl Drop for StoreConnection {
    fn drop(&mut self) {
        self.connections.table.lock().open.remove(&self.id);
        self.connections.changed.notify_one();
    }
}

/// A request that is being answered.
pub(crate) struct OpenRequest {
    connection: Arc<StoreConnection>,
    /// Among the requests of its user.
    _place: OwnedSemaphorePermit,
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let connections = &self.connection.connections;
        let mut table = connections.table.lock();
        let now = table.tick();
        if let Some(state) = table.open.get_mut(&self.connection.id) {
            state.requests -= 1;
            state.idle_since = now;
        }
        drop(table);
        connections.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    async fn full(connections: &Arc<Connections>) -> Vec<Arc<StoreConnection>> {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            open.push(Arc::new(connections.enter().await));
        }
        open
    }

    fn place() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    async fn is_told(connection: &StoreConnection) -> bool {
        let told = timeout(std::time::Duration::ZERO, connection.told_to_close());
        told.await.is_ok()
    }

    #[tokio::test]
    async fn the_longest_idle_stranger_goes_first_and_weirs_own_last() {
        let connections = Arc::new(Connections::default());
        let open = full(&connections).await;
        drop(open[0].open_request(StoreUser::Weir, place()));
        drop(open[1].open_request(StoreUser::Reader, place()));
        let busy = open[2].open_request(StoreUser::Reader, place());
        for connection in &open[3..] {
            connections.close_one();
            assert!(is_told(connection).await);
        }
        for last in [1, 0] {
            assert!(!is_told(&open[last]).await);
            connections.close_one();
            assert!(is_told(&open[last]).await);
        }
        connections.close_one();
        assert!(!is_told(&open[2]).await && !open[2].is_idle());
        drop(busy);
        assert!(open[2].is_idle());
    }

    #[tokio::test]
    async fn a_place_is_made_for_who_comes() {
        let connections = Arc::new(Connections::default());
        let mut open = full(&connections).await;
        let entering = {
            let connections = Arc::clone(&connections);
            tokio::spawn(async move { connections.enter().await })
        };
        open[0].told_to_close().await;
        open.remove(0);
        entering.await.unwrap();
    }
}
