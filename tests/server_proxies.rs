//! Real proxies that ask the service before they let a request through, configured by the very
//! snippets of docs/forward-auth.md; and Schemathesis, which holds the service to its own description.
//!
//! Needs the root file system of `cargo xtask test`'s proxies in `TEST_PROXIES_ROOTFS`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use server_support::{
    Database, Engine, Server, eventually, free_address,
    http::{self, Answer},
};
use tempfile::TempDir;

const GUIDE: &str = include_str!("../docs/forward-auth.md");
const EMAIL: &str = "pä@x.io";
const ENCODED_EMAIL: &str = "p%C3%A4@x.io";

fn with_user() -> Database {
    let database = Engine::mysql().fresh();
    database.admin_migration().user(EMAIL, true, Some("secret")).succeed();
    database
}

/// The first snippet of a section of the guide.
fn snippet(section: &str, language: &str) -> &'static str {
    let (_, section) = GUIDE.split_once(&format!("\n## {section}\n")).expect("the section");
    let (_, snippet) = section.split_once(&format!("```{language}\n")).expect("a snippet");
    snippet.split_once("```").expect("its end").0
}

/// Replaces text that must be there.
fn with(text: &str, replacements: &[(&str, String)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in\n{text}");
        text.replace(old, new)
    })
}

/// A path of the proxies' root file system.
fn inside(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("TEST_PROXIES_ROOTFS").expect("TEST_PROXIES_ROOTFS")).join(path)
}

/// A program of the proxies' root file system, started by that system's own loader: it needs no rights
/// for that, and shares our files.
fn proxy_tool(path: &str) -> Command {
    let libraries = inside("lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(inside(path));
    command
        .env_clear()
        .env("PYTHONHOME", inside("usr"))
        .env("PYTHONPATH", inside("usr/local/lib/tools"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

/// A running proxy; killed at the end.
struct Proxy {
    address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Proxy {
    /// Starts what `command` makes of a folder that holds the file `configuration`.
    fn start(address: SocketAddr, configuration: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("configuration"), configuration).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = command(folder.path());
        command.current_dir(folder.path()).env("HOME", folder.path());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut proxy = Self { address, child, folder };
        eventually("the proxy listens", Duration::from_secs(20), || {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", proxy.log());
            TcpStream::connect(address).is_ok()
        });
        proxy
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nginx(auth: SocketAddr, app: SocketAddr) -> Proxy {
    let address = free_address();
    let server = with(
        snippet("nginx", "nginx"),
        &[
            ("listen 80;", format!("listen {address};")),
            ("auth:5000", auth.to_string()),
            ("app:8080", app.to_string()),
        ],
    );
    let configuration = format!(
        "daemon off; master_process off; pid pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
         access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         {server}}}\n"
    );
    Proxy::start(address, &configuration, |folder| {
        let mut command = proxy_tool("usr/sbin/nginx");
        command.args(["-e", "stderr", "-c"]).arg(folder.join("configuration")).arg("-p").arg(folder);
        command
    })
}

fn caddy(auth: SocketAddr, app: SocketAddr) -> Proxy {
    let address = free_address();
    let site = with(
        snippet("Caddy", "caddy"),
        &[
            ("http://shop.example.com", format!("http://shop.example.com:{}", address.port())),
            ("auth:5000", auth.to_string()),
            ("app:8080", app.to_string()),
        ],
    );
    Proxy::start(address, &format!("{{\n\tadmin off\n}}\n{site}"), |folder| {
        let mut command = proxy_tool("usr/bin/caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("configuration"));
        command
    })
}

fn envoy(auth: SocketAddr, app: SocketAddr) -> Proxy {
    let address = free_address();
    let place = |address: SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
    let configuration = with(
        snippet("Envoy and Istio", "yaml"),
        &[
            ("address: 0.0.0.0, port_value: 80", place(address)),
            ("address: auth, port_value: 5000", place(auth)),
            ("address: app, port_value: 8080", place(app)),
        ],
    );
    Proxy::start(address, &configuration, |_| {
        let mut command = proxy_tool("usr/local/lib/tools/envoy/_bin/envoy");
        command.args(["--concurrency", "1", "--disable-hot-restart", "--config-yaml"]).arg(&configuration);
        command
    })
}

fn traefik(auth: SocketAddr, app: SocketAddr) -> Proxy {
    let address = free_address();
    let configuration =
        with(snippet("Traefik", "yaml"), &[("auth:5000", auth.to_string()), ("app:8080", app.to_string())]);
    let proxy = Proxy::start(address, &configuration, |folder| {
        // What a file holds is told by the end of its name.
        let file = folder.join("configuration.yaml");
        std::fs::rename(folder.join("configuration"), &file).unwrap();
        // No loader: it is linked statically.
        let mut command = Command::new(inside("usr/local/lib/tools/bin/traefik"));
        command.env_clear().stdin(Stdio::null());
        command.args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"]);
        command.arg(format!("--entryPoints.web.address={address}"));
        command.arg(format!("--providers.file.filename={}", file.display()));
        command
    });
    eventually("the file is read", Duration::from_secs(20), || call(&proxy, "GET", "/", &[]).status != 404);
    proxy
}

/// An application that answers what it was sent.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let seen = head.join("\n");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{seen}",
                    seen.len()
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

fn call(proxy: &Proxy, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let host = format!("shop.example.com:{}", proxy.address.port());
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    request.push_str("\r\n");
    let answer = http::exchange(proxy.address, request.as_bytes()).unwrap();
    http::parse(&answer).unwrap_or_else(|| panic!("{}\n{}", String::from_utf8_lossy(&answer), proxy.log()))
}

/// The values that the application saw under a name, in any spelling that it may take for it.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let lines = answer.body.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .filter(|(found, _)| found.replace('_', "-").eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

/// In what proxies differ.
#[derive(Clone, Copy)]
struct Manner {
    /// Hands on the challenge of a 403, too.
    challenges: bool,
    /// Keeps names with an underscore from the application.
    drops_underscores: bool,
}

const ALL_OF_IT: Manner = Manner { challenges: true, drops_underscores: true };

/// What every proxy does for an application.
fn protects(proxy: &Proxy, token: &str, manner: Manner) {
    let bearer = format!("Bearer {token}");
    for (method, path) in [("GET", "/"), ("POST", "/cart?body=none&a=%2F..%2Flogin"), ("DELETE", "/login")] {
        let answer = call(proxy, method, path, &[("Authorization", &bearer), ("Content-Length", "0")]);
        assert_eq!(answer.status, 200, "{answer:?}\n{}", proxy.log());
        assert!(answer.body.starts_with(&format!("{method} {path} HTTP/1.")), "{answer:?}");
        assert_eq!(seen(&answer, "x-auth-request-user"), ["1"], "{answer:?}");
        assert_eq!(seen(&answer, "x-auth-request-email"), [ENCODED_EMAIL], "{answer:?}");
        assert_eq!(seen(&answer, "x-forwarded-user"), [ENCODED_EMAIL], "{answer:?}");
    }
    let mut forged = vec![
        ("Authorization", bearer.as_str()),
        ("X-Forwarded-User", "root@x.io"),
        ("x-forwarded-user", "root2@x.io"),
        ("X_Forwarded_User", "root3@x.io"),
        ("X-Auth-Request-User", "0"),
        ("X_Auth-Request_User", "0"),
        ("X_Auth_Request_User", "0"),
        ("X-Auth-Request-Email", "root@x.io"),
        ("X_Auth_Request_Email", "root@x.io"),
    ];
    if !manner.drops_underscores {
        let survives = call(proxy, "GET", "/", &forged);
        assert!(seen(&survives, "x-forwarded-user").contains(&"root3@x.io".to_owned()), "{survives:?}");
        forged.retain(|(name, _)| !name.contains('_'));
    }
    let answer = call(proxy, "GET", "/", &forged);
    assert_eq!(seen(&answer, "x-forwarded-user"), [ENCODED_EMAIL], "{answer:?}");
    assert_eq!(seen(&answer, "x-auth-request-email"), [ENCODED_EMAIL], "{answer:?}");
    assert_eq!(seen(&answer, "x-auth-request-user"), ["1"], "{answer:?}");

    let refused = call(proxy, "GET", "/", &[("X-Forwarded-User", "root@x.io")]);
    let challenge = |answer: &Answer| answer.header("www-authenticate").map(str::to_owned);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(challenge(&refused).as_deref(), Some(r#"Bearer realm="authservice""#));
    let refused = call(proxy, "GET", "/", &[("Authorization", &format!("{bearer}x"))]);
    assert_eq!(refused.status, 403, "{refused:?}");
    let invalid = Some(r#"Bearer realm="authservice", error="invalid_token""#);
    assert_eq!(challenge(&refused).as_deref(), invalid.filter(|_| manner.challenges));
}

#[test]
fn nginx_lets_good_tokens_through_and_says_whose_they_are() {
    let database = with_user();
    let server = database.serve(&[]);
    let app = application();
    let manner = Manner { challenges: false, ..ALL_OF_IT };
    protects(&nginx(server.public, app), &server.token(EMAIL, "secret"), manner);
    let server = database.serve(&[("INVALID_TOKEN_STATUS", "401")]);
    let refused = call(&nginx(server.public, app), "GET", "/", &[("Authorization", "Bearer x")]);
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some(r#"Bearer realm="authservice", error="invalid_token""#)
    );
}

#[test]
fn caddy_lets_good_tokens_through_and_says_whose_they_are() {
    let database = with_user();
    let server = database.serve(&[]);
    protects(&caddy(server.public, application()), &server.token(EMAIL, "secret"), ALL_OF_IT);
}

#[test]
fn envoy_lets_good_tokens_through_and_says_whose_they_are() {
    let database = with_user();
    let server = database.serve(&[]);
    protects(&envoy(server.public, application()), &server.token(EMAIL, "secret"), ALL_OF_IT);
}

#[test]
fn traefik_lets_good_tokens_through_and_says_whose_they_are() {
    let database = with_user();
    let server = database.serve(&[]);
    let manner = Manner { drops_underscores: false, ..ALL_OF_IT };
    protects(&traefik(server.public, application()), &server.token(EMAIL, "secret"), manner);
}

#[test]
fn paths_below_validate_say_nothing_and_lead_nowhere_else() {
    let database = with_user();
    let server = database.serve(&[]);
    let token = server.token(EMAIL, "secret");
    let claims = server.validate(&token).body;
    let bearer = format!("Bearer {token}");
    let ask = |method: &str, path: &str| {
        http::call(server.public, method, path, &[("Authorization", &bearer), ("Content-Length", "0")])
    };
    for (method, path, status, body) in [
        ("GET", "/validate", 200, claims.as_str()),
        ("GET", "/validate/", 200, &claims),
        ("POST", "/validate?body=none", 200, &claims),
        ("GET", "/validate/login", 200, ""),
        ("PURGE", "/validate//", 200, ""),
        ("GET", "/validate/../login", 200, ""),
        ("GET", "/validate/%2e%2e/login", 200, ""),
        ("GET", "/validate/%ff%zz%00;a?b=%0d%0a#c", 200, ""),
        ("GET", "/validatex", 404, "Not found"),
        ("GET", "//validate", 404, "Not found"),
        ("GET", "/%76alidate", 404, "Not found"),
        ("GET", "/VALIDATE", 404, "Not found"),
        ("GET", "/login/x", 404, "Not found"),
        ("POST", "/openapi.json", 405, "Method not allowed"),
    ] {
        let answer = ask(method, path).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{method} {path}");
        let user = if status == 200 { Some("1") } else { None };
        assert_eq!(answer.header("x-auth-request-user"), user, "{method} {path}");
    }
    assert_eq!(ask("POST", "/openapi.json").unwrap().header("allow"), Some("GET,HEAD"));
    let refused = http::call(server.public, "GET", "/validate/cart", &[]).unwrap();
    assert_eq!((refused.status, refused.body.as_str()), (401, "Missing credentials"));
}

#[test]
fn answers_tell_nothing_of_the_server_are_not_kept_and_open_no_door_to_other_origins() {
    let database = with_user();
    let server = database.serve(&[]);
    let token = server.token(EMAIL, "secret");
    let bearer = format!("Bearer {token}");
    let origin = [
        ("Authorization", bearer.as_str()),
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    for (method, path) in [
        ("OPTIONS", "/validate"),
        ("POST", "/validate/x"),
        ("OPTIONS", "/login"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
    ] {
        let answer = http::call(server.public, method, path, &origin).unwrap();
        let telling =
            |name: &str| name.starts_with("access-control") || name == "server" || name == "x-powered-by";
        assert!(!answer.headers.iter().any(|(name, _)| telling(name)), "{method} {path}: {answer:?}");
        let secret = path.starts_with("/validate") || path == "/login";
        assert_eq!(answer.header("cache-control"), secret.then_some("no-store"), "{method} {path}");
    }
    // As GET, without its body.
    let head = http::exchange(
        server.public,
        format!(
            "HEAD /validate HTTP/1.1\r\nHost: test\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    let head = String::from_utf8(head.unwrap()).unwrap();
    let length = server.validate(&token).body.len();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
    let ops = http::call(server.ops, "POST", "/livez", &[]).unwrap();
    assert_eq!(
        (ops.status, ops.body.as_str(), ops.header("allow")),
        (405, "Method not allowed", Some("GET,HEAD"))
    );
}

/// Runs Schemathesis on the operations of some paths; its report, which it panics with when something is found.
fn schemathesis(server: &Server, paths: &str, arguments: &[&str]) -> String {
    let folder = TempDir::new().unwrap();
    let output = proxy_tool("usr/bin/python3.11")
        .args(["-m", "schemathesis.cli", "run", "--checks", "all", "--max-examples", "40", "--seed", "1"])
        .args([
            "--generation-database",
            "none",
            "--workers",
            "1",
            "--no-color",
            "--include-path-regex",
            paths,
        ])
        .args(arguments)
        .arg(format!("http://{}/openapi.json", server.public))
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    report
}

#[test]
fn the_service_is_as_its_openapi_document_says() {
    // Any method is answered as POST is, which OpenAPI 3.1 has no words for.
    const ANY_METHOD: &str = "--exclude-checks=unsupported_method";
    let database = with_user();
    for status in ["403", "401"] {
        let server = database.serve(&[("INVALID_TOKEN_STATUS", status)]);
        let document = http::get(server.public, "/openapi.json").unwrap();
        assert_eq!(document.header("content-type"), Some("application/json"));
        assert_eq!(document.body, include_str!("../docs/openapi.json"), "run cargo xtask generate");
        let basic = format!("--header=Authorization: {}", http::basic(EMAIL, "secret"));
        let bearer = format!("--header=Authorization: Bearer {}", server.token(EMAIL, "secret"));
        for (paths, arguments) in [
            ("^/login", &[ANY_METHOD, &basic][..]),
            ("^/validate", &[ANY_METHOD, &bearer]),
            ("^/openapi", &[]),
        ] {
            let report = schemathesis(&server, paths, arguments);
            let cases = report.lines().find(|line| line.contains("generated")).expect("a count");
            println!("{paths} with {status}: {}", cases.trim());
        }
    }
}
