//! A budget: what may be spent in a window, and what of it is spent or reserved.
//!
//! A request reserves the most that it can cost, and settles what it did cost. What is reserved counts
//! as spent meanwhile, so that a hundred requests at once cannot each find the same last dollar. Where
//! what others have reserved is all that stands in the way, a request can wait for it: [`BudgetTurn`].

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Mutex, MutexGuard};

use crate::caps::{RATE_MS, RATE_MS_MIN, ROLLING_SLOTS, STRETCH_US, STRETCHES};
use crate::share::{Round, Share};
use crate::waiting::WaitingLine;
use crate::window::{Span, Window, WindowKind};

/// An amount in a budget's unit. Wide enough for every sum of 64-bit charges.
pub type BudgetAmount = u128;

/// The threshold of a hard budget of which more is spent than there was.
pub const OVERSPENT_PERCENT: u8 = 101;

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetUnit {
    /// 10⁻¹² US dollars.
    PicoUsd,
    /// Tokens in and out.
    Tokens,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpec {
    pub unit: BudgetUnit,
    pub limit: BudgetAmount,
    /// Whether requests are refused when it is used up. A soft budget only reports it.
    pub hard: bool,
    pub window: Window,
    /// Parts of the limit to report when reached, in percent and rising.
    pub thresholds_percent: Vec<u8>,
}

/// What was spent in a stretch of time that begins at `start_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub start_ms: u64,
    pub amount: BudgetAmount,
}

/// Everything that ever went through a budget. At each moment
/// `reserved = settled + released + outstanding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub reserved: BudgetAmount,
    /// Reservations that were replaced by what was really spent.
    pub settled: BudgetAmount,
    /// Reservations that were given back, or expired.
    pub released: BudgetAmount,
    pub outstanding: BudgetAmount,
}

/// The use of a budget, for the ledger and for other gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetUsage {
    /// What was spent here, oldest first: one stretch, or those of a rolling window.
    pub spent: Vec<Spent>,
    pub outstanding: BudgetAmount,
    /// Total asked for here, since there are other gateways.
    pub asked: BudgetAmount,
    /// All that counts against the limit now, the other gateways' part included.
    pub committed: BudgetAmount,
    /// What may be reserved before the next synchronisation, where there are other gateways. They
    /// must count it as reserved.
    pub claimed: BudgetAmount,
    /// When it resets, if ever.
    pub resets_ms: Option<u64>,
}

/// What is spent and reserved of a budget, for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetBalance {
    /// By all gateways.
    pub spent: BudgetAmount,
    /// By running requests, at all gateways.
    pub reserved: BudgetAmount,
    /// What is spent in an hour, by the last hour. Only [`BudgetCounter::standing`] knows.
    pub per_hour: BudgetAmount,
    /// When it resets, if ever.
    pub resets_ms: Option<u64>,
}

impl BudgetBalance {
    /// When all of `limit` will be spent if it goes on like that. `None` if it will not be before it
    /// resets.
    #[must_use]
    pub fn ends_ms(&self, limit: BudgetAmount, now_ms: u64) -> Option<u64> {
        let left = limit.saturating_sub(self.spent);
        let lasts_ms = left
            .saturating_mul(u128::from(RATE_MS))
            .checked_div(self.per_hour)?;
        let ends_ms = now_ms.saturating_add(u64::try_from(lasts_ms).unwrap_or(u64::MAX));
        let resets_ms = self.resets_ms.unwrap_or(u64::MAX);
        (ends_ms < resets_ms).then_some(ends_ms)
    }

    /// All that counts against the limit now.
    #[must_use]
    pub const fn committed(&self) -> BudgetAmount {
        self.spent.saturating_add(self.reserved)
    }
}

/// What other gateways have used of a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerBudgetUsage {
    pub spent: Vec<Spent>,
    pub outstanding: BudgetAmount,
    /// What they may still reserve before they learn of this gateway's use.
    pub claimed: BudgetAmount,
}

/// A budget that has no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExhausted {
    pub remaining: BudgetAmount,
    /// What of it may be reserved here and now.
    pub available: BudgetAmount,
    /// What would be left if nothing were reserved: a request for more need not wait.
    pub unspent: BudgetAmount,
    /// When there will be room again, if ever.
    pub resets_ms: Option<u64>,
}

/// A part of the limit that was just reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub percent: u8,
    pub spent: BudgetAmount,
    pub limit: BudgetAmount,
    pub resets_ms: Option<u64>,
}

/// A reservation. Its holder ends it, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Reserved {
    stretch: u64,
    pub amount: BudgetAmount,
}

/// What is spent and reserved of a budget.
#[derive(Debug, Default)]
pub struct BudgetCounter {
    state: Mutex<BudgetState>,
}

/// Laid out in this order: what every request reads and writes comes first and lies together, so that
/// a request touches as few cache lines as possible.
#[derive(Debug, Default)]
#[repr(C)]
struct BudgetState {
    now: Span,
    /// What all gateways have spent.
    spent_sum: BudgetAmount,
    outstanding: Outstanding,
    /// Only where there are other gateways.
    elsewhere: Option<Box<Elsewhere>>,
    reserved: BudgetAmount,
    settled: BudgetAmount,
    released: BudgetAmount,
    /// What was spent here, oldest first.
    spent: VecDeque<Spent>,
    /// Expired since it was last read.
    expired: BudgetAmount,
    /// The highest threshold that was reported in this window.
    notified_percent: u8,
    /// Who waits for room, if anybody does.
    line: Option<Box<WaitingLine>>,
    recent: RecentSpending,
}

/// What was spent in this hour and in the one before.
#[derive(Debug, Default)]
struct RecentSpending {
    hour: u64,
    amounts: [BudgetAmount; 2],
    /// The first spending that is known.
    since_ms: Option<u64>,
}

impl RecentSpending {
    fn enter(&mut self, hour: u64) {
        self.amounts = match hour.saturating_sub(self.hour) {
            0 => self.amounts,
            1 => [0, self.amounts[0]],
            _ => [0, 0],
        };
        self.hour = self.hour.max(hour);
    }

    fn add(&mut self, at_ms: u64, amount: BudgetAmount) {
        let hour = at_ms / RATE_MS;
        self.enter(hour);
        let since_ms = self.since_ms.get_or_insert(at_ms);
        *since_ms = at_ms.min(*since_ms);
        let ago = usize::try_from(self.hour - hour).unwrap_or(usize::MAX);
        if let Some(sum) = self.amounts.get_mut(ago) {
            *sum = sum.saturating_add(amount);
        }
    }

    /// Of the hour before, the part counts that is less than an hour ago.
    fn per_hour(&mut self, now_ms: u64) -> BudgetAmount {
        self.enter(now_ms / RATE_MS);
        let of_before = u128::from(RATE_MS - now_ms % RATE_MS);
        let whole = u128::from(RATE_MS);
        let [now, before] = self.amounts;
        let spent = now.saturating_add(before.saturating_mul(of_before) / whole);
        let known_ms = now_ms.saturating_sub(self.since_ms.unwrap_or(0));
        spent.saturating_mul(whole) / u128::from(known_ms.clamp(RATE_MS_MIN, RATE_MS))
    }
}

/// Use by other gateways, and what they are told about this one.
#[derive(Debug, Default)]
struct Elsewhere {
    spent: Vec<Spent>,
    outstanding: BudgetAmount,
    /// Total asked for here, since there are other gateways.
    asked: BudgetAmount,
    round: Option<Round>,
}

/// Running reservations, by the stretch of time in which they began.
#[derive(Debug, Default)]
struct Outstanding {
    amounts: [BudgetAmount; 2],
    /// The latest stretch.
    stretch: u64,
}

impl Outstanding {
    /// Begins the stretch that holds this moment. Returns what expired by that.
    fn enter(&mut self, now_us: u64) -> BudgetAmount {
        let mut expired = 0;
        // A clock that was set back changes nothing.
        let now = now_us / STRETCH_US;
        let passed = now.saturating_sub(self.stretch).min(STRETCHES);
        for later in 1..=passed {
            expired += std::mem::take(self.at(self.stretch + later));
        }
        self.stretch = self.stretch.max(now);
        expired
    }

    fn at(&mut self, stretch: u64) -> &mut BudgetAmount {
        &mut self.amounts[usize::try_from(stretch % STRETCHES).unwrap_or(0)]
    }

    /// Whether a reservation has not expired.
    const fn holds(&self, stretch: u64) -> bool {
        stretch + STRETCHES > self.stretch
    }

    fn sum(&self) -> BudgetAmount {
        self.amounts.iter().sum()
    }
}

impl BudgetCounter {
    /// Reserves `amount` if there is room for it, and returns the balance after that. Of a hard budget
    /// nobody takes what others wait for: it is the turn of the first of them.
    pub fn reserve(
        &self,
        spec: &BudgetSpec,
        amount: BudgetAmount,
        turn: Option<&BudgetTurn>,
        now_us: u64,
    ) -> Result<(Reserved, BudgetBalance), BudgetExhausted> {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        if let Some(elsewhere) = &mut state.elsewhere {
            elsewhere.asked = elsewhere.asked.saturating_add(amount);
        }
        let number = turn.filter(|turn| turn.is_at(self)).map(|turn| turn.number);
        let is_turn = state
            .line
            .as_ref()
            .is_none_or(|line| line.is_turn_of(number));
        if spec.hard && !is_turn {
            return Err(state.exhausted(spec, 0));
        }
        state.take(spec, amount)?;
        let reserved = state.set_aside(amount, now_us);
        Ok((reserved, state.standing(spec)))
    }

    /// Adds to a reservation, if there is room for that.
    pub fn extend(
        &self,
        spec: &BudgetSpec,
        reserved: &mut Reserved,
        amount: BudgetAmount,
        now_us: u64,
    ) -> Result<(), BudgetExhausted> {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        state.take(spec, amount)?;
        let more = state.set_aside(amount, now_us);
        // Both end together: as late as the later one would have.
        if let Some(was) = state.end_at(reserved.stretch, reserved.amount) {
            *state.outstanding.at(more.stretch) += was;
            reserved.amount += amount;
        } else {
            reserved.amount = amount;
        }
        reserved.stretch = more.stretch;
        Ok(())
    }

    /// Gives back a part of a reservation.
    pub fn shrink(&self, reserved: &mut Reserved, amount: BudgetAmount) {
        let mut state = self.state.lock();
        let amount = amount.min(reserved.amount);
        if state.end_at(reserved.stretch, amount).is_some() {
            state.give_back(amount);
        }
        reserved.amount -= amount;
        self.call_next(state);
    }

    /// Replaces a reservation by what was spent. `at_ms` decides the window that it counts in. Returns the highest threshold that it reached.
    pub fn settle(
        &self,
        spec: &BudgetSpec,
        reserved: Reserved,
        amount: BudgetAmount,
        at_ms: u64,
        now_us: u64,
    ) -> Option<Crossing> {
        let mut state = self.state.lock();
        if let Some(was) = state.end(reserved) {
            state.settled += was;
            if let Some(round) = state.round() {
                round.left = (round.left + was).saturating_sub(amount);
            }
        }
        state.enter(spec, now_us / 1000);
        state.add(spec, at_ms, amount);
        let crossing = state.crossing(spec);
        self.call_next(state);
        crossing
    }

    /// Gives back what was reserved.
    pub fn release(&self, reserved: Reserved) {
        let mut state = self.state.lock();
        if let Some(was) = state.end(reserved) {
            state.give_back(was);
        }
        self.call_next(state);
    }

    /// Takes a place among those who wait for room. `None` if there are too many.
    pub fn wait(self: &Arc<Self>) -> Option<BudgetTurn> {
        let number = self.state.lock().line.get_or_insert_default().join()?;
        Some(BudgetTurn {
            counter: self.clone(),
            number,
        })
    }

    /// Something may have come free. Who waits is woken after the lock is given back.
    fn call_next(&self, mut state: MutexGuard<'_, BudgetState>) {
        let waker = state.line.as_mut().and_then(|line| line.call());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What a request that was not tried would have been told.
    #[must_use]
    pub fn room(&self, spec: &BudgetSpec, now_us: u64) -> BudgetExhausted {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        state.exhausted(spec, 0)
    }

    /// Counts earlier spending, from the log.
    pub fn restore(&self, spec: &BudgetSpec, at_ms: u64, amount: BudgetAmount, now_us: u64) {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        state.add(spec, at_ms, amount);
        // Thresholds crossed before were reported before.
        state.notified_percent = state.reached(spec).unwrap_or(0);
    }

    /// Takes over what other gateways used, and this one's share of the rest. A threshold that they
    /// reached is reported with the next request that is settled here.
    pub fn merge_peers(
        &self,
        spec: &BudgetSpec,
        others: PeerBudgetUsage,
        share: Share,
        now_us: u64,
    ) {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        let known = state.elsewhere.take();
        if let Some(known) = &known {
            let more = sum(&others.spent).saturating_sub(sum(&known.spent));
            if more > 0 {
                state.recent.add(now_us / 1000, more);
            }
        }
        let mut elsewhere = known.unwrap_or_default();
        elsewhere.spent = others.spent;
        elsewhere.outstanding = others.outstanding;
        let before = elsewhere.round;
        state.elsewhere = Some(elsewhere);
        state.forget_old(spec, now_us / 1000);
        let room = spec.limit.saturating_sub(state.standing(spec).committed());
        if let Some(elsewhere) = &mut state.elsewhere {
            elsewhere.round = share.round(before, room, others.claimed);
        }
        self.call_next(state);
    }

    /// The highest threshold reached, and when the current window began: 0 for a rolling one.
    #[must_use]
    pub fn reached(&self, spec: &BudgetSpec, now_us: u64) -> (u64, Option<Crossing>) {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        state.forget_old(spec, now_us / 1000);
        let start_ms = match spec.window.kind {
            WindowKind::Rolling { .. } => 0,
            _ => state.now.start_ms,
        };
        let percent = state.reached(spec);
        let crossing = percent.map(|percent| state.at(spec, percent));
        (start_ms, crossing)
    }

    /// Releases reservations that were never ended. Returns how much that was since the last time.
    pub fn expire(&self, now_us: u64) -> BudgetAmount {
        let mut state = self.state.lock();
        state.release_old(now_us);
        let expired = std::mem::take(&mut state.expired);
        self.call_next(state);
        expired
    }

    /// Whether nothing counts and nothing is outstanding: it could as well be new.
    #[must_use]
    pub fn is_idle(&self, spec: &BudgetSpec, now_us: u64) -> bool {
        self.standing(spec, now_us).committed() == 0
    }

    /// What is spent and reserved now.
    #[must_use]
    pub fn standing(&self, spec: &BudgetSpec, now_us: u64) -> BudgetBalance {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        state.forget_old(spec, now_us / 1000);
        let per_hour = state.recent.per_hour(now_us / 1000);
        BudgetBalance {
            per_hour,
            ..state.standing(spec)
        }
    }

    #[must_use]
    pub fn flow(&self) -> Flow {
        let state = self.state.lock();
        Flow {
            reserved: state.reserved,
            settled: state.settled,
            released: state.released,
            outstanding: state.outstanding.sum(),
        }
    }

    #[must_use]
    pub fn read(&self, spec: &BudgetSpec, now_us: u64) -> BudgetUsage {
        let mut state = self.state.lock();
        state.enter(spec, now_us / 1000);
        let elsewhere = state.elsewhere.as_ref();
        BudgetUsage {
            spent: state.spent.iter().copied().collect(),
            outstanding: state.outstanding.sum(),
            asked: elsewhere.map_or(0, |elsewhere| elsewhere.asked),
            committed: state.standing(spec).committed(),
            claimed: elsewhere
                .and_then(|elsewhere| elsewhere.round)
                .map_or(0, |round| round.left),
            resets_ms: state.resets_ms(spec),
        }
    }
}

impl BudgetState {
    /// Begins the window that holds this moment. Time never runs backwards here: a clock that was
    /// set back does not open an old budget again.
    fn enter(&mut self, spec: &BudgetSpec, now_ms: u64) {
        if now_ms < self.now.end_ms {
            return;
        }
        self.now = spec.window.span(now_ms);
        self.notified_percent = match spec.window.kind {
            WindowKind::Rolling { .. } => self.notified_percent,
            _ => 0,
        };
        self.forget_old(spec, now_ms);
        if matches!(spec.window.kind, WindowKind::Rolling { .. }) {
            self.notified_percent = self.notified_percent.min(self.reached(spec).unwrap_or(0));
        } else if let Some(round) = self.round() {
            // Nothing of it is spent yet, so the share is one of the whole, whether the
            // others are in reach or not.
            *round = Round::begin(spec.limit, round.ppm).unwrap_or(*round);
        }
    }

    fn forget_old(&mut self, spec: &BudgetSpec, now_ms: u64) {
        let oldest_ms = self.oldest_ms(spec, now_ms);
        self.spent.retain(|spent| spent.start_ms >= oldest_ms);
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.spent.retain(|spent| spent.start_ms >= oldest_ms);
        }
        let add = |sum: BudgetAmount, part: &Spent| sum.saturating_add(part.amount);
        self.spent_sum = self.counted().fold(0, add);
    }

    /// Spending that counts, here and elsewhere.
    fn counted(&self) -> impl Iterator<Item = &Spent> {
        let elsewhere = self.elsewhere.iter().flat_map(|it| &it.spent);
        self.spent.iter().chain(elsewhere)
    }

    fn round(&mut self) -> Option<&mut Round> {
        self.elsewhere.as_mut()?.round.as_mut()
    }

    /// Where the oldest stretch begins that still counts.
    fn oldest_ms(&self, spec: &BudgetSpec, now_ms: u64) -> u64 {
        match spec.window.kind {
            WindowKind::Rolling { .. } => {
                let slot_ms = self.now.end_ms - self.now.start_ms;
                let current = now_ms.max(self.now.start_ms) / slot_ms * slot_ms;
                current.saturating_sub(ROLLING_SLOTS * slot_ms)
            }
            _ => self.now.start_ms,
        }
    }

    /// Counts an amount in its window, if that is not over yet.
    fn add(&mut self, spec: &BudgetSpec, at_ms: u64, amount: BudgetAmount) {
        let start_ms = if at_ms >= self.now.end_ms {
            self.now.start_ms
        } else {
            spec.window.span(at_ms).start_ms
        };
        if start_ms < self.oldest_ms(spec, self.now.start_ms) {
            return;
        }
        let place = self
            .spent
            .partition_point(|spent| spent.start_ms < start_ms);
        match self.spent.get_mut(place) {
            Some(spent) if spent.start_ms == start_ms => {
                spent.amount = spent.amount.saturating_add(amount);
            }
            _ => self.spent.insert(place, Spent { start_ms, amount }),
        }
        self.spent_sum = self.spent_sum.saturating_add(amount);
        self.recent.add(at_ms, amount);
    }

    /// Takes `amount` of this gateway's share, if there is room for it.
    fn take(&mut self, spec: &BudgetSpec, amount: BudgetAmount) -> Result<(), BudgetExhausted> {
        let committed = self.standing(spec).committed();
        let used_up = committed >= spec.limit || committed.saturating_add(amount) > spec.limit;
        let not_ours = self.round().is_some_and(|round| !round.allows(amount));
        if spec.hard && (used_up || not_ours) {
            let remaining = spec.limit.saturating_sub(committed);
            let ours = self
                .round()
                .map_or(remaining, |round| round.allowed(remaining));
            return Err(self.exhausted(spec, ours));
        }
        if let Some(round) = self.round() {
            round.take(amount);
        }
        Ok(())
    }

    fn exhausted(&self, spec: &BudgetSpec, available: BudgetAmount) -> BudgetExhausted {
        let standing = self.standing(spec);
        BudgetExhausted {
            remaining: spec.limit.saturating_sub(standing.committed()),
            available,
            unspent: spec.limit.saturating_sub(standing.spent),
            resets_ms: standing.resets_ms,
        }
    }

    fn give_back(&mut self, amount: BudgetAmount) {
        self.released += amount;
        if let Some(round) = self.round() {
            round.left += amount;
        }
    }

    fn set_aside(&mut self, amount: BudgetAmount, now_us: u64) -> Reserved {
        self.release_old(now_us);
        let stretch = self.outstanding.stretch;
        *self.outstanding.at(stretch) += amount;
        self.reserved += amount;
        Reserved { stretch, amount }
    }

    fn release_old(&mut self, now_us: u64) {
        let expired = self.outstanding.enter(now_us);
        self.released += expired;
        self.expired += expired;
    }

    /// Ends a reservation. `None` if it had expired.
    fn end(&mut self, reserved: Reserved) -> Option<BudgetAmount> {
        self.end_at(reserved.stretch, reserved.amount)
    }

    fn end_at(&mut self, stretch: u64, amount: BudgetAmount) -> Option<BudgetAmount> {
        if !self.outstanding.holds(stretch) {
            return None;
        }
        *self.outstanding.at(stretch) -= amount;
        Some(amount)
    }

    fn standing(&self, spec: &BudgetSpec) -> BudgetBalance {
        let elsewhere = self.elsewhere.as_ref().map_or(0, |it| it.outstanding);
        BudgetBalance {
            spent: self.spent_sum,
            reserved: self.outstanding.sum().saturating_add(elsewhere),
            per_hour: 0,
            resets_ms: self.resets_ms(spec),
        }
    }

    /// The highest threshold that the spending is at. That a hard budget is overspent is one of its own.
    fn reached(&self, spec: &BudgetSpec) -> Option<u8> {
        let reached = |percent: &&u8| {
            self.spent_sum.saturating_mul(100) >= spec.limit.saturating_mul(u128::from(**percent))
        };
        let threshold = spec.thresholds_percent.iter().rev().find(reached).copied();
        let is_overspent = spec.hard && self.spent_sum > spec.limit;
        threshold.max(is_overspent.then_some(OVERSPENT_PERCENT))
    }

    fn crossing(&mut self, spec: &BudgetSpec) -> Option<Crossing> {
        let percent = self.reached(spec)?;
        if percent <= self.notified_percent {
            return None;
        }
        self.notified_percent = percent;
        Some(self.at(spec, percent))
    }

    fn at(&self, spec: &BudgetSpec, percent: u8) -> Crossing {
        Crossing {
            percent,
            spent: self.spent_sum,
            limit: spec.limit,
            resets_ms: self.resets_ms(spec),
        }
    }

    /// A rolling window has room again when its oldest stretch falls out of it.
    fn resets_ms(&self, spec: &BudgetSpec) -> Option<u64> {
        match spec.window.kind {
            WindowKind::Total => None,
            WindowKind::Rolling { .. } => {
                let slot_ms = self.now.end_ms - self.now.start_ms;
                let oldest_ms = self.counted().map(|spent| spent.start_ms).min();
                Some(oldest_ms.map_or(self.now.end_ms, |start_ms| {
                    start_ms + (ROLLING_SLOTS + 1) * slot_ms
                }))
            }
            _ => Some(self.now.end_ms),
        }
    }
}

fn sum(spent: &[Spent]) -> BudgetAmount {
    let add = |sum: BudgetAmount, part: &Spent| sum.saturating_add(part.amount);
    spent.iter().fold(0, add)
}

/// A place among those who wait for room in a budget, until it is dropped. It is ready each time that
/// something came free and it is this one's turn to try again.
#[derive(Debug)]
pub struct BudgetTurn {
    counter: Arc<BudgetCounter>,
    number: u64,
}

impl BudgetTurn {
    /// Whether it waits for this budget.
    #[must_use]
    pub fn is_at(&self, counter: &BudgetCounter) -> bool {
        std::ptr::eq(&*self.counter, counter)
    }
}

impl Future for BudgetTurn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.counter.state.lock().line {
            Some(line) => line.poll(self.number, cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for BudgetTurn {
    fn drop(&mut self) {
        let mut state = self.counter.state.lock();
        let Some(line) = &mut state.line else { return };
        let next = line.leave(self.number);
        if line.is_empty() {
            state.line = None;
        }
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    fn budget(limit: BudgetAmount, kind: WindowKind) -> BudgetSpec {
        BudgetSpec {
            unit: BudgetUnit::Tokens,
            limit,
            hard: true,
            window: Window::utc(kind),
            thresholds_percent: vec![50, 100],
        }
    }

    fn reserve(
        counter: &BudgetCounter,
        spec: &BudgetSpec,
        amount: BudgetAmount,
        now_us: u64,
    ) -> Result<Reserved, BudgetExhausted> {
        let reserved = counter.reserve(spec, amount, None, now_us);
        reserved.map(|(reserved, standing)| {
            let now = counter.standing(spec, now_us);
            assert_eq!(standing.committed(), now.committed());
            reserved
        })
    }

    #[test]
    fn what_is_reserved_is_not_there_for_others() {
        let (counter, spec) = (BudgetCounter::default(), budget(10, WindowKind::Day));
        let first = reserve(&counter, &spec, 6, 0).unwrap();
        let refused = reserve(&counter, &spec, 6, 0).unwrap_err();
        assert_eq!(
            (refused.remaining, refused.resets_ms),
            (4, Some(86_400_000))
        );
        assert_eq!(counter.settle(&spec, first, 4, 0, 0), None);
        let second = reserve(&counter, &spec, 6, 0).unwrap();
        let crossing = counter.settle(&spec, second, 6, 0, 0).unwrap();
        assert_eq!((crossing.percent, crossing.spent), (100, 10));
        assert!(
            reserve(&counter, &spec, 0, 0).is_err(),
            "used up is used up"
        );
    }

    #[test]
    fn a_new_window_begins_with_nothing_spent_and_keeps_what_is_outstanding() {
        let (counter, spec) = (BudgetCounter::default(), budget(10, WindowKind::Hour));
        let late = reserve(&counter, &spec, 10, HOUR_US - 1).unwrap();
        assert!(reserve(&counter, &spec, 1, HOUR_US).is_err());
        // It began in the hour before, and belongs there.
        counter.settle(&spec, late, 10, HOUR_US / 1000 - 1, HOUR_US);
        reserve(&counter, &spec, 10, HOUR_US).unwrap();
        assert_eq!(counter.read(&spec, HOUR_US).spent, []);
    }

    #[test]
    fn a_clock_that_is_set_back_opens_no_old_budget() {
        let (counter, spec) = (BudgetCounter::default(), budget(10, WindowKind::Hour));
        let all = reserve(&counter, &spec, 10, HOUR_US).unwrap();
        counter.settle(&spec, all, 10, HOUR_US / 1000, HOUR_US);
        assert!(reserve(&counter, &spec, 1, HOUR_US / 2).is_err());
    }

    #[test]
    fn a_rolling_window_frees_what_is_older_than_itself() {
        let ms = 60 * 60_000;
        let (counter, spec) = (
            BudgetCounter::default(),
            budget(10, WindowKind::Rolling { ms }),
        );
        for minute in 0..10 {
            let reserved = reserve(&counter, &spec, 1, minute * 60_000_000).unwrap();
            counter.settle(&spec, reserved, 1, minute * 60_000, minute * 60_000_000);
        }
        let refused = reserve(&counter, &spec, 1, 59 * 60_000_000).unwrap_err();
        assert_eq!(refused.resets_ms, Some(61 * 60_000));
        assert!(reserve(&counter, &spec, 1, 61 * 60_000_000 - 1000).is_err());
        reserve(&counter, &spec, 1, 61 * 60_000_000).unwrap();
        assert!(reserve(&counter, &spec, 1, 61 * 60_000_000).is_err());
    }

    #[test]
    fn a_reservation_that_is_never_ended_expires_and_ending_it_later_frees_nothing_twice() {
        let (counter, spec) = (BudgetCounter::default(), budget(10, WindowKind::Total));
        let forgotten = reserve(&counter, &spec, 10, 0).unwrap();
        assert_eq!(counter.expire(2 * STRETCH_US - 1), 0);
        assert!(reserve(&counter, &spec, 1, 2 * STRETCH_US - 1).is_err());
        assert_eq!(counter.expire(2 * STRETCH_US), 10);
        assert_eq!(counter.expire(2 * STRETCH_US), 0, "reported once");
        let next = reserve(&counter, &spec, 10, 2 * STRETCH_US).unwrap();
        counter.release(forgotten);
        assert_eq!(counter.flow().outstanding, 10);
        counter.release(next);
        let flow = counter.flow();
        assert_eq!(
            (flow.reserved, flow.released, flow.outstanding),
            (20, 20, 0)
        );
    }

    #[test]
    fn a_soft_budget_refuses_nothing_and_reports_each_threshold_once() {
        let spec = BudgetSpec {
            hard: false,
            ..budget(10, WindowKind::Day)
        };
        let counter = BudgetCounter::default();
        let mut reported = Vec::new();
        for _ in 0..15 {
            let reserved = reserve(&counter, &spec, 1, 0).unwrap();
            reported.extend(counter.settle(&spec, reserved, 1, 0, 0).map(|c| c.percent));
        }
        assert_eq!(reported, [50, 100]);
    }

    #[test]
    fn what_others_spent_counts_and_the_rest_is_shared() {
        let (counter, spec) = (BudgetCounter::default(), budget(100, WindowKind::Day));
        let spent = vec![Spent {
            start_ms: 0,
            amount: 40,
        }];
        let share = Share {
            ppm: 500_000,
            is_new: true,
        };
        let others = PeerBudgetUsage {
            spent,
            outstanding: 20,
            claimed: 0,
        };
        counter.merge_peers(&spec, others, share, 0);
        let ours = reserve(&counter, &spec, 20, 0).unwrap();
        let refused = reserve(&counter, &spec, 1, 0).unwrap_err();
        assert_eq!(refused.remaining, 20);
        counter.release(ours);
        reserve(&counter, &spec, 20, 0).unwrap();
    }
}
