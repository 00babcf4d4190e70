//! The middle between a client and a service, all in memory. Real clients and servers: `tests/it/tls_middle`.

mod flow;
mod hostile;
mod names;
mod peers;
mod talk;
mod upgrade;
mod wrong;
