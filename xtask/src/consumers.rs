//! The programs of [`Rootfs::Consumers`](crate::parts::Rootfs::Consumers) that ask JWT libraries of compiled
//! languages, built inside that rootfs.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cache::{self, Key};
use crate::parts::with_network;
use crate::sandbox::{Bind, View};
use crate::{privilege, progress};

/// The program that asks golang-jwt, from Debian.
const GO_SOURCES: [(&str, &str); 1] = [("main.go", include_str!("../../tests/clients/golang-jwt/main.go"))];
/// The programs that ask Java's libraries, from Maven's central repository.
const JAVA_SOURCES: [(&str, &str); 4] = [
    ("build.sh", include_str!("../../tests/clients/java/build.sh")),
    ("pom.xml", include_str!("../../tests/clients/java/pom.xml")),
    ("JavaJwt.java", include_str!("../../tests/clients/java/JavaJwt.java")),
    ("Nimbus.java", include_str!("../../tests/clients/java/Nimbus.java")),
];
/// Where the tests find the latter and their libraries.
const JAVA_FOLDER: &str = "usr/local/lib/java";
/// Folders whose names begin so are needed to build and not to run.
const BUILD_ONLY: [(&str, &str); 3] = [("usr/lib", "go-"), ("usr/share", "go-"), ("usr/share", "gocode")];

/// What of the host's environment changes how Maven runs.
const MAVEN_ENVIRONMENT: [&str; 1] = ["MAVEN_OPTS"];
/// The host's settings for all users, which name its mirrors and proxies; inside they stand there, too.
const MAVEN_SETTINGS: &str = "/etc/maven/settings.xml";
/// The caller's, from the home folder.
const MAVEN_USER_SETTINGS: &str = ".m2/settings.xml";

/// The key with all that the programs are made from.
pub(crate) fn key(key: Key) -> Key {
    GO_SOURCES.iter().chain(&JAVA_SOURCES).fold(key, |key, (name, text)| key.and(name).and(text))
}

/// Builds them and removes what only that needed.
pub(crate) fn build(rootfs: &Path) -> anyhow::Result<()> {
    build_go(rootfs)?;
    build_java(rootfs)?;
    for (folder, prefix) in BUILD_ONLY {
        for entry in fs::read_dir(rootfs.join(folder))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                privilege::remove_all(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Into `usr/local/bin`.
fn build_go(rootfs: &Path) -> anyhow::Result<()> {
    let source = written(&GO_SOURCES)?;
    let view = View::of(rootfs)?
        .bind(Bind::read_only(source.path(), "/source"))
        .bind(Bind::writable(rootfs.join("usr/local/bin"), "/out"))
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .env("GOCACHE", "/tmp/cache")
        .env("GOPATH", "/usr/share/gocode");
    let mut command = view.command("go")?;
    command.args(["build", "-trimpath", "-o", "/out/golang-jwt", "/source/main.go"]);
    progress::run("building a program with golang-jwt", &progress::log_path("golang-jwt")?, &mut command)
}

fn build_java(rootfs: &Path) -> anyhow::Result<()> {
    let place = rootfs.join(JAVA_FOLDER);
    progress::output(privilege::root("mkdir").arg("--parents").arg(&place))?;
    let source = written(&JAVA_SOURCES)?;
    let mut view = View::of(rootfs)?
        .bind(Bind::read_only(source.path(), "/source"))
        .bind(Bind::writable(&place, "/out"));
    let users = std::env::home_dir().unwrap_or_default().join(MAVEN_USER_SETTINGS);
    for (host, inside) in [
        (PathBuf::from(MAVEN_SETTINGS), PathBuf::from(MAVEN_SETTINGS)),
        (users, Path::new("/root").join(MAVEN_USER_SETTINGS)),
    ] {
        if host.is_file() {
            view = view.bind(Bind::read_only(host, inside));
        }
    }
    let mut command = with_network(view, &MAVEN_ENVIRONMENT)?.command("sh")?;
    command.arg("/source/build.sh");
    progress::run("building programs with Java's libraries", &progress::log_path("java")?, &mut command)
}

/// Sources in a folder of their own.
fn written(sources: &[(&str, &str)]) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir_in(cache::folder("scratch")?)?;
    for (name, text) in sources {
        fs::write(folder.path().join(name), text)?;
    }
    Ok(folder)
}
