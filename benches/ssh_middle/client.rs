//! Clients of SSH within this process.

use std::net::SocketAddr;
use std::sync::Arc;

use russh::client;
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg};
use tokio::net::TcpSocket;

/// Trusts everybody.
pub struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A connection and the channel in which something runs.
pub type End = (client::Handle<Client>, Channel<client::Msg>);

/// Logs in from `from` as `root` and runs `cat`, with a terminal or without one.
pub async fn cat(from: SocketAddr, to: SocketAddr, secret: &str, terminal: bool) -> Result<End, russh::Error> {
    let config = client::Config { nodelay: true, ..client::Config::default() };
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut client = client::connect_stream(Arc::new(config), socket.connect(to).await?, Client).await?;
    assert!(client.authenticate_password("root", secret).await?.success());
    let channel = client.channel_open_session().await?;
    if terminal {
        channel.request_pty(false, "xterm", 80, 24, 0, 0, &[]).await?;
    }
    channel.exec(true, "cat").await?;
    Ok((client, channel))
}

/// Says one octet and waits for it.
pub async fn key(channel: &mut Channel<client::Msg>) {
    channel.data_bytes(&b"x"[..]).await.unwrap();
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { .. }) => return,
            Some(_) => {}
            None => panic!("no echo"),
        }
    }
}
