//! `cargo xtask prove`: the operator under faults on simulated time, and the proof that the proof sees
//! what it should: one deliberate bug after the other is built in, and has to be found.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::images;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of everything random; drawn when absent.
    pub seed: Option<u64>,
    /// About how long to search.
    pub minutes: u64,
    /// Build in the deliberate bugs whose names begin so, one at a time, in place of the search.
    pub bugs: Option<String>,
}

/// Every single fault of every scenario takes about so many minutes of two cores.
const EXHAUSTIVE_MINUTES: u64 = 240;
/// Acts of campaigns in each minute asked for; two cores walk them in less than a quarter of it.
const ACTS_A_MINUTE: u64 = 3_000;
/// Where deliberate bugs are, each a patch with a line that says how it is found.
const BUGS: &str = "prove/bugs";
const CAUGHT_BY: &str = "Caught by: ";

/// Searches for faults, or shows that deliberate ones are found.
///
/// # Errors
/// A promise is broken; or a deliberate bug was not found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    match &options.bugs {
        Some(prefix) => find_bugs(prefix),
        None => search(options),
    }
}

fn search(options: &Options) -> anyhow::Result<()> {
    let program = build(&images::workspace()?)?;
    let mut command = Command::new(program);
    let minutes = options.minutes.max(1);
    command.current_dir(images::workspace()?).args(amount(minutes));
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    ensure!(
        command.status().context("start prove")?.success(),
        "a promise is broken; what broke it stands above"
    );
    Ok(())
}

/// Half of the time for single faults and pairs, the rest for elections and campaigns.
fn amount(minutes: u64) -> Vec<String> {
    let one_in = (EXHAUSTIVE_MINUTES * 2 / minutes).max(1);
    [
        ("--one-in", one_in),
        ("--pairs", minutes.div_ceil(5)),
        ("--elections", 2 * minutes),
        ("--acts", minutes * ACTS_A_MINUTE),
        ("--minutes", minutes),
    ]
    .map(|(name, value)| [name.to_owned(), value.to_string()])
    .concat()
}

/// Builds the program in a workspace, with the caches of this one.
fn build(workspace: &Path) -> anyhow::Result<PathBuf> {
    let target = images::workspace()?.join("target");
    let built = Command::new("cargo")
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--locked", "--quiet", "--profile", "prove", "--package", "authservice-prove"])
        .status()
        .context("start cargo")?;
    ensure!(built.success(), "authservice-prove does not build");
    Ok(target.join("prove/prove"))
}

/// A deliberate bug.
struct Bug {
    name: String,
    patch: PathBuf,
    caught_by: Vec<String>,
}

fn bugs() -> anyhow::Result<Vec<Bug>> {
    let folder = images::workspace()?.join(BUGS);
    let mut patches: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    patches.sort();
    patches.into_iter().map(Bug::read).collect()
}

impl Bug {
    fn read(patch: PathBuf) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(&patch)?;
        let line = text.lines().find_map(|line| line.strip_prefix(CAUGHT_BY));
        let line = line.with_context(|| format!("{} lacks a line {CAUGHT_BY:?}", patch.display()))?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let caught_by = line.split(", ").map(str::to_owned).collect();
        Ok(Self { name, patch, caught_by })
    }

    /// Files of a tree as the patch wants them: paths with their texts.
    fn patched(&self, tree: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let text = std::fs::read_to_string(&self.patch)?;
        let parts = text.split("diff --git ").skip(1);
        parts
            .map(|part| {
                let diff = part.find("--- ").map_or(part, |at| &part[at..]);
                let patch = diffy::Patch::from_str(diff)
                    .with_context(|| format!("{} is no patch", self.patch.display()))?;
                let name = patch.modified().and_then(|name| name.strip_prefix("b/"));
                let file = tree.join(name.context("a patch names no file")?);
                let before = std::fs::read_to_string(&file)?;
                let after = diffy::apply(&before, &patch)
                    .with_context(|| format!("{} does not apply: write it anew", self.patch.display()))?;
                Ok((file, after))
            })
            .collect()
    }
}

/// Finds each deliberate bug in a copy of the workspace.
fn find_bugs(prefix: &str) -> anyhow::Result<()> {
    let mut bugs = bugs()?;
    bugs.retain(|bug| bug.name.starts_with(prefix));
    let tree = copy_of_workspace()?;
    let mut missed = Vec::new();
    for bug in &bugs {
        let patched = bug.patched(&tree)?;
        let before: Vec<String> =
            patched.iter().map(|(path, _)| std::fs::read_to_string(path)).collect::<Result<_, _>>()?;
        for (path, after) in &patched {
            std::fs::write(path, after)?;
        }
        let output = Command::new(build(&tree)?)
            .current_dir(&tree)
            .args(["--seed", "1", "--forget", "--enough", "1", "--elections", "0", "--pairs", "0"])
            .args(["--regressions", "none"])
            .args(&bug.caught_by)
            .stderr(Stdio::inherit())
            .output()
            .context("start prove")?;
        for ((path, _), before) in patched.iter().zip(before) {
            std::fs::write(path, before)?;
        }
        let told = String::from_utf8_lossy(&output.stdout);
        match told.lines().find(|line| line.starts_with("FAILED")) {
            Some(line) if !output.status.success() => {
                println!("{}: found: {}", bug.name, line.chars().take(200).collect::<String>());
            }
            _ => {
                println!("{}: NOT found:\n{told}", bug.name);
                missed.push(bug.name.as_str());
            }
        }
    }
    ensure!(missed.is_empty(), "deliberate bugs that nothing has found: {}", missed.join(", "));
    println!("{} deliberate bugs, each found", bugs.len());
    Ok(())
}

/// The files of the workspace that its packages are built from, below `target`: always at the same place, so
/// that most of it need not be built again.
fn copy_of_workspace() -> anyhow::Result<PathBuf> {
    const COPIED: [&str; 10] = [
        ".cargo",
        "Cargo.lock",
        "Cargo.toml",
        "bench",
        "docs",
        "prove",
        "rust-toolchain.toml",
        "src",
        "tests",
        "xtask",
    ];
    let workspace = images::workspace()?;
    let tree = workspace.join("target/bugs");
    std::fs::create_dir_all(&tree)?;
    for name in COPIED {
        copy(&workspace.join(name), &tree.join(name))?;
    }
    Ok(tree)
}

/// Copies a file or a folder; a file that is the same already keeps its time.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let contents = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if std::fs::read(to).ok().as_ref() != Some(&contents) {
        std::fs::write(to, contents).with_context(|| format!("write {}", to.display()))?;
    }
    Ok(())
}
