//! What processes say for people, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Libraries that speak with attackers: whatever they warn of, an attacker has brought about, and tapes and events tell it. What
/// fails of our own, we say ourselves.
const EXPOSED: [&str; 5] = ["russh", "russh_cryptovec", "russh_util", "rustls", "tokio_rustls"];

/// Starts writing what is logged; `HONEYWEAVE_LOG` says how much (`info` by default).
pub fn start() {
    let filter = filter(std::env::var("HONEYWEAVE_LOG").ok().as_deref());
    let colors = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second call (in a test) keeps the first one's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colors)
        .with_target(false)
        .try_init();
}

/// What is let through if `said` is asked for: of libraries that speak with attackers nothing, unless that is `debug` or more, or
/// names them.
fn filter(said: Option<&str>) -> EnvFilter {
    let said = said.filter(|said| EnvFilter::try_new(said).is_ok()).unwrap_or("info");
    let words = || said.split(',').map(str::trim);
    let is_close = words().filter_map(|word| word.parse::<LevelFilter>().ok()).any(|level| level >= LevelFilter::DEBUG);
    let of = |word: &str, library: &str| {
        let target = word.split(['=', '[', ':']).next().unwrap_or_default();
        target == library
    };
    let quiet = EXPOSED.into_iter().filter(|library| !is_close && !words().any(|word| of(word, library)));
    let all: Vec<String> = words().map(str::to_owned).chain(quiet.map(|library| format!("{library}=off"))).collect();
    EnvFilter::new(all.join(","))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is written of some messages.
    fn written(said: Option<&str>) -> Vec<String> {
        let written = Written::default();
        let to = written.clone();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter(said)).with_writer(move || to.clone());
        let subscriber = subscriber.with_ansi(false).with_target(false).with_level(false).without_time().finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "russh::server", "no channel");
            tracing::warn!(target: "russh_cryptovec::platform", "cannot lock");
            tracing::error!(target: "rustls::common_state", "unknown CA");
            tracing::warn!(target: "hyper", "ours alone");
            tracing::info!(target: "honeyweave::control", "up");
            tracing::debug!(target: "honeyweave::relay", "closely");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn attackers_do_not_fill_the_log() {
        assert_eq!(written(None), ["ours alone", "up"]);
        assert_eq!(written(Some("info")), ["ours alone", "up"]);
        assert_eq!(written(Some("no=such=thing")), ["ours alone", "up"]);
        assert_eq!(written(Some("warn,honeyweave=debug")), ["ours alone", "up", "closely"]);
        assert_eq!(written(Some("info,rustls=error")), ["unknown CA", "ours alone", "up"]);
        assert_eq!(written(Some("debug")).len(), 6);
    }
}
