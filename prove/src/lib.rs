//! The operator under faults: the production code, its client and its watches, on a model of what
//! surrounds it and on simulated time.

pub mod api_server;
pub mod application;
pub mod campaign;
pub mod clock;
pub mod elections;
pub mod line;
pub mod lives;
pub mod newly_made;
#[path = "../../tests/support/normal_form.rs"]
pub mod normal_form;
pub mod objects;
pub mod oracles;
pub mod players;
pub mod process;
pub mod regressions;
pub mod run;
pub mod scenarios;
pub mod steps;
pub mod sweep;
pub mod world;
