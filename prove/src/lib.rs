//! The operator under faults: the production code, its client and its watches, on a model of what
//! surrounds it and on simulated time.

pub mod api_server;
