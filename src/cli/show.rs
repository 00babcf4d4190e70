//! `honeyweave show`: the inner tables of a running honeynet.

use std::process::ExitCode;

use serde_json::Value;

use super::{Target, table};
use crate::control::request::{MAX_ROWS, Request, Table};
use crate::record::escape;

/// Nodes that an error names.
const NAMED: usize = 20;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which table
    #[arg(value_enum)]
    pub table: Table,
    /// Which honeynet
    #[command(flatten)]
    pub target: Target,
    /// Only of this node
    #[arg(long)]
    pub node: Option<String>,
    /// Print JSON: one array of rows
    #[arg(long)]
    pub json: bool,
    /// Print at most this many rows of a node (and never more than 100,000)
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
}

/// Prints the table.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let request = Request::Show { table: args.table, limit: args.limit };
    let mut client = args.target.connect()?;
    let mut rows: Vec<Value> = client.ask(&request)?;
    if let Some(node) = &args.node {
        rows.retain(|row| of_node(row, node));
        if rows.is_empty() {
            let status = client.status()?;
            let known: Vec<&str> = status.nodes.iter().filter_map(|row| row.get("node")?.as_str()).collect();
            unknown(node, &known)?;
        }
    }
    print_rows(&rows, args.json)
}

/// Refuses the name of a node that is none of those `known`.
fn unknown(node: &str, known: &[&str]) -> miette::Result<()> {
    // A switch that does not answer tells no names.
    if known.is_empty() || known.contains(&node) {
        return Ok(());
    }
    let more = if known.len() > NAMED { ", and more (see `honeyweave status`)" } else { "" };
    let names: Vec<_> = known.iter().take(NAMED).map(|name| escape(name)).collect();
    let help = format!("the nodes are: {}{more}", names.join(", "));
    Err(miette::miette!(help = help, "there is no node `{}`", escape(node)))
}

/// Prints rows as a table or as one JSON array. Rows that say that others are missing are a sentence in a table.
pub fn print_rows(rows: &[Value], json: bool) -> miette::Result<ExitCode> {
    if json {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let text = if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) };
        table::put(&table::safe_json(&text))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (cut, told): (Vec<Value>, Vec<Value>) = rows.iter().cloned().partition(|row| row.get("cut_at").is_some());
    if !told.is_empty() {
        table::put(&table::render(&told))?;
    } else if cut.is_empty() {
        super::remark("nothing to show");
    }
    for row in &cut {
        table::put(&format!("{}\n", missing(row)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a row means that says that others are missing.
fn missing(row: &Value) -> String {
    let node = row.get("node").and_then(Value::as_str).unwrap_or("-");
    let rows = row.get("cut_at").and_then(Value::as_u64).unwrap_or(0);
    let help = if rows < u64::from(MAX_ROWS) { "`--limit` says how many are told" } else { "more are not told" };
    format!("({} has more than these {rows}: {help})", escape(node))
}

/// Whether a row is about a node: it names it, or a link that ends there (`core:lan`).
fn of_node(row: &Value, node: &str) -> bool {
    let is_it = |name: &str| name == node || name.strip_prefix(node).is_some_and(|rest| rest.starts_with(':'));
    ["node", "a", "b"].iter().any(|key| row.get(key).and_then(Value::as_str).is_some_and(is_it))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let row = |rows: u32| json!({"node": "lan\u{1b}", "cut_at": rows});
        assert_eq!(missing(&row(1000)), "(lan\\u{1b} has more than these 1000: `--limit` says how many are told)");
        assert!(missing(&row(MAX_ROWS)).ends_with("100000: more are not told)"));
    }

    #[test]
    fn a_node_that_is_none_is_refused() {
        assert!(unknown("core", &["lan", "core"]).is_ok() && unknown("core", &[]).is_ok());
        let error = unknown("cor", &["lan", "core"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no node `cor`");
        assert_eq!(error.help().unwrap().to_string(), "the nodes are: lan, core");
        let many: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            unknown("x", &many)
                .unwrap_err()
                .help()
                .unwrap()
                .to_string()
                .ends_with("n19, and more (see `honeyweave status`)")
        );
    }

    #[test]
    fn a_node_is_found_in_links_too() {
        assert!(of_node(&json!({"node": "core", "count": 1}), "core"));
        assert!(of_node(&json!({"a": "edge:1", "b": "core:0"}), "core"));
        assert!(!of_node(&json!({"a": "edge:1", "b": "core2:0"}), "core"));
        assert!(!of_node(&json!({"node": 5}), "core"));
    }
}
