//! A cluster in memory for the tests of the pure steps: what was built is put where the next run
//! reads it, and the test plays the other controllers.

#![expect(clippy::needless_pass_by_value, reason = "a literal at the call reads best without a reference")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::DeploymentStatus,
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    apply::{Outcome, seen},
    build::build,
    fresh::Fresh,
    gather::Observed,
    names::{Component, Identity},
    plan::{Deletable, Resources},
    pods,
    status::{self, View},
    validate::{Decision, Inputs, validate},
};
use crate::{
    api::{AuthService, AuthServiceStatus},
    contract::{DatabaseFault, DatabaseStatus, MigrationReport, ServerStatus},
    operator::context::{Images, Verdict, Verdicts},
};

/// The present time of a new world.
pub(super) const START: &str = "2026-03-01T12:00:00Z";

pub(super) struct World {
    pub(super) service: AuthService,
    pub(super) observed: Observed,
    pub(super) images: Images,
    pub(super) now: Timestamp,
    draws: u32,
}

impl World {
    /// `AuthService` `gate` in namespace `market`, and nothing else.
    pub(super) fn new(spec: Value) -> Self {
        let service = json!({
            "apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService",
            "metadata": {"name": "gate", "namespace": "market", "uid": "uid-of-gate", "generation": 1},
            "spec": spec,
        });
        Self {
            service: serde_json::from_value(service).unwrap(),
            observed: Observed::default(),
            images: Images { server: "server:1".to_owned(), database: "mysql:1".to_owned() },
            now: START.parse().unwrap(),
            draws: 0,
        }
    }

    /// The same with an external database.
    pub(super) fn external(references: Value) -> Self {
        let mut external = json!({"hosts": [{"host": "db.example", "port": 3307}], "name": "shop"});
        external.as_object_mut().unwrap().extend(references.as_object().unwrap().clone());
        Self::new(json!({"database": {"external": external}}))
    }

    pub(super) fn respec(&mut self, spec: Value) {
        self.service.spec = serde_json::from_value(spec).unwrap();
        *self.service.metadata.generation.as_mut().unwrap() += 1;
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::of(&self.service).unwrap()
    }

    pub(super) fn later(&mut self, seconds: i64) {
        self.now = Timestamp::from_second(self.now.as_second() + seconds).unwrap();
    }

    /// Adds a Secret that the user made.
    pub(super) fn secret(&mut self, name: &str, entries: &[(&str, &str)]) {
        let data =
            entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        let secret = Secret { data: Some(data.collect()), ..Secret::default() };
        self.observed.referenced.insert(name.to_owned(), secret);
    }

    /// Decides with values that tell the draw they came from.
    pub(super) fn decide(&mut self) -> Decision {
        self.draws += 1;
        let draw = self.draws;
        let fresh = Fresh {
            now: self.now,
            key_id: format!("{draw:08x}"),
            key: format!("signing-key-of-draw-{draw}-and-long-enough"),
            private_key: Some(format!("private-key-of-draw-{draw}-as-long-as-in-pem")),
            account_id: format!("{draw:08x}"),
            job_key: format!("job-key-of-draw-{draw}").into_bytes(),
            account_password: format!("account-password-{draw}"),
            admin_password: format!("admin-password-{draw}"),
            administration_key: format!("administration-key-of-draw-{draw}-and-long"),
            root_password: format!("root-password-{draw}"),
        };
        let identity = self.identity();
        validate(&Inputs {
            service: &self.service,
            spec: &self.service.spec,
            identity: &identity,
            observed: &self.observed,
            images: &self.images,
            fresh: &fresh,
        })
    }

    /// Decides and carries the plan out.
    pub(super) fn run(&mut self) -> Decision {
        let decision = self.decide();
        for deletion in &decision.plan.deletions {
            match deletion.kind {
                Deletable::Budget => self.observed.budget = None,
                Deletable::Service => self.observed.administration_service = None,
                Deletable::Job => self.observed.jobs.retain(|job| job.uid().as_ref() != Some(&deletion.uid)),
            }
        }
        let Resources {
            key_ring,
            accounts,
            admin,
            administration,
            root_password,
            credentials,
            service,
            administration_service,
            deployment,
            budget,
            database_service,
            database,
            volume: _,
            migration,
            step: _,
        } = build(&decision.plan);
        let observed = &mut self.observed;
        for (live, wanted) in [
            (&mut observed.key_ring, key_ring),
            (&mut observed.accounts, accounts),
            (&mut observed.admin, admin),
            (&mut observed.administration, administration),
            (&mut observed.root_password, root_password),
            (&mut observed.credentials, credentials),
        ] {
            if let Some(wanted) = wanted {
                *live = Some(wanted);
            }
        }
        if let Some(mut deployment) = deployment {
            deployment.status = observed.deployment.take().and_then(|live| live.status);
            observed.deployment = Some(deployment);
        }
        if let Some(mut database) = database {
            database.status = observed.database.take().and_then(|live| live.status);
            observed.database = Some(database);
        }
        observed.service = service.or(observed.service.take());
        observed.administration_service = administration_service.or(observed.administration_service.take());
        observed.budget = budget.or(observed.budget.take());
        observed.database_service = database_service.or(observed.database_service.take());
        if let Some(mut job) =
            migration.filter(|job| !observed.jobs.iter().any(|live| live.name_any() == job.name_any()))
        {
            job.metadata.uid = Some(format!("job-{}", self.draws));
            job.metadata.creation_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
            observed.jobs.push(job);
        }
        decision
    }

    /// Runs until the service of this spec is up.
    pub(super) fn up(&mut self) -> Decision {
        self.run();
        self.database_ready(1);
        self.run();
        self.complete_migration(&MigrationReport {
            database_version: Some("9.7.4".to_owned()),
            schema_version: 2,
            ..MigrationReport::default()
        });
        self.run();
        let wanted = self.service.spec.replicas;
        self.pods_ready(wanted);
        self.run()
    }

    pub(super) fn database_ready(&mut self, ready: i32) {
        if let Some(database) = self.observed.database.as_mut() {
            database.status = serde_json::from_value(json!({"replicas": 1, "readyReplicas": ready})).unwrap();
            let name = "data-gate-mysql-0".to_owned();
            let labels = Identity::of(&self.service).unwrap().labels(Component::Database);
            self.observed.volume.get_or_insert_with(|| PersistentVolumeClaim {
                metadata: ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() },
                spec: serde_json::from_value(json!({"resources": {"requests": {"storage": "1Gi"}}})).unwrap(),
                status: serde_json::from_value(json!({"phase": "Bound"})).unwrap(),
            });
        }
    }

    pub(super) fn pods_ready(&mut self, ready: i32) {
        let deployment = self.observed.deployment.as_mut().unwrap();
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        deployment.status = Some(DeploymentStatus {
            replicas: wanted,
            updated_replicas: wanted,
            ready_replicas: Some(ready),
            ..DeploymentStatus::default()
        });
        assert_eq!(pods::all_ready(Some(deployment)), Some(ready) == wanted);
    }

    pub(super) fn job(&mut self) -> &mut Job {
        self.observed.jobs.last_mut().unwrap()
    }

    fn end_migration(&mut self, condition: &str, report: &str) {
        let now = self.now.to_string();
        let job = self.job();
        job.status = serde_json::from_value(json!({
            "conditions": [{"type": condition, "status": "True", "reason": "R", "message": "in the controller's words", "lastTransitionTime": now}],
            "completionTime": (condition == "Complete").then_some(now),
        }))
        .unwrap();
        let owner = OwnerReference { uid: job.uid().unwrap(), ..OwnerReference::default() };
        let pod = json!({
            "metadata": {"name": "migrate-pod", "ownerReferences": [owner]},
            "status": {"containerStatuses": [{
                "name": "migrate", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "message": report}},
            }]},
        });
        self.observed.migration_pods = vec![serde_json::from_value(pod).unwrap()];
    }

    pub(super) fn complete_migration(&mut self, report: &MigrationReport) {
        self.end_migration("Complete", &serde_json::to_string(report).unwrap());
    }

    /// Fails the migration; `words` is what its pod left behind.
    pub(super) fn fail_migration(&mut self, words: &str, retry_in: Duration) {
        self.end_migration("Failed", words);
        self.observed.retry_in = Some(retry_in);
    }

    /// A server pod answers /status now.
    pub(super) fn pod_says(&mut self, account: &str, fault: Option<DatabaseFault>) {
        let status = ServerStatus {
            version: "1".to_owned(),
            key_ids: vec![],
            signing_key_id: String::new(),
            database: DatabaseStatus {
                account: account.to_owned(),
                version: Some("9.7.4".to_owned()),
                schema_version: 2,
                fault,
                error: fault.map(|_| "in the database's own words".to_owned()),
            },
        };
        let verdict = Verdict::Answered { status: Box::new(status), at: self.now };
        self.observed.verdicts = Arc::new(Verdicts::from([("gate-pod".to_owned(), verdict)]));
    }

    /// Decides and reports without writing, and keeps the status.
    pub(super) fn report(&mut self) -> AuthServiceStatus {
        let decision = self.decide();
        let outcome = seen(&decision.plan, &self.observed);
        self.report_of(&decision, &outcome)
    }

    pub(super) fn report_of(&mut self, decision: &Decision, outcome: &Outcome) -> AuthServiceStatus {
        let view =
            View { service: &self.service, observed: &self.observed, decision, outcome, now: self.now };
        let status = status::status(&view);
        self.service.status = Some(status.clone());
        status
    }

    pub(super) fn entries(secret: Option<&Secret>) -> BTreeMap<String, String> {
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        data.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect()
    }
}

/// A pod as JSON.
pub(super) fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

/// Type, status, reason and message of each condition.
pub(super) fn told(status: &AuthServiceStatus) -> Vec<String> {
    let conditions = status.conditions.iter();
    conditions.map(|c| format!("{} {} {}: {}", c.type_, c.status, c.reason, c.message)).collect()
}

/// Condition and message of each refusal.
pub(super) fn refused(decision: &Decision) -> Vec<String> {
    decision
        .refusals
        .iter()
        .map(|refusal| format!("{} {}: {}", refusal.condition, refusal.reason, refusal.message))
        .collect()
}
