//! Demand on a provider's limits, by group.

use std::collections::HashMap;

use super::learned::LearnedLimit;
use super::units::{MINUTE_US, WHOLE, scaled};
use crate::caps::GROUPS_MAX;
use crate::class::Class;

/// Recent demand and use, in shares of the whole limit.
#[derive(Debug, Default)]
pub(super) struct DemandWindow {
    began_us: u64,
    ends_us: u64,
    by_group: HashMap<u64, GroupDemand>,
    /// Demand of interactive requests.
    pub(super) interactive: RecentDemand,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentDemand {
    now: u64,
    before: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct GroupDemand {
    asked: RecentDemand,
    taken: RecentDemand,
}

impl RecentDemand {
    fn turn(&mut self) {
        *self = Self {
            now: 0,
            before: self.now,
        };
    }

    /// What is asked for in a whole window, as far as one can tell.
    fn in_window(self) -> u64 {
        self.before.max(self.now)
    }
}

impl DemandWindow {
    /// `fixed` is a limit with a fixed window: this one ends with it.
    pub(super) fn enter(&mut self, fixed: Option<&LearnedLimit>, now_us: u64) {
        if now_us < self.ends_us {
            return;
        }
        // After a pause, old demand says nothing.
        if now_us >= self.ends_us.saturating_add(MINUTE_US) {
            *self = Self::default();
        }
        self.interactive.turn();
        self.by_group.retain(|_, part| {
            part.asked.turn();
            part.taken.turn();
            part.asked.before > 0
        });
        self.began_us = now_us;
        self.ends_us = fixed.map_or(now_us + MINUTE_US, |limit| {
            // Announcements are a little late: its next window may have begun just now.
            let has_begun = limit.full_at_us < now_us + limit.period_us / 2;
            limit.full_at_us + if has_begun { limit.period_us } else { 0 }
        });
    }

    /// Groups beyond the limit share one place.
    fn place(&self, group: u64) -> u64 {
        if self.by_group.len() < GROUPS_MAX || self.by_group.contains_key(&group) {
            group
        } else {
            0
        }
    }

    pub(super) fn ask(&mut self, group: u64, class: Class, share: u64) {
        let asked = &mut self.group(group).asked;
        asked.now = asked.now.saturating_add(share);
        if class == Class::Interactive {
            self.interactive.now = self.interactive.now.saturating_add(share);
        }
    }

    pub(super) fn take(&mut self, group: u64, share: u64) {
        let taken = &mut self.group(group).taken;
        taken.now = taken.now.saturating_add(share);
    }

    fn group(&mut self, group: u64) -> &mut GroupDemand {
        let group = self.place(group);
        self.by_group.entry(group).or_default()
    }

    fn left_us(&self, now_us: u64) -> u64 {
        self.ends_us.saturating_sub(now_us)
    }

    fn len_us(&self) -> u64 {
        self.ends_us.saturating_sub(self.began_us)
    }

    /// Expected demand until the window ends, and a quarter more.
    pub(super) fn rest(&self, asked: RecentDemand, now_us: u64) -> u64 {
        let passed_us = now_us.saturating_sub(self.began_us);
        let passed_us = passed_us.max(self.len_us() / 20);
        let left_us = self.left_us(now_us);
        let as_before = scaled(asked.before, left_us, self.len_us());
        let as_now = scaled(asked.now, left_us, passed_us);
        as_before.max(as_now) / 4 * 5
    }

    /// What the others will want of their equal parts, if this group has taken more than its own.
    pub(super) fn for_others(&self, group: u64, is_token_bucket: bool, now_us: u64) -> u64 {
        let group = self.place(group);
        let part = WHOLE / (self.by_group.len() as u64).max(1);
        let before_counts = scaled(WHOLE, self.left_us(now_us), self.len_us());
        // In a fixed window, what was taken in the one before is forgiven.
        let taken = |of: &GroupDemand| {
            let before = scaled(of.taken.before, before_counts, WHOLE);
            of.taken.now + if is_token_bucket { before } else { 0 }
        };
        let own = self.by_group.get(&group).map_or(0, taken);
        if own <= part {
            return 0;
        }
        let wanted = |of: &GroupDemand| {
            let unmet = part.saturating_sub(taken(of));
            unmet.min(if is_token_bucket {
                (2 * of.asked.in_window()).saturating_sub(taken(of))
            } else {
                self.rest(of.asked, now_us)
            })
        };
        let others = self.by_group.iter().filter(|(other, _)| **other != group);
        others.map(|(_, of)| wanted(of)).sum()
    }
}
