//! What `helm test` asks of an installation, through the API alone: is the resource served, may
//! the operator do what it has to, does a process lead?

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    coordination::v1::Lease,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};
use tokio::time::{Instant, sleep};

use super::{
    Options, client,
    metrics::Metrics,
    scope::{Guarded, Scope},
};

/// The rights without which some step of a reconcile fails: group, resource, verbs.
/// The chart grants exactly these in every served namespace, and says why.
pub const RIGHTS: &[(&str, &str, &[&str])] = &[
    ("authservice.dev", "authservices", &["get", "list", "watch"]),
    ("authservice.dev", "authservices/status", &["patch"]),
    ("authservice.dev", "authservices/finalizers", &["update"]),
    ("apps", "deployments", &["get", "list", "watch", "create", "patch"]),
    ("apps", "statefulsets", &["get", "list", "watch", "create", "patch"]),
    ("batch", "jobs", &["get", "list", "watch", "create", "delete"]),
    ("policy", "poddisruptionbudgets", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "services", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "secrets", &["get", "list", "watch", "create", "patch"]),
    ("", "persistentvolumeclaims", &["get", "list", "watch", "patch"]),
    ("", "pods", &["get", "list"]),
    ("events.k8s.io", "events", &["create", "patch"]),
];

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: String,
    /// What is wrong and the cure; none when all is well.
    pub fault: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            None => write!(f, "ok      {}", self.subject),
            Some(fault) => write!(f, "FAILED  {}: {fault}", self.subject),
        }
    }
}

/// Looks at everything, with the rights of this process.
pub async fn check(config: kube::Config, options: &Options) -> Vec<Finding> {
    let client = match client::client(config, client::CALL_DEADLINE, Arc::new(Metrics::new())) {
        Ok(client) => client,
        Err(error) => return vec![finding("a client for the API server", Some(error.to_string()))],
    };
    let mut findings = Vec::new();
    for scope in Scope::of(&options.namespaces) {
        findings.push(served(&client, &scope).await);
        for (group, resource, verbs) in RIGHTS {
            findings.push(granted(&client, &scope, group, resource, verbs).await);
        }
    }
    findings.push(led(&client, options).await);
    findings
}

fn finding(subject: impl Into<String>, fault: Option<String>) -> Finding {
    Finding { subject: subject.into(), fault }
}

fn place(scope: &Scope) -> String {
    match scope {
        Scope::Cluster => "every namespace".to_owned(),
        Scope::Namespace(name) => format!("namespace {name}"),
    }
}

async fn served(client: &Client, scope: &Scope) -> Finding {
    let listed = scope.api::<Guarded>(client).list(&ListParams::default().limit(1)).await;
    let fault = listed.err().map(|error| format!("{error}; install the CRD with --set crds.enabled=true"));
    finding(format!("authservices.authservice.dev are served in {}", place(scope)), fault)
}

async fn granted(client: &Client, scope: &Scope, group: &str, resource: &str, verbs: &[&str]) -> Finding {
    let mut missing = Vec::new();
    for verb in verbs {
        let (resource, subresource) =
            resource.split_once('/').map_or((resource, None), |(a, b)| (a, Some(b)));
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    verb: Some((*verb).to_owned()),
                    namespace: match scope {
                        Scope::Cluster => None,
                        Scope::Namespace(name) => Some(name.clone()),
                    },
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match Api::all(client.clone()).create(&PostParams::default(), &review).await {
            Ok(SelfSubjectAccessReview { status: Some(status), .. }) if status.allowed => {}
            Ok(_) => missing.push((*verb).to_owned()),
            Err(error) => missing.push(format!("{verb} ({error})")),
        }
    }
    let fault = (!missing.is_empty()).then(|| {
        format!("the service account may not {}; grant it, or set rbac.create=true", missing.join(", "))
    });
    finding(format!("may {} {resource} in {}", verbs.join(", "), place(scope)), fault)
}

/// Whether a process renews the Lease: one that ended without giving it away stands on it for a while.
async fn led(client: &Client, options: &Options) -> Finding {
    let settings = &options.lease;
    let api: Api<Lease> = Api::namespaced(client.clone(), &settings.namespace);
    let subject = format!("a process renews lease {}/{}", settings.namespace, settings.name);
    let deadline = Instant::now() + settings.ttl * 3;
    let mut first_seen: Option<String> = None;
    loop {
        let lease = match api.get_opt(&settings.name).await {
            Ok(lease) => lease,
            Err(error) => return finding(subject, Some(error.to_string())),
        };
        let version = lease.as_ref().and_then(ResourceExt::resource_version);
        let holder = lease.and_then(|lease| lease.spec?.holder_identity);
        match (holder, &first_seen) {
            (Some(holder), Some(seen)) if version.as_ref() != Some(seen) => {
                return finding(format!("{subject}: {holder}"), None);
            }
            (_, None) => first_seen = version,
            _ => {}
        }
        if Instant::now() >= deadline {
            let fault = "nobody does; look at the logs of the operator's pods".to_owned();
            return finding(subject, Some(fault));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::RIGHTS;

    const RULES: &str = include_str!("../../charts/authservice-operator/templates/_rules.tpl");

    /// Group, resource and verb of every right.
    type Rights = BTreeSet<(String, String, String)>;

    /// The elements of the flow sequence in a line such as `verbs: [get, list]`, if it is that line.
    fn elements(line: &str, key: &str) -> Option<Vec<String>> {
        let list =
            line.trim_start_matches([' ', '-']).strip_prefix(key)?.strip_prefix(": [")?.strip_suffix(']')?;
        Some(list.split(", ").map(|element| element.trim_matches('"').to_owned()).collect())
    }

    fn granted() -> Rights {
        let (mut groups, mut resources, mut rights) = (Vec::new(), Vec::new(), Rights::new());
        for line in RULES.lines() {
            groups = elements(line, "apiGroups").unwrap_or(groups);
            resources = elements(line, "resources").unwrap_or(resources);
            for verb in elements(line, "verbs").unwrap_or_default() {
                for (group, resource) in
                    groups.iter().flat_map(|group| resources.iter().map(move |one| (group, one)))
                {
                    rights.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
        rights
    }

    #[test]
    fn the_chart_grants_exactly_the_rights_that_are_needed() {
        let needed: Rights = RIGHTS
            .iter()
            .flat_map(|(group, resource, verbs)| {
                verbs.iter().map(|verb| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
            })
            .collect();
        assert_eq!(granted(), needed);
    }

    #[test]
    fn every_rule_of_the_chart_gives_its_reason() {
        let lines: Vec<&str> = RULES.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if elements(line, "apiGroups").is_some() {
                assert!(lines[number - 1].starts_with("# "), "line {} has no reason above it", number + 1);
            }
        }
    }
}
