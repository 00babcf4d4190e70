//! What the shards of a network say of themselves, as one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Map, Value, json};

/// Tables of counters, `{"nodes": [row…], …}`: rows that name the same thing are added up.
pub fn status(shards: Vec<Value>) -> Value {
    let mut tables: Map<String, Value> = Map::new();
    for shard in shards {
        let Value::Object(shard) = shard else { continue };
        for (name, rows) in shard {
            let (Value::Array(all), Value::Array(rows)) = (tables.entry(name).or_insert_with(|| json!([])), rows)
            else {
                continue;
            };
            all.extend(rows);
        }
    }
    for rows in tables.values_mut().filter_map(Value::as_array_mut) {
        *rows = unite(std::mem::take(rows), &["state", "io"], usize::MAX, |row, other| {
            for (name, value) in other {
                match (row.get_mut(&name), value) {
                    (Some(Value::Number(sum)), Value::Number(more)) => {
                        *sum = (sum.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0)).into();
                    }
                    // A device is up if nobody has seen otherwise.
                    (Some(state), Value::String(other)) if name == "state" && other != "up" => *state = other.into(),
                    _ => {}
                }
            }
        });
    }
    Value::Object(tables)
}

/// What nodes know, `[{"node": NAME, "rows": [row…]}…]`: what several replicas know is told once, as the one
/// says it that has heard of it last. At most `limit` rows a node.
pub fn show(shards: Vec<Value>, limit: usize) -> Value {
    let mut nodes: Vec<(Value, Vec<Value>)> = Vec::new();
    for entry in
        shards.into_iter().filter_map(|shard| if let Value::Array(all) = shard { Some(all) } else { None }).flatten()
    {
        let Value::Object(mut entry) = entry else { continue };
        let (Some(name), Some(Value::Array(rows))) = (entry.remove("node"), entry.remove("rows")) else { continue };
        match nodes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.extend(rows),
            None => nodes.push((name, rows)),
        }
    }
    let age = |row: &Map<String, Value>| row.get("age_s").and_then(Value::as_u64).unwrap_or(0);
    nodes
        .into_iter()
        .map(|(name, rows)| {
            let rows = unite(rows, &["age_s", "state"], limit, |row, other| {
                if age(&other) < age(row) {
                    *row = other;
                }
            });
            json!({"node": name, "rows": rows})
        })
        .collect()
}

/// Makes one row of those that name the same thing: whose texts are equal, but for those of `but`.
fn unite(
    rows: Vec<Value>,
    but: &[&str],
    limit: usize,
    mut join: impl FnMut(&mut Map<String, Value>, Map<String, Value>),
) -> Vec<Value> {
    let mut places = HashMap::new();
    let mut all: Vec<Map<String, Value>> = Vec::new();
    for row in rows {
        let Value::Object(row) = row else { continue };
        let is_counter = |value: &Value| but.contains(&"io") && value.is_number();
        let names = row.iter().filter(|(name, value)| !but.contains(&name.as_str()) && !is_counter(value));
        let identity: Vec<String> = names.map(|(_, value)| value.to_string()).collect();
        match places.entry(identity) {
            Entry::Occupied(place) => join(&mut all[*place.get()], row),
            Entry::Vacant(_) if all.len() == limit => {}
            Entry::Vacant(place) => {
                place.insert(all.len());
                all.push(row);
            }
        }
    }
    all.into_iter().map(Value::Object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_and_a_device_is_down_for_all() {
        let shard = |rx: u64, state: &str| {
            json!({
                "nodes": [{"node": "core", "rx": rx, "tx": 1, "dropped": 0}],
                "devices": [{"device": "eth0", "node": "wan", "state": state, "io": format!("by {rx}"), "rx": rx}],
                "drops": [{"node": "core", "reason": format!("r{}", rx % 2), "count": rx}],
            })
        };
        let expected = json!({
            "nodes": [{"node": "core", "rx": 60, "tx": 3, "dropped": 0}],
            "devices": [{"device": "eth0", "node": "wan", "state": "down", "io": "by 10", "rx": 60}],
            "drops": [{"node": "core", "reason": "r0", "count": 60}],
        });
        assert_eq!(status(vec![shard(10, "up"), shard(20, "down"), shard(30, "up")]), expected);
        let odd = status(vec![shard(1, "up"), shard(2, "up")]);
        assert_eq!(odd["drops"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn what_several_replicas_know_is_told_once() {
        let fdb = |mac: &str, age: u64| json!({"mac": mac, "vlan": 1, "port": "2", "age_s": age});
        let one = json!([{"node": "core", "rows": [fdb("a", 9), fdb("b", 1)]}, {"node": "lan", "rows": [{"ip": 1}]}]);
        let two = json!([{"node": "core", "rows": [fdb("a", 3), fdb("c", 2)]}, {"node": "lan", "rows": [{"ip": 2}]}]);
        let all = json!([
            {"node": "core", "rows": [fdb("a", 3), fdb("b", 1), fdb("c", 2)]},
            {"node": "lan", "rows": [{"ip": 1}, {"ip": 2}]},
        ]);
        assert_eq!(show(vec![one.clone(), two.clone()], 10), all);
        assert_eq!(show(vec![one, two], 1)[0]["rows"], json!([fdb("a", 3)]));
    }
}
