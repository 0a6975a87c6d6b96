//! When failed logins lock an account or a source.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{
    duration,
    source::{Environment, Faults},
};
use crate::contract::env;

/// Longest window and longest lockout: what is remembered must end, and an account that is locked by
/// strangers must come free while its owner still cares.
const LONGEST: Duration = Duration::from_hours(24);
/// Most failures that can be allowed; more of them protect nothing.
const MOST_FAILURES: u32 = 1000;

/// When failed logins lock an account or a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginProtection {
    /// Failed logins of one account that lock it; 0 turns the protection off.
    pub max_failures: u32,
    /// How long they count, from the first of them.
    pub window: Duration,
    /// How long a lock lasts.
    pub lockout: Duration,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for LoginProtection {
    fn default() -> Self {
        const QUARTER: Duration = Duration::from_mins(15);
        Self { max_failures: 10, window: QUARTER, lockout: QUARTER, trusted_proxies: Vec::new() }
    }
}

impl LoginProtection {
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Self {
        let default = Self::default();
        Self {
            max_failures: max_failures(environment, faults).unwrap_or(default.max_failures),
            window: span(environment, env::LOGIN_FAILURE_WINDOW, faults).unwrap_or(default.window),
            lockout: span(environment, env::LOGIN_LOCKOUT, faults).unwrap_or(default.lockout),
            trusted_proxies: trusted_proxies(environment, faults),
        }
    }
}

fn max_failures(environment: &Environment, faults: &mut Faults) -> Option<u32> {
    let value = environment.text(env::LOGIN_MAX_FAILURES, faults)?;
    let failures = value.parse().ok().filter(|failures| *failures <= MOST_FAILURES);
    if failures.is_none() {
        faults.add(
            env::LOGIN_MAX_FAILURES,
            format!("{value:?} is no number of failed logins"),
            format!("use a number from 1 to {MOST_FAILURES}, or 0 to turn login protection off"),
        );
    }
    failures
}

fn span(environment: &Environment, variable: &'static str, faults: &mut Faults) -> Option<Duration> {
    let value = environment.text(variable, faults)?;
    let span = duration::parse(&value).filter(|span| !span.is_zero() && *span <= LONGEST);
    if span.is_none() {
        faults.add(
            variable,
            format!("{value:?} is no such time"),
            "use a duration from 1s to 24h, such as 15m",
        );
    }
    span
}

fn trusted_proxies(environment: &Environment, faults: &mut Faults) -> Vec<IpNet> {
    let list = environment.text(env::TRUSTED_PROXIES, faults).unwrap_or_default();
    let mut proxies = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match item.parse().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => proxies.push(network),
            Err(_) => faults.add(
                env::TRUSTED_PROXIES,
                format!("{item:?} is neither an address nor a network"),
                "list addresses and networks such as 10.0.0.0/8,192.0.2.7,fd00::/8",
            ),
        }
    }
    proxies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&'static str, &'static str)]) -> (LoginProtection, Vec<String>) {
        let mut faults = Faults::default();
        let protection = LoginProtection::read(&variables.iter().copied().collect(), &mut faults);
        (protection, faults.iter().map(|fault| format!("{} {}", fault.variable, fault.what)).collect())
    }

    #[test]
    fn nothing_said_is_ten_in_a_quarter_of_an_hour_and_zero_turns_it_off() {
        let (protection, faults) = read(&[]);
        assert_eq!((protection.max_failures, protection.window.as_secs()), (10, 900));
        assert_eq!((protection.lockout.as_secs(), protection.trusted_proxies.len()), (900, 0));
        assert_eq!(faults, [""; 0]);
        assert_eq!(read(&[("LOGIN_MAX_FAILURES", "0")]).0.max_failures, 0);
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        let (protection, faults) = read(&[
            ("LOGIN_FAILURE_WINDOW", "1h"),
            ("LOGIN_LOCKOUT", "24h"),
            ("TRUSTED_PROXIES", "10.1.2.3/8, 192.0.2.7,fd00::/8,::1,"),
        ]);
        assert_eq!(faults, [""; 0]);
        assert_eq!((protection.window.as_secs(), protection.lockout.as_secs()), (3_600, 86_400));
        let trusts = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            protection.trusted_proxies.iter().any(|network| network.contains(&address))
        };
        assert!(["10.255.0.1", "192.0.2.7", "fdff::1", "::1"].into_iter().all(trusts));
        assert!(!["11.0.0.1", "192.0.2.8", "fe80::1", "::2"].into_iter().any(trusts));
    }

    #[test]
    fn every_fault_is_named() {
        let (_, faults) = read(&[
            ("LOGIN_MAX_FAILURES", "1001"),
            ("LOGIN_FAILURE_WINDOW", "0s"),
            ("LOGIN_LOCKOUT", "21900d"),
            ("TRUSTED_PROXIES", "10.0.0.0/33,gateway,10.0.0.1"),
        ]);
        assert_eq!(
            faults,
            [
                "LOGIN_MAX_FAILURES \"1001\" is no number of failed logins",
                "LOGIN_FAILURE_WINDOW \"0s\" is no such time",
                "LOGIN_LOCKOUT \"21900d\" is no such time",
                "TRUSTED_PROXIES \"10.0.0.0/33\" is neither an address nor a network",
                "TRUSTED_PROXIES \"gateway\" is neither an address nor a network",
            ]
        );
    }
}
