//! Builds container images from Containerfiles with the node's own buildah, so that the host
//! needs no container engine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cache::{self, Key};
use crate::parts::{self, Rootfs};
use crate::sandbox::{Bind, View};
use crate::{privilege, progress};

/// Builds `containerfile` with `context` and writes the image, named `tag`, to `out_archive`
/// in the format of `docker save`. Containerfiles start `FROM scratch`: there is no registry.
///
/// # Errors
/// When buildah fails; the error has the end of its log.
pub fn build_image(
    containerfile: &Path,
    context: &Path,
    tag: &str,
    out_archive: &Path,
) -> anyhow::Result<()> {
    let folder = out_archive
        .parent()
        .filter(|folder| folder.is_dir())
        .context("the archive's folder does not exist")?;
    let file = out_archive.file_name().context("the archive has no name")?.to_string_lossy();
    let storage = tempfile::Builder::new().prefix("images-").tempdir_in(cache::folder("scratch")?)?.keep();
    let view = View::of(parts::rootfs(Rootfs::Node)?)?
        .bind(Bind::read_only(fs::canonicalize(context)?, "/context"))
        .bind(Bind::read_only(fs::canonicalize(containerfile)?, "/Containerfile"))
        .bind(Bind::writable(fs::canonicalize(folder)?, "/out"))
        .bind(Bind::writable(&storage, "/var/lib/containers"))
        .env("BUILDAH_ISOLATION", "chroot")
        .env("STORAGE_DRIVER", "overlay");
    // An existing archive would be added to.
    let script = r#"set -e
rm -f "/out/$2.unfinished"
buildah build --quiet --network host --layers=false --identity-label=false --timestamp 0 --file /Containerfile --tag "$1" /context
buildah push --quiet "$1" "docker-archive:/out/$2.unfinished:$1"
chmod 644 "/out/$2.unfinished"
mv -f "/out/$2.unfinished" "/out/$2"
"#;
    let mut command = view.command("sh")?;
    command.args(["-c", script, "sh", tag, &file]);
    let log = progress::log_path(&format!("image-{}", tag.replace(['/', ':'], "-")))?;
    let built = progress::run(&format!("building the image {tag}"), &log, &mut command);
    privilege::remove_all(&storage)?;
    built
}

/// The archive of the image that every pod's sandbox runs.
pub(crate) fn pause_image() -> anyhow::Result<PathBuf> {
    let containerfile =
        "FROM scratch\nCOPY --chmod=0755 pause /pause\nUSER 65535:65535\nENTRYPOINT [\"/pause\"]\n";
    let pause = parts::binary("pause")?;
    let name = crate::cluster::PAUSE_IMAGE;
    let folder = cache::part("pause", Key::of(containerfile).and(fs::read(&pause)?).and(name), |folder| {
        let context = tempfile::tempdir_in(cache::folder("scratch")?)?;
        fs::copy(&pause, context.path().join("pause"))?;
        fs::write(context.path().join("Containerfile"), containerfile)?;
        build_image(&context.path().join("Containerfile"), context.path(), name, &folder.join("pause.tar"))
    })?;
    Ok(folder.join("pause.tar"))
}
