//! One `AuthService` resource in, a working login service out.
//!
//! Two binaries share this package: the `operator` reconciles the resource, the `auth-server`
//! answers `/login` and `/validate`. Features of the same names keep them apart: the server links no
//! Kubernetes client, the operator no SQL.

#[cfg(feature = "operator")]
pub mod api;
pub mod contract;
#[cfg(feature = "operator")]
pub mod operator;
#[cfg(feature = "server")]
pub mod server;
pub mod telemetry;
