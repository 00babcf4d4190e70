//! A client, the middle, a server inside and the console's recordings, all of them in one process.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use honeyweave::event::{SessionId, Utc};
use honeyweave::node::NodeIdx;
use honeyweave::record::tape::{Space, TapeLimits, Tapes};
use honeyweave::relay::ssh::{Login, Policy, Settings, Used, host_key, serve};
use honeyweave::relay::tape::{Begin, Entry, Protocol, Recorder, Tape, Word};
use russh::keys::PublicKeyOrCertificate;
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Pty, client, server};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const BEGAN: i64 = 1_796_007_269_000_000;
/// Octets between any two of them: more than the windows of two channels, as the library reads nothing while it cannot write, and
/// each would wait for the other.
const WIRE: usize = 8 << 20;
/// Messages that wait for a channel: more than a window has, for the same reason.
const MESSAGES: usize = 1000;
/// Octets in one piece of what is moved, and pieces on their way by SFTP.
const PIECE: usize = 32 << 10;
const ON_THE_WAY: u32 = 64;
/// How often the console looks after its recordings.
const TEND: Duration = Duration::from_millis(250);

/// Octets of memory that this process has: what is resident, and what of the heap is in use.
fn memory() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    // SAFETY: it takes nothing and returns numbers.
    let heap = unsafe { libc::mallinfo2() };
    (pages * rustix::param::page_size(), heap.uordblks + heap.hblkhd)
}

/// The console's recordings, on the clock of the runtime.
pub struct Console {
    tapes: Mutex<Tapes>,
    /// When the session began.
    pub began: Instant,
}

impl Console {
    /// Recordings below `dir`.
    pub fn open(dir: &Path) -> Arc<Console> {
        let plenty = Space { free: 1 << 40, size: 1 << 40 };
        let tapes = Tapes::open(dir, TapeLimits::default(), false, vec![], Box::new(move |_| Ok(plenty))).unwrap();
        let console = Arc::new(Console { tapes: Mutex::new(tapes), began: Instant::now() });
        let begin = Begin {
            protocol: Protocol::Ssh,
            session: SessionId(7),
            node: NodeIdx(0),
            peer: "192.0.2.9:40000".parse().unwrap(),
            local: "10.0.0.1:22".parse().unwrap(),
            at: Utc::from_micros(BEGAN),
        };
        console.take(Word::Begin(begin));
        let tended = console.clone();
        tokio::spawn(async move {
            loop {
                sleep(TEND).await;
                let mut tapes = tended.tapes.lock().unwrap();
                tapes.tend(tended.now());
                tapes.told().for_each(drop);
            }
        });
        console
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn now(&self) -> Utc {
        Utc::from_micros(BEGAN + self.micros() as i64)
    }

    fn take(&self, word: Word) {
        self.tapes.lock().unwrap().take(1, word, self.now());
    }
}

impl Tape for Console {
    fn put(&self, at: u64, entry: Entry) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.take(Word::Entry(at, entry));
        Box::pin(std::future::ready(()))
    }
}

/// The server inside.
#[derive(Default)]
struct Inside(HashMap<ChannelId, Channel<Msg>>);

impl server::Handler for Inside {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.0.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        tokio::spawn(shell(self.0.remove(&id).unwrap()));
        session.channel_success(id)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        tokio::spawn(say(self.0.remove(&id).unwrap(), String::from_utf8_lossy(command).parse().unwrap()));
        session.channel_success(id)
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        tokio::spawn(sftp(self.0.remove(&id).unwrap()));
        session.channel_success(id)
    }
}

/// A shell that echoes, answers each line, and says something by itself every ten seconds.
async fn shell(channel: Channel<Msg>) {
    let (mut reading, writing) = channel.split();
    for second in 0u64.. {
        let next = async {
            loop {
                match reading.wait().await {
                    Some(ChannelMsg::Data { data }) if data.ends_with(b"\r") => {
                        let answer = [&data[..], b"\n up for a while\r\n# "].concat();
                        writing.data_bytes(answer).await.unwrap();
                    }
                    Some(ChannelMsg::Data { data }) => writing.data_bytes(data).await.unwrap(),
                    Some(ChannelMsg::Eof) | None => return,
                    Some(_) => {}
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), next).await.is_ok() {
            break;
        }
        let load =
            format!("\x1b[H\x1b[2Jload average {}.{:02}, {:x}\r\n", second % 9, second % 100, second * 0x9e37_79b9);
        if writing.data_bytes(load).await.is_err() {
            return;
        }
    }
    let _ = writing.close().await;
}

/// Says so many octets, in lines.
async fn say(channel: Channel<Msg>, count: usize) {
    let line = Bytes::from_iter((0..PIECE).map(|at| if at % 64 == 63 { b'\n' } else { b'a' + (at % 26) as u8 }));
    for _ in 0..count / PIECE {
        if channel.data_bytes(line.clone()).await.is_err() {
            return;
        }
    }
    channel.exit_status(0).await.unwrap();
    let _ = channel.close().await;
}

/// A packet of SFTP, version 3.
fn packet(kind: u8, id: u32, rest: &[&[u8]]) -> Bytes {
    let length = 5 + rest.iter().map(|part| part.len()).sum::<usize>();
    let mut packet = BytesMut::with_capacity(4 + length);
    packet.put_u32(length as u32);
    packet.put_u8(kind);
    packet.put_u32(id);
    rest.iter().for_each(|part| packet.put_slice(part));
    packet.freeze()
}

/// Takes a whole packet out of what has come.
fn next_packet(came: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(*came.first_chunk()?) as usize;
    if came.len() < 4 + length {
        return None;
    }
    came.advance(4);
    Some(came.split_to(length).freeze())
}

/// Takes whatever is written.
async fn sftp(channel: Channel<Msg>) {
    let (mut reading, writing) = channel.split();
    let mut came = BytesMut::new();
    while let Some(message) = reading.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        came.extend_from_slice(&data);
        while let Some(packet) = next_packet(&mut came) {
            let id = u32::from_be_bytes(packet[1..5].try_into().unwrap());
            let answer = match packet[0] {
                // INIT, whose number is the version, and OPEN.
                1 => self::packet(2, 3, &[]),
                3 => self::packet(102, id, &[&[0, 0, 0, 1, b'h']]),
                _ => self::packet(101, id, &[&[0; 12]]),
            };
            if writing.data_bytes(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Trusts everybody.
pub struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A client that has logged in through the middle, and what the middle is until that is over.
pub async fn log_in(console: &Arc<Console>) -> (client::Handle<Client>, JoinHandle<Used>) {
    let (ours, theirs) = tokio::io::duplex(WIRE);
    let settings = Settings {
        banner: "SSH-2.0-OpenSSH_9.2p1".into(),
        host_keys: vec![host_key([1; 32])],
        rsa: None,
        policy: Policy::Any,
        login: Some(Login::new("root", "toor")),
        refusal: Duration::ZERO,
        acceptance: Duration::ZERO,
        keyboard_interactive: false,
        keep: 16 << 20,
    };
    let dial = || async {
        let (ours, theirs) = tokio::io::duplex(WIRE);
        let config = server::Config {
            keys: vec![host_key([2; 32])],
            inactivity_timeout: None,
            channel_buffer_size: MESSAGES,
            ..server::Config::default()
        };
        tokio::spawn(async move {
            if let Ok(session) = server::run_stream(Arc::new(config), theirs, Inside::default()).await {
                let _ = session.await;
            }
        });
        Ok(ours)
    };
    let clock = console.clone();
    let recorder = Recorder::new(console.clone(), Arc::new(move || clock.micros()));
    let served = tokio::spawn(serve(Arc::new(settings), theirs, dial, recorder));
    let config = client::Config { channel_buffer_size: MESSAGES, ..client::Config::default() };
    let mut client = client::connect_stream(Arc::new(config), ours, Client).await.unwrap();
    assert!(client.authenticate_password("root", "hunter2").await.unwrap().success());
    (client, served)
}

/// What memory there was at the beginning, and after each quarter.
#[derive(Default, Debug)]
pub struct Growth(Vec<(usize, usize)>);

impl Growth {
    /// Looks at it.
    pub fn look(&mut self) {
        self.0.push(memory());
    }

    /// Octets that are resident, and in use of the heap, beyond those of the first quarter.
    pub fn grown(&self) -> (usize, usize) {
        let grown = |which: fn(&(usize, usize)) -> usize| match &self.0[..] {
            [_, early, .., late] => which(late).saturating_sub(which(early)),
            _ => usize::MAX,
        };
        (grown(|at| at.0), grown(|at| at.1))
    }
}

/// Reads what a command says until it is over, and tells how much that is so far. Whoever does not read one channel hears
/// nothing in the others either.
async fn read_all(mut reading: ChannelReadHalf, came: watch::Sender<usize>) {
    while let Some(message) = reading.wait().await {
        if let ChannelMsg::Data { data } = message {
            came.send_modify(|came| *came += data.len());
        }
    }
}

/// A file that is put there by SFTP, piece by piece.
struct Upload {
    writing: ChannelWriteHalf<client::Msg>,
    reading: ChannelReadHalf,
    came: BytesMut,
    sent: u32,
    answered: u32,
}

impl Upload {
    async fn begin(client: &client::Handle<Client>) -> Upload {
        let channel = client.channel_open_session().await.unwrap();
        channel.request_subsystem(true, "sftp").await.unwrap();
        let (reading, writing) = channel.split();
        let mut upload = Upload { writing, reading, came: BytesMut::new(), sent: 0, answered: 0 };
        upload.say(packet(1, 3, &[])).await;
        upload.hear(0).await;
        // OPEN for writing, to be created and truncated.
        upload.say(packet(3, 1, &[&[0, 0, 0, 4], b"/bot", &[0, 0, 0, 0x1a, 0, 0, 0, 0]])).await;
        upload.hear(0).await;
        upload
    }

    async fn say(&mut self, packet: Bytes) {
        self.writing.data_bytes(packet).await.unwrap();
        self.sent += 1;
    }

    /// Waits until no more than so many have no answer.
    async fn hear(&mut self, most: u32) {
        while self.sent - self.answered > most {
            match self.reading.wait().await.expect("an answer") {
                ChannelMsg::Data { data } => self.came.extend_from_slice(&data),
                _ => continue,
            }
            while next_packet(&mut self.came).is_some() {
                self.answered += 1;
            }
        }
    }

    async fn write(&mut self, octets: usize, piece: &[u8]) {
        let first = u64::from(self.sent - 2);
        for number in first..first + (octets / PIECE) as u64 {
            let offset = (number * PIECE as u64).to_be_bytes();
            let length = (PIECE as u32).to_be_bytes();
            self.say(packet(6, number as u32 + 2, &[&[0, 0, 0, 1, b'h'], &offset, &length, piece])).await;
            self.hear(ON_THE_WAY).await;
        }
        self.hear(0).await;
    }
}

/// Moves so many octets in a session by each of two ways, the output of a command and a file that is put there by SFTP.
/// Returns what memory has grown by meanwhile.
pub async fn move_much(dir: &Path, each: usize) -> Growth {
    let console = Console::open(dir);
    let (client, served) = log_in(&console).await;
    let command = client.channel_open_session().await.unwrap();
    command.exec(true, each.to_string()).await.unwrap();
    let (reading, _writing) = command.split();
    let (came, mut said) = watch::channel(0);
    let read = tokio::spawn(read_all(reading, came));
    let mut upload = Upload::begin(&client).await;
    let (mut growth, piece) = (Growth::default(), vec![7; PIECE]);
    growth.look();
    for quarter in 1..=4 {
        upload.write(each / 4, &piece).await;
        said.wait_for(|said| *said >= each / 4 * quarter).await.unwrap();
        growth.look();
    }
    read.await.unwrap();
    assert_eq!(*said.borrow(), each);
    client.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
    served.await.unwrap();
    growth
}
