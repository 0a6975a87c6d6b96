//! Tells whether a process still runs, by `/proc`, since its parent may be somebody else.

use std::fs;

/// The state letter and the start time (in clock ticks since boot) from a `/proc/PID/stat` line.
fn parse(stat: &str) -> Option<(char, u64)> {
    // The second field, the name, may itself hold spaces and parentheses.
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks = fields.nth(18)?.parse().ok()?;
    Some((state, ticks))
}

fn read(pid: u32) -> Option<(char, u64)> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether the process exists and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    read(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// When a live process started, in clock ticks since boot; with its id this names it for ever.
pub(crate) fn started(pid: u32) -> Option<u64> {
    read(pid).filter(|(state, _)| !matches!(state, 'Z' | 'X')).map(|(_, start)| start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b)) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 98765 1 1 1";
        assert_eq!(parse(stat), Some(('S', 98765)));
    }

    #[test]
    fn this_process_is_alive_and_a_reaped_one_is_not() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(child.id()));
    }
}
