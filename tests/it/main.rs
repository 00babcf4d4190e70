//! Tests on real devices, real processes and real clients, as root, in network
//! namespaces of their own.

// Tests measure the real time that real processes take.
#![allow(clippy::disallowed_methods)]

mod answers;
mod arp;
mod audit;
mod bench;
mod cases;
mod cgroup2;
mod claim;
mod clients;
mod console;
mod containers;
mod crash;
mod dhcp;
mod fingerprints;
mod flapping;
mod gate;
mod golden;
mod grants;
mod hogs;
mod honeynet;
mod identity;
mod impairments;
mod import;
mod isolation;
mod keeper;
mod kills;
mod lab;
mod library;
mod limits;
mod listener;
mod net;
mod netdev;
mod netdev_xdp;
mod oci;
mod offloads;
mod orders;
mod path;
mod plain_recorded;
mod processes;
mod programs;
mod recipes;
mod rights;
mod services;
mod session;
mod shell;
mod ssh_middle;
mod ssh_recorded;
mod starting;
mod stuck;
mod talk;
mod tap_ring;
mod taps;
mod tcp;
mod tells;
mod threads;
mod tls;
mod tls_middle;
mod tls_recorded;
mod topologies;
mod topology;
mod traceroute;
mod vlan;
mod xdp;
