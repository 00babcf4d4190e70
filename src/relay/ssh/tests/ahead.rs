//! When the container is needed, and that nobody can tell from outside whether it ran.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::keys::PrivateKeyWithHashAlg;
use tokio::time::{Instant, timeout};

use super::peers::{Lab, settings};
use crate::relay::ssh::{Policy, host_key};
use crate::relay::tape::{Entry, Text};

/// What a client does that is not let in by it.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    /// Only the key exchange.
    Look,
    None,
    Password,
    Key,
    Ask,
}

/// Connections inside after an attempt, and questions there.
async fn begun(policy: Policy, attempts: &[Attempt]) -> (usize, usize) {
    let lab = Lab::new(policy);
    let mut client = lab.connected(2 << 20).await;
    for attempt in attempts {
        let answered = match attempt {
            Attempt::Look => continue,
            Attempt::None => client.authenticate_none("root").await,
            Attempt::Password => client.authenticate_password("root", "no").await,
            Attempt::Key => {
                let key = PrivateKeyWithHashAlg::new(Arc::new(host_key([9; 32])), None);
                client.authenticate_publickey("root", key).await
            }
            Attempt::Ask => {
                client.authenticate_keyboard_interactive_start("root", None).await.unwrap();
                continue;
            }
        };
        assert!(!answered.unwrap().success(), "{attempt:?}");
    }
    // What was begun gets as far as it can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let counts = (lab.dialed.load(Ordering::Relaxed), lab.asked.load(Ordering::Relaxed));
    lab.end(client).await;
    counts
}

#[tokio::test]
async fn the_container_starts_when_the_next_attempt_needs_it_and_not_before() {
    use Attempt::{Ask, Key, Look, None, Password};
    let list = || Policy::List(vec![("root".into(), "toor".into())]);
    for (policy, attempts, expected) in [
        (Policy::Any, &[Look][..], (0, 0)),
        (Policy::Any, &[None], (1, 0)),
        (Policy::Any, &[Ask], (1, 0)),
        (Policy::Any, &[None, Ask], (1, 0)),
        (Policy::Container, &[Look], (0, 0)),
        (Policy::Container, &[None], (1, 0)),
        (Policy::Container, &[Key], (1, 0)),
        (Policy::Container, &[None, Key, Password], (1, 1)),
        (Policy::After(2), &[None, Key, Password], (0, 0)),
        (Policy::After(2), &[Password, Password], (1, 0)),
        (list(), &[None, Key, Password, Password], (0, 0)),
        (Policy::Never, &[None, Key, Password, Password, Password], (0, 0)),
    ] {
        let name = format!("{policy:?} {attempts:?}");
        let begun = timeout(Duration::from_secs(20), begun(policy, attempts)).await;
        assert_eq!(begun.ok(), Some(expected), "{name}");
    }
}

/// How long it takes to be let in by the right password, and until a command runs.
async fn times(policy: Policy, start: Duration) -> (Duration, Duration) {
    let mut settings = settings(policy);
    settings.acceptance = Duration::from_millis(300);
    let lab = Lab::cold(settings, start);
    let mut client = lab.connected(2 << 20).await;
    let begun = Instant::now();
    assert!(client.authenticate_password("root", "toor").await.unwrap().success());
    let accepted = begun.elapsed();
    client.channel_open_session().await.unwrap();
    let opened = begun.elapsed();
    lab.end(client).await;
    (accepted, opened)
}

#[tokio::test(start_paused = true)]
async fn no_timing_tells_whether_the_container_ran() {
    let list = || Policy::List(vec![("root".into(), "toor".into())]);
    for policy in [Policy::Any, list(), Policy::After(0), Policy::Container] {
        let name = format!("{policy:?}");
        let (warm, cold) =
            (times(policy.clone(), Duration::ZERO).await, times(policy.clone(), Duration::from_millis(250)).await);
        assert_eq!(warm, cold, "{name}");
        assert_eq!(warm.0.as_millis() / 10, 30, "{name}");
        if policy == Policy::Container {
            continue;
        }
        // Even a start that takes longer leaves the answer as it is; what is asked for next waits.
        let (accepted, opened) = times(policy, Duration::from_secs(3)).await;
        assert_eq!((accepted, opened.as_secs()), (warm.0, 3), "{name}");
    }
}

/// How long refusals take by the container's own server, if there were some seconds since the client has asked for the methods.
async fn refusals(start: Duration, asked: Option<Duration>) -> Vec<Duration> {
    let mut settings = settings(Policy::Container);
    settings.acceptance = Duration::from_millis(300);
    let lab = Lab::cold(settings, start);
    let mut client = lab.connected(2 << 20).await;
    if let Some(asked) = asked {
        assert!(!client.authenticate_none("root").await.unwrap().success());
        tokio::time::sleep(asked).await;
    }
    let mut took = Vec::new();
    for word in ["no", "never"] {
        let begun = Instant::now();
        assert!(!client.authenticate_password("root", word).await.unwrap().success());
        took.push(begun.elapsed());
    }
    lab.end(client).await;
    took
}

/// Nor does that of a refusal, which has the length that the server inside gives it, and no more than that where there was
/// time to start.
#[tokio::test(start_paused = true)]
async fn no_refusal_tells_whether_the_container_ran() {
    for (asked, expected) in
        [(None, [300, 0]), (Some(Duration::from_millis(100)), [200, 0]), (Some(Duration::from_secs(5)), [0, 0])]
    {
        let (warm, cold) = (refusals(Duration::ZERO, asked).await, refusals(Duration::from_millis(250), asked).await);
        assert_eq!(warm, cold, "{asked:?}");
        let tens: Vec<_> = warm.iter().map(|took| took.as_millis() / 10 * 10).collect();
        assert_eq!(tens, expected, "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_meanwhile_is_not_waited_for() {
    let lab = Lab::cold(settings(Policy::Any), Duration::from_secs(20));
    let mut client = lab.connected(2 << 20).await;
    assert!(!client.authenticate_none("root").await.unwrap().success());
    let begun = Instant::now();
    lab.end(client).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_way_that_could_not_be_opened_is_told_once_and_tried_again() {
    let mut settings = settings(Policy::Any);
    settings.login = None;
    let lab = Lab::with(settings);
    let client = lab.logged_in().await;
    assert!(client.channel_open_session().await.is_err());
    let (told, _) = lab.end(client).await;
    let unreachable = Entry::Unreachable { reason: Text::new("there is no log-in for it") };
    // When they were let in, and for the channel.
    assert!((1..=2).contains(&told.iter().filter(|entry| **entry == unreachable).count()), "{told:?}");
}
