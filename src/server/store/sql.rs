//! Quoting for the statements that take no bound values (`CREATE USER`, `GRANT`, names).

/// A name in backticks.
#[must_use]
pub fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string in single quotes. Right only where `sql_mode` lacks `NO_BACKSLASH_ESCAPES`, which
/// every connection of ours sees to.
#[must_use]
pub fn string(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for character in value.chars() {
        if matches!(character, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}

/// A database name in backticks for `GRANT … ON`, where `_` and `%` are patterns unless escaped.
#[must_use]
pub fn grant_pattern(database: &str) -> String {
    name(&database.replace('_', "\\_").replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quotation_early() {
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(string(r"it's \ 100%"), r"'it\'s \\ 100%'");
        assert_eq!(grant_pattern("my_auth%"), r"`my\_auth\%`");
    }
}
