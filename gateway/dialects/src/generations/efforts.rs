//! Sets of efforts.

use crate::neutral::Effort;

/// The efforts that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Efforts(u8);

impl Efforts {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const LOW_TO_HIGH: Self = Self::of(&[Effort::Low, Effort::Medium, Effort::High]);
    pub(crate) const LOW_HIGH_MAX: Self = Self::of(&[Effort::Low, Effort::High, Effort::Max]);
    pub(crate) const LOW_TO_XHIGH: Self = Self::LOW_TO_HIGH.and(Effort::XHigh);
    pub(crate) const LOW_TO_MAX: Self = Self::LOW_TO_XHIGH.and(Effort::Max);
    pub(crate) const NONE_TO_HIGH: Self = Self::LOW_TO_HIGH.and(Effort::None);
    pub(crate) const NONE_TO_XHIGH: Self = Self::LOW_TO_XHIGH.and(Effort::None);
    pub(crate) const NONE_TO_MAX: Self = Self::LOW_TO_MAX.and(Effort::None);
    pub(crate) const MINIMAL_TO_HIGH: Self = Self::LOW_TO_HIGH.and(Effort::Minimal);

    pub(crate) const fn of(efforts: &[Effort]) -> Self {
        let (mut set, mut at) = (Self::NONE, 0);
        while at < efforts.len() {
            set = set.and(efforts[at]);
            at += 1;
        }
        set
    }

    pub(crate) const fn and(self, effort: Effort) -> Self {
        Self(self.0 | 1 << effort as u8)
    }

    pub(crate) const fn contains(self, effort: Effort) -> bool {
        self.0 & (1 << effort as u8) != 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of them, in rising order.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = Effort> {
        let all = Effort::WORDS.into_iter().map(|(effort, _)| effort);
        all.filter(move |effort| self.contains(*effort))
    }

    /// The lowest one that reasons and is at least `wanted`, or else the highest. "none" is only
    /// near to itself.
    pub(crate) fn nearest(self, wanted: Effort) -> Option<Effort> {
        if wanted == Effort::None {
            return self.contains(wanted).then_some(wanted);
        }
        let above = self.iter().find(|effort| *effort >= wanted);
        above.or_else(|| self.highest())
    }

    /// The one that reasons least.
    pub(crate) fn lowest(self) -> Option<Effort> {
        self.iter().find(|effort| *effort != Effort::None)
    }

    fn highest(self) -> Option<Effort> {
        self.iter()
            .next_back()
            .filter(|effort| *effort != Effort::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_effort_is_the_next_higher_one() {
        let near = |wanted, set: Efforts| set.nearest(wanted);
        assert_eq!(
            near(Effort::Medium, Efforts::LOW_HIGH_MAX),
            Some(Effort::High)
        );
        assert_eq!(
            near(Effort::XHigh, Efforts::LOW_TO_HIGH),
            Some(Effort::High)
        );
        assert_eq!(near(Effort::None, Efforts::LOW_TO_HIGH), None);
        assert_eq!(
            near(Effort::Minimal, Efforts::NONE_TO_HIGH),
            Some(Effort::Low)
        );
        assert_eq!(near(Effort::Low, Efforts::of(&[Effort::None])), None);
        assert_eq!(near(Effort::Low, Efforts::NONE), None);
    }

    #[test]
    fn they_rise() {
        let all: Vec<_> = Efforts::NONE_TO_MAX.iter().collect();
        assert!(all.is_sorted());
        assert_eq!(all.len(), 6);
    }
}
