//! The routing lab: the real routing crate against simulated providers, in simulated time.
//!
//! A [`Scene`] says who calls (sizes from the recorded traces, arrivals at random), which providers
//! there are and what happens to them; [`run()`] plays it under a [`LabPolicy`] event by event and
//! returns what clients would have seen. Nothing sleeps and nothing is measured with a clock: the
//! same scene and seed give the same figures on any machine, and an hour passes in a second.
//!
//! What is real: [`weir_routing`] with its health, breakers, budgets and probes, and the tables of
//! [`weir_controller`] made from what the simulated ingestor counted. What is a model: the
//! providers ([`upstream`]). The policies that routing is compared with are the ones that peers
//! ship; they get the same calls and the same luck.

mod feedback;
mod policy;
mod run;
pub mod scene;
pub mod trials;
pub mod upstream;

pub use feedback::LabFeedback;
pub use policy::LabPolicy;
pub use run::{Figures, run};
pub use scene::{Scene, UpstreamChange};
pub use trials::{LabError, Trial, TrialVerdict, report};
pub use upstream::{UpstreamBehaviour, UpstreamSpec};
