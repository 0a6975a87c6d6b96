//! What is decided, as a specification.

mod accounts;
mod administration;
mod key_ring;
mod migration;
mod places;
mod terms;
mod tls;
mod tracing;
