// SPDX-License-Identifier: MIT OR Apache-2.0
//! One module for each verb, each with a `run` over its arguments.

pub mod cat;
pub mod echo;
pub mod info;
pub mod ping;
pub mod publish;
pub mod recv;
pub mod send;
pub mod subscribe;
