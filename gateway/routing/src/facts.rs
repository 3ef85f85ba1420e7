//! The facts of a request that routing needs.

use crate::target_set::TargetSet;

/// What routing knows about a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoutingFacts {
    /// Estimate of the prompt's size.
    pub input_tokens: u32,
    /// Limit on the answer's size, if the client set one.
    pub output_tokens_max: Option<u32>,
    /// The client wants the answer in one piece: nothing is seen of it before all of it is there.
    pub in_one_piece: bool,
    /// Hash of the user or session, for sticky splits.
    pub sticky: Option<u64>,
    /// Hash of the prompt's beginning, for prefix affinity.
    pub prefix: Option<u64>,
    /// Targets that this caller may not use. They are never attempted.
    pub denied: TargetSet,
    /// Targets whose limits are used up. They are attempted only when nothing else is left.
    pub throttled: TargetSet,
    /// No attempt begins after this time.
    pub deadline_us: Option<u64>,
}
