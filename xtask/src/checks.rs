//! What is checked without running the product: formatting, lints, the boundary between operator and
//! server, generated files, promises and their tests, the chart under Helm 3 and 4.

use std::process::Command;

use crate::cluster::HelmVersion;
use crate::{generate, images, parts, progress, promises};

/// Passes, or fails with what is wrong.
pub(crate) type Check = fn() -> anyhow::Result<()>;

/// Runs every check; answers how many passed and the names of those that failed.
#[must_use]
pub fn run() -> (usize, Vec<String>) {
    let checks: [(&str, Check); 7] = [
        ("formatted as rustfmt does", || cargo(&["fmt", "--all", "--check"])),
        ("no lint", || {
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--locked",
                "--",
                "--deny",
                "warnings",
            ])
        }),
        ("the server links no Kubernetes client", || {
            unlinked("server", &["kube", "kube-client", "k8s-openapi", "ring", "openssl-sys"])
        }),
        ("the operator links no SQL", || {
            unlinked("operator", &["sqlx", "sqlx-core", "argon2", "ring", "openssl-sys"])
        }),
        ("generated files are as the code says", || generate::run(true)),
        ("every promise has its test", || promises::check(&images::workspace()?)),
        ("the chart renders under Helm 3 and 4", chart),
    ];
    run_each(&checks)
}

/// Runs these one after the other; answers how many passed and the names of those that failed.
pub(crate) fn run_each(checks: &[(&str, Check)]) -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, check) in checks {
        match check() {
            Ok(()) => {
                println!("{name} ... ok");
                passed += 1;
            }
            Err(error) => {
                println!("{name} ... FAILED\n{error:#}");
                failed.push((*name).to_owned());
            }
        }
    }
    (passed, failed)
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("cargo").current_dir(images::workspace()?).args(arguments).status()?;
    anyhow::ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// Each binary is compiled with its one feature, and holds none of the other's crates, nor a second
/// TLS provider beside aws-lc-rs: two in one process make rustls panic.
fn unlinked(feature: &str, foreign: &[&str]) -> anyhow::Result<()> {
    let package = ["--package", "authservice-operator", "--no-default-features", "--features", feature];
    cargo(&[&["check", "--locked", "--lib", "--bins"], &package[..]].concat())?;
    let tree = progress::output(
        Command::new("cargo")
            .current_dir(images::workspace()?)
            .args(["tree", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
            .args(package),
    )?;
    let found: Vec<_> = foreign
        .iter()
        .filter(|name| tree.lines().any(|line| line.starts_with(&format!("{name} "))))
        .collect();
    anyhow::ensure!(found.is_empty(), "feature {feature} links {found:?}");
    Ok(())
}

/// Linted and rendered in both modes, by both versions.
fn chart() -> anyhow::Result<()> {
    let chart = images::workspace()?.join("charts/authservice-operator");
    for version in [HelmVersion::V3, HelmVersion::V4] {
        let helm = parts::binary(version.program())?;
        progress::output(Command::new(&helm).args(["lint", "--strict"]).arg(&chart))?;
        for values in ["watchNamespaces=null", "watchNamespaces={shop,staff}"] {
            progress::output(
                Command::new(&helm).args(["template", "check"]).arg(&chart).args(["--set", values]),
            )?;
        }
    }
    Ok(())
}
