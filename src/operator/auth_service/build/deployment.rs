//! The Deployment of the auth server.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, PodTemplateSpec, Probe,
            TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::{
    super::{
        names::{Component, Identity, SERVER_CONTAINER, TLS_VOLUME, entry},
        plan::{LoginProtection, Plan, Server, Tracing},
    },
    environment::{composed_variable, field_variable, file_variable, variable},
    pod::{self, read_only_mount, secret_items_volume, secret_volume},
    service::{ADMINISTRATION_PORT_NAME, PUBLIC_PORT_NAME},
};
use crate::contract::{ADMINISTRATION_PORT, OPS_PORT, SERVICE_PORT, TLS_CERT, TLS_KEY, env, mount};

/// The user and group of the server's image.
pub(super) const SERVER_USER: i64 = 65532;
const KEY_RING_VOLUME: &str = "key-ring";
const ADMINISTRATION_VOLUME: &str = "administration";
const OPS_PORT_NAME: &str = "ops";
/// The variable that the attributes of traces are composed with; the server does not read it.
const POD_NAME: &str = "POD_NAME";

/// The server's pods. An update never has fewer of them than `replicas`: each new pod is ready
/// before an old one goes.
pub(super) fn deployment(plan: &Plan, server: &Server) -> Deployment {
    let selector = LabelSelector {
        match_labels: Some(plan.identity.selector(Component::Server)),
        ..LabelSelector::default()
    };
    Deployment {
        metadata: plan.identity.metadata(plan.identity.server(), Component::Server),
        spec: Some(DeploymentSpec {
            replicas: Some(server.replicas),
            selector: selector.clone(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    // Rounded up, so one pod at least.
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(pod_metadata(plan, server)),
                spec: Some(pod_spec(plan, server, selector)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod_metadata(plan: &Plan, server: &Server) -> ObjectMeta {
    let mut labels = server.pod_labels.clone();
    labels.extend(plan.identity.labels(Component::Server));
    let some = |map: &BTreeMap<_, _>| (!map.is_empty()).then(|| map.clone());
    ObjectMeta { labels: Some(labels), annotations: some(&server.pod_annotations), ..ObjectMeta::default() }
}

fn pod_spec(plan: &Plan, server: &Server, selector: LabelSelector) -> PodSpec {
    let (account, account_mount) = pod::account_volume(&plan.identity, &server.connection.account);
    let mut ports = vec![port(PUBLIC_PORT_NAME, SERVICE_PORT), port(OPS_PORT_NAME, OPS_PORT)];
    let mut mounts = vec![account_mount, read_only_mount(KEY_RING_VOLUME, mount::KEY_RING)];
    let mut volumes = vec![account, secret_volume(KEY_RING_VOLUME, plan.identity.key_ring())];
    if let Some(secret) = &server.tls {
        let items = [(TLS_CERT, TLS_CERT), (TLS_KEY, TLS_KEY)];
        volumes.push(secret_items_volume(TLS_VOLUME, secret.clone(), &items));
        mounts.push(read_only_mount(TLS_VOLUME, mount::TLS));
    }
    if server.administration {
        let (folder, file) = pod::folder_and_file(mount::ADMINISTRATION_KEY);
        let secret = plan.identity.administration();
        ports.push(port(ADMINISTRATION_PORT_NAME, ADMINISTRATION_PORT));
        mounts.push(read_only_mount(ADMINISTRATION_VOLUME, folder));
        volumes.push(secret_items_volume(ADMINISTRATION_VOLUME, secret, &[(entry::KEY, file)]));
    }
    let container = Container {
        name: SERVER_CONTAINER.to_owned(),
        image: Some(server.image.clone()),
        args: Some(vec!["serve".to_owned()]),
        env: Some(environment(plan, server)),
        ports: Some(ports),
        resources: Some(server.resources.clone()),
        // The first second counts after a crash of all pods, so the start is watched closely.
        startup_probe: Some(probe("/livez", 1, 60)),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        // A minute: logins that use up every CPU slow the answer down and must not end the pod.
        liveness_probe: Some(probe("/livez", 10, 6)),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec {
        // The drain delay and the requests in flight, see `DRAIN_DELAY`, and a reserve.
        termination_grace_period_seconds: Some(45),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(selector),
            // Pods of the revision that goes do not push those of the next to the wrong node.
            match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
            ..TopologySpreadConstraint::default()
        }]),
        ..pod::pod(plan, SERVER_USER, container, volumes)
    }
}

fn environment(plan: &Plan, server: &Server) -> Vec<EnvVar> {
    let mut variables = connection(&server.connection);
    variables.extend([
        variable(env::KEY_RING_DIR, mount::KEY_RING),
        variable(env::TOKEN_TTL, &server.token_ttl),
        variable(env::TOKEN_ISSUER, &server.token_issuer),
    ]);
    variables.extend(server.token_audience.iter().map(|audience| variable(env::TOKEN_AUDIENCE, audience)));
    variables.extend([
        variable(env::REVOCATION_LAG, &server.revocation_lag),
        variable(env::REVOCATION_UNAVAILABLE, server.revocation_unavailable.name()),
    ]);
    if !server.legacy_formats.is_empty() {
        variables.push(variable(env::LEGACY_PASSWORD_FORMATS, &server.legacy_formats));
    }
    variables.push(variable(env::REHASH_PASSWORDS, server.rehash.to_string()));
    variables.extend(server.new_passwords.iter().map(|(name, value)| variable(name, value)));
    let LoginProtection { max_failures, window, lockout, trusted_proxies } = &server.protection;
    let proxies = Some(trusted_proxies).filter(|proxies| !proxies.is_empty());
    let protection = [
        (env::LOGIN_MAX_FAILURES, max_failures.map(|failures| failures.to_string())),
        (env::LOGIN_FAILURE_WINDOW, window.clone()),
        (env::LOGIN_LOCKOUT, lockout.clone()),
        (env::TRUSTED_PROXIES, proxies.cloned()),
    ];
    variables.extend(protection.into_iter().filter_map(|(name, value)| Some(variable(name, value?))));
    if let Some(status) = server.invalid_token_status {
        variables.push(variable(env::INVALID_TOKEN_STATUS, status.to_string()));
    }
    if server.tls.is_some() {
        variables.push(variable(env::TLS_CERT_FILE, format!("{}/{TLS_CERT}", mount::TLS)));
        variables.push(variable(env::TLS_KEY_FILE, format!("{}/{TLS_KEY}", mount::TLS)));
    }
    if server.administration {
        variables.push(file_variable(env::ADMIN_KEY, mount::ADMINISTRATION_KEY));
    }
    if let Some(tracing) = &server.tracing {
        variables.extend(traces(&plan.identity, tracing));
    }
    variables
}

/// Where traces go, and what they say of the pod they come from. Names of Kubernetes need no encoding.
fn traces(identity: &Identity, tracing: &Tracing) -> [EnvVar; 6] {
    let (name, namespace) = (identity.server(), &identity.namespace);
    let attributes = format!(
        "service.namespace={namespace},service.instance.id={namespace}.$({POD_NAME}).{SERVER_CONTAINER},\
         k8s.namespace.name={namespace},k8s.deployment.name={name},k8s.pod.name=$({POD_NAME})"
    );
    [
        variable(env::OTEL_EXPORTER_OTLP_ENDPOINT, &tracing.endpoint),
        variable(env::OTEL_TRACES_SAMPLER, "parentbased_traceidratio"),
        variable(env::OTEL_TRACES_SAMPLER_ARG, &tracing.sampling),
        variable(env::OTEL_SERVICE_NAME, name),
        field_variable(POD_NAME, "metadata.name"),
        composed_variable(env::OTEL_RESOURCE_ATTRIBUTES, attributes),
    ]
}

/// The database and the account, for the server and for the migration; the password's file is
/// [`pod::account_volume`].
pub(super) fn connection(connection: &super::super::plan::Connection) -> Vec<EnvVar> {
    vec![
        variable(env::MYSQL_HOST, &connection.host),
        variable(env::MYSQL_PORT, connection.port.to_string()),
        variable(env::MYSQL_DB, &connection.database),
        variable(env::MYSQL_USER, &connection.account.username),
        file_variable(env::MYSQL_PASSWORD, mount::DATABASE_PASSWORD),
    ]
}

/// A named TCP port of a container.
pub(super) fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(OPS_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, deployment};
    use crate::operator::auth_service::plan::Plan;

    fn built(plan: &Plan) -> k8s_openapi::api::apps::v1::Deployment {
        deployment(plan, plan.server.as_ref().unwrap())
    }

    #[test]
    fn two_replicas_on_a_managed_database() {
        insta::assert_yaml_snapshot!(built(&sample::managed()));
    }

    #[test]
    fn the_pods_carry_what_the_spec_adds_and_the_operators_own_labels_win() {
        insta::assert_yaml_snapshot!(built(&sample::external()));
    }
}
