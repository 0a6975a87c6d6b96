//! What is written: a base of each kind, and what people and programs change of it.

use authservice_prove::api_server::Kind;
use serde_json::{Value, json};

fn pod_spec() -> Value {
    json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "server", "image": "registry.test/server:1", "args": ["serve"],
            "env": [{"name": "ONE", "value": "1"}, {"name": "TWO", "value": "2"}],
            "ports": [{"containerPort": 5000, "name": "http", "protocol": "TCP"}, {"containerPort": 8081, "name": "ops"}],
            "livenessProbe": {"httpGet": {"path": "/livez", "port": "ops"}, "periodSeconds": 10},
            "resources": {"requests": {"cpu": "0.1", "memory": "96Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"mountPath": "/keys", "name": "keys", "readOnly": true}, {"mountPath": "/tmp", "name": "tmp"}],
        }],
        "enableServiceLinks": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 45,
        "volumes": [{"name": "keys", "secret": {"secretName": "keys", "defaultMode": 288}}, {"name": "tmp", "emptyDir": {}}],
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "gate"}}, "spec": pod_spec()})
}

/// A complete object, but for its name.
pub(crate) fn base(kind: Kind) -> Value {
    let mut object = match kind {
        Kind::AuthService => json!({"spec": {}}),
        Kind::Secret => json!({"type": "Opaque", "data": {"one": "MQ==", "two": "Mg=="}}),
        Kind::ConfigMap => json!({"data": {"one": "1"}}),
        Kind::Service => json!({"spec": {
            "ports": [{"name": "http", "port": 5000, "protocol": "TCP", "targetPort": "http"}],
            "selector": {"app": "gate"}, "type": "ClusterIP",
        }}),
        Kind::Deployment => json!({"spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "gate"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": template(),
        }}),
        Kind::ReplicaSet => {
            json!({"spec": {"selector": {"matchLabels": {"app": "gate"}}, "template": template()}})
        }
        Kind::StatefulSet => json!({"spec": {
            "replicas": 1, "serviceName": "gate-mysql", "podManagementPolicy": "Parallel",
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "selector": {"matchLabels": {"app": "gate"}}, "template": template(),
            "volumeClaimTemplates": [{
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        }}),
        Kind::PersistentVolumeClaim => json!({"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}},
        }}),
        Kind::Job => {
            let mut template = template();
            template["spec"]["restartPolicy"] = json!("Never");
            json!({"spec": {"activeDeadlineSeconds": 300, "backoffLimit": 0, "podReplacementPolicy": "Failed", "template": template}})
        }
        Kind::Pod => json!({"spec": pod_spec()}),
        Kind::PodDisruptionBudget => json!({"spec": {
            "maxUnavailable": 1, "selector": {"matchLabels": {"app": "gate"}}, "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }}),
        Kind::Lease => json!({"spec": {
            "holderIdentity": "one", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "2026-01-02T03:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.000000Z",
        }}),
        Kind::Event => json!({
            "eventTime": "2026-01-02T03:04:05.000000Z", "type": "Normal", "reason": "Created", "action": "Create",
            "note": "made", "reportingController": "authservice.dev/operator", "reportingInstance": "one",
            "regarding": {"apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService", "name": "gate", "uid": "u"},
        }),
        Kind::HorizontalPodAutoscaler => json!({"spec": {
            "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gate"},
        }}),
    };
    object["metadata"] = json!({"labels": {"app": "gate"}});
    object
}

/// A part of an object, as somebody applies it beside its owner.
pub(crate) fn part(kind: Kind) -> Value {
    match kind {
        Kind::Deployment | Kind::StatefulSet | Kind::AuthService => {
            json!({"metadata": {}, "spec": {"replicas": 3}})
        }
        Kind::Secret => json!({"metadata": {}, "data": {"two": "Mg=="}}),
        Kind::ConfigMap => json!({"metadata": {}, "data": {"two": "2"}}),
        Kind::Lease => json!({"metadata": {}, "spec": {"holderIdentity": "two"}}),
        // One without selector may become headless with addresses of both families.
        Kind::Service => {
            json!({"metadata": {"annotations": {"theirs": "1"}}, "spec": {"selector": {"app": "gate"}}})
        }
        _ => json!({"metadata": {"annotations": {"theirs": "1"}}}),
    }
}

/// What is changed of any object.
pub(crate) fn metadata_edits(kind: Kind) -> Vec<Value> {
    let owner = json!({"apiVersion": "authservice.dev/v1alpha1", "kind": "AuthService", "name": "gate", "uid": "11111111-0000-4000-8000-000000000000", "controller": true, "blockOwnerDeletion": true});
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "map", "uid": "22222222-0000-4000-8000-000000000000"});
    let mut edits = vec![
        json!({"metadata": {"labels": {"one": "1"}}}),
        json!({"metadata": {"labels": {"one": "2", "two": "2"}}}),
        json!({"metadata": {"labels": {"one": null}}}),
        json!({"metadata": {"labels": {"sequence": "hidden"}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"note": "a"}}}),
        json!({"metadata": {"annotations": {"note": "b"}}}),
        json!({"metadata": {"finalizers": ["test.dev/hold"]}}),
        json!({"metadata": {"finalizers": ["test.dev/hold", "test.dev/more"]}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"ownerReferences": [owner]}}),
        json!({"metadata": {"ownerReferences": [other]}}),
        json!({"metadata": {"ownerReferences": [other, owner]}}),
        json!({"metadata": {"ownerReferences": null}}),
    ];
    // The API server stores an empty map of a custom resource as it is written, and drops it at the next
    // write, which then makes a revision even if it changes nothing. The model drops it at once.
    if kind != Kind::AuthService {
        edits.push(json!({"metadata": {"annotations": {}}}));
        edits.push(json!({"metadata": {"annotations": {"note": null}}}));
        edits.push(json!({"metadata": {"finalizers": []}}));
    }
    edits
}

fn in_container(change: &Value) -> Value {
    let mut spec = pod_spec();
    json_patch::merge(&mut spec["containers"][0], change);
    json!({"spec": {"template": {"spec": {"containers": spec["containers"]}}}})
}

fn template_edits() -> Vec<Value> {
    vec![
        in_container(&json!({"image": "registry.test/server:2"})),
        in_container(&json!({"image": "registry.test/server"})),
        in_container(&json!({"image": null})),
        in_container(&json!({"env": [{"name": "TWO", "value": "3"}]})),
        in_container(
            &json!({"env": [{"name": "TWO", "value": "2"}, {"name": "ONE", "value": "1"}, {"name": "NEW", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        ),
        in_container(&json!({"env": []})),
        in_container(
            &json!({"ports": [{"containerPort": 5000, "name": "http"}, {"containerPort": 5001, "name": "admin", "protocol": "TCP"}]}),
        ),
        in_container(&json!({"resources": {"limits": {"cpu": 1, "memory": "1024Mi"}}})),
        in_container(&json!({"resources": null})),
        in_container(&json!({"readinessProbe": {"exec": {"command": ["true"]}}})),
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"}}}}}),
        json!({"spec": {"template": {"metadata": {"labels": {"more": "1"}}}}}),
        json!({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}}),
        json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "fast"}}}}}),
        json!({"spec": {"template": {"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}}}),
        json!({"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "pull"}]}}}}),
        json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": null}}}}),
        json!({"spec": {"template": {"spec": {"hostNetwork": false, "serviceAccountName": "own"}}}}),
        json!({"spec": {"template": {"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "gate"}}}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": []}}}}),
    ]
}

/// What is changed of one kind's objects.
pub(crate) fn edits(kind: Kind) -> Vec<Value> {
    match kind {
        Kind::AuthService => auth_service(),
        Kind::Secret => vec![
            json!({"data": {"one": "MTE="}}),
            json!({"data": {"three": "Mw=="}}),
            json!({"data": {"one": null}}),
            json!({"data": {"one": ""}}),
            json!({"data": null}),
            json!({"stringData": {"four": "4"}}),
            json!({"type": "kubernetes.io/other"}),
            json!({"immutable": true}),
            json!({"immutable": false}),
            json!({"data": {"bad key": "MQ=="}}),
        ],
        Kind::ConfigMap => vec![
            json!({"data": {"one": "11"}}),
            json!({"data": {"two": "2"}}),
            json!({"data": {"one": null}}),
            json!({"data": null}),
        ],
        Kind::Service => vec![
            json!({"spec": {"ports": [{"name": "http", "port": 5000, "targetPort": "http"}, {"name": "more", "port": 5001}]}}),
            json!({"spec": {"ports": [{"name": "other", "port": 5002}]}}),
            json!({"spec": {"ports": []}}),
            json!({"spec": {"ports": [{"port": 5000}, {"port": 5001}]}}),
            json!({"spec": {"selector": {"app": "other"}}}),
            json!({"spec": {"clusterIP": "None"}}),
            json!({"spec": {"publishNotReadyAddresses": true}}),
            json!({"spec": {"publishNotReadyAddresses": false}}),
            json!({"spec": {"sessionAffinity": "None"}}),
        ],
        Kind::Deployment => deployment(),
        Kind::StatefulSet => stateful_set(),
        Kind::ReplicaSet => vec![json!({"spec": {"replicas": 3}})],
        Kind::PersistentVolumeClaim => vec![
            json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}),
            json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}}),
            json!({"spec": {"resources": {"requests": null}}}),
            json!({"spec": {"storageClassName": "fast"}}),
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
        ],
        Kind::Job => vec![
            json!({"spec": {"suspend": true}}),
            json!({"spec": {"activeDeadlineSeconds": 10}}),
            json!({"spec": {"backoffLimit": 1}}),
            json!({"spec": {"parallelism": 2}}),
            json!({"spec": {"ttlSecondsAfterFinished": 60}}),
            json!({"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}),
            json!({"spec": {"template": {"metadata": {"labels": {"more": "1"}}}}}),
        ],
        Kind::Pod => vec![
            json!({"spec": {"activeDeadlineSeconds": 10}}),
            json!({"spec": {"terminationGracePeriodSeconds": 5}}),
            json!({"spec": {"nodeName": "node"}}),
            json!({"spec": {"hostNetwork": true}}),
        ],
        Kind::PodDisruptionBudget => vec![
            json!({"spec": {"maxUnavailable": 2}}),
            json!({"spec": {"maxUnavailable": null, "minAvailable": 1}}),
            json!({"spec": {"minAvailable": 1}}),
            json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
            json!({"spec": {"unhealthyPodEvictionPolicy": null}}),
        ],
        Kind::Lease => vec![
            json!({"spec": {"holderIdentity": "two", "leaseTransitions": 1}}),
            json!({"spec": {"holderIdentity": ""}}),
            json!({"spec": {"holderIdentity": null}}),
            json!({"spec": {"leaseDurationSeconds": 0}}),
            json!({"spec": {"renewTime": "2026-01-02T03:04:06.123456Z"}}),
        ],
        Kind::Event => vec![
            json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}}),
            json!({"note": "made again"}),
        ],
        Kind::HorizontalPodAutoscaler => vec![json!({"spec": {"maxReplicas": 5}})],
    }
}

fn deployment() -> Vec<Value> {
    let mut edits = template_edits();
    edits.extend([
        json!({"spec": {"replicas": 3}}),
        json!({"spec": {"replicas": 0}}),
        json!({"spec": {"replicas": null}}),
        json!({"spec": {"replicas": -1}}),
        json!({"spec": {"paused": true}}),
        json!({"spec": {"paused": false}}),
        json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        json!({"spec": {"strategy": null}}),
        json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
        json!({"spec": {"selector": null}}),
        json!({"spec": {"minReadySeconds": 0}}),
        json!({"spec": {"unknown": 1}}),
    ]);
    edits
}

fn stateful_set() -> Vec<Value> {
    let mut edits = template_edits();
    edits.extend([
        json!({"spec": {"replicas": 2}}),
        json!({"spec": {"serviceName": "other"}}),
        json!({"spec": {"podManagementPolicy": "OrderedReady"}}),
        json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}}),
        json!({"spec": {"volumeClaimTemplates": null}}),
        json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
    ]);
    edits
}

fn auth_service() -> Vec<Value> {
    vec![
        json!({"spec": {"replicas": 3}}),
        json!({"spec": {"replicas": null}}),
        json!({"spec": {"replicas": -1}}),
        json!({"spec": {"replicas": 101}}),
        json!({"spec": {"replicas": "two"}}),
        json!({"spec": {"image": "registry.test/server:2"}}),
        json!({"spec": {"image": ""}}),
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"suspend": false, "deletionPolicy": "Delete"}}),
        json!({"spec": {"deletionPolicy": "Keep"}}),
        json!({"spec": {"deletionPolicy": "Delete"}}),
        json!({"spec": {"unknown": {"a": 1}}}),
        json!({"spec": {"administration": {}}}),
        json!({"spec": {"database": {"managed": {"storage": {"size": "2Gi"}}}}}),
        json!({"spec": {"database": {"managed": {"storage": {"size": "1Gi"}}}}}),
        json!({"spec": {"database": {"managed": {"storage": {"size": "lots"}}}}}),
        json!({"spec": {"database": {"managed": {"storage": {"storageClassName": "fast"}}}}}),
        json!({"spec": {"database": {"external": {"hosts": [{"host": "db"}], "credentialsSecretRef": {"name": "db"}}}}}),
        json!({"spec": {"database": {"external": {"hosts": [{"host": "db"}]}}}}),
        json!({"spec": {"database": {"external": {"hosts": []}}}}),
        json!({"spec": {"database": {}}}),
        json!({"spec": {"database": null}}),
        json!({"spec": {"token": {"ttl": "1h"}}}),
        json!({"spec": {"token": {"ttl": "1s"}}}),
        json!({"spec": {"token": {"ttl": "soon"}}}),
        json!({"spec": {"token": {"issuer": "one"}}}),
        json!({"spec": {"token": {"issuer": "two", "audience": "authservice-administration"}}}),
        json!({"spec": {"token": {"revocationLag": "10m"}}}),
        json!({"spec": {"passwords": {"argon2": {"memoryKiB": 8192, "iterations": 1}}}}),
        json!({"spec": {"passwords": {"argon2": {"memoryKiB": 1_048_576, "iterations": 4}}}}),
        json!({"spec": {"passwords": {"legacyFormats": ["bcrypt", "bcrypt"]}}}),
        json!({"spec": {"loginProtection": {"trustedProxies": ["10.0.0.0/8", "192.0.2.7"], "window": "15m"}}}),
        json!({"spec": {"loginProtection": {"trustedProxies": ["here"], "lockout": "25h"}}}),
        json!({"spec": {"users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "a"}}, {"email": "d@e.f", "passwordSecretRef": {"name": "d"}, "admin": true}]}}}),
        json!({"spec": {"users": {"bootstrap": [{"email": "a@b.c", "passwordSecretRef": {"name": "a"}}, {"email": "a@b.c", "passwordSecretRef": {"name": "d"}}]}}}),
        json!({"spec": {"monitoring": {"tracing": {"endpoint": "http://collector:4318", "sampling": 0.5}}}}),
        json!({"spec": {"monitoring": {"tracing": {"endpoint": "https://user@collector?x"}}}}),
        json!({"spec": {"pod": {"resources": {"requests": {"cpu": "0.5"}}, "nodeSelector": {"disk": "fast"}}}}),
    ]
}

/// What a controller writes of one kind's status.
pub(crate) fn status_edits(kind: Kind) -> Vec<Value> {
    let condition = |status: &str| json!({"type": "Ready", "status": status, "reason": "Because", "message": "so", "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1});
    match kind {
        Kind::AuthService => vec![
            json!({"status": {"observedGeneration": 1, "conditions": [condition("True")], "replicas": 2, "readyReplicas": 2, "url": "http://gate"}}),
            json!({"status": {"conditions": [condition("False")], "url": null, "database": {"version": null, "schemaVersion": 1}}}),
            json!({"status": {"conditions": [condition("Perhaps")]}}),
            json!({"status": null}),
        ],
        Kind::Deployment => vec![
            json!({"status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2}}),
            json!({"status": {"readyReplicas": 0, "unavailableReplicas": 2, "replicas": 2}}),
            json!({"status": {"conditions": [{"type": "Available", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-02T03:04:05Z", "lastUpdateTime": "2026-01-02T03:04:05Z"}]}}),
        ],
        Kind::StatefulSet => vec![
            json!({"status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1}}),
        ],
        Kind::ReplicaSet => vec![json!({"status": {"replicas": 1, "readyReplicas": 1}})],
        Kind::PersistentVolumeClaim => vec![
            json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}),
        ],
        Kind::Job => vec![json!({"status": {"active": 1, "ready": 0}}), json!({"status": {"active": null}})],
        Kind::Pod => vec![
            json!({"status": {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}}),
            json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "server", "image": "i", "imageID": "", "restartCount": 0, "ready": false, "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": "{}"}}}]}}),
        ],
        Kind::PodDisruptionBudget => vec![
            json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}}),
        ],
        Kind::Service
        | Kind::HorizontalPodAutoscaler
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Lease
        | Kind::Event => Vec::new(),
    }
}

/// Operations of JSON patches.
pub(crate) fn operations(kind: Kind) -> Vec<Value> {
    let mut all = vec![
        json!({"op": "add", "path": "/metadata/labels/patched", "value": "1"}),
        json!({"op": "add", "path": "/metadata/annotations", "value": {"patched": "1"}}),
        json!({"op": "remove", "path": "/metadata/labels/one"}),
        json!({"op": "remove", "path": "/metadata/ownerReferences"}),
        json!({"op": "replace", "path": "/metadata/finalizers", "value": ["test.dev/hold"]}),
        json!({"op": "replace", "path": "/metadata/managedFields", "value": [{}]}),
        json!({"op": "replace", "path": "/metadata/managedFields", "value": []}),
        json!({"op": "test", "path": "/metadata/labels/app", "value": "gate"}),
    ];
    all.extend(match kind {
        Kind::Secret => vec![
            json!({"op": "add", "path": "/data/five", "value": "NQ=="}),
            json!({"op": "remove", "path": "/data/one"}),
            json!({"op": "add", "path": "/data", "value": {"six": "Ng=="}}),
            json!({"op": "add", "path": "/data/a~1b", "value": "NQ=="}),
        ],
        Kind::Deployment | Kind::StatefulSet => vec![
            json!({"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.test/server:3"}),
            json!({"op": "remove", "path": "/spec/template/spec/containers/0/env/0"}),
            json!({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "PATCHED", "value": "1"}}),
            json!({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "ONE", "value": "1"}}),
            json!({"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "side", "image": "side:1"}}),
            json!({"op": "replace", "path": "/spec/replicas", "value": 5}),
        ],
        Kind::Service => vec![json!({"op": "replace", "path": "/spec/ports/0/port", "value": 80})],
        Kind::AuthService => vec![json!({"op": "replace", "path": "/spec/replicas", "value": 5})],
        _ => vec![],
    });
    all
}
