//! What all pods have in common: the `restricted` Pod Security Standard, no token of a service
//! account, and Secrets as files of their group.

use std::path::Path;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, KeyToPath, PodSecurityContext, PodSpec, SeccompProfile,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};

use super::super::{
    names::{ACCOUNT_VOLUME, Identity},
    plan::{Account, Plan},
};
use crate::contract::mount;

/// Files of Secrets: for the pod's group, as the kubelet owns them.
pub(super) const SECRET_MODE: i32 = 0o440;

/// A pod of one container, run by `user` and its group of the same number.
pub(super) fn pod(plan: &Plan, user: i64, container: Container, volumes: Vec<Volume>) -> PodSpec {
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: (!plan.pull_secrets.is_empty()).then(|| plan.pull_secrets.clone()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            // Only a new volume's files change hands; going through all of them would delay each start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                read_only_root_filesystem: Some(true),
                ..SecurityContext::default()
            }),
            // A container that dies before it could report leaves its last words.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..container
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A volume with all entries of a Secret.
pub(super) fn secret_volume(volume: &str, secret: String) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A volume with some entries of a Secret, as pairs of key and file name.
pub(super) fn secret_items_volume(volume: &str, secret: String, items: &[(&str, &str)]) -> Volume {
    let items = items.iter().map(|(key, file)| item(key, file)).collect();
    let mut volume = secret_volume(volume, secret);
    volume.secret = volume.secret.map(|source| SecretVolumeSource { items: Some(items), ..source });
    volume
}

/// One entry of a Secret as a file.
pub(super) fn item(key: &str, file: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: file.to_owned(), ..KeyToPath::default() }
}

/// A folder that is empty when the pod starts.
pub(super) fn empty_volume(volume: &str, source: EmptyDirVolumeSource) -> Volume {
    Volume { name: volume.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// Where a volume that is written to appears.
pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// Where a volume appears that nobody writes to.
pub(super) fn read_only_mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(volume, path) }
}

/// The password of the server's database account, as the server and the migration see it.
pub(super) fn account_volume(identity: &Identity, account: &Account) -> (Volume, VolumeMount) {
    let (folder, file) = folder_and_file(mount::DATABASE_PASSWORD);
    (
        secret_items_volume(ACCOUNT_VOLUME, identity.accounts(), &[(&account.password_entry(), file)]),
        read_only_mount(ACCOUNT_VOLUME, folder),
    )
}

/// The parts of an absolute path: a whole folder is mounted, since a file mounted by itself would
/// never be updated.
pub(super) fn folder_and_file(path: &'static str) -> (&'static str, &'static str) {
    let path = Path::new(path);
    let text =
        |part: Option<&'static std::ffi::OsStr>| part.and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    (text(path.parent().map(Path::as_os_str)), text(path.file_name()))
}
