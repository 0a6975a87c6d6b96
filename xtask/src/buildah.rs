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
    // Two runs must not write one archive at a time, and the second finds it written.
    let _lock = cache::lock(&format!("image-{file}"))?;
    if out_archive.exists() {
        return Ok(());
    }
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

/// Pushes the image of an archive to a registry, under `name`, with the credentials that
/// `docker login` or `podman login` of the caller left.
///
/// # Errors
/// When the registry cannot be reached or refuses; the error has buildah's words.
pub fn push_image(archive: &Path, name: &str) -> anyhow::Result<()> {
    let storage = tempfile::Builder::new().prefix("images-").tempdir_in(cache::folder("scratch")?)?.keep();
    let mut view = View::of(parts::rootfs(Rootfs::Node)?)?
        .bind(Bind::read_only(fs::canonicalize(archive)?, "/image.tar"))
        .bind(Bind::writable(&storage, "/var/lib/containers"))
        .env("STORAGE_DRIVER", "overlay");
    if let Some(credentials) = credentials() {
        view = view.bind(Bind::read_only(credentials, CREDENTIALS)).env("REGISTRY_AUTH_FILE", CREDENTIALS);
    }
    // As container engines do: a registry on this very host may do without TLS.
    let verify = !(name.starts_with("localhost") || name.starts_with("127.0.0.1"));
    let script = r#"set -e
image=$(buildah pull --quiet docker-archive:/image.tar)
exec buildah push --tls-verify="$2" "$image" "docker://$1"
"#;
    let mut command = parts::with_network(view, &[])?.command("sh")?;
    command.args(["-c", script, "sh", name, &verify.to_string()]);
    let log = progress::log_path("push")?;
    let pushed = progress::run(&format!("pushing {name}"), &log, &mut command);
    privilege::remove_all(&storage)?;
    pushed
}

/// Where a view has the caller's credentials for registries.
const CREDENTIALS: &str = "/run/registry-credentials.json";

/// The file in which container engines keep credentials for registries, if there is one.
fn credentials() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker/config.json"));
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("containers/auth.json"));
    let named = std::env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    [named, runtime, home].into_iter().flatten().find(|file| file.is_file())
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
