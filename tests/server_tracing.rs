//! Traces, as a collector sees them that reads the protocol by OpenTelemetry's own Python package.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server_support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use server_support::{BINARY, Database, Engine, Server, eventually, free_address, http, program};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";
const ADMIN_KEY: &str = "tests-only-administration-key-of-more-than-32-bytes";
/// Longest time until what has ended is at the collector.
const SOON: Duration = Duration::from_secs(10);

fn with_user(engine: &Engine) -> Database {
    let database = engine.fresh();
    database.admin_migration().user("ann@x.io", true, Some("secret of ann")).succeed();
    database
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A collector; ends with the value.
struct Collector {
    address: SocketAddr,
    child: Child,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Self {
        Self::start_at(free_address())
    }

    fn start_at(address: SocketAddr) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/collector.py");
        let source = std::fs::read_to_string(script).unwrap();
        let mut child = program("TEST_PYTHON")
            .args(["-c", &source, &address.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = Arc::<Mutex<Vec<Value>>>::default();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn({
            let requests = Arc::clone(&requests);
            move || {
                for line in lines.map_while(Result::ok) {
                    requests.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                }
            }
        });
        eventually("the collector listens", SOON, || TcpStream::connect(address).is_ok());
        Self { address, child, requests }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span that has arrived, in the order of their beginnings.
    fn spans(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        let mut spans: Vec<Value> =
            requests.iter().flat_map(|request| request["spans"].as_array().unwrap().clone()).collect();
        spans.sort_by_key(|span| span["start"].as_u64());
        spans
    }

    /// The one span of a request with this name, once it has arrived, and those below it.
    fn request(&self, name: &str) -> (Value, Vec<Value>) {
        let found = || self.spans().into_iter().find(|span| span["name"] == name);
        eventually(name, SOON, || found().is_some());
        let request = found().unwrap();
        let is_below = |span: &Value| {
            ["trace", "parent"].map(|id| &span[id]) == ["trace", "span"].map(|id| &request[id])
        };
        let below = self.spans().into_iter().filter(is_below).collect();
        (request, below)
    }

    /// What has come over the wire.
    fn bytes(&self) -> Vec<u8> {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .flat_map(|request| STANDARD.decode(request["raw"].as_str().unwrap()).unwrap())
            .collect()
    }

    fn forget(&self) {
        self.requests.lock().unwrap().clear();
    }

    fn holds(&self, text: &str) -> bool {
        self.bytes().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // Run by sudo it is not ours to kill.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn names(spans: &[Value]) -> Vec<&str> {
    spans.iter().map(|span| span["name"].as_str().unwrap()).collect()
}

/// What a span says, without ids and times.
fn said(span: &Value) -> Value {
    json!({
        "kind": span["kind"],
        "status": span["status"],
        "message": span["message"],
        "events": span["events"],
        "attributes": span["attributes"],
    })
}

fn request_said(method: &str, route: &str, status: u16) -> Value {
    json!({"kind": "SPAN_KIND_SERVER", "status": "STATUS_CODE_UNSET", "message": "", "events": 0, "attributes": {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "network.protocol.version": "1.1",
        "url.path": route,
        "url.scheme": "http",
    }})
}

fn statement_said(database: &Database, operation: &str, table: &str) -> Value {
    json!({"kind": "SPAN_KIND_CLIENT", "status": "STATUS_CODE_UNSET", "message": "", "events": 0, "attributes": {
        "db.system.name": "mysql",
        "db.namespace": database.name,
        "db.operation.name": operation,
        "db.collection.name": table,
        "server.address": database.via.ip().to_string(),
        "server.port": database.via.port(),
    }})
}

fn phase_said() -> Value {
    json!({"kind": "SPAN_KIND_INTERNAL", "status": "STATUS_CODE_UNSET", "message": "", "events": 0, "attributes": {}})
}

/// The lines of the log about an event.
fn told(server: &Server, event: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

fn login(server: &Server, password: &str, headers: &[(&str, &str)]) -> http::Answer {
    let authorization = http::basic("ann@x.io", password);
    let own = [("Authorization", authorization.as_str()), ("Content-Length", "0")];
    http::call(server.public, "POST", "/login", &[&own, headers].concat()).unwrap()
}

#[test]
fn a_request_is_a_span_of_its_callers_trace_with_what_it_waits_for_below_it_and_no_secret() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let collector = Collector::start();
        let server = database.serve(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{}/prefix/", collector.endpoint())),
            ("OTEL_SERVICE_NAME", "gate"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.pod.name=gate-1"),
        ]);
        let parent = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=7")];
        let token = login(&server, "secret of ann", &parent).body;
        let (request, below) = collector.request("POST /login");
        assert_eq!(said(&request), request_said("POST", "/login", 200));
        assert_eq!(
            [&request["trace"], &request["parent"], &request["state"], &request["scope"]],
            [TRACE, SPAN, "vendor=7", "authservice-operator"]
        );
        let mut resource = request["resource"].clone();
        assert!(resource.as_object_mut().unwrap().remove("telemetry.sdk.version").is_some());
        assert_eq!(
            resource,
            json!({
                "service.name": "gate",
                "service.version": env!("CARGO_PKG_VERSION"),
                "k8s.pod.name": "gate-1",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.language": "rust",
            })
        );
        assert_eq!(
            below.iter().map(|span| (span["name"].as_str().unwrap(), said(span))).collect::<Vec<_>>(),
            [
                (
                    "SELECT authservice_login_failure",
                    statement_said(&database, "SELECT", "authservice_login_failure")
                ),
                ("SELECT user", statement_said(&database, "SELECT", "user")),
                ("hashing queue", phase_said()),
                ("hash password", phase_said()),
            ]
        );
        for span in &below {
            assert!(span["start"].as_u64() >= request["start"].as_u64(), "{span} in {request}");
            assert!(span["end"].as_u64() <= request["end"].as_u64(), "{span} in {request}");
        }
        let line = &told(&server, "login")[0];
        assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(TRACE), &request["span"]));
        {
            let requests = collector.requests.lock().unwrap();
            let [path, host, kind] = ["path", "host", "type"].map(|name| requests[0][name].clone());
            let expected = ["/prefix/v1/traces", &collector.address.to_string(), "application/x-protobuf"];
            assert_eq!([path, host, kind], expected);
        }

        collector.forget();
        assert_eq!(login(&server, "wrong-guess", &[]).status, 401);
        let (request, below) = collector.request("POST /login");
        assert_eq!(said(&request), request_said("POST", "/login", 401));
        assert_eq!((&request["parent"], &request["state"]), (&json!(""), &json!("")));
        assert_ne!(request["trace"], TRACE);
        let line = &told(&server, "login")[1];
        assert_eq!((&line["trace_id"], &line["span_id"]), (&request["trace"], &request["span"]));
        let waited = ["SELECT authservice_login_failure", "SELECT user", "hashing queue", "hash password"];
        let after = ["INSERT authservice_login_failure", "equal time"];
        assert_eq!(names(&below), [&waited[..], &after].concat());

        assert_eq!(server.validate(&token).status, 200);
        let (request, below) = collector.request("POST /validate");
        assert_eq!((said(&request), below), (request_said("POST", "/validate", 200), vec![]));
        for secret in [&*token, "secret of ann", "wrong-guess", "ann@x.io", "argon2", &database.user] {
            assert!(!collector.holds(secret), "{secret} went to the collector");
        }
        assert!(collector.holds("POST /validate"), "the search finds what is there");
    }
}

#[test]
fn what_callers_choose_is_in_no_span_and_what_is_our_fault_is_an_error() {
    let database = with_user(&Engine::mysql());
    let collector = Collector::start();
    let server = database.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let call = |method: &str, path: &str| http::call(server.public, method, path, &[]).unwrap().status;
    assert_eq!(call("GET", "/validate/shop-of-mine?basket=7"), 401);
    let (request, _) = collector.request("GET /validate/{*path}");
    let mut expected = request_said("GET", "/validate/{*path}", 401);
    expected["attributes"].as_object_mut().unwrap().remove("url.path");
    assert_eq!(said(&request), expected);
    for (method, path, status, name, told) in
        [("BREW", "/coffee-of-mine", 404, "HTTP", "_OTHER"), ("GET", "/coffee-of-mine", 404, "GET", "GET")]
    {
        assert_eq!(call(method, path), status);
        let (request, _) = collector.request(name);
        let mut expected = request_said(told, "", status);
        for absent in ["url.path", "http.route"] {
            expected["attributes"].as_object_mut().unwrap().remove(absent);
        }
        assert_eq!(said(&request), expected);
    }
    assert_eq!(call("GET", "/logout"), 405);
    assert_eq!(said(&collector.request("GET /logout").0), request_said("GET", "/logout", 405));

    database.sql().run(&format!("RENAME TABLE `{0}`.user TO `{0}`.gone", database.name));
    assert_eq!(login(&server, "secret of ann", &[]).status, 503);
    let (request, below) = collector.request("POST /login");
    let mut expected = request_said("POST", "/login", 503);
    expected["attributes"]["error.type"] = json!("503");
    expected["status"] = json!("STATUS_CODE_ERROR");
    assert_eq!(said(&request), expected);
    let mut expected = statement_said(&database, "SELECT", "user");
    expected["attributes"]["error.type"] = json!("SchemaMissing");
    expected["attributes"]["db.response.status_code"] = json!("1146");
    expected["status"] = json!("STATUS_CODE_ERROR");
    assert_eq!(below.last().map(said), Some(expected));
    for chosen in ["shop-of-mine", "basket", "coffee-of-mine", "BREW", "doesn't exist", "ann@x.io"] {
        assert!(!collector.holds(chosen), "{chosen} went to the collector");
    }
}

#[test]
fn administrators_requests_are_traced_like_any_other() {
    for engine in Engine::all() {
        let database = with_user(&engine);
        let collector = Collector::start();
        let address = free_address();
        let server = database.serve(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("ADMIN_KEY", ADMIN_KEY),
            ("ADMIN_ADDRESS", &address.to_string()),
        ]);
        let printed =
            Command::new(BINARY).arg("admin-token").env_clear().env("ADMIN_KEY", ADMIN_KEY).output().unwrap();
        let token = format!("Bearer {}", String::from_utf8(printed.stdout).unwrap().trim_end());
        let headers = [("Authorization", &*token), ("Content-Type", "application/json")];
        let send = |method: &str, path: &str, body: &str| {
            http::send(address, method, path, &headers, body).unwrap().status
        };
        assert_eq!(send("POST", "/admin/users", r#"{"email":"bob@x.io","password":"secret of bob"}"#), 201);
        let (request, below) = collector.request("POST /admin/users");
        assert_eq!(said(&request), request_said("POST", "/admin/users", 201));
        let line = &told(&server, "administration")[0];
        assert_eq!((&line["trace_id"], &line["span_id"]), (&request["trace"], &request["span"]));
        assert_eq!(
            names(&below),
            [
                "hashing queue",
                "hash password",
                "database connection",
                "BEGIN",
                // The row at which insertions through other members of a cluster meet.
                "REPLACE authservice_user",
                "DELETE authservice_user",
                "SELECT user",
                "INSERT user",
                "SELECT user",
                "REPLACE authservice_user",
                "UPDATE authservice_access",
                "COMMIT",
                "SELECT user",
            ]
        );
        assert_eq!(send("PATCH", "/admin/users/2", r#"{"disabled":true}"#), 200);
        let (request, _) = collector.request("PATCH /admin/users/{id}");
        let mut expected = request_said("PATCH", "/admin/users/{id}", 200);
        expected["attributes"].as_object_mut().unwrap().remove("url.path");
        assert_eq!(said(&request), expected);
        for secret in ["bob", &token[7..], ADMIN_KEY, "/admin/users/2"] {
            assert!(!collector.holds(secret), "{secret} went to the collector");
        }
    }
}

#[test]
fn the_callers_decision_is_taken_over_and_its_own_part_of_the_others() {
    let database = with_user(&Engine::mysql());
    let seen = |sampler: &[(&str, &str)]| {
        let collector = Collector::start();
        let endpoint = collector.endpoint();
        let server =
            database.serve(&[&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())], sampler].concat());
        let span_ids = |flags: Option<&str>| {
            let parent = flags.map(traceparent);
            let headers: Vec<_> = parent.iter().map(|parent| ("traceparent", parent.as_str())).collect();
            assert_eq!(login(&server, "secret of ann", &headers).status, 200);
            let line = told(&server, "login").pop().unwrap();
            // Whatever is traced here, the caller's trace stays in the line.
            assert!(parent.is_none() || line["trace_id"] == TRACE, "{line}");
            line["span_id"].as_str().map(str::to_owned)
        };
        let told = [None, Some("00"), Some("01")].map(span_ids);
        drop_and_wait(server);
        let spans = collector.spans();
        let requests: Vec<_> = spans.iter().filter(|span| span["kind"] == "SPAN_KIND_SERVER").collect();
        let told: Vec<String> = told.into_iter().flatten().collect();
        assert_eq!(requests.iter().map(|span| span["span"].as_str().unwrap()).collect::<Vec<_>>(), told);
        assert_eq!(spans.len(), 5 * requests.len(), "children go with their requests");
        requests.iter().map(|span| span["trace"] == TRACE).collect::<Vec<bool>>()
    };
    let (begun_here, of_the_caller) = (false, true);
    assert_eq!(seen(&[]), [begun_here, of_the_caller]);
    let ratio = |sampler, ratio| [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
    assert_eq!(seen(&ratio("parentbased_traceidratio", "0")), [of_the_caller]);
    assert_eq!(seen(&ratio("traceidratio", "0")), [false; 0]);
    assert_eq!(seen(&ratio("always_on", "")), [begun_here, of_the_caller, of_the_caller]);
}

/// Ends the server as Kubernetes does; the last spans are sent before it is gone.
fn drop_and_wait(mut server: Server) -> Duration {
    let start = Instant::now();
    server.terminate();
    eventually("ended", Duration::from_secs(15), || server.child.try_wait().unwrap().is_some());
    assert!(server.child.wait().unwrap().success());
    start.elapsed()
}

fn warnings(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let about = lines.filter(|line| line["message"].as_str().unwrap().starts_with("traces "));
    about
        .map(|line| format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_collector_that_is_away_costs_no_login_and_gets_what_it_missed_when_it_comes() {
    const AWAY: &str = "WARN traces do not reach their collector";
    let database = with_user(&Engine::mysql());
    let address = free_address();
    let server = database.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))]);
    let token = server.token("ann@x.io", "secret of ann");
    eventually("the first try has failed", SOON, || !warnings(&server).is_empty());
    for _ in 0..20 {
        assert_eq!(server.validate(&token).status, 200);
        server.token("ann@x.io", "secret of ann");
    }
    // Two more tries at the least.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(warnings(&server), [AWAY]);
    let collector = Collector::start_at(address);
    eventually("all has arrived", Duration::from_secs(40), || collector.spans().len() == 21 * 5 + 20);
    eventually("they are counted", SOON, || {
        server.metric("authservice_spans_total{outcome=\"exported\"}") == 21 * 5 + 20
    });
    assert_eq!(warnings(&server), [AWAY, "INFO traces reach their collector again"]);
    assert_eq!(server.metric("authservice_spans_total{outcome=\"dropped\"}"), 0);
}

#[test]
fn a_collector_that_never_answers_costs_no_validation_and_holds_up_no_termination() {
    let database = with_user(&Engine::mysql());
    // Connections wait in the system's queue for ever.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = database.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("DRAIN_DELAY", "0s")]);
    let token = server.token("ann@x.io", "secret of ann");
    let dropped = || server.metric("authservice_spans_total{outcome=\"dropped\"}");
    let start = Instant::now();
    while dropped() == 0 {
        assert!(start.elapsed() < Duration::from_mins(2), "the queue has an end");
        for _ in 0..500 {
            assert_eq!(server.validate(&token).status, 200);
        }
        server.token("ann@x.io", "secret of ann");
    }
    let with_traces = drop_and_wait(server);
    let without = drop_and_wait(database.serve(&[("DRAIN_DELAY", "0s")]));
    assert!(with_traces < without + Duration::from_secs(3), "{with_traces:?}, without traces {without:?}");
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let database = with_user(&Engine::mysql());
    let collector = Collector::start();
    let server =
        database.serve(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()), ("DRAIN_DELAY", "0s")]);
    server.token("ann@x.io", "secret of ann");
    drop_and_wait(server);
    let (_, below) = collector.request("POST /login");
    assert_eq!(below.len(), 4);
}

#[test]
fn without_a_collector_nothing_is_traced_and_a_wrong_one_is_refused_at_the_start() {
    let database = with_user(&Engine::mysql());
    let server = database.serve(&[("OTEL_SERVICE_NAME", "gate")]);
    assert_eq!(login(&server, "secret of ann", &[("traceparent", &traceparent("01"))]).status, 200);
    let line = &told(&server, "login")[0];
    assert_eq!((&line["trace_id"], line.get("span_id")), (&json!(TRACE), None));
    assert!(!http::get(server.ops, "/metrics").unwrap().body.contains("authservice_spans"));

    let environment: BTreeMap<String, String> = database.environment();
    let output = Command::new(BINARY)
        .arg("serve")
        .env_clear()
        .envs(environment)
        .envs([
            ("JWT_SECRET", server_support::JWT_SECRET),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://ann:hunter2@collector:4318"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "10%"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "auth-server: the configuration has 2 faults:\n  \
         OTEL_EXPORTER_OTLP_ENDPOINT holds credentials, a query or a fragment, which traces are not sent with: \
         name a collector in the cluster by http://host:4318, and have it send them on\n  \
         OTEL_TRACES_SAMPLER_ARG \"10%\" is no part of the requests: use a number from 0 to 1, such as 0.1\n"
    );
}
