//! The store as one ingestor sees it.

use std::collections::HashSet;
use std::time::Duration;

use clickhouse::{Row, RowWrite};
use weir_schemas::StreamId;
use weir_store::{ErrorClass, Retention, StoreError};

use super::world::Answer;
use super::{Shared, pass};
use crate::audit::pieces::{ChainEnd, StoredReach, StreamTables};
use crate::dead_letter::DeadLetterPlace;
use crate::hashes::StoredRow;
use crate::rows::{DeadLetterRow, EventRow};
use crate::stored::SearchFrom;
use crate::tables::{Engine, StoredRuns};

#[derive(Debug)]
pub(super) struct SimEngine {
    world: Shared,
}

impl SimEngine {
    pub(super) fn new(world: Shared) -> Self {
        Self { world }
    }
}

fn error(class: ErrorClass) -> StoreError {
    StoreError {
        class,
        code: None,
        context: String::new(),
        message: String::new(),
    }
}

impl Engine for SimEngine {
    async fn migrate(&self, _retention: Retention) -> Result<(), StoreError> {
        Ok(())
    }

    async fn has_tables(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn inserts_running(&self, began_before: Duration) -> Result<u64, StoreError> {
        let running = self.world.borrow().running(began_before);
        pass().await;
        Ok(running)
    }

    async fn stored(&self, questions: &[(StreamId, SearchFrom)]) -> Result<StoredRuns, StoreError> {
        pass().await;
        let at_us = self.world.borrow_mut().now_us();
        let runs = self.world.borrow().runs(questions);
        pass().await;
        Ok(StoredRuns { at_us, runs })
    }

    async fn insert<'a, R: RowWrite + Row<Value<'a>: EventRow>>(
        &self,
        _table: &str,
        rows: &[R::Value<'a>],
        token: &str,
        deadline_us: Option<u64>,
    ) -> Result<(), StoreError> {
        // The process may be stopped here, or the statement be under way for long.
        pass().await;
        let id = |row: &R::Value<'a>| (row.id().stream, row.id().seq);
        let ids = rows.iter().map(id).collect();
        let begun = self
            .world
            .borrow_mut()
            .begin_insert(ids, token.to_owned(), deadline_us);
        let insert = begun.ok_or_else(|| error(ErrorClass::Transient))?;
        loop {
            pass().await;
            let answer = self.world.borrow_mut().answer(insert);
            match answer {
                Answer::NotYet => {}
                Answer::Stored => return Ok(()),
                Answer::Refused => return Err(error(ErrorClass::Poison)),
                Answer::Cut => return Err(error(ErrorClass::Transient)),
            }
        }
    }

    async fn dead_letters(
        &self,
        places: &[DeadLetterPlace],
    ) -> Result<HashSet<DeadLetterPlace>, StoreError> {
        let is_buried = |it: &&DeadLetterPlace| {
            let letter = (it.location.clone(), it.position, it.kind.clone());
            self.world.borrow().is_buried(&letter)
        };
        let buried = places.iter().filter(is_buried).cloned().collect();
        pass().await;
        Ok(buried)
    }

    async fn write_dead_letters(
        &self,
        letters: &[DeadLetterRow<'_>],
        _token: &str,
    ) -> Result<(), StoreError> {
        pass().await;
        for letter in letters {
            let kind = letter.kind.to_owned();
            let place = (letter.location.to_owned(), letter.position, kind);
            self.world.borrow_mut().bury(place);
        }
        Ok(())
    }
}

impl StreamTables for SimEngine {
    async fn reaches(&self) -> Result<Vec<StoredReach>, StoreError> {
        pass().await;
        let reaches = self.world.borrow().reaches().into_iter();
        let reach = |(stream, (last_seq, since_us)): (StreamId, (u64, u64))| StoredReach {
            stream: stream.as_uuid(),
            last_seq,
            since_us: i64::try_from(since_us).unwrap(),
        };
        Ok(reaches.map(reach).collect())
    }

    async fn chain_ends(&self, streams: &[StreamId]) -> Result<Vec<ChainEnd>, StoreError> {
        pass().await;
        let world = self.world.borrow();
        let ends = streams.iter().filter_map(|it| world.checkpoints.end(*it));
        Ok(ends.collect())
    }

    async fn rows(
        &self,
        stream: StreamId,
        seqs: (u64, u64),
        since_us: i64,
    ) -> Result<Vec<StoredRow>, StoreError> {
        pass().await;
        let mut rows = self.world.borrow().stored_rows(stream, seqs);
        rows.retain(|row| row.ts_us >= since_us);
        Ok(rows)
    }
}
