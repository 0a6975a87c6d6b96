//! A refusal: something spec asks for that is not done, why, and how to mend it. It freezes only
//! what it names; everything else goes on.

use crate::api::conditions::{ConditionType, Reason};

/// Something that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The condition that shows it.
    pub condition: ConditionType,
    /// Why.
    pub reason: Reason,
    /// The object or field, the fault and the cure, in this order.
    pub message: String,
}

impl Refusal {
    /// An object of a child's name belongs to someone else.
    #[must_use]
    pub fn name_taken(kind: &str, name: &str, owner: &str) -> Self {
        let restored = match kind {
            "Secret" => "; one of its own, restored from a backup, needs that label",
            _ => "",
        };
        Self {
            condition: ConditionType::NameTaken,
            reason: Reason::NameTaken,
            message: format!(
                "{kind} {name} {owner}, and is left untouched: rename or delete it, or use another name for the AuthService{restored}"
            ),
        }
    }

    /// A child of a deleted resource of the same name, or one that is being deleted.
    #[must_use]
    pub fn leftover(kind: &str, name: &str) -> Self {
        Self {
            condition: ConditionType::NameTaken,
            reason: Reason::LeftoverTerminating,
            message: format!("waiting for an earlier {kind} {name} to be removed by Kubernetes"),
        }
    }

    /// A Secret that data or tokens depend on is gone.
    #[must_use]
    pub fn secret_lost(message: String) -> Self {
        Self { condition: ConditionType::SecretLost, reason: Reason::SecretLost, message }
    }

    /// A Secret that spec refers to does not exist.
    #[must_use]
    pub fn secret_missing(field: &str, secret: &str, keys: &str) -> Self {
        Self {
            condition: ConditionType::SecretUnusable,
            reason: Reason::SecretMissing,
            message: format!("{field}: Secret {secret} does not exist: create it with {keys}"),
        }
    }

    /// A Secret that spec refers to cannot be used.
    #[must_use]
    pub fn secret_invalid(field: &str, secret: &str, fault: &str) -> Self {
        Self {
            condition: ConditionType::SecretUnusable,
            reason: Reason::SecretInvalid,
            message: format!("{field}: Secret {secret} {fault}"),
        }
    }

    /// A field of spec that the API server let pass cannot be followed.
    #[must_use]
    pub fn field(field: &str, fault: &str, cure: &str) -> Self {
        Self {
            condition: ConditionType::FieldRefused,
            reason: Reason::SpecInvalid,
            message: format!("{field} {fault}: {cure}"),
        }
    }

    /// The API server refused a child.
    #[must_use]
    pub fn child(action: &str, kind: &str, name: &str, words: &str) -> Self {
        Self {
            condition: ConditionType::ChildRefused,
            reason: Reason::ChildRefused,
            message: format!("could not {action} {kind} {name}: {words}"),
        }
    }
}
