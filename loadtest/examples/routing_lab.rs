//! Plays every routing trial in simulated time and prints the figures.
//!
//! `cargo run --release -p weir-loadtest --example routing_lab [SEED]`

use std::io::Write as _;

use weir_loadtest::lab;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    write!(std::io::stdout().lock(), "{}", lab::report(seed)?)?;
    Ok(())
}
