//! Rows for people, and JSON that a terminal can stand.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

pub use crate::record::safe_json;
use crate::record::{escape, is_harmless};

/// Characters of a cell with what others have said, and of one that nothing follows.
const CELL: usize = 80;
pub const LAST: usize = 200;

/// Rows with the columns that they have, in the order of first appearance.
/// Numbers are aligned to the right, what is not there is `-`.
pub fn render(rows: &[Value]) -> String {
    render_with(rows, &|text| escape(text).into_owned(), None)
}

/// The same, of what an attacker has a part in: what is longer than a table can stand ends with an ellipsis.
pub fn render_bounded(rows: &[Value]) -> String {
    render_with(rows, &|text| escape(text).into_owned(), Some((CELL, LAST)))
}

/// The same, of rows whose texts have no controls any more: their backslashes stay as they are.
pub fn render_escaped(rows: &[Value]) -> String {
    let shown = |text: &str| text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect();
    render_with(rows, &shown, Some((CELL, LAST)))
}

/// `text`, which has no controls any more, or its beginning and an ellipsis, together `most` characters: no half of what was
/// written out.
pub fn within(text: String, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text;
    }
    let (mut end, mut count, mut rest) = (0, 0, text.chars());
    while let Some(c) = rest.next() {
        let before = rest.as_str();
        match (c, before.chars().next()) {
            ('\\', Some('x')) => rest.by_ref().take(3).for_each(drop),
            ('\\', Some('u')) => rest.by_ref().take(9).take_while(|c| *c != '}').for_each(drop),
            ('\\', _) => drop(rest.next()),
            _ => {}
        }
        let whole = text.len() - rest.as_str().len();
        count += text.get(end..whole).map_or(0, |part| part.chars().count());
        if count >= most {
            break;
        }
        end = whole;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn render_with(rows: &[Value], shown: &dyn Fn(&str) -> String, most: Option<(usize, usize)>) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let bounded = |at: usize, cell: String| match most {
        Some((_, last)) if at + 1 == columns.len() => within(cell, last),
        Some((most, _)) => within(cell, most),
        None => cell,
    };
    let of_row = |row: &Value| {
        let cells = columns.iter().enumerate().map(|(at, column)| bounded(at, cell(row.get(column), shown)));
        cells.collect::<Vec<String>>()
    };
    let cells: Vec<Vec<String>> = rows.iter().map(of_row).collect();
    let heads: Vec<String> = columns.iter().map(|column| escape(column).to_uppercase().replace('_', " ")).collect();
    let width = |at: usize| {
        let longest = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        longest.max(heads[at].chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let numeric: Vec<bool> = columns
        .iter()
        .map(|column| rows.iter().all(|row| row.get(column).is_none_or(|value| value.is_number() || value.is_null())))
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(&cells) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = widths[at].saturating_sub(cell.chars().count());
            if at > 0 {
                line.push_str("  ");
            }
            if numeric[at] {
                line.extend(std::iter::repeat_n(' ', pad));
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cell(value: Option<&Value>, shown: &dyn Fn(&str) -> String) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => shown(text),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        // Of what is no whole number as much as there is to be seen, one below the other.
        Some(Value::Number(number)) if number.is_f64() => format!("{:.3}", number.as_f64().unwrap_or_default()),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| cell(Some(item), shown)).collect();
            items.join(",")
        }
        Some(other) => shown(&other.to_string()),
    }
}

/// Whether nobody has anything against colors on a terminal (`NO_COLOR`).
pub fn may_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` in bold if a person looks at it (`NO_COLOR` is obeyed).
pub fn bold(text: &str) -> String {
    if io::stdout().is_terminal() && may_color() { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Writes to standard output. Returns whether anyone still reads it.
///
/// # Errors
/// If it cannot be written for another reason than that nobody reads it.
pub fn put(text: &str) -> miette::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(miette::miette!("cannot write to standard output: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_come_in_the_order_of_first_appearance() {
        let rows = [
            json!({"node": "core", "mac": "00:0c:29:aa:00:11", "age_secs": 5}),
            json!({"node": "a-long-name", "vlan": 12, "static": true, "age_secs": 1234}),
        ];
        let expected = "\
NODE         MAC                AGE SECS  VLAN  STATIC
core         00:0c:29:aa:00:11         5     -  -
a-long-name  -                      1234    12  yes
";
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn what_an_attacker_says_ruins_no_table() {
        let rows =
            [json!({"user": "\u{1b}".repeat(3000), "object": {"a": "x".repeat(3000)}, "last": "y".repeat(3000)})];
        for table in [render_bounded(&rows), render_escaped(&rows)] {
            let widest = table.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|width| (300..=80 + 2 + 80 + 2 + 200).contains(&width)), "{table}");
            assert_eq!(table.matches('…').count(), 3, "{table}");
        }
        // What was written out is there as a whole or not at all.
        assert!(render_bounded(&rows).lines().nth(1).unwrap().starts_with(&("\\u{1b}".repeat(13) + "…  ")));
        assert_eq!(
            ["12345", "123456", "1234\\x1b6", "\\\\\\\\\\\\"].map(|text| within(text.into(), 5)),
            ["12345", "1234…", "1234…", "\\\\\\\\…"]
        );
        assert!(render(&rows).lines().any(|line| line.chars().count() > 9000));
    }

    #[test]
    fn what_an_attacker_says_stays_text() {
        let rows = [json!({"text\u{7}": "\u{1b}[2J\u{202e}a\nb", "list": ["x", 1]})];
        assert_eq!(render(&rows), "TEXT\\U{7}              LIST\n\\u{1b}[2J\\u{202e}a\\nb  x,1\n");
        assert_eq!(render(&[json!(1), json!(null)]).trim(), "");
    }
}
