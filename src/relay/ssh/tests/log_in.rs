//! Who is let in, and what is told of those who are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::MethodKind;
use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::peers::{Lab, password, settings};
use crate::relay::ssh::{Login, Policy, Settings, TRIES, host_key};
use crate::relay::tape::{Credential, Entry, Reason, Text};

/// What was tried.
fn attempts(told: Vec<Entry>) -> Vec<Entry> {
    told.into_iter().filter(|entry| matches!(entry, Entry::Attempt { .. })).collect()
}

#[tokio::test]
async fn who_is_refused_needs_no_container() {
    let lab = Lab::new(Policy::Never);
    let mut client = lab.connected(2 << 20).await;
    let user = "a\x1b[2Jb";
    assert!(!client.authenticate_none(user).await.unwrap().success());
    let refused = client.authenticate_password(user, "toor").await.unwrap();
    // All may be tried again.
    let AuthResult::Failure { remaining_methods, partial_success: false } = refused else { panic!("{refused:?}") };
    assert_eq!(remaining_methods[..], [MethodKind::PublicKey, MethodKind::Password, MethodKind::KeyboardInteractive]);
    let (told, _) = lab.end(client).await;
    let asked = Entry::Attempt { user: Text::new(user), credential: Credential::None, accepted: false };
    assert_eq!(attempts(told), [asked, password(user, "toor", false)]);
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_third_of_any_passwords_lets_in() {
    let lab = Lab::new(Policy::After(2));
    let mut client = lab.connected(2 << 20).await;
    assert!(!client.authenticate_password("root", "1").await.unwrap().success());
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 0, "nothing is needed inside so far");
    assert!(!client.authenticate_password("root", "2").await.unwrap().success());
    assert!(client.authenticate_password("root", "3").await.unwrap().success());
    client.channel_open_session().await.unwrap();
    let (told, _) = lab.end(client).await;
    assert_eq!(
        attempts(told),
        [password("root", "1", false), password("root", "2", false), password("root", "3", true)]
    );
}

#[tokio::test]
async fn the_containers_own_accounts_let_in_on_one_connection() {
    let lab = Lab::new(Policy::Container);
    let mut client = lab.connected(2 << 20).await;
    assert!(!client.authenticate_password("root", "secret").await.unwrap().success());
    assert!(!client.authenticate_password("root", "").await.unwrap().success());
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 1);
    assert!(client.authenticate_password("root", "toor").await.unwrap().success());
    client.channel_open_session().await.unwrap();
    assert_eq!(lab.dialed.load(Ordering::Relaxed), 1, "that connection is the one that is used");
    let (told, _) = lab.end(client).await;
    assert_eq!(
        attempts(told),
        [password("root", "secret", false), password("root", "", false), password("root", "toor", true)]
    );
}

/// Whoever is right as another user is not let in either.
#[tokio::test]
async fn another_user_needs_another_connection() {
    for policy in [Policy::Container, Policy::Any] {
        let lab = Lab::new(policy);
        let mut client = lab.connected(2 << 20).await;
        client.authenticate_none("root").await.unwrap();
        assert!(!client.authenticate_password("other", "secret").await.is_ok_and(|answer| answer.success()));
        let (told, _) = lab.end(client).await;
        assert_eq!(
            told.last(),
            Some(&Entry::End {
                reason: Reason::ProtocolError,
                detail: Some(Text::new("another user in the same connection"))
            })
        );
        assert_eq!(attempts(told)[1..], [password("other", "secret", false)]);
        assert_eq!(lab.asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn however_little_attempts_count_they_are_not_endless() {
    let mut settings = settings(Policy::Never);
    settings.banner = "SSH-2.0-dropbear_2022.83".into();
    let lab = Lab::with(settings);
    let mut client = lab.connected(2 << 20).await;
    let mut tried = 0;
    while tried < 2 * TRIES && client.authenticate_none("root").await.is_ok() && !client.is_closed() {
        tried += 1;
    }
    let (told, _) = lab.end(client).await;
    assert_eq!(told.last(), Some(&Reason::TooManyAttempts.end()));
    assert_eq!(attempts(told).len(), TRIES as usize);
}

#[tokio::test]
async fn answers_to_questions_are_passwords() {
    let lab = Lab::new(Policy::Container);
    let mut client = lab.connected(2 << 20).await;
    for (answer, right) in [("123456", false), ("toor", true)] {
        let asked = client.authenticate_keyboard_interactive_start("root", None).await.unwrap();
        let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = asked else { panic!("{asked:?}") };
        assert_eq!((prompts[0].prompt.as_str(), prompts[0].echo), ("Password: ", false));
        let answered = client.authenticate_keyboard_interactive_respond(vec![answer.into()]).await.unwrap();
        assert_eq!(matches!(answered, KeyboardInteractiveAuthResponse::Success), right, "{answered:?}");
    }
    let (told, _) = lab.end(client).await;
    let attempt = |answer, accepted| Entry::Attempt {
        user: Text::new("root"),
        credential: Credential::KeyboardInteractive { answers: vec![Text::new(answer)] },
        accepted,
    };
    assert_eq!(attempts(told), [attempt("123456", false), attempt("toor", true)]);
}

#[tokio::test]
async fn who_goes_away_instead_of_answering_has_tried() {
    let lab = Lab::new(Policy::Any);
    let mut client = lab.connected(2 << 20).await;
    client.authenticate_keyboard_interactive_start("pi", None).await.unwrap();
    let (told, _) = lab.end(client).await;
    let credential = Credential::KeyboardInteractive { answers: vec![] };
    assert_eq!(attempts(told), [Entry::Attempt { user: Text::new("pi"), credential, accepted: false }]);
}

#[tokio::test]
async fn public_keys_are_told_by_their_fingerprints() {
    let key = host_key([9; 32]);
    for (policy, accepted) in [(Policy::Any, true), (Policy::Container, false)] {
        let lab = Lab::new(policy);
        let mut client = lab.connected(2 << 20).await;
        let signing = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
        assert_eq!(client.authenticate_publickey("git", signing).await.unwrap().success(), accepted);
        let (told, _) = lab.end(client).await;
        let credential = Credential::PublicKey {
            algorithm: Text::new("ssh-ed25519"),
            fingerprint: Text::new(key.public_key().fingerprint(HashAlg::Sha256).to_string()),
            signed: accepted,
            key: Text::new(key.public_key().to_openssh().unwrap().trim_end()),
        };
        assert_eq!(attempts(told), [Entry::Attempt { user: Text::new("git"), credential, accepted }]);
    }
}

#[tokio::test]
async fn the_middle_logs_in_by_a_password_of_its_own() {
    for (password, opens) in [("secret", true), ("toor", false)] {
        let mut settings = settings(Policy::Any);
        settings.login = Some(Login::new("other", password));
        let lab = Lab::with(settings);
        let client = lab.logged_in().await;
        assert_eq!(client.channel_open_session().await.is_ok(), opens);
        let (told, _) = lab.end(client).await;
        let unreachable = Entry::Unreachable { reason: Text::new("the log-in is refused") };
        assert_eq!(told.contains(&unreachable), !opens, "{told:?}");
    }
}

/// Settings of a host that lets `root` in by `listed`, and whose own log-in is `password` of root's.
fn of_list(listed: &[&str], password: &str, refused: &Arc<AtomicBool>) -> Settings {
    let list = listed.iter().map(|password| ("root".to_owned(), (*password).to_owned())).collect();
    let login = Login { refused: refused.clone(), ..Login::new("root", password) };
    Settings { login: Some(login), acceptance: Duration::from_millis(100), ..settings(Policy::List(list)) }
}

#[tokio::test]
async fn who_has_changed_the_password_inside_is_let_in_by_the_new_one() {
    let refused = Arc::<AtomicBool>::default();
    let is_refused = || refused.load(Ordering::Relaxed);
    // Root's password inside is not `old` any more, but `toor`.
    let changed = of_list(&["old", "123"], "old", &refused);
    let tries = async |settings: &Settings, passwords: &[&'static str]| {
        let lab = Lab::with(settings.clone());
        let mut client = lab.connected(2 << 20).await;
        let mut let_in = Vec::new();
        for password in passwords {
            let_in.push(client.authenticate_password("root", *password).await.unwrap().success());
        }
        let opens = let_in.contains(&true) && client.channel_open_session().await.is_ok();
        let (told, _) = lab.end(client).await;
        let expected: Vec<Entry> =
            passwords.iter().zip(&let_in).map(|(word, is)| password("root", word, *is)).collect();
        assert_eq!(attempts(told), expected);
        (let_in, opens)
    };
    assert_eq!(tries(&changed, &["toor"]).await, (vec![false], false), "nobody knows of the change");
    assert_eq!(tries(&changed, &["old", "123", "toor"]).await, (vec![false, false, true], true));
    assert!(is_refused());
    assert_eq!(tries(&changed, &["toor"]).await, (vec![true], true));
    assert!(is_refused());
    // The container was made anew, or who changed it has changed it back.
    let anew = of_list(&["123"], "toor", &refused);
    assert_eq!(tries(&anew, &["nope"]).await, (vec![false], false));
    assert!(is_refused());
    assert_eq!(tries(&anew, &["123"]).await, (vec![true], true));
    assert!(!is_refused());
    // A container that has only begun to run says it too late, once.
    let lab = Lab::cold(changed.clone(), Duration::from_millis(400));
    let mut client = lab.connected(2 << 20).await;
    assert!(client.authenticate_password("root", "old").await.unwrap().success());
    assert!(client.channel_open_session().await.is_err());
    let (told, _) = lab.end(client).await;
    let detail = Some(Text::new("the log-in is refused"));
    assert_eq!(told.last(), Some(&Entry::End { reason: Reason::Unreachable, detail }), "{told:?}");
    assert!(is_refused());
    let lab = Lab::cold(changed, Duration::from_millis(400));
    let mut client = lab.connected(2 << 20).await;
    assert!(!client.authenticate_password("root", "old").await.unwrap().success());
    lab.end(client).await;
}

#[tokio::test]
async fn a_key_opens_nothing_where_the_password_inside_was_changed() {
    let refused = Arc::<AtomicBool>::default();
    let changed = Settings { policy: Policy::Any, ..of_list(&[], "old", &refused) };
    let lab = Lab::with(changed);
    let mut client = lab.connected(2 << 20).await;
    let key = PrivateKeyWithHashAlg::new(Arc::new(host_key([9; 32])), None);
    assert!(!client.authenticate_publickey("root", key).await.unwrap().success());
    assert!(client.authenticate_password("root", "toor").await.unwrap().success());
    lab.end(client).await;
}

#[tokio::test]
async fn the_sixth_refusal_is_the_last() {
    for (banner, most) in [("SSH-2.0-OpenSSH_9.2p1", 6), ("SSH-2.0-dropbear_2022.83", 10)] {
        let mut settings = settings(Policy::Never);
        settings.banner = banner.into();
        let lab = Lab::with(settings);
        let mut client = lab.connected(2 << 20).await;
        client.authenticate_none("root").await.unwrap();
        let mut tried = 0;
        while tried < 20 && client.authenticate_password("root", "x").await.is_ok() && !client.is_closed() {
            tried += 1;
        }
        let (told, _) = lab.end(client).await;
        assert!(told.contains(&Reason::TooManyAttempts.end()), "{told:?}");
        // One more may be on its way when the end is told, and is heard.
        let attempts = attempts(told).len() - 1;
        assert!((most..=most + 1).contains(&attempts) && tried <= most + 1, "{banner}: {attempts} of {tried}");
    }
}

#[tokio::test]
async fn what_is_no_ssh_ends_with_an_entry() {
    for said in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"", b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14", &[0; 70_000]] {
        let lab = Lab::new(Policy::Any);
        let mut wire = lab.wire();
        let _ = wire.write_all(said).await;
        let _ = wire.shutdown().await;
        let mut heard = Vec::new();
        let _ = wire.read_to_end(&mut heard).await;
        assert!(heard.starts_with(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"));
        let (told, _) = lab.over().await;
        assert!(matches!(told[..], [Entry::Hello { .. }, Entry::End { .. }]), "{told:?}");
        assert_eq!(lab.dialed.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    for (banner, grace) in [("SSH-2.0-OpenSSH_9.2p1", 120), ("SSH-2.0-dropbear_2022.83", 300)] {
        let mut settings = settings(Policy::Any);
        settings.banner = banner.into();
        let lab = Lab::with(settings);
        let begun = tokio::time::Instant::now();
        let mut wire = lab.wire();
        wire.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), grace);
        let (told, _) = lab.over().await;
        assert_eq!(
            told.last(),
            Some(&Entry::End { reason: Reason::TimedOut, detail: Some(Text::new(format!("no log-in for {grace} s"))) })
        );
    }
}

#[tokio::test]
async fn who_does_not_wait_for_the_answer_has_tried() {
    let mut settings = settings(Policy::Container);
    settings.refusal = Duration::from_secs(2);
    let lab = Lab::with(settings);
    let mut client = lab.connected(2 << 20).await;
    let trying = tokio::spawn(async move { client.authenticate_password("root", "x\u{202e}\n").await.is_ok() });
    while lab.dialed.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    trying.abort();
    let (told, _) = lab.over().await;
    assert_eq!(attempts(told), [password("root", "x\u{202e}\n", false)]);
}
