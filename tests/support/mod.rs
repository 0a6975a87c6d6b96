//! What the live tests share: one file a purpose.
#![allow(dead_code, reason = "every test file is a crate of its own and uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "the items are as public as this module, which each test file has of its own"
)]

pub mod audit;
pub mod clients;
pub mod cluster;
pub mod faults;
pub mod kubectl;
pub mod load;
pub mod machine;
pub mod node;
pub mod normal;
pub mod normal_form;
pub mod operator;
pub mod players;
pub mod ports;
pub mod proxy;
pub mod secrets;
pub mod writes;
