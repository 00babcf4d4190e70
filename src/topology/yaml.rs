//! Text to what was typed, within bounds that no honest topology meets.

use serde_saphyr::Error;

use super::at::unpack;
use super::error::{Diagnostic, did_you_mean, suggest};
use super::raw::Topology;
use super::source::{Source, Span};

/// Nesting that is taken: the language itself needs eleven levels.
const MAX_DEPTH: usize = 32;

/// Parses `source`.
pub fn parse(source: &Source) -> Result<Topology, Box<Diagnostic>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_events: 400_000,
            max_nodes: 200_000,
            max_aliases: 2_000,
            max_anchors: 2_000,
            max_recorded_anchor_events: 200_000,
            max_recorded_anchor_bytes: 8 << 20,
            max_total_scalar_bytes: 16 << 20,
            max_merge_keys: 2_000,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        strict_booleans: true,
        with_snippet: false,
        emit_comments: false,
    };
    serde_saphyr::from_str_with_options(source.text(), options).map_err(|error| Box::new(convert(source, &error)))
}

fn place(source: &Source, error: &Error) -> Option<Span> {
    let location = error.location()?;
    if location.line() == 0 {
        return None;
    }
    let start = source.offset(location.line() as usize, location.column() as usize);
    let end = (start + location.span().byte_len().unwrap_or(0) as usize).min(source.text().len());
    Some(Span { start, end })
}

/// The reason of a parser's error, which repeats its place.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Whether a text has nothing but comments and blank lines.
fn says_nothing(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

/// What mends the mistakes in YAML itself that are made most often; the parser only says what it stumbled upon.
fn syntax_help(reason: &str) -> Option<&'static str> {
    let has = |part: &str| reason.contains(part);
    if has("tabs disallowed") {
        Some("indent with spaces: YAML takes no tabs there")
    } else if has("mapping values are not allowed") || has("did not find expected key") {
        Some("indent this line as its neighbors are; a text with `: ` in it needs quotes")
    } else if has("only valid inside a block") || has("illegal placement of ':'") {
        Some("is a `[` or `{` above without its end?")
    } else if has("unknown escape") {
        Some(r"in double quotes write `\\` for `\`, or use single quotes")
    } else {
        None
    }
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

fn convert(source: &Source, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let (message, label, help) = match error {
        Error::AliasError { error: inner, .. } => {
            let inner = convert(source, inner);
            (inner.message, inner.label, inner.help)
        }
        Error::SerdeUnknownField { field, expected, .. } => (
            format!("unknown key `{field}`"),
            "nothing has this key here".to_owned(),
            Some(match did_you_mean(field, expected.iter().copied()) {
                Some(candidate) => format!("did you mean `{candidate}`?"),
                None => format!("the keys here are {}", list(expected)),
            }),
        ),
        Error::SerdeUnknownVariant { variant, expected, .. } => (
            format!("unknown value `{variant}`"),
            "not one of the values that are possible here".to_owned(),
            Some(suggest(variant, expected.iter().copied())),
        ),
        Error::SerdeMissingField { field, .. } => {
            (format!("the key `{field}` is missing"), "in this mapping".to_owned(), Some(format!("add `{field}:`")))
        }
        Error::DuplicateMappingKey { key, .. } => (
            match key {
                Some(key) => format!("duplicate key `{key}`"),
                None => "duplicate key".to_owned(),
            },
            "written a second time here".to_owned(),
            Some("remove or rename one of the two".to_owned()),
        ),
        Error::MultipleDocuments { .. } => (
            "there is more than one document in this file".to_owned(),
            "the second begins here".to_owned(),
            Some("a topology is one document: put the others into files of their own".to_owned()),
        ),
        Error::Eof { .. } if says_nothing(source.text()) => (
            "the topology is empty".to_owned(),
            String::new(),
            Some("a topology has at least `nodes:`; see `honeyweave schema` or topologies/minimal.yaml".to_owned()),
        ),
        Error::NullIntoString { .. } => ("there is no value here".to_owned(), "a text belongs here".to_owned(), None),
        Error::UnknownAnchor { .. } => (
            "this alias has no anchor".to_owned(),
            "nothing above has this name with `&`".to_owned(),
            Some("an address or a text that begins with `*` needs quotes".to_owned()),
        ),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => (
            "the aliases expand to more than any topology needs".to_owned(),
            "this one went over the limit".to_owned(),
            Some("write a template and name it, instead of repeating a value by aliases".to_owned()),
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias refers to what it is part of".to_owned(), "here".to_owned(), None)
        }
        Error::Budget { .. } => (
            "the topology is larger or deeper than any that makes sense".to_owned(),
            reason(error),
            Some(format!("at most {MAX_DEPTH} levels, 200,000 values and 2,000 aliases are read")),
        ),
        Error::Unexpected { expected, .. } => {
            let what = match *expected {
                "mapping start" => "a mapping (`key: value`)",
                "sequence start" => "a list (`[a, b]`)",
                "string scalar" => "a text",
                other => other,
            };
            let help = (*expected == "mapping start")
                .then(|| "write `key: value`, with a space behind the colon; on one line `{a: 1, b: 2}`".to_owned());
            (format!("{what} belongs here"), "something else stands here".to_owned(), help)
        }
        Error::InvalidScalar { ty, .. } => {
            let what = match *ty {
                "u8" | "u16" | "u32" | "u64" | "i64" => "a whole number",
                other => other,
            };
            let found = source.slice(place(source, error).unwrap_or_default());
            (format!("`{found}` is not {what}"), format!("{what} belongs here"), None)
        }
        Error::InvalidBooleanStrict { .. } => {
            let found = source.slice(place(source, error).unwrap_or_default());
            let meant = match found.to_lowercase().as_str() {
                "yes" | "on" | "y" | "1" => "write true",
                "no" | "off" | "n" | "0" => "write false",
                _ => "write true or false",
            };
            (format!("`{found}` is not true or false"), "a truth value belongs here".to_owned(), Some(meant.to_owned()))
        }
        other => {
            let text = reason(other);
            match unpack(&text) {
                Some((message, help, Some(span))) => {
                    return Diagnostic::at(source, span, message, "here").help(help);
                }
                Some((message, help, None)) => (message.to_owned(), "here".to_owned(), Some(help.to_owned())),
                None => {
                    let help = syntax_help(&text).map(str::to_owned);
                    (text, "here".to_owned(), help)
                }
            }
        }
    };
    let diagnostic = match place(source, error) {
        Some(span) => Diagnostic::at(source, span, message, label),
        None => Diagnostic::of_file(source.name(), message),
    };
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}
