//! Reads the key ring's folder as one snapshot, however the kubelet changes it meanwhile.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// A folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the key ring {folder} cannot be read: {source}: let KEY_RING_DIR name a folder that this process can read"
)]
pub struct FolderError {
    /// The folder or the file in it.
    folder: PathBuf,
    /// The system's own words.
    source: io::Error,
}

/// Reads every entry of the folder. The kubelet exchanges a mounted Secret by pointing the link
/// `..data` at a new folder, so the link is resolved once; a folder exchanged and removed while
/// being read is read again.
///
/// # Errors
/// The folder or one of its files cannot be read.
pub fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, FolderError> {
    read_once(folder).or_else(|_| read_once(folder))
}

fn read_once(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, FolderError> {
    let at = |path: &Path| {
        let folder = path.to_owned();
        move |source| FolderError { folder, source }
    };
    let snapshot = std::fs::canonicalize(folder.join("..data")).unwrap_or_else(|_| folder.to_owned());
    let mut entries = BTreeMap::new();
    for entry in std::fs::read_dir(&snapshot).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        entries.insert(name, std::fs::read(&path).map_err(at(&path))?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_secret_is_read_through_its_link() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("..2030")).unwrap();
        std::fs::write(folder.path().join("..2030/a.key"), b"new").unwrap();
        std::os::unix::fs::symlink("..2030", folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.key", folder.path().join("a.key")).unwrap();
        std::fs::write(folder.path().join("stray.key"), b"not part of the snapshot").unwrap();
        assert_eq!(
            read_folder(folder.path()).unwrap(),
            BTreeMap::from([("a.key".to_owned(), b"new".to_vec())])
        );
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = read_folder(Path::new("/nowhere/keys")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/keys"), "{error}");
    }
}
