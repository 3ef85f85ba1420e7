//! Routing through the real gateway: tries beside and after each other, deployments that go out of
//! service and come back, and the loop from a request to the table that decides the next one.

mod scene;
mod shares;
mod tables;
mod tries;
