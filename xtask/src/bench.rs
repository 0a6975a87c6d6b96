//! Measurements. Every figure is a ratio of two things measured in turns in one run on one machine; absolute
//! values stand beside it.

mod figure;
mod load;
mod machine;
mod server;

pub use self::server::server;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Print one JSON object a figure, and nothing else on standard output.
    pub json: bool,
    /// Fewer and shorter rounds: to see that it works, not to quote.
    pub quick: bool,
}
