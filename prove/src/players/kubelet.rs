//! The scheduler and the kubelets: pods start once what they mount is there, run a process of the
//! application, and end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use authservice::contract::{DatabaseFault, env, mount};
use k8s_openapi::jiff::SignedDuration;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::Players;
use crate::{
    api_server::Kind,
    application::{
        Application, Process,
        database::Database,
        migration::{End, Migration},
        server::{Ring, Server},
    },
    objects::{data, is_deleting, items, label, name, namespace, text, uid},
};

/// Longest time until a changed Secret reaches a running pod.
const SECRET_SYNC_SECONDS: i64 = 90;
const COMPONENT: &str = "app.kubernetes.io/component";

/// Files of a container, by path.
type Files = BTreeMap<String, Vec<u8>>;

impl Players {
    pub(super) fn pods(&mut self) {
        let pods = self.api.list(Kind::Pod);
        self.application.lock().end_all_but(&pods.iter().map(|pod| uid(pod)).collect());
        for pod in pods {
            if is_deleting(&pod) {
                self.end_pod(&pod);
            } else if !matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
                self.pod(&pod);
            }
        }
    }

    fn end_pod(&mut self, pod: &Value) {
        if self.ripe(format!("end {}", uid(pod)), Duration::from_secs(1)) {
            self.application.lock().end(uid(pod));
            self.api.purge(Kind::Pod, namespace(pod), name(pod));
        }
    }

    fn pod(&mut self, pod: &Value) {
        if self.application.lock().processes.contains_key(uid(pod)) {
            self.run(pod);
            return;
        }
        if pod["spec"].get("nodeName").is_none() {
            self.update(Kind::Pod, pod, Some("binding"), |pod| pod["spec"]["nodeName"] = json!("node"));
            return;
        }
        let image = text(pod, "/spec/containers/0/image");
        if image.contains("missing") {
            self.wait(pod, "ImagePullBackOff", "the image cannot be pulled");
            return;
        }
        match self.files(pod) {
            Err(secret) => self.wait(pod, "ContainerCreating", &format!("secret {secret:?} not found")),
            Ok(files) if self.ripe(format!("start {}", uid(pod)), Duration::from_millis(700)) => {
                self.start(pod, files);
            }
            Ok(_) => {}
        }
    }

    fn wait(&self, pod: &Value, reason: &str, message: &str) {
        let status = json!({
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": text(pod, "/spec/containers/0/name"),
                "state": {"waiting": {"reason": reason, "message": message}},
            }],
        });
        self.write_status(Kind::Pod, pod, &status);
    }

    fn start(&mut self, pod: &Value, files: Files) {
        let variables: BTreeMap<String, String> = items(pod, "/spec/containers/0/env")
            .iter()
            .map(|variable| (text(variable, "/name").to_owned(), text(variable, "/value").to_owned()))
            .collect();
        let started = self.clock.now();
        let process = match label(pod, COMPONENT) {
            "database" => match self.start_database(pod, &files) {
                Some(process) => process,
                None => return,
            },
            "migration" => {
                let migration = Migration { variables, files, started, next: 0, created: Vec::new() };
                Process::Migration(Box::new(migration))
            }
            _ => {
                let Some(server) = self.start_server(pod, variables, &files) else {
                    self.wait(pod, "CrashLoopBackOff", "no key signs");
                    return;
                };
                Process::Server(Box::new(server))
            }
        };
        let address = self.address();
        let mut application = self.application.lock();
        application.processes.insert(uid(pod).to_owned(), process);
        application.addresses.insert(address, uid(pod).to_owned());
        drop(application);
        self.write_status(Kind::Pod, pod, &running(pod, false, address));
    }

    /// A new volume is initialised with the Secret's password; an old one takes it over.
    fn start_database(&self, pod: &Value, files: &Files) -> Option<Process> {
        let claim = items(pod, "/spec/volumes").iter().find_map(|volume| {
            let claim = text(volume, "/persistentVolumeClaim/claimName");
            (!claim.is_empty()).then_some(claim)
        })?;
        let claim = self.api.get(Kind::PersistentVolumeClaim, namespace(pod), claim)?;
        if text(&claim, "/status/phase") != "Bound" {
            return None;
        }
        let password =
            files.iter().find_map(|(path, value)| path.ends_with("/root/password").then_some(value))?;
        let password = password.strip_suffix(b"\n").unwrap_or(password);
        let volume = uid(&claim).to_owned();
        let mut application = self.application.lock();
        let database = application
            .volumes
            .entry(volume.clone())
            .or_insert_with(|| Database::with_admin("root", password));
        if let Some(root) = database.accounts.get_mut("root") {
            root.password = password.to_vec();
        }
        Some(Process::Database { volume })
    }

    /// `None`: it cannot start with these files.
    fn start_server(
        &self,
        pod: &Value,
        variables: BTreeMap<String, String>,
        files: &Files,
    ) -> Option<Server> {
        let now = self.clock.now();
        let secret = self.key_ring_of(pod)?;
        let ring = Ring::of(&data(&secret));
        ring.signer(now)?;
        Some(Server {
            ring,
            ring_version: text(&secret, "/metadata/resourceVersion").to_owned(),
            reload_at: None,
            variables,
            password: files.get(mount::DATABASE_PASSWORD)?.clone(),
            started: now,
            settled: false,
            seen: None,
        })
    }

    fn key_ring_of(&self, pod: &Value) -> Option<std::sync::Arc<Value>> {
        let volume = items(pod, "/spec/volumes").iter().find(|volume| text(volume, "/name") == "key-ring")?;
        self.api.get(Kind::Secret, namespace(pod), text(volume, "/secret/secretName"))
    }

    fn run(&mut self, pod: &Value) {
        let mut application = self.application.lock();
        let Some(mut process) = application.processes.remove(uid(pod)) else { return };
        let managed = self.managed_hosts();
        let now = self.clock.now();
        let mut ready = true;
        let mut ended = None;
        match &mut process {
            Process::Database { volume } => {
                ready = application.volumes.get(volume).is_some_and(|database| database.answers);
            }
            Process::Server(server) => {
                let host = server.variable(env::MYSQL_HOST).to_owned();
                let seen = match application.database(&host, &managed) {
                    Some(database) => database.look(
                        server.variable(env::MYSQL_USER),
                        &server.password,
                        server.variable(env::MYSQL_DB),
                    ),
                    None => Err((DatabaseFault::DatabaseUnreachable, "Connection refused".to_owned())),
                };
                server.note(seen, now);
                ready = server.settled;
                if !ready {
                    let wake = now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now);
                    self.due.insert(format!("look {}", uid(pod)), wake);
                }
            }
            Process::Migration(migration) => {
                ended = migration.advance(&mut application, &managed, now);
                let wake = now.checked_add(SignedDuration::from_millis(250)).unwrap_or(now);
                self.due.insert(format!("statement {}", uid(pod)), wake);
            }
        }
        if ended.is_none() {
            application.processes.insert(uid(pod).to_owned(), process);
        }
        drop(application);
        if let Some(end) = ended {
            self.end_migration(pod, &end);
            return;
        }
        let address = text(pod, "/status/podIP").parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        self.write_status(Kind::Pod, pod, &running(pod, ready, address));
        self.sync_key_ring(pod);
    }

    /// A changed key ring reaches a running pod after a while of the kubelet's choosing.
    fn sync_key_ring(&mut self, pod: &Value) {
        let Some(secret) = self.key_ring_of(pod) else { return };
        let version = text(&secret, "/metadata/resourceVersion");
        let now = self.clock.now();
        let delay = self.chance.random_range(1..=SECRET_SYNC_SECONDS);
        let mut application = self.application.lock();
        let Some(Process::Server(server)) = application.processes.get_mut(uid(pod)) else { return };
        if server.ring_version == version {
            server.reload_at = None;
            return;
        }
        let reload_at = *server
            .reload_at
            .get_or_insert_with(|| now.checked_add(SignedDuration::from_secs(delay)).unwrap_or(now));
        if reload_at > now {
            self.due.insert(format!("sync {}", uid(pod)), reload_at);
            return;
        }
        let ring = Ring::of(&data(&secret));
        // A ring that nothing can be signed with is not taken over.
        if ring.signer(now).is_some() {
            server.ring = ring;
        }
        version.clone_into(&mut server.ring_version);
        server.reload_at = None;
    }

    fn end_migration(&self, pod: &Value, end: &End) {
        let (code, message) = match end {
            End::Killed => (137, String::new()),
            End::Report(report) => {
                (i32::from(report.error.is_some()), serde_json::to_string(report).unwrap_or_default())
            }
        };
        let now = self.clock.now().to_string();
        let status = json!({
            "phase": if code == 0 { "Succeeded" } else { "Failed" },
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{
                "name": text(pod, "/spec/containers/0/name"),
                "state": {"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message, "finishedAt": now}},
            }],
        });
        self.write_status(Kind::Pod, pod, &status);
    }

    fn address(&mut self) -> IpAddr {
        self.addresses += 1;
        IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + self.addresses))
    }

    /// The pods that answer at the names of headless Services.
    fn managed_hosts(&self) -> BTreeMap<String, String> {
        let services = self
            .api
            .list(Kind::Service)
            .into_iter()
            .filter(|service| text(service, "/spec/clusterIP") == "None");
        services
            .filter_map(|service| {
                let pod = self.api.get(Kind::Pod, namespace(&service), &format!("{}-0", name(&service)))?;
                let selector = service["spec"]["selector"].as_object()?;
                let selects = selector.iter().all(|(key, value)| value == label(&pod, key));
                let host = format!("{}.{}.svc", name(&service), namespace(&service));
                selects.then(|| (host, uid(&pod).to_owned()))
            })
            .collect()
    }

    /// What the pod's volumes bring into its container.
    ///
    /// # Errors
    /// The name of a Secret that is not there, or lacks a key.
    fn files(&self, pod: &Value) -> Result<Files, String> {
        let mut files = Files::new();
        for mount in items(pod, "/spec/containers/0/volumeMounts") {
            let volume = items(pod, "/spec/volumes").iter().find(|volume| volume["name"] == mount["name"]);
            let Some(volume) = volume else { continue };
            let folder = text(mount, "/mountPath");
            if volume.get("secret").is_some() {
                self.secret_files(pod, &volume["secret"], "secretName", folder, &mut files)?;
            }
            for source in items(volume, "/projected/sources") {
                self.secret_files(pod, &source["secret"], "name", folder, &mut files)?;
            }
        }
        Ok(files)
    }

    fn secret_files(
        &self,
        pod: &Value,
        source: &Value,
        name_field: &str,
        folder: &str,
        files: &mut Files,
    ) -> Result<(), String> {
        let secret = source[name_field].as_str().unwrap_or_default();
        let optional = source["optional"].as_bool().unwrap_or(false);
        let Some(found) = self.api.get(Kind::Secret, namespace(pod), secret) else {
            return if optional { Ok(()) } else { Err(secret.to_owned()) };
        };
        let entries = data(&found);
        if source.get("items").is_none() {
            files.extend(entries.into_iter().map(|(key, value)| (format!("{folder}/{key}"), value)));
            return Ok(());
        }
        for item in items(source, "/items") {
            match entries.get(text(item, "/key")) {
                Some(value) => drop(files.insert(format!("{folder}/{}", text(item, "/path")), value.clone())),
                None if optional => {}
                None => return Err(secret.to_owned()),
            }
        }
        Ok(())
    }
}

impl Application {
    /// What runs in pods that the API server does not know any more is ended.
    fn end_all_but(&mut self, pods: &BTreeSet<&str>) {
        self.processes.retain(|uid, _| pods.contains(uid.as_str()));
        self.addresses.retain(|_, uid| pods.contains(uid.as_str()));
    }

    fn end(&mut self, pod: &str) {
        self.processes.remove(pod);
        self.addresses.retain(|_, uid| uid != pod);
    }
}

fn running(pod: &Value, ready: bool, address: IpAddr) -> Value {
    json!({
        "phase": "Running",
        "podIP": address.to_string(),
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        "containerStatuses": [{
            "name": text(pod, "/spec/containers/0/name"),
            "ready": ready,
            "state": {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}},
        }],
    })
}
