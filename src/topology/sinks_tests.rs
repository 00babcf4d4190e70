use super::*;
use crate::topology::parse;

fn sinks(text: &str) -> Result<Vec<SinkConfig>, String> {
    let text = format!("sinks:\n  {text}\nnodes: {{s: {{kind: switch}}}}\n");
    let plan = parse("t", &text).map_err(|mistakes| format!("{:?}", miette::Report::new(mistakes)))?;
    Ok(plan.sinks)
}

fn to(target: &str) -> Result<Target, String> {
    sinks(&format!("a: {{format: syslog, to: \"{target}\"}}")).map(|mut sinks| sinks.remove(0).to)
}

#[test]
fn receivers_are_where_they_are_said_to_be() {
    let peer = |host: &str, port| Peer { host: host.to_owned(), port };
    assert_eq!(to("udp://192.0.2.1"), Ok(Target::Udp(peer("192.0.2.1", 514))));
    assert_eq!(to("tcp://[2001:db8::1]:601"), Ok(Target::Tcp(peer("2001:db8::1", 601))));
    assert_eq!(to("tls://siem.example"), Ok(Target::Tls(peer("siem.example", 6514), Tls::default())));
    assert_eq!(to("file:cowrie.json"), Ok(Target::File("cowrie.json".into())));
    for target in ["udp://192.0.2.1:514", "tcp://[2001:db8::1]:601", "tls://siem.example:6514", "file:a.json"] {
        assert_eq!(to(target).unwrap().to_string(), target);
    }
    let all = sinks("siem: {format: ecs, to: \"tcp://a:1\", events: [ssh.*, \"!ssh.close\"]}\n  own: {format: cef, to: \"udp://b\", facility: auth}").unwrap();
    assert!(all[0].events.has(EventId::SshLogin) && !all[0].events.has(EventId::SshClose));
    assert_eq!((all[0].facility, all[1].facility, all[1].format), (16, 4, Format::Cef));
    assert!(all[1].events.has(EventId::Gap));
    assert_eq!(sinks("{}"), Ok(vec![]));
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s3cr3t\n").unwrap();
    let text = format!(
        "b: {{format: cowrie, to: \"hpfeeds://broker\", ident: me, secret: {}, channel: honeyweave.events}}",
        file.display()
    );
    let sinks = sinks(&text).unwrap();
    let Target::Hpfeeds { peer, tls: None, ident, secret, channel } = &sinks[0].to else { panic!() };
    assert_eq!(
        (peer.port, ident.as_str(), secret.0.as_str(), channel.as_str()),
        (10_000, "me", "s3cr3t", "honeyweave.events")
    );
    assert!(!format!("{sinks:?}").contains("s3cr3t"));
    std::fs::write(&file, "\n").unwrap();
    assert!(super::tests::sinks(&text).unwrap_err().contains("there is no secret"));
}

#[test]
fn what_reaches_nobody_is_a_mistake() {
    for (wrong, said) in [
        ("a: {format: ecs}", "needs `format` and `to`"),
        ("a: {format: elastic, to: \"tcp://a:1\"}", "unknown value `elastic`"),
        ("a: {format: ecs, to: siem}", "is no receiver"),
        ("a: {format: ecs, to: \"tpc://a:1\"}", "did you mean `tcp`?"),
        ("a: {format: ecs, to: \"tcp:a:1\"}", "two slashes"),
        ("a: {format: ecs, to: \"tcp://a\"}", "has no port"),
        ("a: {format: ecs, to: \"tcp://a:0\"}", "has no port"),
        ("a: {format: ecs, to: \"tcp://a:70000\"}", "has no port"),
        ("a: {format: ecs, to: \"tcp://2001:db8::1:5\"}", "is no host and port"),
        ("a: {format: ecs, to: \"tcp://[fe80]:5\"}", "is no host and port"),
        ("a: {format: ecs, to: \"tcp://a b:5\"}", "is no host and port"),
        ("a: {format: ecs, to: \"file:../x\"}", "cannot name a sink's file"),
        ("a: {format: ecs, to: \"file:a.cursor\"}", "cannot name a sink's file"),
        ("a: {format: ecs, to: \"tcp://a:1\", ca: x}", "`ca` says nothing of `tcp:`"),
        ("a: {format: ecs, to: \"tls://a:1\", secret: x}", "`secret` says nothing of `tls:`"),
        ("a: {format: ecs, to: \"tls://a:1\", ca: /nonexistent}", "cannot read"),
        ("a: {format: ecs, to: \"tls://a:1\", ca: /etc/hostname}", "there is no certificate"),
        ("a: {format: ecs, to: \"tls://a:1\", key: x}", "needs its `key`"),
        ("a: {format: ecs, to: \"hpfeeds://a\"}", "needs `ident`, `secret` and `channel`"),
        ("a: {format: ecs, to: \"tcp://a:1\", facility: local0}", "says nothing of `format: ecs`"),
        ("a: {format: syslog, to: \"tcp://a:1\", facility: local9}", "unknown facility `local9`"),
        ("a: {format: ecs, to: \"tcp://a:1\", events: [ssh.lgin]}", "did you mean `ssh.login`?"),
        ("a: {format: ecs, to: \"tcp://a:1\", events: [ssh, \"!ssh\"]}", "would be sent nothing"),
        ("a: {format: ecs, to: \"tcp://a:1\", events: []}", "would be sent nothing"),
        ("A: {format: ecs, to: \"tcp://a:1\"}", "cannot name a sink"),
        ("a: {format: ecs, to: \"file:x\"}\n  b: {format: cef, to: \"file:x\"}", "write the same file"),
        ("a: {format: ecs, to: \"tcp://a:1\", evnts: [ssh]}", "did you mean `events`?"),
    ] {
        let error = sinks(wrong).expect_err(wrong);
        assert!(error.contains(said), "{wrong}: {error}");
        assert!(error.contains("[t:") || error.contains("t:2") || error.contains("t:3"), "{error}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("s{n}: {{format: ecs, to: \"file:f{n}\"}}")).collect();
    assert!(sinks(&many.join("\n  ")).unwrap_err().contains("at most 32 sinks"));
}
