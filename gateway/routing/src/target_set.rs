//! Sets of targets of one alias, as bits of one word.

/// The most targets one alias may have, counting each key of a provider. A decision is
/// kept on the stack, so it needs a bound.
pub const TARGETS_MAX: usize = 32;

/// A set of targets of one alias, by position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetSet(u32);

impl TargetSet {
    pub const EMPTY: Self = Self(0);

    pub fn insert(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    pub fn remove(&mut self, index: usize) {
        self.0 &= !bit(index);
    }

    pub fn contains(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.iter().count()
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (index < TARGETS_MAX).then_some(index)
        })
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn or_if_empty(self, other: Self) -> Self {
        if self.is_empty() { other } else { self }
    }
}

impl FromIterator<usize> for TargetSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut set = Self::EMPTY;
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

fn bit(index: usize) -> u32 {
    u32::try_from(index)
        .ok()
        .and_then(|i| 1_u32.checked_shl(i))
        .unwrap_or(0)
}

pub(crate) fn position(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
