//! Whether each promise in docs/promises.md has a test, and each test named there exists.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail};

/// The document, from the workspace's root.
const DOCUMENT: &str = "docs/promises.md";

/// A test as the document names it: a link to the file whose text is the function's name.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    function: &'a str,
    file: &'a str,
}

/// Passes when every row of the document's tables names a test and all of them are there.
///
/// # Errors
/// Every row without a test and every test that is not there, each by its line.
pub fn check(workspace: &Path) -> anyhow::Result<()> {
    let document = workspace.join(DOCUMENT);
    let text = std::fs::read_to_string(&document).context(DOCUMENT)?;
    let folder = document.parent().context("a document outside any folder")?;
    let mut sources = HashMap::new();
    let mut gaps = Vec::new();
    let mut promises = 0;
    for (number, row) in rows(&text) {
        promises += 1;
        let tests = tests_of(row);
        if tests.is_empty() {
            gaps.push(format!("{DOCUMENT}:{number}: no test is named"));
        }
        for Named { function, file } in tests {
            let source = sources
                .entry(file)
                .or_insert_with(|| std::fs::read_to_string(folder.join(file)).unwrap_or_default());
            if !has_test(source, function) {
                gaps.push(format!("{DOCUMENT}:{number}: {file} has no test {function} that runs"));
            }
        }
    }
    if promises == 0 {
        bail!("{DOCUMENT} holds no table");
    }
    if !gaps.is_empty() {
        bail!("{}", gaps.join("\n"));
    }
    Ok(())
}

/// The rows of all tables, heads left out, with the numbers of their lines.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_body = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if !line.starts_with('|') {
            in_body = false;
            return None;
        }
        if line.starts_with("|---") {
            in_body = true;
            return None;
        }
        in_body.then_some((index + 1, line))
    })
}

/// The tests that the last column of a row links to.
fn tests_of(row: &str) -> Vec<Named<'_>> {
    let last = row.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap_or_default();
    let links = last.split('[').skip(1);
    links
        .filter_map(|link| {
            let (function, rest) = link.split_once("](")?;
            let (file, _) = rest.split_once(')')?;
            Some(Named { function, file })
        })
        .collect()
}

/// Whether the source has a function of this name under a test attribute, and not ignored.
fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(index, line)| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let named = line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(function));
        named.is_some_and(|rest| rest.starts_with('(')) && {
            let attributes = || lines[..index].iter().rev().take_while(|line| line.starts_with("#["));
            attributes().any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
                && !attributes().any(|line| line.starts_with("#[ignore"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_test_and_a_test_that_is_not_there_are_gaps() {
        let folder = tempfile::TempDir::new().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "tests/all.rs",
            "#[test]\nfn kept() {}\n#[test]\n#[ignore = \"slow\"]\nfn ignored() {}\nfn helper() {}\n\
             #[tokio::test]\nasync fn awaited() {}\n",
        );
        write(
            DOCUMENT,
            "| promise | tests |\n|---|---|\n\
             | one | [kept](../tests/all.rs), [awaited](../tests/all.rs) |\n\
             | two [kept](../tests/all.rs) | none |\n\
             | three | [ignored](../tests/all.rs) [helper](../tests/all.rs) [gone](../tests/none.rs) |\n",
        );
        assert_eq!(
            check(folder.path()).unwrap_err().to_string(),
            "docs/promises.md:4: no test is named\n\
             docs/promises.md:5: ../tests/all.rs has no test ignored that runs\n\
             docs/promises.md:5: ../tests/all.rs has no test helper that runs\n\
             docs/promises.md:5: ../tests/none.rs has no test gone that runs"
        );
        write(DOCUMENT, "| promise | tests |\n|---|---|\n| one | [kept](../tests/all.rs) |\n");
        check(folder.path()).unwrap();
        write(DOCUMENT, "nothing\n");
        assert!(check(folder.path()).is_err());
    }
}
