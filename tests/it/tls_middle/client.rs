//! A client of rustls's.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use honeyweave::service::tls::believer;
use rustls::ClientConnection;

/// One in use.
pub type Client = rustls::StreamOwned<ClientConnection, TcpStream>;

/// A client that asks for that name, and resumes nothing.
pub fn client(port: u16, name: &str) -> Client {
    let config = believer(rustls::DEFAULT_VERSIONS).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    rustls::StreamOwned::new(connection, stream)
}
