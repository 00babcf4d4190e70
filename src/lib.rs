//! honeyweave: a userspace virtual switch that weaves emulated hosts, on-demand
//! containers, routers, switches and a real network interface into one
//! believable network.
//!
//! The folders are layers. A module imports only modules that stand above it in
//! this list; `tests/layering.rs` holds the code to that.
#![deny(unsafe_code)]
#![warn(missing_docs)]

#[allow(unsafe_code)]
pub mod sys;

pub mod wire;

pub mod frame;

pub mod event;

pub mod emulate;

pub mod stack;

pub mod service;

pub mod netdev;

pub mod bench;

pub mod node;

pub mod fabric;

pub mod container;

pub mod relay;

pub mod record;

pub mod topology;

pub mod control;

pub mod audit;

#[cfg(feature = "web")]
pub mod web;

pub mod cli;
