//! Users as people and programs read them; of a password only its form.

use std::fmt::Write;

use serde::Serialize;

use crate::server::{passwords::Stored, store::UserRow};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: i64,
    email: &'a str,
    admin: bool,
    disabled: bool,
    password: &'static str,
}

impl<'a> Shown<'a> {
    fn of(user: &'a UserRow) -> Self {
        let password = match Stored::parse(&user.password, true) {
            Ok(Stored::Argon2(_)) => "argon2",
            Ok(Stored::Plaintext(_)) => "plaintext",
            Err(_) => "unusable",
        };
        Self { id: user.id, email: &user.email, admin: user.admin, disabled: user.disabled, password }
    }
}

/// A JSON list.
pub(super) fn json(users: &[UserRow]) -> String {
    line(&users.iter().map(Shown::of).collect::<Vec<_>>())
}

/// A JSON object.
pub(super) fn json_of_one(user: &UserRow) -> String {
    line(&Shown::of(user))
}

fn line(value: &impl Serialize) -> String {
    // Numbers, booleans and texts always serialise.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A table for the eye, which says how to see more.
pub(super) fn table(users: &[UserRow], more: bool) -> String {
    let mut table = format!("{:<10} {:<6} {:<9} {:<10} EMAIL\n", "ID", "ADMIN", "DISABLED", "PASSWORD");
    let word = |flag| if flag { "yes" } else { "no" };
    for user in users {
        let Shown { id, email, admin, disabled, password } = Shown::of(user);
        let email = email.escape_debug();
        // Writing to a string does not fail.
        let _ = writeln!(table, "{id:<10} {:<6} {:<9} {password:<10} {email}", word(admin), word(disabled));
    }
    if let Some(last) = users.last().filter(|_| more) {
        let _ = writeln!(table, "There are more: --after {}", last.id);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            table(&users, true),
            "ID         ADMIN  DISABLED  PASSWORD   EMAIL\n\
             1          yes    no        plaintext  ann@x.io\n\
             2          no     yes       unusable   b\\u{1b}[2J@x.io\n\
             There are more: --after 2\n"
        );
        assert_eq!(
            json(&users[..1]),
            "[{\"id\":1,\"email\":\"ann@x.io\",\"admin\":true,\"disabled\":false,\"password\":\"plaintext\"}]\n"
        );
    }
}
