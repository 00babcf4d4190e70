//! Tests on real devices, real processes and real clients, as root, in network
//! namespaces of their own.

mod clients;
mod console;
mod honeynet;
mod keeper;
mod lab;
mod net;
mod netdev;
mod processes;
mod rights;
mod topology;
mod traceroute;
