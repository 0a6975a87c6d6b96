//! Users as people and programs read them; of a password only its form.

use std::fmt::Write;

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::{
    passwords::{LegacyFormats, Stored, Unusable},
    store::UserRow,
};

/// A user without the password.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
pub(in crate::server) struct Shown<'a> {
    /// The id.
    id: i64,
    /// The login name.
    email: &'a str,
    /// Whether the user is an admin.
    admin: bool,
    /// Whether the user may not log in.
    disabled: bool,
    /// The form of the stored password: `argon2`, another format that logs users in, or `unusable`.
    password: &'static str,
}

/// Users, where stored passwords of these formats are accepted and a hash may take `most_kib` of memory.
pub(in crate::server) fn shown(users: &[UserRow], accepted: LegacyFormats, most_kib: u32) -> Vec<Shown<'_>> {
    users
        .iter()
        .map(|user| Shown {
            id: user.id,
            email: &user.email,
            admin: user.admin,
            disabled: user.disabled,
            password: form(&user.password, accepted, most_kib),
        })
        .collect()
}

/// The form of a stored password that some password matches, or `unusable`.
fn form(stored: &str, accepted: LegacyFormats, most_kib: u32) -> &'static str {
    let parse = |accepted| Stored::parse(stored, accepted, most_kib);
    match (parse(accepted), parse(LegacyFormats::default())) {
        (Err(_), _) => "unusable",
        (Ok(_), Err(Unusable::NotAccepted(format))) => format.name(),
        (Ok(_), _) => "argon2",
    }
}

/// A line of JSON.
pub(super) fn json(shown: &impl Serialize) -> String {
    // Numbers, booleans and texts always serialise.
    let mut text = serde_json::to_string(shown).unwrap_or_default();
    text.push('\n');
    text
}

/// A table for the eye, which says how to see more.
pub(super) fn table(users: &[Shown<'_>], more: bool) -> String {
    let mut table = format!("{:<10} {:<6} {:<9} {:<10} EMAIL\n", "ID", "ADMIN", "DISABLED", "PASSWORD");
    let word = |flag| if flag { "yes" } else { "no" };
    for user in users {
        let Shown { id, email, admin, disabled, password } = user;
        let email = email.escape_debug();
        // Writing to a string does not fail.
        let _ = writeln!(table, "{id:<10} {:<6} {:<9} {password:<10} {email}", word(*admin), word(*disabled));
    }
    if let Some(last) = users.last().filter(|_| more) {
        let _ = writeln!(table, "There are more: --after {}", last.id);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contract::LegacyFormat,
        server::passwords::{Argon2id, MAX_MEMORY_KIB, NewPasswords},
    };

    fn user(id: i64, email: &str, password: &str) -> UserRow {
        UserRow {
            id,
            email: email.to_owned(),
            password: password.to_owned(),
            admin: id == 1,
            disabled: id == 2,
            generation: 0,
        }
    }

    #[test]
    fn users_are_shown_without_their_passwords() {
        let users = [user(1, "ann@x.io", "Admin123"), user(2, "b\u{1b}[2J@x.io", "$argon2id$broken")];
        let plaintext = [LegacyFormat::Plaintext].into_iter().collect();
        let users = shown(&users, plaintext, MAX_MEMORY_KIB);
        assert_eq!(
            table(&users, true),
            "ID         ADMIN  DISABLED  PASSWORD   EMAIL\n\
             1          yes    no        plaintext  ann@x.io\n\
             2          no     yes       unusable   b\\u{1b}[2J@x.io\n\
             There are more: --after 2\n"
        );
        assert_eq!(
            json(&users[0]),
            "{\"id\":1,\"email\":\"ann@x.io\",\"admin\":true,\"disabled\":false,\"password\":\"plaintext\"}\n"
        );
    }

    #[test]
    fn a_form_is_told_only_where_it_logs_in() {
        let hash =
            NewPasswords { argon2: Argon2id::default(), min_length: 8 }.hash(b"secret of ann").unwrap();
        let bcrypt = "$2b$04$abcdefghijklmnopqrstuuWWvCmPbMTTW9ITeRjD6bVQ6OjPmM2Dm";
        let all = LegacyFormat::ALL.into_iter().collect();
        assert_eq!(
            [hash.as_str(), bcrypt, "plain", ""].map(|stored| form(stored, all, MAX_MEMORY_KIB)),
            ["argon2", "bcrypt", "plaintext", "unusable"]
        );
        let none = LegacyFormats::default();
        assert_eq!(
            [hash.as_str(), bcrypt, "plain"].map(|stored| form(stored, none, MAX_MEMORY_KIB)),
            ["argon2", "unusable", "unusable"]
        );
    }
}
