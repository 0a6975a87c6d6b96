//! The `StatefulSet` of the managed database, and the growth of its volume.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec},
        core::v1::{
            Container, EmptyDirVolumeSource, ExecAction, PersistentVolumeClaim, PersistentVolumeClaimSpec,
            PodSpec, PodTemplateSpec, Probe, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};

use super::{
    super::{
        names::{Component, DATA_VOLUME, DATABASE_CONTAINER, Identity, entry},
        plan::{DatabaseServer, Plan},
    },
    deployment::port,
    environment::variable,
    pod::{self, empty_volume, folder_and_file, mount, read_only_mount, secret_items_volume},
    service::DATABASE_PORT_NAME,
};
use crate::{api::auth_service::DeletionPolicy, contract::DATABASE_PORT};

/// The start command and the probe, run by the image's `sh`. The kubelet expands `$(NAME)` and `$$`
/// in them, so they contain neither (a test holds them to it).
const START: &str = include_str!("mysql-start.sh");
const PROBE: &str = include_str!("mysql-probe.sh");

/// User and group `mysql` of the official images of both engines.
const DATABASE_USER: i64 = 999;
const VOLUME_FOLDER: &str = "/var/lib/mysql";
/// Where both engines' clients look for the socket.
const RUN_FOLDER: &str = "/run/mysqld";
const RUN_VOLUME: &str = "run";
const TEMPORARY_FOLDER: &str = "/tmp";
const TEMPORARY_VOLUME: &str = "tmp";
const ROOT_PASSWORD_FILE: &str = "/etc/authservice/root/password";
const ROOT_PASSWORD_VOLUME: &str = "root-password";

/// One database pod with its volume, which outlives scaling always and the resource by
/// `deletionPolicy`.
pub(super) fn stateful_set(plan: &Plan, server: &DatabaseServer) -> StatefulSet {
    let identity = &plan.identity;
    let labels = identity.labels(Component::Database);
    StatefulSet {
        metadata: identity.metadata(identity.database(), Component::Database),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(identity.database()),
            selector: LabelSelector {
                match_labels: Some(identity.selector(Component::Database)),
                ..LabelSelector::default()
            },
            // With the default, a pod that never became ready is not replaced when its template is
            // mended: a wrong image would need a person.
            pod_management_policy: Some("Parallel".to_owned()),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(
                    match identity.deletion_policy {
                        DeletionPolicy::Retain => "Retain",
                        DeletionPolicy::Delete => "Delete",
                    }
                    .to_owned(),
                ),
                when_scaled: Some("Retain".to_owned()),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels.clone()), ..ObjectMeta::default() }),
                spec: Some(pod_spec(plan, server)),
            },
            volume_claim_templates: Some(vec![PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(DATA_VOLUME.to_owned()),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                spec: Some(PersistentVolumeClaimSpec {
                    access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                    storage_class_name: server.template_storage_class.clone(),
                    ..claim(server.template_size.clone())
                }),
                ..PersistentVolumeClaim::default()
            }]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// The one change a claim ever gets: more room.
pub(super) fn grown_volume(identity: &Identity, size: Quantity) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(identity.volume_claim()),
            namespace: Some(identity.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(claim(size)),
        ..PersistentVolumeClaim::default()
    }
}

fn claim(size: Quantity) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), size)].into()),
            ..VolumeResourceRequirements::default()
        }),
        ..PersistentVolumeClaimSpec::default()
    }
}

fn pod_spec(plan: &Plan, server: &DatabaseServer) -> PodSpec {
    let (password_folder, password_file) = folder_and_file(ROOT_PASSWORD_FILE);
    let container = Container {
        name: DATABASE_CONTAINER.to_owned(),
        image: Some(server.image.clone()),
        command: Some(vec!["sh".to_owned(), "-c".to_owned(), START.to_owned()]),
        env: Some(vec![
            variable("DATABASE_VOLUME", VOLUME_FOLDER),
            variable("DATABASE_RUN", RUN_FOLDER),
            variable("DATABASE_ROOT_PASSWORD_FILE", ROOT_PASSWORD_FILE),
        ]),
        ports: Some(vec![port(DATABASE_PORT_NAME, DATABASE_PORT)]),
        resources: Some(server.resources.clone()),
        // Half an hour: recovery after a crash or an upgrade must not be cut short.
        startup_probe: Some(probe("ready", 1, 1800)),
        readiness_probe: Some(probe("ready", 10, 3)),
        liveness_probe: Some(probe("alive", 20, 6)),
        volume_mounts: Some(vec![
            mount(DATA_VOLUME, VOLUME_FOLDER),
            mount(RUN_VOLUME, RUN_FOLDER),
            mount(TEMPORARY_VOLUME, TEMPORARY_FOLDER),
            read_only_mount(ROOT_PASSWORD_VOLUME, password_folder),
        ]),
        ..Container::default()
    };
    let volumes = vec![
        // In memory: the statements that set the root password are written here.
        empty_volume(
            RUN_VOLUME,
            EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("16Mi".to_owned())),
            },
        ),
        empty_volume(TEMPORARY_VOLUME, EmptyDirVolumeSource::default()),
        secret_items_volume(
            ROOT_PASSWORD_VOLUME,
            plan.identity.root_password(),
            &[(entry::PASSWORD, password_file)],
        ),
    ];
    PodSpec {
        // A clean shutdown writes out what is only in memory; an upgrade cannot follow any other.
        termination_grace_period_seconds: Some(120),
        ..pod::pod(plan, DATABASE_USER, container, volumes)
    }
}

fn probe(question: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(["sh", "-c", PROBE, "sh", question].map(str::to_owned).into()),
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(10),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{apps::v1::StatefulSet, core::v1::Probe},
        apimachinery::pkg::api::resource::Quantity,
    };

    use super::{super::sample, PROBE, START, grown_volume, stateful_set};
    use crate::{api::auth_service::DeletionPolicy, operator::auth_service::plan::Plan};

    /// The `StatefulSet` with the scripts' names in place of their text.
    fn built(plan: &Plan) -> StatefulSet {
        let server = plan.managed.as_ref().unwrap().server.as_ref().unwrap();
        let mut built = stateful_set(plan, server);
        let container = &mut built.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0];
        let probes =
            [&mut container.startup_probe, &mut container.readiness_probe, &mut container.liveness_probe];
        let probes = probes.into_iter().map(|probe: &mut Option<Probe>| {
            probe.as_mut().unwrap().exec.as_mut().unwrap().command.as_mut().unwrap()
        });
        for command in probes.chain(container.command.as_mut()) {
            command[2] = match command[2].as_str() {
                START => "<mysql-start.sh>".to_owned(),
                PROBE => "<mysql-probe.sh>".to_owned(),
                other => other.to_owned(),
            };
        }
        built
    }

    #[test]
    fn one_pod_with_a_volume_that_is_retained() {
        insta::assert_yaml_snapshot!(built(&sample::managed()));
    }

    #[test]
    fn under_delete_the_volume_goes_with_the_resource() {
        let mut plan = sample::managed();
        plan.identity.deletion_policy = DeletionPolicy::Delete;
        let policy = built(&plan).spec.unwrap().persistent_volume_claim_retention_policy.unwrap();
        insta::assert_yaml_snapshot!(policy, @r"
        whenDeleted: Delete
        whenScaled: Retain
        ");
    }

    #[test]
    fn the_default_class_is_left_to_the_cluster() {
        let mut plan = sample::managed();
        let server = plan.managed.as_mut().unwrap().server.as_mut().unwrap();
        server.template_storage_class = None;
        let templates = built(&plan).spec.unwrap().volume_claim_templates.unwrap();
        assert_eq!(templates[0].spec.as_ref().unwrap().storage_class_name, None);
    }

    #[test]
    fn a_volume_only_ever_gets_more_room() {
        let identity = sample::managed().identity;
        insta::assert_yaml_snapshot!(grown_volume(&identity, Quantity("5Gi".to_owned())));
    }

    #[test]
    fn the_scripts_hold_nothing_that_the_kubelet_would_expand() {
        let variables = ["DATABASE_VOLUME", "DATABASE_RUN", "DATABASE_ROOT_PASSWORD_FILE"];
        for script in [START, PROBE] {
            assert!(!script.contains("$$"), "{script}");
            assert!(variables.iter().all(|name| !script.contains(&format!("$({name})"))), "{script}");
            assert!(variables[..2].iter().any(|name| script.contains(name)), "{script}");
        }
    }
}
