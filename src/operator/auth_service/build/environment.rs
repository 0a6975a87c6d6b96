//! Environment variables of containers, safe from Kubernetes' own expansion of `$(NAME)` and `$$`
//! in their values, and read back the same way.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector};

use crate::contract::env::FILE_SUFFIX;

/// A variable whose value reaches the process as it is given here.
pub(super) fn variable(name: &str, value: impl AsRef<str>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.as_ref().replace('$', "$$")), ..EnvVar::default() }
}

/// The variable that names a file holding the value of `name`.
pub(super) fn file_variable(name: &str, path: impl AsRef<str>) -> EnvVar {
    variable(&format!("{name}{FILE_SUFFIX}"), path)
}

/// A variable whose value Kubernetes takes from a field of the pod.
pub(super) fn field_variable(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() };
    let source = EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// A variable whose value Kubernetes completes: `$(NAME)` stands for another variable before it.
pub(super) fn composed_variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() }
}

/// The value that `variable` once gave the process; `None` for one that is absent or taken from
/// elsewhere.
#[must_use]
pub fn value(container: &Container, name: &str) -> Option<String> {
    let variable = container.env.iter().flatten().find(|variable| variable.name == name)?;
    Some(variable.value.as_ref()?.replace("$$", "$"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;

    use super::{value, variable};

    #[test]
    fn a_value_that_looks_like_a_reference_is_escaped_and_read_back() {
        let account = "a$b$$c$(MYSQL_HOST)";
        let escaped = variable("MYSQL_USER", account);
        assert_eq!(escaped.value.as_deref(), Some("a$$b$$$$c$$(MYSQL_HOST)"));
        let container = Container { env: Some(vec![escaped]), ..Container::default() };
        assert_eq!(value(&container, "MYSQL_USER").as_deref(), Some(account));
        assert_eq!(value(&container, "MYSQL_HOST"), None);
    }
}
