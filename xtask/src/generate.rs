//! Writes what is derived from the code: the custom resource definition, for `kubectl apply` and
//! for the chart, and the server's `OpenAPI` documents. With `--check` it only compares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{images, progress};

/// Writes every generated file, or, with `check`, compares them with what the code says now.
///
/// # Errors
/// When operator or server does not compile, or `check` finds a file that is not up to date.
pub fn run(check: bool) -> anyhow::Result<()> {
    let workspace = images::workspace()?;
    let crd = definition(&workspace)?;
    let openapi = printed(&workspace, "server", "auth-server", &["openapi"])?;
    let administration = printed(&workspace, "server", "auth-server", &["openapi", "--administration"])?;
    let stale: Vec<String> = files(&workspace, &crd)?
        .into_iter()
        .chain([
            (workspace.join("docs/openapi.json"), openapi),
            (workspace.join("docs/openapi-admin.json"), administration),
        ])
        .filter(|(path, content)| fs::read_to_string(path).ok().as_ref() != Some(content))
        .map(|(path, content)| {
            let shown = path.strip_prefix(&workspace).unwrap_or(&path).display().to_string();
            if !check {
                write(&path, &content)?;
                println!("wrote {shown}");
            }
            Ok(shown)
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        !check || stale.is_empty(),
        "not as the code says: {}; run cargo xtask generate",
        stale.join(", ")
    );
    Ok(())
}

/// The definition as the operator itself prints it.
fn definition(workspace: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&printed(workspace, "operator", "operator", &["crd"])?)
        .context("the operator printed no JSON")
}

/// What one of the binaries prints about itself: this program links neither.
fn printed(workspace: &Path, feature: &str, binary: &str, words: &[&str]) -> anyhow::Result<String> {
    let run = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "authservice-operator",
        "--no-default-features",
        "--features",
        feature,
        "--bin",
        binary,
        "--",
    ];
    progress::output(Command::new("cargo").current_dir(workspace).args(run).args(words))
}

fn files(workspace: &Path, crd: &Value) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let name = crd["metadata"]["name"].as_str().context("the definition has no name")?;
    let yaml = serde_saphyr::to_string(crd)?;
    Ok(vec![
        (
            workspace.join("crds").join(format!("{name}.yaml")),
            format!("# Written by cargo xtask generate from src/api.\n{yaml}"),
        ),
        (
            workspace.join("charts/authservice-operator/templates/crds").join(format!("{name}.yaml")),
            template(crd, &yaml)?,
        ),
    ])
}

/// The definition as a template: rendered when the chart may own it, kept on uninstall if asked.
fn template(crd: &Value, yaml: &str) -> anyhow::Result<String> {
    ensure!(
        crd["metadata"].get("annotations").is_none(),
        "the template sets the definition's annotations itself"
    );
    let (head, spec) = yaml.split_once("spec:\n").context("the definition has no spec")?;
    ensure!(!yaml.contains("{{"), "the definition holds what Helm would take for a template");
    Ok(format!(
        "{{{{- /* Written by cargo xtask generate from src/api. */ -}}}}\n\
         {{{{- if eq (include \"authservice-operator.ownsCrd\" .) \"true\" }}}}\n\
         {head}  labels:\n    \
         {{{{- include \"authservice-operator.labels\" . | nindent 4 }}}}\n  \
         annotations:\n    \
         {{{{- include \"authservice-operator.crdAnnotations\" . | nindent 4 }}}}\n\
         spec:\n{spec}\
         {{{{- end }}}}\n"
    ))
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content).with_context(|| format!("write {}", path.display()))
}
