//! Puts failures into words with a cure, and the whole into the container's termination message.

use std::path::Path;

use crate::{
    contract::{DatabaseFault, MigrationError, MigrationReport},
    server::{config::Database, store::StoreError},
};

/// The kubelet keeps this much of a termination message.
const MAX_BYTES: usize = 4096;
/// Kept of one text when the whole is too long.
const MAX_TEXT: usize = 1024;
/// Kept of one list when the whole is too long.
const MAX_LIST: usize = 5;

/// Where and as whom something failed.
pub(in crate::server) struct Explain<'a> {
    pub(in crate::server) database: &'a Database,
    pub(in crate::server) account: &'a str,
}

impl Explain<'_> {
    /// The database's own words, and the cure.
    pub(in crate::server) fn error(&self, error: StoreError) -> MigrationError {
        let Database { host, port, name, .. } = self.database;
        let account = self.account;
        let StoreError { fault, words, .. } = error;
        let message = match fault {
            DatabaseFault::DatabaseUnreachable => format!(
                "The database at {host}:{port} cannot be reached: {words}. Check that host and port are right, that it runs, \
                 listens on more than 127.0.0.1, and that no firewall or network policy is in the way."
            ),
            DatabaseFault::CredentialsRejected => format!(
                "The database at {host}:{port} refused account {account:?}: {words}. Check the password, and that the account \
                 may log in from other hosts: CREATE USER '{account}'@'%'."
            ),
            DatabaseFault::GrantMissing => format!(
                "Account {account:?} of the database at {host}:{port} lacks a right: {words}. Grant it, or give admin credentials."
            ),
            DatabaseFault::SchemaMissing => format!(
                "Database {name:?} at {host}:{port} is incomplete: {words}. Create what is missing, or give admin credentials."
            ),
            DatabaseFault::SchemaOutdated => {
                format!("Database {name:?} at {host}:{port} is outdated: {words}. Let the migration finish.")
            }
            DatabaseFault::SchemaIncompatible => format!(
                "Database {name:?} at {host}:{port} cannot be used: {words}. Table user needs an integer column id and text columns email and password."
            ),
            DatabaseFault::DatabaseError => {
                format!("The database at {host}:{port} refused: {words}. The migration is tried again.")
            }
        };
        MigrationError { reason: fault, message }
    }
}

/// Prints the report and writes it where the kubelet looks for it.
pub fn publish(report: &MigrationReport, path: &Path) {
    let json = fitting(report);
    println!("{json}");
    if let Err(error) = std::fs::write(path, &json) {
        tracing::warn!(path = %path.display(), %error, "the report could not be written; set TERMINATION_LOG to a writable file");
    }
}

fn fitting(report: &MigrationReport) -> String {
    let encode = |report: &MigrationReport| serde_json::to_string(report).unwrap_or_default();
    let json = encode(report);
    if json.len() <= MAX_BYTES {
        return json;
    }
    let mut short = report.clone();
    for list in [&mut short.created, &mut short.missing_users, &mut short.limits] {
        shorten_list(list);
    }
    if let Some(error) = &mut short.error {
        shorten(&mut error.message, MAX_TEXT);
    }
    encode(&short)
}

fn shorten_list(list: &mut Vec<String>) {
    let more = list.len().saturating_sub(MAX_LIST);
    list.truncate(MAX_LIST);
    for text in &mut *list {
        shorten(text, MAX_TEXT / 8);
    }
    if more > 0 {
        list.push(format!("and {more} more"));
    }
}

fn shorten(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_always_fits_into_a_termination_message() {
        let texts =
            |count: usize| (0..count).map(|number| format!("user-{number}{}", "ü".repeat(300))).collect();
        let report = MigrationReport {
            created: texts(100),
            missing_users: texts(100),
            limits: texts(100),
            error: Some(MigrationError { reason: DatabaseFault::DatabaseError, message: "ü".repeat(9000) }),
            ..MigrationReport::default()
        };
        let json = fitting(&report);
        assert!(json.len() <= MAX_BYTES, "{}", json.len());
        let read: MigrationReport = serde_json::from_str(&json).unwrap();
        assert_eq!((read.created.len(), read.created[5].as_str()), (6, "and 95 more"));
    }
}
