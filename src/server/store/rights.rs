//! What an account may do, read from `SHOW GRANTS` before anything is tried.

use std::collections::BTreeSet;

use sqlx::MySqlConnection;

use super::{StoreError, text};

/// The rights of one account, as its `SHOW GRANTS` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
    revokes: Vec<Grant>,
    /// A role is granted whose rights are not listed: what is missing here may come from it.
    has_roles: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    privileges: BTreeSet<String>,
    with_grant_option: bool,
    /// `None` stands for every database.
    database: Option<String>,
    /// `None` stands for every table.
    table: Option<String>,
}

impl Rights {
    /// Reads the rights of the account the connection is authenticated as.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn read(connection: &mut MySqlConnection) -> Result<Self, StoreError> {
        let rows = sqlx::query("SHOW GRANTS").fetch_all(connection).await?;
        let lines = rows.iter().map(|row| text(row, 0)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::parse(lines.iter().map(String::as_str)))
    }

    /// Reads the lines of `SHOW GRANTS`.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut rights = Self::default();
        for line in lines {
            if let Some(rest) = line.strip_prefix("REVOKE ") {
                rights.revokes.extend(Grant::parse(rest, " FROM "));
            } else if let Some(rest) = line.strip_prefix("GRANT ") {
                match Grant::parse(rest, " TO ") {
                    Some(grant) => rights.grants.push(grant),
                    None => rights.has_roles = true,
                }
            } else if line.starts_with("SET DEFAULT ROLE") {
                rights.has_roles = true;
            }
        }
        rights
    }

    /// Whether the account may surely not do this on the whole database. Roles make it uncertain.
    #[must_use]
    pub fn lacks(&self, privilege: &str, database: &str) -> bool {
        !self.has_roles && !self.allows(privilege, database, None)
    }

    /// Whether the account may surely not do this on a table.
    #[must_use]
    pub fn lacks_on(&self, privilege: &str, database: &str, table: &str) -> bool {
        !self.has_roles && !self.allows(privilege, database, Some(table))
    }

    /// Whether the account may surely not hand on rights on the database.
    #[must_use]
    pub fn lacks_grant_option(&self, database: &str) -> bool {
        !self.has_roles
            && !self
                .grants
                .iter()
                .any(|grant| grant.with_grant_option && grant.table.is_none() && grant.covers(database))
    }

    /// Whether the account may surely not do what has no database, such as `CREATE USER`.
    #[must_use]
    pub fn lacks_globally(&self, privilege: &str) -> bool {
        !self.has_roles && !self.grants.iter().any(|grant| grant.database.is_none() && grant.has(privilege))
    }

    fn allows(&self, privilege: &str, database: &str, table: Option<&str>) -> bool {
        let on_table = |grant: &&Grant| grant.table.as_deref().is_none_or(|granted| table == Some(granted));
        let granted = self
            .grants
            .iter()
            .filter(|grant| grant.covers(database))
            .filter(on_table)
            .any(|grant| grant.has(privilege));
        let revoked = self
            .revokes
            .iter()
            .any(|revoke| revoke.database.is_some() && revoke.covers(database) && revoke.has(privilege));
        granted && !revoked
    }
}

impl Grant {
    /// Parses what follows `GRANT ` or `REVOKE `; `None` for a role, which has no ` ON `.
    fn parse(rest: &str, recipient: &str) -> Option<Self> {
        let (privileges, rest) = rest.split_once(" ON ")?;
        let object = &rest[..find_outside_quotes(rest, recipient).unwrap_or(rest.len())];
        let object = object.strip_prefix("TABLE ").unwrap_or(object);
        let (database, table) = object.split_at(find_outside_quotes(object, ".")?);
        let unquoted = |name: &str| (name != "*").then(|| name.trim_matches('`').replace("``", "`"));
        Some(Self {
            privileges: split_privileges(privileges),
            with_grant_option: rest.contains("WITH GRANT OPTION"),
            database: unquoted(database),
            table: unquoted(table.get(1..)?),
        })
    }

    fn covers(&self, database: &str) -> bool {
        self.database
            .as_deref()
            .is_none_or(|pattern| pattern == database || matches(pattern.as_bytes(), database.as_bytes()))
    }

    fn has(&self, privilege: &str) -> bool {
        self.privileges.contains("ALL PRIVILEGES") || self.privileges.contains(privilege)
    }
}

/// Privileges are separated by commas; a list of columns in parentheses may follow one.
fn split_privileges(text: &str) -> BTreeSet<String> {
    let mut depth = 0_u32;
    text.split(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .map(|privilege| privilege.split('(').next().unwrap_or_default().trim().to_uppercase())
    .collect()
}

fn find_outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(index, character)| {
        if character == '`' {
            quoted = !quoted;
        }
        (!quoted && text[index..].starts_with(wanted)).then_some(index)
    })
}

/// The pattern of a grant: `_` is any character, `%` any number of them, a backslash takes the
/// meaning away.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'\\', escaped, pattern @ ..] => name
            .split_first()
            .is_some_and(|(first, name)| first.eq_ignore_ascii_case(escaped) && matches(pattern, name)),
        [b'%', pattern @ ..] => (0..=name.len()).any(|skipped| matches(pattern, &name[skipped..])),
        [wanted, pattern @ ..] => name.split_first().is_some_and(|(first, name)| {
            (*wanted == b'_' || first.eq_ignore_ascii_case(wanted)) && matches(pattern, name)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_come_from_every_level() {
        let rights = Rights::parse([
            "GRANT USAGE ON *.* TO `app`@`%`",
            "GRANT SELECT, INSERT ON `my\\_auth`.* TO `app`@`%`",
            "GRANT UPDATE (`password`, `email`), DELETE ON `my_auth`.`user` TO `app`@`%`",
        ]);
        assert!(!rights.lacks("SELECT", "my_auth"));
        assert!(rights.lacks("SELECT", "my1auth"));
        assert!(rights.lacks("UPDATE", "my_auth"));
        assert!(!rights.lacks_on("UPDATE", "my_auth", "user"));
        assert!(!rights.lacks_on("DELETE", "my_auth", "user"));
        assert!(rights.lacks_on("DELETE", "my_auth", "other"));
        assert!(rights.lacks_globally("CREATE USER"));
        assert!(rights.lacks_grant_option("my_auth"));
    }

    #[test]
    fn an_administrator_may_do_everything_on_both_engines() {
        for line in [
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED BY PASSWORD '*2470C0' WITH GRANT OPTION",
            "GRANT SELECT, INSERT, CREATE, CREATE USER ON *.* TO `root`@`localhost` WITH GRANT OPTION",
        ] {
            let rights = Rights::parse([line]);
            assert!(
                !rights.lacks("CREATE", "auth")
                    && !rights.lacks_globally("CREATE USER")
                    && !rights.lacks_grant_option("auth"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_partial_revoke_counts_and_a_role_makes_everything_uncertain() {
        let revoked =
            Rights::parse(["GRANT SELECT ON *.* TO `a`@`%`", "REVOKE SELECT ON `auth`.* FROM `a`@`%`"]);
        assert!(revoked.lacks("SELECT", "auth") && !revoked.lacks("SELECT", "other"));
        let role = Rights::parse(["GRANT USAGE ON *.* TO `a`@`%`", "GRANT `admins`@`%` TO `a`@`%`"]);
        assert!(!role.lacks("SELECT", "auth"));
    }

    #[test]
    fn patterns_match_as_the_database_matches_them() {
        assert!(
            matches(b"%", b"anything")
                && matches(b"auth%", b"auth")
                && matches(b"a_th", b"auth")
                && matches(b"a\\_b", b"a_b")
        );
        assert!(!matches(b"a\\_b", b"axb") && !matches(b"auth", b"auth2") && !matches(b"\\", b""));
    }

    #[test]
    fn names_may_hold_what_grants_are_made_of() {
        let rights = Rights::parse(["GRANT SELECT ON `a. TO b`.* TO `x`@`%`"]);
        assert!(!rights.lacks("SELECT", "a. TO b"));
    }
}
