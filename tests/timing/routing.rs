//! Routing through the real gateway: hedges, retries and fallbacks, deployments that go out of service
//! and come back, and the loop from a request to the table that decides the next one.

mod attempts;
mod routing_tables;
mod scene;
mod shares;
