//! The custom resources and nothing else: no client, no I/O.

#[expect(unreachable_pub, reason = "KubeSchema repeats each struct within a function")]
pub mod auth_service;
pub mod conditions;

pub use auth_service::{AuthService, AuthServiceSpec, AuthServiceStatus};

#[cfg(test)]
mod schema_tests;
