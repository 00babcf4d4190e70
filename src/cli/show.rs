//! `honeyweave show`: the inner tables of a running honeynet.

use std::process::ExitCode;

use serde_json::Value;

use super::client::Client;
use super::{Target, table};
use crate::control::request::{Request, Table};

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
    /// Print at most this many rows of a node
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
}

/// Prints the table.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    let request = Request::Show { table: args.table, limit: args.limit };
    let mut rows: Vec<Value> = Client::connect(&args.target)?.ask(&request)?;
    if let Some(node) = &args.node {
        rows.retain(|row| of_node(row, node));
    }
    print_rows(&rows, args.json)
}

/// Prints rows as a table or as one JSON array.
pub fn print_rows(rows: &[Value], json: bool) -> miette::Result<ExitCode> {
    if json {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let text = if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) };
        table::put(&table::safe_json(&text))?;
    } else if rows.is_empty() {
        eprintln!("nothing to show");
    } else {
        table::put(&table::render(rows))?;
    }
    Ok(ExitCode::SUCCESS)
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
    fn a_node_is_found_in_links_too() {
        assert!(of_node(&json!({"node": "core", "count": 1}), "core"));
        assert!(of_node(&json!({"a": "edge:1", "b": "core:0"}), "core"));
        assert!(!of_node(&json!({"a": "edge:1", "b": "core2:0"}), "core"));
        assert!(!of_node(&json!({"node": 5}), "core"));
    }
}
