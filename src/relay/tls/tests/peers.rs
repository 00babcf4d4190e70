//! Who talks to the middle from both sides.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::emulate::{Identity, Secret};
use crate::relay::tape::{Entry, Recorder, Stream};
use crate::relay::tls::secrets::Secrets;
use crate::relay::tls::{Face, Foreign, Inside, Settings, serve};
use crate::service::tls::{Credentials, Leaf, Name, Owner, believer};

/// Octets between any two of them.
pub(super) const WIRE: usize = 16 * 1024;

/// Certificates for the name that is asked for.
pub(super) fn leaf() -> Leaf {
    let subject = Name { common_name: "{sni}".into(), organization: "Acme".into(), ..Name::default() };
    Leaf { subject, ..Leaf::default() }
}

pub(super) fn face(secret: u8, leaf: Leaf, asks_clients: bool) -> Face {
    let identity = Identity::new(Secret([secret; 16]), "web");
    let owner = Owner { ip: [192, 0, 2, 1].into(), name: "web01".into(), service: 0 };
    let credentials = Credentials::Own(Box::new(leaf));
    Face::new(identity, owner, credentials, asks_clients, true, Arc::new(|| 1_800_000_000)).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        face: face(1, leaf(), false),
        inside: Inside::Clear,
        starttls: None,
        foreign: Foreign::Pass,
        alpn: vec!["http/1.1".into()],
    }
}

/// Both ends of a connection.
type Both = (TlsStream<DuplexStream>, tokio_rustls::server::TlsStream<DuplexStream>);

/// One middle.
pub(super) struct Lab {
    tape: Arc<Mutex<Vec<(u64, Entry)>>>,
    /// Connections that were opened inside.
    pub(super) dialed: Arc<AtomicUsize>,
    served: JoinHandle<()>,
    /// The client's end.
    pub(super) client: DuplexStream,
    /// The service's ends.
    inside: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Lab {
    pub(super) fn new(settings: Settings) -> Lab {
        Lab::of(Arc::new(settings))
    }

    pub(super) fn of(settings: Arc<Settings>) -> Lab {
        let tape = Arc::<Mutex<Vec<(u64, Entry)>>>::default();
        let (client, stream) = duplex(WIRE);
        let (opened, inside) = mpsc::unbounded_channel();
        let dialed = Arc::<AtomicUsize>::default();
        let counted = dialed.clone();
        let dial = move || async move {
            counted.fetch_add(1, Ordering::Relaxed);
            let (ours, theirs) = duplex(WIRE);
            opened.send(theirs).map_err(io::Error::other)?;
            Ok(ours)
        };
        let recorder = Recorder::new(tape.clone(), Arc::new(|| 0));
        let served = tokio::spawn(serve(settings, stream, dial, recorder));
        Lab { tape, dialed, served, client, inside }
    }

    /// The client within TLS, and what else is left of the middle.
    pub(super) async fn connect(self, config: ClientConfig) -> (io::Result<TlsStream<DuplexStream>>, Rest) {
        let Lab { tape, dialed: _, served, client, inside } = self;
        let name = ServerName::try_from("shop.example.org").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, client).await;
        (stream, Rest { tape, served, inside })
    }

    /// The same before a service within TLS.
    pub(super) async fn connect_with(self, config: ClientConfig, server: TlsAcceptor) -> (io::Result<Both>, Rest) {
        let Lab { tape, dialed: _, served, client, mut inside } = self;
        let name = ServerName::try_from("shop.example.org").unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, client);
        let accepting = async { server.accept(inside.recv().await.unwrap()).await };
        let (stream, service) = tokio::join!(connecting, accepting);
        let both = stream.and_then(|stream| Ok((stream, service?)));
        (both, Rest { tape, served, inside })
    }

    /// The client in clear, and what else there is.
    pub(super) fn raw(self) -> (DuplexStream, Rest) {
        let Lab { tape, dialed: _, served, client, inside } = self;
        (client, Rest { tape, served, inside })
    }
}

/// A middle whose client is elsewhere.
pub(super) struct Rest {
    tape: Arc<Mutex<Vec<(u64, Entry)>>>,
    served: JoinHandle<()>,
    inside: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Rest {
    /// The service's end of the connection that was opened.
    pub(super) async fn service(&mut self) -> DuplexStream {
        self.inside.recv().await.unwrap()
    }

    /// The same; none if the middle has ended without.
    pub(super) async fn opened(&mut self) -> Option<DuplexStream> {
        self.inside.recv().await
    }

    /// The same, if there is one.
    pub(super) fn try_service(&mut self) -> Option<DuplexStream> {
        self.inside.try_recv().ok()
    }

    /// What was told when the connection is over.
    pub(super) async fn ended(self) -> Vec<Entry> {
        self.served.await.unwrap();
        self.tape.lock().unwrap().iter().map(|(_, entry)| entry.clone()).collect()
    }
}

/// A service within TLS.
pub(super) fn server(alpn: &[&str]) -> TlsAcceptor {
    let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(face(9, leaf(), false).config(None, alpn, Arc::new(Secrets::default())).unwrap())
}

/// A client that believes everybody.
pub(super) fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> ClientConfig {
    let mut config = believer(versions).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Octets of one direction.
pub(super) fn octets(told: &[Entry], which: Stream) -> String {
    let pieces = told.iter().filter_map(|entry| match entry {
        Entry::Data { channel: 0, stream, data } if *stream == which => Some(&data[..]),
        _ => None,
    });
    String::from_utf8_lossy(&pieces.collect::<Vec<_>>().concat()).into_owned()
}

/// Reads until that has come, and returns all that was read.
pub(super) async fn until<S: tokio::io::AsyncRead + Unpin>(stream: &mut S, what: &str) -> String {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(what) {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", String::from_utf8_lossy(&got));
    }
    String::from_utf8(got).unwrap()
}

/// Sends it all.
pub(super) async fn say<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S, what: &[u8]) {
    stream.write_all(what).await.unwrap();
    stream.flush().await.unwrap();
}
