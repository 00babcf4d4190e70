//! Folders under `src/` are layers: a folder imports only folders that stand
//! above it in the list. Whatever is named by `crate::FOLDER` counts, in code
//! and in tests; comments do not.

use std::path::{Path, PathBuf};

/// From the lowest to the highest.
const LAYERS: [&str; 21] = [
    "sys",
    "wire",
    "frame",
    "event",
    "emulate",
    "stack",
    "service",
    "netdev",
    "bench",
    "node",
    "fabric",
    "container",
    "relay",
    "record",
    "store",
    "analyze",
    "topology",
    "control",
    "audit",
    "web",
    "cli",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The text without comments. String literals stay; a path in one would be odd enough to look at.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| {
            let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
            comment.map_or(line, |(at, _)| &line[..at])
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The folders that `text` names by `crate::a` and `use crate::{a, b::c}`, with their lines.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // `$crate::` in a macro means the same; `mycrate::` does not.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, identifier(rest).to_owned()));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    found.push((line, identifier(group[start..i].trim()).to_owned()));
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == name)
}

/// What is wrong with one file of `folder`.
fn violations(folder: &str, file: &str, text: &str) -> Vec<String> {
    let own = layer(folder).unwrap_or_else(|| panic!("src/{folder} is no layer: give it a place in this list"));
    imports(&without_comments(text))
        .into_iter()
        .filter_map(|(line, name)| match layer(&name) {
            Some(other) if other > own => {
                Some(format!("{file}:{line}: {folder} imports {name}, which stands below it"))
            }
            Some(_) => None,
            // A macro or an item of the crate's root.
            None => None,
        })
        .collect()
}

#[test]
fn folders_import_only_what_stands_above_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in std::fs::read_dir(&src).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let mut paths = Vec::new();
        sources(&folder, &mut paths);
        for path in paths {
            files += 1;
            let shown = path.strip_prefix(&src).unwrap().display().to_string();
            wrong.extend(violations(&name, &shown, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(files > 30, "only {files} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_crate_is_a_layer_and_in_order() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 10, "{modules:?}");
    let order: Vec<usize> =
        modules.iter().map(|name| layer(name).unwrap_or_else(|| panic!("`{name}` is no layer"))).collect();
    assert!(order.is_sorted(), "src/lib.rs lists {modules:?}");
}

#[test]
fn the_check_finds_what_it_looks_for() {
    let text = "//! crate::cli is fine here\nuse crate::wire::Mac;\nuse crate::{event::{Event, Sink}, cli, node::Cx};\nfn f() { crate::topology::load(); }\n";
    let found = violations("stack", "stack/x.rs", text);
    assert_eq!(
        found,
        [
            "stack/x.rs:3: stack imports cli, which stands below it",
            "stack/x.rs:3: stack imports node, which stands below it",
            "stack/x.rs:4: stack imports topology, which stands below it",
        ]
    );
    assert!(violations("cli", "cli/x.rs", text).is_empty());
    assert_eq!(imports("mycrate::cli $crate::wire"), [(1, "wire".to_owned())]);
}
