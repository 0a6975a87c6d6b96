//! The rules of the definition, each by its text. They are few, and a CEL interpreter is not; a rule
//! that is not known here fails a test.

use std::{net::IpAddr, time::Duration};

use serde_json::Value;

use crate::api_server::quantity;

/// What a rule says of a value and the one before it.
type Check = fn(&Value, Option<&Value>) -> bool;

/// Whether a rule holds. One that is unknown holds.
pub(super) fn holds(rule: &str, value: &Value, live: Option<&Value>) -> bool {
    let known = RULES.iter().find(|(text, _)| *text == rule);
    known.is_none_or(|(_, check)| check(value, live))
}

const RULES: &[(&str, Check)] = &[
    ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", |object, _| {
        matches("^[a-z]([-a-z0-9]*[a-z0-9])?$", text(object, "/metadata/name"))
    }),
    ("self.metadata.name.size() <= 40", |object, _| text(object, "/metadata/name").chars().count() <= 40),
    ("has(self.credentialsSecretRef) || has(self.adminCredentialsSecretRef)", |external, _| {
        has(external, "/credentialsSecretRef") || has(external, "/adminCredentialsSecretRef")
    }),
    ("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))", |size, _| {
        amount(size).is_some_and(|amount| amount > 0)
    }),
    (
        "!has(self.size) || !has(oldSelf.size) || !isQuantity(string(self.size)) || !isQuantity(string(oldSelf.size)) || !quantity(string(self.size)).isLessThan(quantity(string(oldSelf.size)))",
        |storage, before| {
            let amount = |storage: &Value| storage.get("size").and_then(amount);
            match (amount(storage), before.and_then(amount)) {
                (Some(after), Some(before)) => after >= before,
                _ => true,
            }
        },
    ),
    ("has(self.managed) != has(self.external)", |database, _| {
        has(database, "/managed") != has(database, "/external")
    }),
    (
        "self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",
        |text, _| lasts(text, 1, 24 * 3600),
    ),
    (
        "self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('5m')",
        |text, _| lasts(text, 1, 5 * 60),
    ),
    (
        "self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1m') && duration(self) <= duration('8784h')",
        |text, _| lasts(text, 60, 8784 * 3600),
    ),
    ("isIP(self) || isCIDR(self)", |proxy, _| proxy.as_str().is_some_and(is_network)),
    (
        "isURL(self) && url(self).getScheme() == 'http' && url(self).getHostname() != '' && !self.matches('[@?#]')",
        |url, _| {
            let uri = url.as_str().filter(|url| !url.contains(['@', '?', '#'])).map(str::parse::<http::Uri>);
            uri.and_then(Result::ok).is_some_and(|uri| {
                uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())
            })
        },
    ),
    (
        "[[47104, 1], [19456, 2], [12288, 3], [9216, 4], [7168, 5]].exists(set, (has(self.memoryKiB) ? self.memoryKiB : 19456) >= set[0] && (has(self.iterations) ? self.iterations : 2) >= set[1])",
        |argon2, _| {
            let (memory, iterations) = costs(argon2);
            let sets = [(47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5)];
            sets.iter().any(|(least, times)| memory >= *least && iterations >= *times)
        },
    ),
    (
        "(has(self.memoryKiB) ? self.memoryKiB : 19456) * (has(self.iterations) ? self.iterations : 2) <= 1048576",
        |argon2, _| {
            let (memory, iterations) = costs(argon2);
            memory * iterations <= 1_048_576
        },
    ),
    ("self != 'authservice-administration'", |audience, _| audience != "authservice-administration"),
    (
        "!(has(self.suspend) && self.suspend) || (has(self.deletionPolicy) ? self.deletionPolicy : 'Retain') == (has(oldSelf.deletionPolicy) ? oldSelf.deletionPolicy : 'Retain')",
        |spec, before| {
            let policy = |spec: &Value| spec["deletionPolicy"].as_str().unwrap_or("Retain").to_owned();
            spec["suspend"] != true || before.is_none_or(|before| policy(before) == policy(spec))
        },
    ),
    (
        "(has(self.database) && has(self.database.external)) == (has(oldSelf.database) && has(oldSelf.database.external))",
        |spec, before| {
            before.is_none_or(|before| has(before, "/database/external") == has(spec, "/database/external"))
        },
    ),
    (
        "(has(self.database) && has(self.database.managed) && has(self.database.managed.storage) && has(self.database.managed.storage.storageClassName) ? self.database.managed.storage.storageClassName : '') == (has(oldSelf.database) && has(oldSelf.database.managed) && has(oldSelf.database.managed.storage) && has(oldSelf.database.managed.storage.storageClassName) ? oldSelf.database.managed.storage.storageClassName : '')",
        |spec, before| same(spec, before, "/database/managed/storage/storageClassName"),
    ),
    (
        "(has(self.token) && has(self.token.issuer) ? self.token.issuer : '') == (has(oldSelf.token) && has(oldSelf.token.issuer) ? oldSelf.token.issuer : '')",
        |spec, before| same(spec, before, "/token/issuer"),
    ),
    (
        "(has(self.token) && has(self.token.audience) ? self.token.audience : '') == (has(oldSelf.token) && has(oldSelf.token.audience) ? oldSelf.token.audience : '')",
        |spec, before| same(spec, before, "/token/audience"),
    ),
];

/// CEL's `has`: a null counts as absent.
fn has(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).is_some_and(|value| !value.is_null())
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn same(spec: &Value, before: Option<&Value>, pointer: &str) -> bool {
    before.is_none_or(|before| text(before, pointer) == text(spec, pointer))
}

fn amount(value: &Value) -> Option<i128> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    quantity::nano(&text)
}

fn costs(argon2: &Value) -> (i64, i64) {
    (argon2["memoryKiB"].as_i64().unwrap_or(19456), argon2["iterations"].as_i64().unwrap_or(2))
}

fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return text.parse::<IpAddr>().is_ok() };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

/// Whether a text is a duration in hours, minutes and seconds within bounds.
fn lasts(value: &Value, least_seconds: u64, most_seconds: u64) -> bool {
    let duration = value.as_str().and_then(duration);
    duration
        .is_some_and(|it| Duration::from_secs(least_seconds) <= it && it <= Duration::from_secs(most_seconds))
}

fn duration(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    for part in text.split_inclusive(['h', 'm', 's']) {
        let (digits, unit) = part.split_at_checked(part.len().checked_sub(1)?)?;
        let unit = match unit {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        seconds = seconds.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// Whether a text matches one of the definition's patterns.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
    };
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<regex::Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| regex::Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_server::schema;

    fn collect<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        match schema {
            Value::Object(object) => {
                for (name, value) in object {
                    if name == "x-kubernetes-validations" {
                        let rules = value.as_array().into_iter().flatten();
                        found.extend(rules.filter_map(|rule| rule["rule"].as_str()));
                    } else {
                        collect(value, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_model_knows_the_definitions_rules_and_no_others() {
        let mut found = Vec::new();
        collect(schema::definition(), &mut found);
        found.sort_unstable();
        found.dedup();
        let mut known: Vec<&str> = RULES.iter().map(|(rule, _)| *rule).collect();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in
            [("1h30m", Some(5400)), ("90s", Some(90)), ("", None), ("5", None), ("1d", None), ("h", None)]
        {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
