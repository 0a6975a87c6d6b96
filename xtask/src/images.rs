//! The project's two images, and the images made of Debian's packages that demo and tests run
//! beside them. Every tag ends in a hash of the content, so that a cluster never keeps an older one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::parts::{self, Rootfs};
use crate::{buildah, cache, progress};

/// The one architecture built today; the Containerfiles take any.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const ARCHITECTURE: &str = "amd64";

/// A program that is built static and stripped, as it ships.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    package: &'static str,
    name: &'static str,
    features: &'static str,
}

/// The controller.
pub const OPERATOR: Binary =
    Binary { package: "authservice-operator", name: "operator", features: "operator" };
/// The auth server.
pub const SERVER: Binary =
    Binary { package: "authservice-operator", name: "auth-server", features: "server" };
/// What the auth server is measured against.
pub const LIMITS: Binary = Binary { package: "authservice-bench", name: "limits", features: "" };

/// An image in a file that `docker load`, `ctr images import` and `kind load image-archive` take.
pub struct Image {
    /// Name and tag.
    pub tag: String,
    /// The docker archive.
    pub archive: PathBuf,
}

impl Image {
    /// Size of the archive in bytes: the layers uncompressed.
    pub fn bytes(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(&self.archive).with_context(|| format!("read {}", self.archive.display()))?.len())
    }
}

/// What the project ships.
pub struct Images {
    /// The controller.
    pub operator: Image,
    /// The auth server.
    pub server: Image,
}

impl Images {
    /// Both, for loading them one by one.
    #[must_use]
    pub fn all(&self) -> [&Image; 2] {
        [&self.operator, &self.server]
    }
}

/// Builds both binaries, static and stripped, and their images.
///
/// # Errors
/// When a build fails; the error carries the end of its log.
pub fn build() -> anyhow::Result<Images> {
    Ok(Images { operator: build_one(OPERATOR)?, server: build_one(SERVER)? })
}

/// Pushes both to `registry` under this release's version, the tag by which the chart of this release
/// names them; answers the names.
///
/// # Errors
/// When the registry refuses.
pub fn push(images: &Images, registry: &str) -> anyhow::Result<[String; 2]> {
    let push = |image: &Image, binary: &str| {
        let name = format!("{}/{binary}:{}", registry.trim_end_matches('/'), env!("CARGO_PKG_VERSION"));
        buildah::push_image(&image.archive, &name).map(|()| name)
    };
    Ok([push(&images.operator, "operator")?, push(&images.server, "auth-server")?])
}

fn build_one(binary: Binary) -> anyhow::Result<Image> {
    let workspace = workspace()?;
    let built = static_binary(&workspace, binary)?;
    let binary = binary.name;
    let containerfile = workspace.join("images").join(format!("Containerfile.{binary}"));
    let hash = short_hash(&[&fs::read(&built)?, &fs::read(&containerfile)?]);
    let tag = format!("localhost/authservice-operator/{binary}:{hash}");
    let archive = cache::folder("images")?.join(format!("{binary}-{hash}.tar"));
    if !archive.exists() {
        let context = tempfile::tempdir()?;
        let place = context.path().join(ARCHITECTURE);
        fs::create_dir(&place)?;
        fs::copy(&built, place.join(binary)).with_context(|| format!("copy {}", built.display()))?;
        buildah::build_image(&containerfile, context.path(), &tag, &archive)?;
    }
    Ok(Image { tag, archive })
}

/// Builds one program.
///
/// # Errors
/// When the build fails; the error carries the end of its log.
pub fn static_binary(workspace: &Path, binary: Binary) -> anyhow::Result<PathBuf> {
    let Binary { package, name, features } = binary;
    let target_folder = target_folder(workspace).join("images");
    let mut command = Command::new("cargo");
    command
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "--package", package, "--no-default-features"])
        .args(["--features", features, "--bin", name, "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    progress::run(
        &format!("building the static {name} binary"),
        &progress::log_path(&format!("build-{name}"))?,
        &mut command,
    )?;
    Ok(target_folder.join(TARGET).join("release").join(name))
}

/// An image of one of the Debian root file systems: a database, or the client that demo and tests call with.
///
/// # Errors
/// When the root file system or the image cannot be made.
pub fn debian(kind: Rootfs) -> anyhow::Result<Image> {
    let rootfs = parts::rootfs(kind)?;
    let name =
        rootfs.file_name().and_then(|name| name.to_str()).context("the rootfs has no name")?.to_owned();
    let (kind, hash) = name.rsplit_once('-').context("the rootfs carries no hash")?;
    let tag = format!("localhost/authservice-operator/{kind}:{hash}");
    let archive = cache::folder("images")?.join(format!("{name}.tar"));
    if !archive.exists() {
        let side = tempfile::tempdir()?;
        let containerfile = side.path().join("Containerfile");
        fs::write(&containerfile, "FROM scratch\nCOPY . /\n")?;
        buildah::build_image(&containerfile, &rootfs, &tag, &archive)?;
    }
    Ok(Image { tag, archive })
}

/// The checkout that this xtask was built from.
pub fn workspace() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("xtask has no parent folder")?.to_owned())
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target_folder(workspace: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

fn short_hash(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(input.len().to_le_bytes());
        hash.update(input);
    }
    let hash = hash.finalize();
    let start = u64::from_be_bytes(std::array::from_fn(|place| hash[place]));
    format!("{:012x}", start >> 16)
}
