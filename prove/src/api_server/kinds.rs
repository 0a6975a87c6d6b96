//! The kinds that the model serves: what the operator and the players around it read and write.

/// A kind of namespaced object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// The resource itself.
    AuthService,
    /// Keys, accounts, and what users refer to.
    Secret,
    /// Addresses.
    Service,
    /// The server's pods.
    Deployment,
    /// One version of a Deployment.
    ReplicaSet,
    /// The managed database.
    StatefulSet,
    /// Its volume.
    PersistentVolumeClaim,
    /// Migrations.
    Job,
    /// What runs.
    Pod,
    /// What node drains respect.
    PodDisruptionBudget,
    /// The leader election's.
    Lease,
    /// `events.k8s.io/v1`.
    Event,
    /// A user's autoscaler.
    HorizontalPodAutoscaler,
    /// Anything else that users keep.
    ConfigMap,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::AuthService,
        Self::Secret,
        Self::Service,
        Self::Deployment,
        Self::ReplicaSet,
        Self::StatefulSet,
        Self::PersistentVolumeClaim,
        Self::Job,
        Self::Pod,
        Self::PodDisruptionBudget,
        Self::Lease,
        Self::Event,
        Self::HorizontalPodAutoscaler,
        Self::ConfigMap,
    ];

    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::AuthService => "authservice.dev",
            Self::Deployment | Self::ReplicaSet | Self::StatefulSet => "apps",
            Self::Job => "batch",
            Self::PodDisruptionBudget => "policy",
            Self::Lease => "coordination.k8s.io",
            Self::Event => "events.k8s.io",
            Self::HorizontalPodAutoscaler => "autoscaling",
            Self::Secret | Self::Service | Self::PersistentVolumeClaim | Self::Pod | Self::ConfigMap => "",
        }
    }

    /// The version that is served.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::AuthService => "v1alpha1",
            Self::HorizontalPodAutoscaler => "v2",
            _ => "v1",
        }
    }

    /// What stands in `apiVersion`.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::AuthService => "authservice.dev/v1alpha1",
            Self::Deployment | Self::ReplicaSet | Self::StatefulSet => "apps/v1",
            Self::Job => "batch/v1",
            Self::PodDisruptionBudget => "policy/v1",
            Self::Lease => "coordination.k8s.io/v1",
            Self::Event => "events.k8s.io/v1",
            Self::HorizontalPodAutoscaler => "autoscaling/v2",
            Self::Secret | Self::Service | Self::PersistentVolumeClaim | Self::Pod | Self::ConfigMap => "v1",
        }
    }

    /// What stands in `kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthService => "AuthService",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Job => "Job",
            Self::Pod => "Pod",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Lease => "Lease",
            Self::Event => "Event",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// What stands in paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::AuthService => "authservices",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::Deployment => "deployments",
            Self::ReplicaSet => "replicasets",
            Self::StatefulSet => "statefulsets",
            Self::PersistentVolumeClaim => "persistentvolumeclaims",
            Self::Job => "jobs",
            Self::Pod => "pods",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::Lease => "leases",
            Self::Event => "events",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            Self::ConfigMap => "configmaps",
        }
    }

    /// Whether `status` is written on a path of its own.
    #[must_use]
    pub fn has_status(self) -> bool {
        !matches!(self, Self::Secret | Self::Lease | Self::Event | Self::ConfigMap)
    }

    /// Whether replicas are written by `scale`.
    #[must_use]
    pub fn has_scale(self) -> bool {
        matches!(self, Self::AuthService | Self::Deployment | Self::ReplicaSet | Self::StatefulSet)
    }

    /// The kind that an object says it is.
    #[must_use]
    pub fn of(api_version: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name && kind.api_version() == api_version)
    }

    /// The kind of a path.
    #[must_use]
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.plural() == plural && kind.group() == group && kind.version() == version)
    }
}
