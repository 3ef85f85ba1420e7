//! The log as one ingestor sees it.

use std::sync::Arc;

use weir_eventlog::{BatchLimits, Committed, LogRecord, Position, SourceBatch, SourceError};

use super::gateway::stream_id;
use super::world::Mode;
use super::{Shared, pass};
use crate::log::Log;

/// A partition of this member's: number, since when, and where it reads on.
#[derive(Debug)]
struct Mine {
    partition: usize,
    since: u64,
    next: usize,
}

#[derive(Debug)]
pub(super) struct SimLog {
    world: Shared,
    member: u64,
    epoch: u64,
    mine: Vec<Mine>,
    topic: Arc<str>,
}

impl SimLog {
    pub(super) fn new(world: Shared, member: u64) -> Self {
        let epoch = world.borrow_mut().next_number();
        Self {
            world,
            member,
            epoch,
            mine: Vec::new(),
            topic: "events".into(),
        }
    }

    /// Learns what was won and lost. A partition is read from where the group has committed.
    fn look_at_group(&mut self) {
        let owned = self.world.borrow().owned(self.member);
        let is_same = |(partition, since, _): &(usize, u64, usize)| {
            let mut mine = self.mine.iter();
            mine.any(|it| (it.partition, it.since) == (*partition, *since))
        };
        if owned.len() == self.mine.len() && owned.iter().all(is_same) {
            return;
        }
        self.epoch = self.world.borrow_mut().next_number();
        let kept = |partition, since| {
            let mut mine = self.mine.iter();
            mine.find(|it| (it.partition, it.since) == (partition, since))
                .map(|it| it.next)
        };
        self.mine = owned
            .into_iter()
            .map(|(partition, since, committed)| Mine {
                partition,
                since,
                next: kept(partition, since).unwrap_or(committed),
            })
            .collect();
    }
}

impl SimLog {
    fn read(&mut self) -> SourceBatch {
        self.look_at_group();
        let mut batch = SourceBatch::default();
        batch.epoch = self.epoch;
        let mut world = self.world.borrow_mut();
        for mine in &mut self.mine {
            for (at, seq) in world.read(mine.partition, mine.next) {
                let position = Position::Kafka {
                    topic: Arc::clone(&self.topic),
                    partition: i32::try_from(mine.partition).unwrap(),
                    offset: i64::try_from(mine.next).unwrap(),
                };
                mine.next += 1;
                batch
                    .records
                    .extend(world.given((at, seq)).map(|given| LogRecord {
                        stream: stream_id(at),
                        seq,
                        payload: given.payload.clone(),
                        position,
                    }));
            }
        }
        world.tell(|| {
            let seqs: Vec<_> = batch.records.iter().map(|it| it.seq).collect();
            format!("{} reads {seqs:?} in epoch {}", self.member, self.epoch)
        });
        drop(world);
        batch
    }
}

impl Log for SimLog {
    fn is_shared(&self) -> bool {
        self.world.borrow().mode() == Mode::Kafka
    }

    async fn next(&mut self, _limits: BatchLimits) -> Result<SourceBatch, SourceError> {
        let batch = self.read();
        pass().await;
        Ok(batch)
    }

    async fn reread(&mut self) -> Result<Committed, SourceError> {
        Ok(Committed::Done)
    }

    async fn commit(&mut self, _batch: &SourceBatch) -> Result<Committed, SourceError> {
        pass().await;
        let mut all = true;
        for mine in &self.mine {
            let mut world = self.world.borrow_mut();
            all &= world.commit(self.member, mine.partition, mine.since, mine.next);
        }
        pass().await;
        Ok(if all {
            Committed::Done
        } else {
            Committed::Refused
        })
    }
}
