//! The environment as a map, with each name's `_FILE` form, so that parsing is a pure function.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use secrecy::{SecretSlice, SecretString};

use crate::contract::env::FILE_SUFFIX;

/// One fault of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The variable at fault.
    pub variable: String,
    /// What is wrong with it; never its value where that is a secret.
    pub what: String,
    /// What to do.
    pub cure: String,
}

/// How the value of a service link begins, which Kubernetes writes into every pod beside a Service.
pub(super) const SERVICE_LINK: &str = "tcp://";

/// Every fault of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The faults in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    pub(super) fn add(
        &mut self,
        variable: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.0.push(Fault { variable: variable.into(), what: what.into(), cure: cure.into() });
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(formatter, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        for Fault { variable, what, cure } in &self.0 {
            write!(formatter, "\n  {variable} {what}: {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A snapshot of environment variables.
#[derive(Default)]
pub struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A value that is no secret; an empty one counts as absent.
    pub(super) fn text(&self, variable: &'static str, faults: &mut Faults) -> Option<String> {
        let bytes = self.bytes(variable, faults).ok()??;
        let Ok(text) = String::from_utf8(bytes) else {
            faults.add(variable, "is not UTF-8", "write it in UTF-8");
            return None;
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// A value that must be there.
    pub(super) fn required(&self, variable: &'static str, cure: &str, faults: &mut Faults) -> Option<String> {
        let before = faults.0.len();
        let value = self.text(variable, faults);
        if value.is_none() && faults.0.len() == before {
            faults.add(variable, "is not set", cure);
        }
        value
    }

    /// A password; an empty one is a value.
    pub(super) fn secret(
        &self,
        variable: &'static str,
        faults: &mut Faults,
    ) -> Result<Option<SecretString>, ()> {
        let Some(bytes) = self.bytes(variable, faults)? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.into())),
            _ => {
                faults.add(variable, "is not UTF-8 or holds a NUL", "use a password of UTF-8 text");
                Err(())
            }
        }
    }

    /// A key of any bytes; an empty one counts as absent.
    pub(super) fn secret_bytes(
        &self,
        variable: &'static str,
        faults: &mut Faults,
    ) -> Result<Option<SecretSlice<u8>>, ()> {
        let bytes = self.bytes(variable, faults)?;
        Ok(bytes.filter(|bytes| !bytes.is_empty()).map(SecretSlice::from))
    }

    /// The file that holds the value, where it comes from one.
    pub(super) fn file(&self, variable: &'static str) -> Option<PathBuf> {
        let path = self.0.get(&OsString::from(format!("{variable}{FILE_SUFFIX}")))?;
        (!path.is_empty()).then(|| path.into())
    }

    fn bytes(&self, variable: &'static str, faults: &mut Faults) -> Result<Option<Vec<u8>>, ()> {
        let file_variable = format!("{variable}{FILE_SUFFIX}");
        let direct = self.0.get(std::ffi::OsStr::new(variable));
        let file = self.0.get(std::ffi::OsStr::new(&file_variable)).filter(|path| !path.is_empty());
        // Beside a file an empty value says nothing, and a service link was set by nobody.
        let says_nothing =
            |value: &&OsString| value.is_empty() || value.as_bytes().starts_with(SERVICE_LINK.as_bytes());
        let direct = direct.filter(|value| file.is_none() || !says_nothing(value));
        match (direct, file) {
            (Some(_), Some(_)) => {
                faults.add(file_variable, format!("is set together with {variable}"), "set one of the two");
                Err(())
            }
            (Some(value), None) => Ok(Some(value.as_bytes().to_vec())),
            (None, Some(path)) => match std::fs::read(Path::new(path)) {
                Ok(content) => Ok(Some(without_newline(content))),
                Err(error) => {
                    faults.add(
                        file_variable,
                        format!("names {}, which cannot be read ({error})", path.display()),
                        "name a readable file",
                    );
                    Err(())
                }
            },
            (None, None) => Ok(None),
        }
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// `kubectl create secret --from-file` keeps the newline an editor adds.
pub(crate) fn without_newline(mut content: Vec<u8>) -> Vec<u8> {
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    content
}
