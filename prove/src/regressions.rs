//! Failures of the past, kept as files and run again before anything else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    campaign::{Beginnings, live},
    lives::Case,
    run::Faults,
    scenarios::Scenario,
    sweep::{checksum, replay},
};

/// One failure of the past.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Regression {
    /// Of a sweep.
    Sweep {
        /// The scenario's name.
        scenario: String,
        /// What went wrong in it.
        faults: Faults,
        /// The seed of the world.
        seed: u64,
    },
    /// Of a campaign: the shortest life.
    Campaign(Case),
}

impl Regression {
    /// Runs it again.
    ///
    /// # Errors
    /// A promise is broken, as it was.
    pub fn run(&self, scenarios: &[Scenario], beginnings: &Beginnings) -> anyhow::Result<()> {
        match self {
            Self::Sweep { scenario, faults, seed } => {
                let known = scenarios.iter().find(|known| known.name == *scenario);
                replay(known.with_context(|| format!("no scenario {scenario:?}"))?, faults, *seed).map(drop)
            }
            Self::Campaign(case) => live(beginnings, case),
        }
    }

    /// Keeps it in this folder, and answers where.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let text = serde_json::to_string_pretty(self)?;
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{:08x}.json", checksum(&text)));
        fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Those kept in a folder, by file name.
///
/// # Errors
/// A file cannot be read.
pub fn kept(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Regression)>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let regression =
                serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
            Ok((path, regression))
        })
        .collect()
}
