//! What the developer's commands are made of: a Kubernetes node, databases and images that
//! need nothing on the host but Rust, a C compiler and debootstrap.

pub mod bench;
pub mod buildah;
pub mod cache;
pub mod checks;
pub mod cluster;
mod consumers;
pub mod database;
pub mod demo;
pub mod figures;
pub mod generate;
pub mod images;
pub mod parts;
pub mod prerequisites;
pub mod privilege;
mod processes;
pub mod progress;
pub mod promises;
pub mod prove;
pub mod sandbox;
pub mod target_cluster;
pub mod test;
