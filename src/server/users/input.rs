//! Secrets from standard input or a file.

use std::io::{IsTerminal, Read};

use super::{SecretFile, UserError};
use crate::server::config::without_newline;

/// Most bytes read of a secret: none that is longer could be used.
const MOST: u64 = 4096;

/// The secret, without a newline at its end.
pub(super) fn secret(from: &SecretFile, what: &str) -> Result<String, UserError> {
    let mut bytes = Vec::new();
    let read = match &from.file {
        Some(path) => std::fs::File::open(path)
            .and_then(|file| file.take(MOST).read_to_end(&mut bytes))
            .map_err(|error| format!("the {what} cannot be read from {}: {error}", path.display())),
        // It would be shown while it is typed.
        None if std::io::stdin().is_terminal() => {
            Err(format!("standard input is a terminal: pipe the {what} in, or name its file with --file"))
        }
        None => std::io::stdin()
            .take(MOST)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("the {what} cannot be read from standard input: {error}")),
    };
    read.map_err(UserError::Input)?;
    let text = String::from_utf8(without_newline(bytes))
        .map_err(|_| UserError::Input(format!("the {what} is not UTF-8")))?;
    if text.is_empty() {
        return Err(UserError::Input(format!(
            "the {what} is empty: pipe it in, or name its file with --file"
        )));
    }
    Ok(text)
}
