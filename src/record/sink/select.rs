//! Which events a sink wants.

use serde::{Deserialize, Serialize};

use crate::event::EventId;

/// A set of events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Select(Vec<EventId>);

impl Default for Select {
    /// All of them.
    fn default() -> Select {
        Select(EventId::ALL.to_vec())
    }
}

impl Select {
    /// What `patterns` say: each is an event (`ssh.login`), the beginning of several (`ssh` or `ssh.*`), or `*`, and takes
    /// away what it names if a `!` stands before it. If the first one takes away, it does from all.
    ///
    /// # Errors
    /// The number of the pattern that names no event, or of the last one if nothing is left.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Select, usize> {
        let mut chosen = vec![false; EventId::ALL.len()];
        let mut last = 0;
        for (number, pattern) in patterns.into_iter().enumerate() {
            let (name, wanted) = pattern.strip_prefix('!').map_or((pattern, true), |name| (name, false));
            if number == 0 && !wanted {
                chosen.fill(true);
            }
            let mut is_any = false;
            for (id, chosen) in EventId::ALL.iter().zip(&mut chosen).filter(|(id, _)| fits(name, id.as_str())) {
                debug_assert_eq!(EventId::ALL.get(*id as usize), Some(id));
                (*chosen, is_any) = (wanted, true);
            }
            if !is_any {
                return Err(number);
            }
            last = number;
        }
        let ids: Vec<EventId> =
            EventId::ALL.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(id, _)| *id).collect();
        if ids.is_empty() { Err(last) } else { Ok(Select(ids)) }
    }

    /// Whether it is wanted.
    pub fn has(&self, id: EventId) -> bool {
        self.0.contains(&id)
    }
}

fn fits(pattern: &str, id: &str) -> bool {
    let pattern = pattern.strip_suffix(".*").unwrap_or(pattern);
    pattern == "*" || id.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_add_and_take_away() {
        let of = |patterns: &[&str]| Select::new(patterns.iter().copied());
        assert!(EventId::ALL.iter().all(|id| Select::default().has(*id)));
        let ssh = of(&["ssh.*", "tcp.open"]).unwrap();
        assert!(ssh.has(EventId::SshLogin) && ssh.has(EventId::TcpOpen));
        assert!(!ssh.has(EventId::TcpProbe) && !ssh.has(EventId::Gap));
        assert_eq!(of(&["ssh"]), of(&["ssh.*"]));
        let quiet = of(&["!tcp.probe", "!arp"]).unwrap();
        assert!(quiet.has(EventId::TcpOpen) && !quiet.has(EventId::TcpProbe) && !quiet.has(EventId::ArpRequest));
        let again = of(&["*", "!ssh", "ssh.login"]).unwrap();
        assert!(again.has(EventId::SshLogin) && !again.has(EventId::SshHello) && again.has(EventId::Gap));
        assert_eq!(of(&["ssh.login", "ss"]), Err(1));
        assert_eq!(of(&["tcp.pro"]), Err(0));
        assert_eq!(of(&["ssh.login", "!ssh"]), Err(1));
    }
}
