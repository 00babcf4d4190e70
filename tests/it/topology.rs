//! The command line's answers about topologies: exit codes, streams and what stands in them. Needs no rights.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn honeyweave(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_honeyweave"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = honeyweave(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies").join(name)
}

#[test]
fn a_sound_topology_exits_0() {
    let office = shipped("office.yaml");
    let (code, out, err) = run(&["check", office.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("`office` is sound") && out.contains("65551 hosts"), "{out}");
    let (code, out, _) = run(&["check", office.to_str().unwrap(), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["ok"], &value["hosts"]), (Some(0), &true.into(), &65_551.into()));
}

#[test]
fn a_mistake_exits_2_with_its_place_and_without_colors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    std::fs::write(&path, "name: bad\nnodes:\n  edge: {kind: ruter}\n").unwrap();
    let path = path.to_str().unwrap();
    for command in ["check", "graph"] {
        let (code, out, err) = run(&[command, path]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command}: {err}");
        for part in ["bad.yaml:3:16", "edge: {kind: ruter}", "unknown value `ruter`", "did you mean `router`?"] {
            assert!(err.contains(part), "{command}: no `{part}` in\n{err}");
        }
        assert!(!err.contains('\u{1b}'), "{err}");
    }
    let (code, out, err) = run(&["check", path, "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str(), &value["ok"]), (Some(2), "", &false.into()));
    let error = &value["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&3.into(), &16.into()));
    assert_eq!(error["source_line"], "  edge: {kind: ruter}");
    assert_eq!(error["help"], "did you mean `router`?");

    let (code, _, err) = run(&["check", "/no/such/file.yaml"]);
    assert!(code == Some(2) && err.contains("cannot read /no/such/file.yaml"), "{err}");
    assert_eq!(run(&["nonsense"]).0, Some(2));
    assert_eq!(run(&["check"]).0, Some(2));
}

#[test]
fn drawings_and_schema() {
    let chain = shipped("three-routers.yaml");
    let chain = chain.to_str().unwrap();
    assert!(run(&["graph", chain]).1.starts_with("graph TD\n"));
    assert!(run(&["graph", chain, "--format", "dot"]).1.starts_with("graph \"three-routers\" {"));
    let json: serde_json::Value = serde_json::from_str(&run(&["graph", chain, "--format", "json"]).1).unwrap();
    assert_eq!(json["links"].as_array().unwrap().len(), 4);
    let schema: serde_json::Value = serde_json::from_str(&run(&["schema"]).1).unwrap();
    assert_eq!(schema["title"], "honeyweave topology");
    assert!(schema["properties"]["nodes"]["description"].is_string());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = honeyweave(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

/// Every node and link once, and quotes that close.
#[test]
fn dot_is_complete() {
    let office = shipped("office.yaml");
    let (_, drawing, _) = run(&["graph", office.to_str().unwrap(), "--format", "dot"]);
    let nodes = drawing.lines().filter(|line| line.contains("[shape=")).count();
    let edges = drawing.lines().filter(|line| line.contains(" -- ")).count();
    assert_eq!((nodes, edges), (15, 16));
    let quotes = drawing.matches('"').count() - drawing.matches("\\\"").count();
    assert_eq!(quotes % 2, 0, "{drawing}");
}

#[test]
fn the_environment_names_a_list_of_vendors() {
    let folder = tempfile::tempdir().unwrap();
    let [topology, list] = ["kettle.yaml", "prefixes"].map(|name| folder.path().join(name));
    std::fs::write(&topology, "nodes:\n  h: {kind: host, address: 10.0.0.1, vendor: kettle}\n").unwrap();
    let check = |prefixes: &str| {
        std::fs::write(&list, prefixes).unwrap();
        let mut command = honeyweave(&["check", topology.to_str().unwrap()]);
        let Output { status, stderr, .. } = command.env("HONEYWEAVE_MAC_PREFIXES", &list).output().unwrap();
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    assert_eq!(check("00AB10 Kettle Works\n"), (Some(0), String::new()));
    let (code, err) = check("<html>\n");
    assert!(code == Some(2) && err.contains("unknown vendor `kettle`") && err.contains("`<html>`"), "{err}");
}
