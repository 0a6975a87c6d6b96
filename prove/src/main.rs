//! Runs the sweeps and campaigns.

fn main() {}
